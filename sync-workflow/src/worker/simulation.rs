//! A worker in a simulation: on a clock that is moved by hand.

use std::{fmt, sync::Arc, time::Instant};

use uuid::Uuid;

use super::{Worker, WorkerBuilder, clock::Monotonic, committer::Limits};
use crate::id::RunId;

/// What is different for a worker in a simulation.
///
/// Its heartbeat is a task of the runtime instead of a thread, so that nothing of the worker runs
/// beside it, and it measures time by a clock of the simulation's. It sleeps by the runtime's clock,
/// which may be paused.
#[derive(Debug, Clone)]
pub struct Simulation {
    pub(super) monotonic: Monotonic,
    commits: Limits,
    pub(super) run_ids: RunIds,
}

impl Simulation {
    /// On the runtime's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::on_clock(|| tokio::time::Instant::now().into_std())
    }

    /// On another monotonic clock, which may run at another rate and jump ahead, but never back.
    #[must_use]
    pub fn on_clock(clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self {
            monotonic: Monotonic::simulated(clock),
            commits: Limits::DEFAULT,
            run_ids: RunIds::default(),
        }
    }

    /// What names the runs that the worker's own client starts, each by a version 7 uuid of its own.
    /// Without it their names are random.
    #[must_use]
    pub fn run_ids(mut self, next: impl Fn() -> RunId + Send + Sync + 'static) -> Self {
        self.run_ids = RunIds::by(next);
        self
    }

    /// How many commits may wait (more than zero), how many make a batch at most, and from how many
    /// on they are divided, so that several batches are under way: what takes hundreds of runs otherwise.
    #[must_use]
    pub fn commits(mut self, queue: usize, batch: usize, worth_dividing: usize) -> Self {
        self.commits = Limits {
            queue: queue.max(1),
            batch: batch.max(1),
            worth_dividing: worth_dividing.max(2),
            ..self.commits
        };
        self
    }

    /// How many children a run starts in one commit at most, more than zero.
    #[must_use]
    pub fn births(mut self, births: usize) -> Self {
        self.commits.births = births.max(1);
        self
    }
}

impl Default for Simulation {
    fn default() -> Self {
        Self::new()
    }
}

impl WorkerBuilder {
    /// Runs the worker in a simulation. A busy activity can then starve its heartbeat: not for
    /// production.
    #[must_use]
    pub fn simulated(mut self, simulation: Simulation) -> Self {
        self.settings.commits = simulation.commits;
        self.settings.simulation = Some(simulation);
        self
    }
}

impl Worker {
    /// How many places in memory are kept for runs that are about to be born here.
    #[must_use]
    pub fn kept_places(&self) -> usize {
        let node = self.current.borrow();
        node.as_ref().map_or(0, |node| node.kept_place_count())
    }
}

/// Names runs.
#[derive(Clone, Default)]
pub(crate) struct RunIds(Option<Arc<dyn Fn() -> RunId + Send + Sync>>);

impl RunIds {
    pub(crate) fn by(next: impl Fn() -> RunId + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(next)))
    }

    pub(crate) fn next(&self) -> RunId {
        match &self.0 {
            None => RunId::from_uuid(Uuid::now_v7()),
            Some(next) => next(),
        }
    }
}

impl fmt::Debug for RunIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunIds")
            .field("are_random", &self.0.is_none())
            .finish()
    }
}
