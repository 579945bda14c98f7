//! Activities: one attempt at a time, each in a task of its own once it has to wait.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    task::JoinHandle,
};
use tracing::{Instrument as _, Span};

use super::{
    mailbox::{Mailbox, Message},
    node::Node,
    registry::ActivityFactory,
};
use crate::{
    context::{ReturnSlot, Tx},
    failure::{Failure, FailureKind},
    id::{CommandId, NodeId, RunId, WorkflowId},
    journal::OpenTransaction,
    payload,
    replay::Timeouts,
    telemetry::{attempt_failed, attempt_span},
    trace::TraceContext,
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
    trace: Option<TraceContext>,
    command: CommandId,
    attempt: u32,
    details: Bytes,
    mailbox: Mailbox,
    cancel: Cancel,
    beats: Beats,
    transaction: Mutex<Option<ReturnSlot>>,
}

/// Whether the attempt should stop.
#[derive(Default)]
struct Cancel {
    is_requested: AtomicBool,
    requested: Notify,
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

    /// The node that makes this attempt: one enlistment of a worker, as [`RunInfo::node`](crate::journal::RunInfo::node) names it
    /// while it holds the run. An attempt of a node that was declared dead may go on until that node hears of it.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.node.id
    }

    /// The trace to send along with requests to others, so that they appear in it: that of the caller's current span
    /// ([`TraceContext::current`]), or the one in which the run was started.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::current().or_else(|| self.inner.trace.clone())
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
        let now = self.inner.node.clock.moment();
        if stored.is_some_and(|at| now - at < STORE_DETAILS_EVERY) {
            return;
        }
        if let Ok(details) = payload::encode(details) {
            *stored = Some(now);
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

    /// Whether nobody waits for the activity any more: it should stop soon. What it returns is not looked at, and
    /// after the worker's [`cancel_grace`](crate::WorkerBuilder::cancel_grace) it is dropped at its next await.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancel.is_requested.load(Ordering::SeqCst)
    }

    /// Completes when nobody waits for the activity any more.
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) {
        // Registered before it looks, so that no request falls in between.
        let requested = self.inner.cancel.requested.notified();
        if !self.is_cancelled() {
            requested.await;
        }
    }

    fn cancel(&self) {
        self.inner.cancel.is_requested.store(true, Ordering::SeqCst);
        self.inner.cancel.requested.notify_waiters();
    }

    /// Opens the activity's transaction on the journal's database. If the activity succeeds, what
    /// was written in it commits together with the activity's record: exactly once. If it fails,
    /// nothing was written.
    ///
    /// If the commit gives way to another transaction, the attempt is made again under the same number after a short pause: it
    /// counts as failed only for an activity that may run once. An error of the activity's own SQL is a failed attempt like any
    /// other, whatever its reason, for the activity's code has seen it.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the database cannot be reached or another transaction is in the way, or when this attempt opened one
    /// before. Returned from the activity it is a failed attempt.
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
    pub(crate) trace: Option<TraceContext>,
    pub(crate) name: Arc<str>,
    pub(crate) command: CommandId,
    pub(crate) attempt: u32,
    pub(crate) details: Bytes,
    pub(crate) input: Bytes,
    pub(crate) timeouts: Timeouts,
    /// What is left of the time for all attempts.
    pub(crate) time_left: Option<Duration>,
    pub(crate) factory: ActivityFactory,
    pub(crate) mailbox: Mailbox,
}

/// What became of an attempt so far.
pub(crate) enum Begun {
    /// It is over.
    Ended(Message),
    /// It goes on in a task, and the mailbox will be told.
    UnderWay(UnderWay),
}

/// An attempt in a task of its own. Dropping it ends the task.
pub(crate) struct UnderWay {
    context: ActivityContext,
    task: Option<JoinHandle<()>>,
}

impl UnderWay {
    /// Tells the attempt that it should stop, and ends it if it has not after a while. Nobody waits for it.
    pub(crate) fn cancel(mut self, grace: Duration) {
        self.context.cancel();
        if let Some(mut task) = self.task.take() {
            tokio::spawn(async move {
                if tokio::time::timeout(grace, &mut task).await.is_err() {
                    task.abort();
                }
            });
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl AttemptTask {
    /// Begins the attempt: with `here` on the calling task, as far as it gets without waiting. Most
    /// attempts that compute only are over by then, and need no task.
    pub(crate) fn begin(self, here: bool) -> Begun {
        let slots = &self.node.activity_slots;
        let slot = here.then(|| Arc::clone(slots).try_acquire_owned().ok());
        let slot = slot.flatten();
        let polls_here = slot.is_some();
        let context = ActivityContext {
            inner: Arc::new(Inner {
                node: self.node,
                run: self.run,
                workflow_id: self.workflow_id,
                trace: self.trace,
                command: self.command,
                attempt: self.attempt,
                details: self.details,
                mailbox: self.mailbox,
                cancel: Cancel::default(),
                beats: Beats::default(),
                transaction: Mutex::new(None),
            }),
        };
        let attempt = Attempt {
            context: context.clone(),
            name: self.name,
            slice: Span::current(),
            timeouts: self.timeouts,
            time_left: self.time_left,
            slot,
        };
        let mut work = Box::pin(attempt.run(self.factory, self.input));
        if polls_here {
            let mut nobody = std::task::Context::from_waker(Waker::noop());
            // What it waits for when it is pending learns of the task at the next poll.
            if let Poll::Ready(message) = work.as_mut().poll(&mut nobody) {
                return Begun::Ended(message);
            }
        }
        let mailbox = context.inner.mailbox.clone();
        let task = tokio::spawn(async move { mailbox.send(work.await) });
        Begun::UnderWay(UnderWay {
            context,
            task: Some(task),
        })
    }
}

/// An attempt that runs.
struct Attempt {
    context: ActivityContext,
    name: Arc<str>,
    /// The span of the run's slice.
    slice: Span,
    timeouts: Timeouts,
    time_left: Option<Duration>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Attempt {
    /// Waits for a slot unless it has one, runs the attempt, and tells what came of it.
    async fn run(mut self, factory: ActivityFactory, input: Bytes) -> Message {
        let inner = &self.context.inner;
        if self.slot.is_none() {
            let slots = Arc::clone(&inner.node.activity_slots);
            // The semaphore is never closed.
            self.slot = slots.acquire_owned().await.ok();
        }
        let context = self.context.clone();
        let command = inner.command;
        let meter = inner.node.metrics.attempt(&self.name);
        let began = meter.is_some().then(|| inner.node.clock.moment());
        let span = attempt_span(&self.slice, &self.name, command, inner.attempt);
        let work = AssertUnwindSafe(async move { factory(context, input).await }).catch_unwind();
        let work = work.instrument(span.clone());
        let result = within(self.timeouts, self.time_left, &inner.beats, work).await;
        let failure = result.as_ref().err();
        if let Some(failure) = failure {
            attempt_failed(&span, failure);
        }
        if let Some((meter, began)) = meter.zip(began) {
            let took = inner.node.clock.moment().saturating_duration_since(began);
            meter.ended(failure.map(|failure| failure.kind), took);
        }
        drop(span);
        match (result, self.context.take_transaction()) {
            (Ok(payload), Some(transaction)) => Message::StepReady {
                command,
                payload,
                transaction,
            },
            (result, _rolled_back) => Message::AttemptEnded { command, result },
        }
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
        biased;
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
