//! Runs that begin as copies of other runs' first records.

use super::WokenRun;
use crate::{
    id::{RunId, WorkflowId},
    record::Record,
    status::RunStatus,
};

/// A run that begins with the first records of another one, its origin.
#[derive(Debug, Clone)]
pub struct Fork {
    /// The run whose records are copied.
    pub origin: RunId,
    /// The id that the new run gets.
    pub run: RunId,
    /// The record after the copied ones: its place is their number, which is at least one.
    pub forked: Record,
    /// Under which workflow id it starts, and what that means for the origin.
    pub target: ForkTarget,
}

/// Under which workflow id a fork starts.
#[derive(Debug, Clone)]
pub enum ForkTarget {
    /// Under one that no run has used.
    New(WorkflowId),
    /// Under that of its origin, in the origin's place.
    Same {
        /// The origin's last record, if it is open: it goes on in the new run.
        last: Record,
        /// The children of the origin for which the new run waits, as they were started. They become its own.
        children: Vec<RunId>,
    },
}

/// What came of a fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForkOutcome {
    /// The new run is ready.
    Forked {
        /// The origin, if it was ended in favour of the new run.
        ended: Option<WokenRun>,
    },
    /// There is no such origin, or it has fewer records.
    NoOrigin,
    /// This run is in the way: one of the new workflow id, or one that came after the origin.
    Existing {
        /// That run.
        run: RunId,
        /// Where it stands.
        status: RunStatus,
    },
}
