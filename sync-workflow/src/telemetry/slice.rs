//! Slices: the stretches in which a run is in memory.

use crate::status::RunStatus;

/// How a slice of a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SliceEnd {
    Completed,
    Failed,
    Cancelled,
    ContinuedAsNew,
    /// It waits for something, out of memory.
    Asleep,
    /// It stopped for a person.
    Parked,
    /// It was given back because the worker stops.
    Released,
    /// It is another node's.
    Lost,
    /// The node was declared dead.
    Fenced,
}

impl SliceEnd {
    pub(crate) const ALL: [Self; 9] = [
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::ContinuedAsNew,
        Self::Asleep,
        Self::Parked,
        Self::Released,
        Self::Lost,
        Self::Fenced,
    ];

    /// The end of a run that closed.
    pub(crate) const fn closed(status: RunStatus) -> Self {
        match status {
            RunStatus::Completed => Self::Completed,
            RunStatus::Cancelled => Self::Cancelled,
            RunStatus::ContinuedAsNew => Self::ContinuedAsNew,
            RunStatus::Failed
            | RunStatus::Terminated
            | RunStatus::Pending
            | RunStatus::Running
            | RunStatus::Parked
            | RunStatus::Paused => Self::Failed,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::ContinuedAsNew => "continued_as_new",
            Self::Asleep => "asleep",
            Self::Parked => "parked",
            Self::Released => "released",
            Self::Lost => "lost",
            Self::Fenced => "fenced",
        }
    }

    /// Whether somebody should look at it.
    pub(crate) const fn is_error(self) -> bool {
        matches!(self, Self::Failed | Self::Parked)
    }
}
