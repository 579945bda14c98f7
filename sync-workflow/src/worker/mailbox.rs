//! The mailbox of a run: what its driver is told.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::committer::Told;
use crate::{
    failure::Failure,
    id::{CommandId, RunId},
    journal::{self, OpenTransaction, RunOutcome},
    record::Record,
};

/// One thing that a driver is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// The run's last commit ended in this way.
    Committed {
        told: Told,
        outcome: RunOutcome,
        rejected: Vec<RunId>,
    },
    /// The run's last commit can never succeed.
    CommitRefused { reason: String },
    /// An attempt of an activity ended.
    AttemptEnded {
        command: CommandId,
        result: Result<Bytes, Failure>,
    },
    /// An activity reported progress.
    Progress { command: CommandId, details: Bytes },
    /// The code of a step is done, and its transaction waits to be committed.
    StepReady {
        command: CommandId,
        payload: Bytes,
        transaction: OpenTransaction,
    },
    /// The code of a step failed; nothing of it remains.
    StepFailed {
        command: CommandId,
        failure: Failure,
    },
    /// The transaction of a step, or of an attempt that has one of its own, was rolled back for a reason outside of its
    /// code; nothing of it remains.
    GaveWay {
        command: CommandId,
        failure: Failure,
    },
    /// A step's commit ended.
    StepCommitted {
        record: Record,
        result: journal::Result<()>,
    },
    /// A signal of the run's was delivered, or cannot be.
    SignalSent {
        command: CommandId,
        result: Result<(), Failure>,
    },
    /// A child was asked to cancel, or has ended.
    CancelSent { child: RunId },
    /// A child that ran on this node has closed.
    ChildClosed {
        child: RunId,
        result: Result<Bytes, Failure>,
    },
    /// Something arrived in the run's inbox.
    Arrived,
    /// The run's inbox count is this.
    ArrivedUpTo(i64),
    /// Memory is short: give up the place if the run only waits.
    Evict,
    /// The worker stops: give the run back.
    Drain,
    /// The node was declared dead: stop at once, commit nothing.
    Fenced,
    /// Something woke the workflow that is not a durable call.
    Alarm,
    /// Running activities have had their time.
    DrainNow,
}

/// The sending side. Sending never waits: what is sent is bounded by what the run asked for, and a
/// message for a driver that is gone is dropped, since the journal knows everything that matters.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox(mpsc::UnboundedSender<Message>);

impl Mailbox {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    pub(crate) fn send(&self, message: Message) {
        let _gone = self.0.send(message);
    }
}

/// A waker that tells the driver about a foreign wake-up of the workflow.
pub(crate) struct Alarm(pub(crate) Mailbox);

impl std::task::Wake for Alarm {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.send(Message::Alarm);
    }
}
