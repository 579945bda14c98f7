//! Builds of workers, and the runs that are theirs.

use async_trait::async_trait;
use serde::Serialize;

use super::Result;
use crate::id::{BuildId, NodeId, RunId};

/// Which build's workers take which runs.
///
/// A run of a build is claimed by the nodes of that build only; a [claim](super::Journal::claim) of a node that has one
/// makes what it takes a run of it. A run of no build is claimed by nodes without one, and by those of the queue's current build, or
/// of any if none is current. Runs are of no build when they start, however they do.
#[async_trait]
pub trait BuildStore: Send + Sync {
    /// Notes which build a node is of, until its lease ends: for [`BuildInfo::workers`]. Doing it twice is harmless.
    ///
    /// # Errors
    ///
    /// [`super::Error::Fenced`] when the lease row is gone.
    async fn declare_build(&self, node: NodeId, queue: &str, build: &BuildId) -> Result<()>;

    /// Makes a build the current one of a queue, or none.
    async fn set_current_build(&self, queue: &str, build: Option<&BuildId>) -> Result<()>;

    /// The builds of a queue that are current, have a live node, or have open runs, by name.
    async fn list_builds(&self, queue: &str) -> Result<Vec<BuildInfo>>;

    /// Makes an open run one of another build, in a transaction that no claim of it overlaps. Doing it twice is harmless.
    async fn move_to_build(&self, run: RunId, to: &BuildMove) -> Result<BuildMoved>;
}

/// A build, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuildInfo {
    /// The build.
    pub build: BuildId,
    /// Whether its workers take new runs, and those of no other build do.
    pub is_current: bool,
    /// How many live workers of the queue are of it.
    pub workers: u64,
    /// How many runs of it are open; [`BuildInfo::MOST_COUNTED`] means that or more.
    pub open_runs: u64,
}

impl BuildInfo {
    /// No further is counted.
    pub const MOST_COUNTED: u32 = 100_000;

    /// Whether nothing needs its workers any more.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        !self.is_current && self.open_runs == 0
    }

    /// Whether runs wait for workers of it, and there are none.
    #[must_use]
    pub const fn is_stranded(&self) -> bool {
        self.workers == 0 && self.open_runs > 0
    }
}

/// Where a run goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildMove {
    /// To this build, or to no build.
    pub to: Option<BuildId>,
    /// Only if nobody holds the run and its journal still has so many records: those that were replayed. Without it the run
    /// goes as it is, and a node that holds it keeps it until it gives it up.
    pub if_length: Option<u32>,
}

/// What came of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildMoved {
    /// It is of the build now.
    Moved,
    /// A node holds it.
    Held,
    /// Its journal has grown.
    Grown,
    /// It has ended, or never was.
    NotOpen,
}
