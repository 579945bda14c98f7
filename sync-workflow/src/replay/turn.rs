//! Turns: what a run produced between two things that happened to it.

use std::{any::Any, fmt, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    command::{ActivityOptions, RetryPolicy},
    fault::Fault,
};
use crate::{
    failure::Failure,
    id::{CommandId, Position, RunId, WorkflowId},
    record::Record,
    status::RunStatus,
    tag::{TagChange, Tags},
};

/// Something that happened outside, for a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// An activity ended for good.
    ActivityClosed {
        /// Its command.
        command: CommandId,
        /// Its encoded output, or its last failure.
        result: Result<Bytes, Failure>,
    },
    /// A transactional step failed for good. Success comes as [`Event::TransactionCommitted`].
    TransactionFailed {
        /// Its command.
        command: CommandId,
        /// Its last failure.
        failure: Failure,
    },
    /// A step committed its transaction together with this record, which is durable already.
    TransactionCommitted {
        /// The record.
        record: Record,
    },
    /// A timer came due.
    TimerFired {
        /// Its command.
        command: CommandId,
    },
    /// A signal arrived. The same signal may be reported more than once.
    SignalArrived {
        /// Its place in the order of arrival: its identity.
        sequence: i64,
        /// Its name.
        name: Arc<str>,
        /// Its encoded value.
        payload: Bytes,
    },
    /// A signal to another workflow was delivered, or could not be.
    SignalSent {
        /// Its command.
        command: CommandId,
        /// Why it was not delivered, if it was not.
        result: Result<(), Failure>,
    },
    /// A child ended, or could not be started.
    ChildClosed {
        /// The child.
        child: RunId,
        /// Its encoded output, or why it has none.
        result: Result<Bytes, Failure>,
    },
    /// Somebody asked the run to cancel. Only the first one counts.
    CancelRequested,
}

/// What a run produced.
#[derive(Debug, Default)]
pub struct Turn {
    /// New records at consecutive positions.
    pub records: Vec<Record>,
    /// Children to start in the commit of the records.
    pub children: Vec<ChildStart>,
    /// The sequence numbers of the signals that the records consume.
    pub consumed_signals: Vec<i64>,
    /// What the run shows to whoever asks, to be committed with the records; the last of a name counts.
    pub published: Vec<(Arc<str>, Bytes)>,
    /// Tags that it sets or takes away, to be committed with the records; the last of a name counts.
    pub tags: Vec<TagChange>,
    /// What to do outside once every record up to `barrier` is durable.
    pub actions: Vec<Action>,
    /// The number of records before which no action may leave.
    pub barrier: Position,
    /// Whether children may still be open.
    pub has_open_children: bool,
    /// Where the run stands.
    pub progress: Progress,
}

/// Where a run stands after a turn.
#[derive(Debug, Default)]
pub enum Progress {
    /// It waits for events.
    #[default]
    Waiting,
    /// It has ended; the last record of the turn says how.
    Closed(RunStatus),
    /// It goes on in a new run; the last record of the turn names it.
    Continued(Continuation),
    /// It cannot go on with this code. The records say what happened before.
    Faulted(Fault),
}

/// How a run goes on as a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// The new run.
    pub run: RunId,
    /// The registered name of its workflow.
    pub workflow: Arc<str>,
    /// Its encoded input.
    pub input: Bytes,
    /// The records of the new run after its first: [signals](Record::is_carried_over) that this one received and its
    /// code never read, in the order in which they were received.
    pub carried_over: Vec<Record>,
}

/// Something to do outside.
#[derive(Debug)]
pub enum Action {
    /// Run an activity until it succeeds or its attempts are used up.
    StartActivity {
        /// Its command.
        command: CommandId,
        /// The registered name.
        name: Arc<str>,
        /// Its encoded input.
        input: Bytes,
        /// How it is tried.
        options: Arc<ActivityOptions>,
    },
    /// Run a transactional step.
    StartTransaction {
        /// Its command.
        command: CommandId,
        /// Its name.
        name: Arc<str>,
        /// What it does.
        body: TransactionBody,
        /// How it is tried when it stands in another transaction's way.
        retry: Arc<RetryPolicy>,
    },
    /// Deliver a signal and report [`Event::SignalSent`].
    SendSignal {
        /// Its command.
        command: CommandId,
        /// The receiver: its open run.
        to: WorkflowId,
        /// The signal's name.
        name: Arc<str>,
        /// Its encoded value.
        payload: Bytes,
    },
    /// Report [`Event::TimerFired`] at this time.
    SetTimer {
        /// Its command.
        command: CommandId,
        /// When, by the clock that the machine was given.
        due: Timestamp,
    },
    /// Report [`Event::ChildClosed`] once this child has ended.
    AwaitChild {
        /// The child.
        child: RunId,
        /// Whether another run started it, whose child it may still be.
        is_inherited: bool,
    },
    /// Ask this child to cancel. It may have been asked before, or have ended.
    CancelChild {
        /// The child.
        child: RunId,
        /// Whether another run started it: then only if it is this run's child now.
        is_inherited: bool,
    },
    /// Nobody awaits the command any more: cancel the activity, forget the timer.
    Abandon {
        /// The command.
        command: CommandId,
    },
}

/// A child to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildStart {
    /// The parent's command.
    pub command: CommandId,
    /// The child.
    pub run: RunId,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// The registered name of its workflow.
    pub workflow: Arc<str>,
    /// Its queue; the parent's if none is named.
    pub queue: Option<Arc<str>>,
    /// Its encoded input.
    pub input: Bytes,
    /// Whether it goes on when the parent closes.
    pub abandon_on_close: bool,
    /// Its key in its queue.
    pub key: Arc<str>,
    /// Its priority among the runs of its key.
    pub priority: i16,
    /// Whether the limits of its queue are not for it.
    pub is_exempt: bool,
    /// By which it is found.
    pub tags: Tags,
}

/// The code of a transactional step, opaque to the core: only the worker runs it.
pub struct TransactionBody(Box<dyn Any + Send>);

impl TransactionBody {
    /// Hides a body.
    pub fn new<T: Send + 'static>(body: T) -> Self {
        Self(Box::new(body))
    }

    /// The body again, if it has this type.
    pub fn into_inner<T: 'static>(self) -> Option<T> {
        self.0.downcast().ok().map(|body| *body)
    }
}

impl fmt::Debug for TransactionBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransactionBody")
    }
}
