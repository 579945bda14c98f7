//! The limits and intervals of a worker.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    clock::Monotonic,
    committer::Limits,
    error::Error,
    simulation::{RunIds, Simulation},
};

use crate::id::BuildId;

/// The limits and intervals of a worker.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) queue: Arc<str>,
    /// The build that its code is of, if it says so.
    pub(crate) build: Option<BuildId>,
    /// How long a node may be silent before it is declared dead.
    pub(crate) lease: Duration,
    /// How many runs are in memory at most.
    pub(crate) max_resident_runs: usize,
    /// How many activities run at once at most.
    pub(crate) activity_slots: usize,
    /// How long a run that only waits stays in memory.
    pub(crate) evict_after: Duration,
    /// How often to look for work that no hint announced.
    pub(crate) poll_interval: Duration,
    /// How many claims without progress park a run.
    pub(crate) max_claims: u32,
    /// How long running activities may take to end when the worker stops.
    pub(crate) drain_timeout: Duration,
    /// How long an activity that nobody waits for may go on after it was told to stop.
    pub(crate) cancel_grace: Duration,
    /// How long closed runs are kept, by workflow; those of other workflows stay.
    pub(crate) retention: BTreeMap<Arc<str>, Duration>,
    /// How much is committed together.
    pub(crate) commits: Limits,
    /// What is different in a simulation, if this is one.
    pub(crate) simulation: Option<Simulation>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue: "default".into(),
            build: None,
            lease: Duration::from_secs(15),
            max_resident_runs: 1_024,
            activity_slots: 256,
            evict_after: Duration::from_secs(1),
            poll_interval: Duration::from_secs(5),
            max_claims: 10,
            drain_timeout: Duration::from_secs(10),
            cancel_grace: Duration::from_secs(10),
            retention: BTreeMap::new(),
            commits: Limits::DEFAULT,
            simulation: None,
        }
    }
}

impl Settings {
    /// Checks that every limit leaves something to do.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let positive = |setting, is_ok: bool| {
            if is_ok {
                Ok(())
            } else {
                Err(Error::InvalidSetting {
                    setting,
                    expected: "more than zero",
                })
            }
        };
        positive("max_resident_runs", self.max_resident_runs > 0)?;
        positive("activity_slots", self.activity_slots > 0)?;
        positive("max_claims", self.max_claims > 0)?;
        positive("poll_interval", !self.poll_interval.is_zero())?;
        if self.lease < Duration::from_millis(300) {
            return Err(Error::InvalidSetting {
                setting: "lease",
                expected: "at least 300 ms",
            });
        }
        Ok(())
    }

    /// The clock by which the worker measures how long something took.
    pub(crate) fn monotonic(&self) -> Monotonic {
        match &self.simulation {
            None => Monotonic::default(),
            Some(simulation) => simulation.monotonic.clone(),
        }
    }

    /// What names the runs that the worker's own client starts.
    pub(crate) fn run_ids(&self) -> RunIds {
        match &self.simulation {
            None => RunIds::default(),
            Some(simulation) => simulation.run_ids.clone(),
        }
    }

    /// How often the lease is renewed at most: three times in its length.
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        self.lease / 3
    }

    /// When a node that could not renew stops itself, from its last good heartbeat.
    pub(crate) fn self_fence_after(&self) -> Duration {
        self.lease.mul_f64(0.85)
    }
}
