//! Commands: what workflow code asked for, numbered in the order in which it asked.

use std::{sync::Arc, task::Waker, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{scope::ScopeId, turn::TransactionBody};
use crate::{
    failure::Failure,
    id::{RunId, WorkflowId},
    record::RecordKind,
    tag::Tags,
};

/// How an activity is tried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ActivityOptions {
    /// The queue whose workers run it; those of the workflow if none is named.
    #[serde(skip)]
    pub queue: Option<Arc<str>>,
    /// How failed attempts are repeated.
    pub retry: RetryPolicy,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Whether an attempt is journaled before it starts and never repeated.
    pub at_most_once: bool,
    /// Whether the run is parked for a person when the attempts are used up.
    pub park_when_exhausted: bool,
}

/// How failed attempts of an activity are repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// The wait after the first failed attempt.
    pub initial_interval: Duration,
    /// What each wait is multiplied with to give the next one.
    pub factor: f64,
    /// The longest wait.
    pub max_interval: Duration,
    /// The share of each wait that is random, from 0 to 1, so that many runs do not retry at once.
    pub jitter: f64,
    /// How many attempts are made in all; at least one.
    pub max_attempts: u32,
}

impl RetryPolicy {
    /// One attempt, no more.
    #[must_use]
    pub fn none() -> Self {
        Self {
            max_attempts: 1,
            ..Self::default()
        }
    }

    /// The wait after `failed` failed attempts. `entropy` is a number from 0 to 1 that spreads it.
    #[must_use]
    pub fn interval_after(&self, failed: u32, entropy: f64) -> Duration {
        let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial_interval.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        let capped = grown.min(self.max_interval.as_secs_f64());
        let jitter = self.jitter.clamp(0.0, 1.0);
        let spread = capped * (1.0 - jitter + jitter * entropy.clamp(0.0, 1.0));
        Duration::try_from_secs_f64(spread).unwrap_or(self.max_interval)
    }
}

impl Default for RetryPolicy {
    /// Ten attempts from 0.2 s to 60 s apart.
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_millis(200),
            factor: 2.0,
            max_interval: Duration::from_secs(60),
            jitter: 0.2,
            max_attempts: 10,
        }
    }
}

/// How long an activity may take. `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// One attempt, from its start.
    pub start_to_close: Option<Duration>,
    /// All attempts and the waits between them, from the first scheduling.
    pub schedule_to_close: Option<Duration>,
    /// From one heartbeat of an attempt to the next.
    pub heartbeat: Option<Duration>,
}

/// A durable call, as the machine keeps it until its value is consumed.
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) name: Arc<str>,
    pub(crate) fingerprint: u64,
    /// It is cancelled with this scope.
    pub(crate) scope: ScopeId,
    /// It was polled at least once: it is asked for.
    pub(crate) polled: bool,
    /// It was polled since it last declined a grant: somebody awaits it.
    pub(crate) awaited: bool,
    /// The outside was told to perform it.
    pub(crate) started: bool,
    /// It is asked for even if its future is dropped before the poll ends.
    pub(crate) eager: bool,
    /// The record that it was asked for exists.
    pub(crate) created: bool,
    /// Its future was dropped before that record could be made.
    pub(crate) orphaned: bool,
    pub(crate) waker: Option<Waker>,
    pub(crate) resolution: Option<Resolution>,
    /// The place of the resolution among all of the run.
    pub(crate) held_at: Option<u64>,
}

/// What a command asks for.
pub(crate) enum Request {
    Activity {
        input: Bytes,
        options: Arc<ActivityOptions>,
    },
    Transaction {
        body: Option<TransactionBody>,
        retry: Arc<RetryPolicy>,
    },
    Timer {
        due: TimerDue,
    },
    /// A wait for a signal.
    Signal {
        /// The place of the one that it received among all that the run received.
        received: Option<u64>,
    },
    /// A signal to another workflow.
    Send {
        to: WorkflowId,
        payload: Bytes,
    },
    Child(ChildRequest),
    /// Completes when the run is asked to cancel. Leaves no record of its own.
    Cancellation,
}

/// When a timer is due.
#[derive(Clone, Copy)]
pub(crate) enum TimerDue {
    /// After this long; becomes a time when the timer is recorded.
    After(Duration),
    At(Timestamp),
}

pub(crate) struct ChildRequest {
    pub(crate) workflow_id: Option<WorkflowId>,
    pub(crate) queue: Option<Arc<str>>,
    pub(crate) input: Bytes,
    pub(crate) abandon_on_close: bool,
    /// Its key and its priority in its queue.
    pub(crate) key: Arc<str>,
    pub(crate) priority: i16,
    /// Where its queue has limits, it does not wait and does not count.
    pub(crate) is_exempt: bool,
    pub(crate) tags: Tags,
    /// Assigned when the start is recorded.
    pub(crate) run: Option<RunId>,
    /// Another run started it, whose records the journal begins with.
    pub(crate) is_inherited: bool,
}

impl ChildRequest {
    pub(crate) fn new(input: Bytes) -> Self {
        Self {
            workflow_id: None,
            queue: None,
            input,
            abandon_on_close: false,
            key: Arc::default(),
            priority: 0,
            is_exempt: false,
            tags: Tags::new(),
            run: None,
            is_inherited: false,
        }
    }
}

impl Command {
    pub(crate) fn new(request: Request, name: Arc<str>, fingerprint: u64, scope: ScopeId) -> Self {
        Self {
            request,
            name,
            fingerprint,
            scope,
            polled: false,
            awaited: false,
            started: false,
            eager: false,
            created: false,
            orphaned: false,
            waker: None,
            resolution: None,
            held_at: None,
        }
    }

    /// The kind of record that asking for the command leaves, before any completion.
    pub(crate) fn creation_kind(&self) -> Option<RecordKind> {
        match &self.request {
            Request::Activity { options, .. } if options.at_most_once => {
                Some(RecordKind::ActivityAttempted)
            }
            Request::Timer { .. } => Some(RecordKind::TimerStarted),
            Request::Child(_) => Some(RecordKind::ChildStarted),
            Request::Activity { .. }
            | Request::Transaction { .. }
            | Request::Signal { .. }
            | Request::Send { .. }
            | Request::Cancellation => None,
        }
    }

    /// The kind of record that its successful completion leaves: how a mismatch names it.
    pub(crate) const fn completion_kind(&self) -> RecordKind {
        match &self.request {
            Request::Activity { .. } => RecordKind::ActivityCompleted,
            Request::Transaction { .. } => RecordKind::TransactionCompleted,
            Request::Timer { .. } => RecordKind::TimerFired,
            Request::Signal { .. } => RecordKind::SignalReceived,
            Request::Send { .. } => RecordKind::SignalSent,
            Request::Child(_) => RecordKind::ChildCompleted,
            Request::Cancellation => RecordKind::CancelRequested,
        }
    }

    /// Whether a completion record of this kind can be its own.
    pub(crate) const fn completes_with(&self, kind: RecordKind) -> bool {
        matches!(
            (&self.request, kind),
            (
                Request::Activity { .. },
                RecordKind::ActivityCompleted | RecordKind::ActivityFailed
            ) | (
                Request::Transaction { .. },
                RecordKind::TransactionCompleted | RecordKind::TransactionFailed
            ) | (Request::Timer { .. }, RecordKind::TimerFired)
                | (Request::Signal { .. }, RecordKind::SignalReceived)
                | (
                    Request::Send { .. },
                    RecordKind::SignalSent | RecordKind::SignalFailed
                )
                | (
                    Request::Child(_),
                    RecordKind::ChildCompleted | RecordKind::ChildFailed
                )
        )
    }
}

/// What a durable call resolves to.
#[derive(Debug, Clone)]
pub(crate) enum Resolution {
    Value(Bytes),
    Failure(Failure),
}

impl Resolution {
    pub(crate) fn into_result(self) -> Result<Bytes, Failure> {
        match self {
            Self::Value(payload) => Ok(payload),
            Self::Failure(failure) => Err(failure),
        }
    }
}
