//! Where a test looks at the calls of a journal, holds them up, and has the worker die.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, task::yield_now};

/// One of so many commits, the first ones of a test, is where a worker of a seeded test dies.
const EARLY_COMMITS: Range<u64> = 1..25;
/// How long a call may be held up, in rounds in which everything else that can run does.
const ROUNDS: [u8; 8] = [0, 0, 1, 1, 2, 3, 5, 8];
/// One of so many commits is followed by an eviction of the runs that only wait.
const EVICTS_ONE_OF: u8 = 4;

/// The calls of a journal, in the hands of a test.
#[derive(Debug)]
pub(crate) struct Tap {
    commits: AtomicU64,
    crash: Option<Crash>,
    crashed: Notify,
    schedule: Option<Mutex<fastrand::Rng>>,
    evicts: Notify,
}

/// When the worker dies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crash {
    pub(super) commit: u64,
    pub(super) side: Side,
}

/// On which side of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// It never happens.
    Before,
    /// It has happened, and nobody hears of it.
    After,
}

impl Crash {
    /// At one of the first commits.
    pub(super) fn of_seed(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(!seed);
        let side = match random.bool() {
            true => Side::Before,
            false => Side::After,
        };
        Self {
            commit: random.u64(EARLY_COMMITS),
            side,
        }
    }
}

impl Tap {
    pub(super) fn new(crash: Option<Crash>, seed: Option<u64>) -> Self {
        Self {
            commits: AtomicU64::new(0),
            crash,
            crashed: Notify::new(),
            schedule: seed.map(|seed| Mutex::new(fastrand::Rng::with_seed(seed))),
            evicts: Notify::new(),
        }
    }

    /// Whether calls are held up, each for as long as a seed says.
    pub(crate) const fn holds_up(&self) -> bool {
        self.schedule.is_some()
    }

    /// A call is about to be made, or has come back. No time passes meanwhile.
    pub(crate) async fn call(&self) {
        let rounds = self.draw(|random| ROUNDS[random.usize(..ROUNDS.len())]);
        for _ in 0..rounds.unwrap_or_default() {
            yield_now().await;
        }
    }

    /// A commit is about to happen. Never returns where the worker dies before it.
    pub(crate) async fn before_commit(&self) -> u64 {
        self.call().await;
        let commit = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        self.perhaps(commit, Side::Before).await;
        commit
    }

    /// It has happened. Never returns where the worker dies then.
    pub(crate) async fn after_commit(&self, commit: u64) {
        self.perhaps(commit, Side::After).await;
        if self.draw(|random| random.u8(..EVICTS_ONE_OF)) == Some(0) {
            self.evicts.notify_one();
        }
        self.call().await;
    }

    /// Completes when the worker is to die.
    pub(super) async fn crashed(&self) {
        self.crashed.notified().await;
    }

    /// Completes when the runs that only wait are to leave memory.
    pub(super) async fn evicts(&self) {
        self.evicts.notified().await;
    }

    /// How many commits there were.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    async fn perhaps(&self, commit: u64, side: Side) {
        let dies = self
            .crash
            .is_some_and(|crash| crash.commit == commit && crash.side == side);
        if dies {
            self.crashed.notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> Option<T> {
        let random = self.schedule.as_ref()?;
        Some(draw(
            &mut random.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}
