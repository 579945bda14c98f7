//! Activities: one attempt at a time, each in a task of its own.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Notify, watch};

use super::{
    mailbox::{Mailbox, Message},
    node::Node,
    registry::ActivityFactory,
};
use crate::{
    context::{ReturnSlot, Tx},
    failure::{Failure, FailureKind},
    id::{CommandId, RunId, WorkflowId},
    journal::OpenTransaction,
    payload,
    replay::Timeouts,
};

/// What an activity sees of the engine.
#[derive(Clone)]
pub struct ActivityContext {
    inner: Arc<Inner>,
}

struct Inner {
    node: Arc<Node>,
    run: RunId,
    workflow_id: WorkflowId,
    command: CommandId,
    attempt: u32,
    details: Bytes,
    cancelled: watch::Receiver<bool>,
    mailbox: Mailbox,
    beats: Beats,
    transaction: Mutex<Option<ReturnSlot>>,
}

/// When the attempt last reported progress.
#[derive(Default)]
struct Beats {
    beat: Notify,
    stored: Mutex<Option<Instant>>,
}

/// Progress details are written this often at most; in between, heartbeats cost nothing.
const STORE_DETAILS_EVERY: Duration = Duration::from_secs(1);

impl ActivityContext {
    /// The run that the activity belongs to.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.inner.run
    }

    /// The workflow id of that run.
    #[must_use]
    pub fn workflow_id(&self) -> &WorkflowId {
        &self.inner.workflow_id
    }

    /// Which attempt this is, counted from one.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// A key that is the same for all attempts of this activity and no other: give it to the
    /// outside, so that a repeated attempt has its effect once.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.inner.run, self.inner.command)
    }

    /// Reports progress: restarts the heartbeat timeout, and keeps `details` for the next attempt.
    ///
    /// Details are stored at most once a second; of those in between, the next attempt may miss
    /// some. Details without a JSON form are not kept.
    pub fn heartbeat<T: Serialize>(&self, details: &T) {
        self.inner.beats.beat.notify_one();
        let mut stored = self
            .inner
            .beats
            .stored
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if stored.is_some_and(|at| at.elapsed() < STORE_DETAILS_EVERY) {
            return;
        }
        if let Ok(details) = payload::encode(details) {
            *stored = Some(Instant::now());
            self.inner.mailbox.send(Message::Progress {
                command: self.inner.command,
                details,
            });
        }
    }

    /// The details that an earlier attempt reported last.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when they do not fit the type.
    pub fn details<T: DeserializeOwned>(&self) -> Result<Option<T>, Failure> {
        if self.inner.details.is_empty() {
            return Ok(None);
        }
        payload::decode(&self.inner.details).map(Some)
    }

    /// Whether nobody waits for the activity any more: it should stop soon.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.inner.cancelled.borrow()
    }

    /// Completes when nobody waits for the activity any more.
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) {
        let mut cancelled = self.inner.cancelled.clone();
        // The sender goes away only with the run's driver, which ends the attempt anyway.
        let _closed = cancelled.wait_for(|is_cancelled| *is_cancelled).await;
    }

    /// Opens the activity's transaction on the journal's database. If the activity succeeds, what
    /// was written in it commits together with the activity's record: exactly once. If it fails,
    /// nothing was written.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the database cannot be reached, or when this attempt opened one before.
    pub async fn begin(&self) -> Result<Tx, Failure> {
        if self
            .inner
            .transaction
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
        {
            return Err(Failure::final_error("an attempt has one transaction"));
        }
        let transaction = self.inner.node.journal.begin().await?;
        let (tx, slot) = Tx::new(transaction);
        *self
            .inner
            .transaction
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(slot);
        Ok(tx)
    }

    /// The transaction that the attempt opened, once its code is done with it.
    fn take_transaction(&self) -> Option<OpenTransaction> {
        let slot = self
            .inner
            .transaction
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        slot.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl std::fmt::Debug for ActivityContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActivityContext")
            .field("run", &self.inner.run)
            .field("command", &self.inner.command)
            .field("attempt", &self.inner.attempt)
            .finish_non_exhaustive()
    }
}

/// One attempt, ready to run.
pub(crate) struct AttemptTask {
    pub(crate) node: Arc<Node>,
    pub(crate) run: RunId,
    pub(crate) workflow_id: WorkflowId,
    pub(crate) command: CommandId,
    pub(crate) attempt: u32,
    pub(crate) details: Bytes,
    pub(crate) input: Bytes,
    pub(crate) timeouts: Timeouts,
    /// What is left of the time for all attempts.
    pub(crate) time_left: Option<Duration>,
    pub(crate) factory: ActivityFactory,
    pub(crate) cancelled: watch::Receiver<bool>,
    pub(crate) mailbox: Mailbox,
}

impl AttemptTask {
    /// Waits for a slot, runs the attempt, and reports to the run's driver.
    pub(crate) async fn run(self) {
        // The semaphore is never closed.
        let Ok(_slot) = Arc::clone(&self.node.activity_slots).acquire_owned().await else {
            return;
        };
        let context = ActivityContext {
            inner: Arc::new(Inner {
                node: Arc::clone(&self.node),
                run: self.run,
                workflow_id: self.workflow_id,
                command: self.command,
                attempt: self.attempt,
                details: self.details,
                cancelled: self.cancelled,
                mailbox: self.mailbox.clone(),
                beats: Beats::default(),
                transaction: Mutex::new(None),
            }),
        };
        let work = AssertUnwindSafe((self.factory)(context.clone(), self.input)).catch_unwind();
        let result = within(self.timeouts, self.time_left, &context.inner.beats, work).await;
        let transaction = context.take_transaction();
        let message = match (result, transaction) {
            (Ok(output), Some(transaction)) => Message::StepReady {
                command: self.command,
                payload: output,
                transaction,
            },
            (result, _rolled_back) => Message::AttemptEnded {
                command: self.command,
                result,
            },
        };
        self.mailbox.send(message);
    }
}

/// Runs an attempt within its timeouts.
async fn within(
    timeouts: Timeouts,
    time_left: Option<Duration>,
    beats: &Beats,
    work: impl Future<Output = Result<Result<Bytes, Failure>, Box<dyn Any + Send>>>,
) -> Result<Bytes, Failure> {
    let limit = match (timeouts.start_to_close, time_left) {
        (Some(attempt), Some(all)) => Some(attempt.min(all)),
        (attempt, all) => attempt.or(all),
    };
    let timed_out = |what: &str, limit: Duration| {
        Err(Failure::of_kind(
            FailureKind::TimedOut,
            format!("no {what} within {limit:?}"),
        ))
    };
    tokio::select! {
        result = work => result.unwrap_or_else(|panic| Err(Failure::from_panic(&*panic))),
        limit = elapsed(limit) => timed_out("result", limit),
        limit = silence(timeouts.heartbeat, beats) => timed_out("heartbeat", limit),
    }
}

async fn elapsed(limit: Option<Duration>) -> Duration {
    match limit {
        None => std::future::pending().await,
        Some(limit) => {
            tokio::time::sleep(limit).await;
            limit
        }
    }
}

/// Completes when no heartbeat came for the length of `limit`.
async fn silence(limit: Option<Duration>, beats: &Beats) -> Duration {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    loop {
        if tokio::time::timeout(limit, beats.beat.notified())
            .await
            .is_err()
        {
            return limit;
        }
    }
}
