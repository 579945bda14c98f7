//! The deletion of runs that ended long ago.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::id::RunId;

/// Which closed runs to delete.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// Only runs of this workflow.
    pub workflow: Arc<str>,
    /// Only runs that ended so long ago.
    pub closed_for: Duration,
    /// Only runs that ended after this place: where an earlier deletion left off.
    pub after: Option<DeletionPlace>,
}

impl Deletion {
    /// How many runs a deletion looks at: what it locks is gone in a moment.
    pub const MAX_RUNS: u32 = 100;
    /// How many records it deletes, if more than one run: as many rows as a large commit writes.
    pub const MAX_RECORDS: u32 = 5_000;
}

/// A place among the closed runs of a workflow, in the order of their ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeletionPlace {
    /// When the run ended.
    pub closed_at: Timestamp,
    /// The run.
    pub run: RunId,
}

/// What a deletion did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted {
    /// How many runs are gone.
    pub runs: u32,
    /// Where the next deletion begins; `None` when there is nothing more to look at, or another process is at it.
    pub after: Option<DeletionPlace>,
}
