//! How a sync ended, said honestly.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How an entity's sync, or a run of several, ended. Ordered from best to worst.
///
/// ```
/// # use sync_core::SyncStatus;
/// let entities = [SyncStatus::Succeeded, SyncStatus::Blocked, SyncStatus::Partial];
/// assert_eq!(SyncStatus::worst(entities), SyncStatus::Blocked);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncStatus {
    /// Everything was read and written.
    Succeeded,
    /// Everything was read; some documents, or the deletion of some records, are set aside for a person.
    SucceededWithQuarantine,
    /// Some of it could not be read.
    Partial,
    /// It did not start, because a hard dependency did not finish.
    Blocked,
    /// It could not go on.
    Failed,
    /// A person or a parent stopped it.
    Cancelled,
}

impl SyncStatus {
    /// The name that summaries use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::SucceededWithQuarantine => "succeeded_with_quarantine",
            Self::Partial => "partial",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The worst of the parts; nothing at all succeeded.
    pub fn worst(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().max().unwrap_or(Self::Succeeded)
    }

    /// Whether entities that need this one can start: its rows are there, perhaps not all.
    pub fn lets_dependents_start(self) -> bool {
        match self {
            Self::Succeeded | Self::SucceededWithQuarantine | Self::Partial => true,
            Self::Blocked | Self::Failed | Self::Cancelled => false,
        }
    }

    /// Whether the cursor may move to what was seen: only after everything was read.
    pub fn moves_cursor(self) -> bool {
        match self {
            Self::Succeeded | Self::SucceededWithQuarantine => true,
            Self::Partial | Self::Blocked | Self::Failed | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for SyncStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
