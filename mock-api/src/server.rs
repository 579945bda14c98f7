//! The state that requests and the control plane share.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::Error;
use crate::fault::Faults;
use crate::limit::{Limiter, RateLimit};
use crate::log::Log;
use crate::mutation::Mutation;
use crate::organisation::Organisation;
use crate::seconds::Seconds;
use crate::token::{Token, Tokens};

/// Everything that requests and the control plane share.
pub(crate) struct Server {
    organisations: Vec<RwLock<Organisation>>,
    now: AtomicI64,
    changes: AtomicU64,
    tokens: Mutex<Tokens>,
    limiter: Mutex<Limiter>,
    faults: Mutex<Faults>,
    log: Mutex<Log>,
}

impl Server {
    pub(crate) fn new(organisations: Vec<Organisation>, limit: Option<RateLimit>) -> Self {
        let mut tokens = Tokens::default();
        for number in 0..organisations.len() {
            tokens.add(Token::first_of(number));
        }
        Self {
            organisations: organisations.into_iter().map(RwLock::new).collect(),
            now: AtomicI64::new(Seconds::START.0),
            changes: AtomicU64::new(0),
            tokens: Mutex::new(tokens),
            limiter: Mutex::new(Limiter::new(limit)),
            faults: Mutex::default(),
            log: Mutex::default(),
        }
    }

    pub(crate) fn organisations(&self) -> usize {
        self.organisations.len()
    }

    pub(crate) fn now(&self) -> Seconds {
        Seconds(self.now.load(Ordering::Acquire))
    }

    pub(crate) fn advance(&self, seconds: i64) -> Seconds {
        Seconds(self.now.fetch_add(seconds, Ordering::AcqRel) + seconds)
    }

    pub(crate) fn read(&self, organisation: usize) -> RwLockReadGuard<'_, Organisation> {
        self.organisations[organisation]
            .read()
            .expect("no change of the data panics")
    }

    pub(crate) fn write(&self, organisation: usize) -> RwLockWriteGuard<'_, Organisation> {
        self.organisations[organisation]
            .write()
            .expect("no change of the data panics")
    }

    pub(crate) fn mutate(
        &self,
        organisation: usize,
        mutation: Mutation,
    ) -> Result<Vec<u64>, Error> {
        let serial = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        let now = self.now();
        mutation.apply(&mut self.write(organisation), now, serial)
    }

    pub(crate) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens
            .lock()
            .expect("nothing panics while it holds the tokens")
    }

    pub(crate) fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter
            .lock()
            .expect("nothing panics while it holds the limiter")
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults
            .lock()
            .expect("nothing panics while it holds the faults")
    }

    /// Waits until a fault is disarmed. Dropping it stops the wait and nothing else.
    pub(crate) async fn until_disarmed(&self, fault: u64) {
        let mut disarmed = self.faults().disarmed();
        loop {
            let is_armed = self.faults().is_armed(fault);
            if !is_armed || disarmed.changed().await.is_err() {
                return;
            }
        }
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log
            .lock()
            .expect("nothing panics while it holds the log")
    }
}
