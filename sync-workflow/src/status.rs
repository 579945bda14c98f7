//! The states of a run.

use serde::{Deserialize, Serialize};

/// Where a run stands. The numbers are stored and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum RunStatus {
    /// No node holds it: it is ready, or asleep until its wake-up time.
    Pending = 0,
    /// A node holds it.
    Running = 1,
    /// It stopped for a person: the code does not match the journal, the input cannot be decoded,
    /// or it brought its workers down. Nothing is lost; it continues when it is unparked.
    Parked = 2,
    /// An operator holds it back. What arrives is kept; it goes on when it is resumed.
    Paused = 3,
    /// It returned a value.
    Completed = 10,
    /// It returned an error.
    Failed = 11,
    /// It ended because it was cancelled.
    Cancelled = 12,
    /// An operator ended it.
    Terminated = 13,
    /// It goes on in a new run of the same workflow id.
    ContinuedAsNew = 14,
}

impl RunStatus {
    /// Every status, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Running,
        Self::Parked,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Terminated,
        Self::ContinuedAsNew,
    ];

    /// The statuses of a run that has not ended.
    pub const OPEN: [Self; 4] = [Self::Pending, Self::Running, Self::Parked, Self::Paused];

    /// The stored number.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The status with this stored number, if this version knows it.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// Whether nothing more will happen to the run.
    #[must_use]
    pub const fn is_closed(self) -> bool {
        self.code() >= Self::Completed.code()
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Parked => "parked",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
            Self::ContinuedAsNew => "continued as new",
        })
    }
}
