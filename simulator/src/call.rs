//! Calls on their way between a process and the journal.

use sync_workflow::journal::Error;

use crate::world::World;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Method {
    Enlist,
    Renew,
    Reap,
    Retire,
    Commit,
    WasCommitted,
    Claim,
    Owned,
    Load,
    Inbox,
    Step,
    Send,
    Start,
    Notify,
    Look,
    Cancel,
    Fork,
    Declare,
}

impl Method {
    /// Whether the call changes the journal, so that its outcome can be unknown.
    pub(crate) const fn writes(self) -> bool {
        matches!(
            self,
            Self::Enlist
                | Self::Renew
                | Self::Reap
                | Self::Retire
                | Self::Commit
                | Self::Claim
                | Self::Step
                | Self::Send
                | Self::Start
                | Self::Cancel
                | Self::Fork
                | Self::Declare
        )
    }

    /// Whether the journal may still be at it when the caller has given up.
    pub(crate) const fn may_be_in_doubt(self) -> bool {
        matches!(
            self,
            Self::Commit | Self::Step | Self::Send | Self::Start | Self::Cancel | Self::Fork
        )
    }
}

/// Tells calls of the same moment apart, in an order that does not depend on the order in which
/// tasks happened to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) process: usize,
    pub(crate) method: Method,
    /// The run or signal that the call is about, or zero.
    pub(crate) about: u128,
}

/// What the caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The journal's own answer.
    Answer,
    /// It did not happen.
    Unavailable,
    /// It happened or it did not.
    Unknown,
    /// The process is gone.
    Dead,
}

/// Carries a call out on the journal.
pub(crate) type Apply = Box<dyn FnOnce(&World) + Send>;
/// Tells the caller. A real answer must have been applied before.
pub(crate) type Reply = Box<dyn FnOnce(Verdict) + Send>;

/// A call that has not been answered.
pub(crate) struct Call {
    pub(crate) key: Key,
    /// Which life of the process called.
    pub(crate) life: u32,
    pub(crate) apply: Option<Apply>,
    pub(crate) reply: Option<Reply>,
    pub(crate) verdict: Verdict,
    pub(crate) then: Then,
    /// The journal was asked about it while it was held on its way.
    pub(crate) was_asked_about: bool,
}

/// What follows the first of a call's two events, and how long after it, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It happens, and is answered so much later.
    Answer(u64),
    /// It is answered, and happens so much later.
    Apply(u64),
    /// It is answered.
    Nothing,
}

/// The error that stands for a verdict other than the journal's own answer.
pub(crate) fn error_of(verdict: Verdict) -> Error {
    match verdict {
        Verdict::Unavailable => Error::Unavailable("simulated".into()),
        Verdict::Unknown => Error::Unknown("simulated".into()),
        Verdict::Answer | Verdict::Dead => Error::Fenced,
    }
}
