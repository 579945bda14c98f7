//! What a node counts and times.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    catalog,
    meter::{self, Counter, Gauge, Histogram, counter, gauge, histogram},
    slice::SliceEnd,
};
use crate::{
    failure::FailureKind,
    journal::{BuildInfo, Claim, ClaimedRun},
};

/// The metrics of a node. Their handles are made when the node begins, by the recorder that is installed then.
pub(crate) struct Metrics {
    resident_runs: Gauge,
    _places: Share,
    _slots: Share,
    oldest_ready: Gauge,
    stranded_runs: Gauge,
    claims_with_runs: Counter,
    claims_without: Counter,
    commit: Histogram,
    commit_size: Histogram,
    unknown_commits: Counter,
    retries: Counter,
    reaped: Counter,
    workflows: HashMap<Arc<str>, OfWorkflow>,
    activities: HashMap<Arc<str>, Arc<OfActivity>>,
}

/// What a node adds to a gauge as long as it lives.
struct Share {
    gauge: Gauge,
    amount: f64,
}

impl Share {
    fn new(gauge: Gauge, amount: usize) -> Self {
        let amount = amount as f64;
        gauge.increment(amount);
        Self { gauge, amount }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gauge.decrement(self.amount);
    }
}

struct OfWorkflow {
    claimed: Counter,
    schedule_to_start: Histogram,
    replay: Histogram,
    timer_lateness: Histogram,
    ends: [Counter; SliceEnd::ALL.len()],
}

impl OfWorkflow {
    fn new(workflow: &str) -> Self {
        Self {
            claimed: counter(&catalog::CLAIMED_RUNS, &[workflow]),
            schedule_to_start: histogram(&catalog::SCHEDULE_TO_START, &[workflow]),
            replay: histogram(&catalog::REPLAY, &[workflow]),
            timer_lateness: histogram(&catalog::TIMER_LATENESS, &[workflow]),
            ends: SliceEnd::ALL.map(|end| counter(&catalog::RUN_SLICES, &[workflow, end.as_str()])),
        }
    }
}

impl Metrics {
    /// The metrics of a node that knows these workflows and activities, with so much room.
    pub(crate) fn new(
        workflows: Vec<Arc<str>>,
        activities: Vec<Arc<str>>,
        places: usize,
        slots: usize,
    ) -> Self {
        meter::describe();
        let of_workflow = |name: Arc<str>| (Arc::clone(&name), OfWorkflow::new(&name));
        let of_activity = |name: Arc<str>| (Arc::clone(&name), Arc::new(OfActivity::new(&name)));
        Self {
            resident_runs: gauge(&catalog::RESIDENT_RUNS),
            _places: Share::new(gauge(&catalog::PLACES), places),
            _slots: Share::new(gauge(&catalog::ACTIVITY_SLOTS), slots),
            oldest_ready: gauge(&catalog::OLDEST_READY),
            stranded_runs: gauge(&catalog::STRANDED_RUNS),
            claims_with_runs: counter(&catalog::CLAIMS, &["runs"]),
            claims_without: counter(&catalog::CLAIMS, &["nothing"]),
            commit: histogram(&catalog::COMMIT, &[]),
            commit_size: histogram(&catalog::COMMIT_SIZE, &[]),
            unknown_commits: counter(&catalog::UNKNOWN_COMMITS, &[]),
            retries: counter(&catalog::JOURNAL_RETRIES, &[]),
            reaped: counter(&catalog::REAPED_NODES, &[]),
            workflows: workflows.into_iter().map(of_workflow).collect(),
            activities: activities.into_iter().map(of_activity).collect(),
        }
    }

    fn of(&self, run: &ClaimedRun) -> Option<&OfWorkflow> {
        match meter::IS_ON {
            true => self.workflows.get(&run.workflow),
            false => None,
        }
    }

    /// A claim was answered.
    pub(crate) fn claimed(&self, claim: &Claim) {
        match claim.runs.is_empty() {
            true => self.claims_without.increment(1),
            false => self.claims_with_runs.increment(1),
        }
        for run in &claim.runs {
            let Some(of) = self.of(run) else { continue };
            of.claimed.increment(1);
            if let Some(ready_at) = run.ready_at {
                let waited = Duration::try_from(claim.now.duration_since(ready_at));
                of.schedule_to_start
                    .record(seconds(waited.unwrap_or_default()));
            }
        }
    }

    /// What builds there are, and what is open of each.
    pub(crate) fn stranded_runs(&self, builds: &[BuildInfo]) {
        let stranded = builds.iter().filter(|build| build.is_stranded());
        let runs: u64 = stranded.map(|build| build.open_runs).sum();
        self.stranded_runs.set(runs as f64);
    }

    /// The earliest wake-up time of the runs that the node may claim.
    pub(crate) fn oldest_ready(&self, now: Timestamp, next_wake: Option<Timestamp>) {
        let age =
            next_wake.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
        self.oldest_ready.set(seconds(age.unwrap_or_default()));
    }

    /// Whether anything is exported, so that it is worth a question.
    pub(crate) const fn are_exported(&self) -> bool {
        meter::IS_ON
    }

    /// A run came into memory.
    pub(crate) fn arrived(&self) {
        self.resident_runs.increment(1.0);
    }

    /// A run left memory.
    pub(crate) fn departed(&self, run: &ClaimedRun, end: SliceEnd) {
        self.resident_runs.decrement(1.0);
        let counter = self.of(run).and_then(|of| of.ends.get(end as usize));
        if let Some(counter) = counter {
            counter.increment(1);
        }
    }

    /// A run that was claimed caught up with its journal.
    pub(crate) fn replayed(&self, run: &ClaimedRun, took: Duration) {
        if let Some(of) = self.of(run) {
            of.replay.record(seconds(took));
        }
    }

    /// A timer of a run fired so late.
    pub(crate) fn timer_fired(&self, run: &ClaimedRun, late: Duration) {
        if let Some(of) = self.of(run) {
            of.timer_lateness.record(seconds(late));
        }
    }

    /// A commit of so many runs took so long.
    pub(crate) fn committed(&self, runs: usize, took: Duration) {
        self.commit.record(seconds(took));
        self.commit_size.record(runs as f64);
    }

    /// The acknowledgement of a commit was lost.
    pub(crate) fn commit_unknown(&self) {
        self.unknown_commits.increment(1);
    }

    /// A write was refused, for the node had been declared dead.
    pub(crate) fn fenced(&self, write: FencedWrite) {
        counter(&catalog::FENCED_WRITES, &[write.as_str()]).increment(1);
    }

    /// An operation of the journal is tried again.
    pub(crate) fn retried(&self) {
        self.retries.increment(1);
    }

    /// So many dead nodes were reaped.
    pub(crate) fn reaped(&self, nodes: usize) {
        self.reaped.increment(nodes as u64);
    }

    /// Begins to measure an attempt.
    pub(crate) fn attempt(&self, activity: &str) -> Option<AttemptMeter> {
        match meter::IS_ON {
            true => self.activities.get(activity).map(AttemptMeter::start),
            false => None,
        }
    }
}

/// A write that a fence refuses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FencedWrite {
    Commit,
    Step,
    Claim,
    Lease,
}

impl FencedWrite {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Step => "step",
            Self::Claim => "claim",
            Self::Lease => "lease",
        }
    }
}

struct OfActivity {
    slots_used: Gauge,
    took: Histogram,
    completed: Counter,
    failed: Counter,
    timed_out: Counter,
    panicked: Counter,
    abandoned: Counter,
}

impl OfActivity {
    fn new(activity: &str) -> Self {
        let ended = |outcome| counter(&catalog::ACTIVITY_ATTEMPTS, &[activity, outcome]);
        Self {
            slots_used: gauge(&catalog::ACTIVITY_SLOTS_USED),
            took: histogram(&catalog::ACTIVITY_ATTEMPT, &[activity]),
            completed: ended("completed"),
            failed: ended("failed"),
            timed_out: ended("timed_out"),
            panicked: ended("panicked"),
            abandoned: ended("abandoned"),
        }
    }

    const fn ended(&self, failure: Option<FailureKind>) -> &Counter {
        match failure {
            None => &self.completed,
            Some(FailureKind::TimedOut) => &self.timed_out,
            Some(FailureKind::Panicked) => &self.panicked,
            Some(_) => &self.failed,
        }
    }
}

/// Measures one attempt. One that is dropped before it ends was abandoned.
pub(crate) struct AttemptMeter {
    of: Arc<OfActivity>,
    has_ended: bool,
}

impl AttemptMeter {
    fn start(of: &Arc<OfActivity>) -> Self {
        of.slots_used.increment(1.0);
        Self {
            of: Arc::clone(of),
            has_ended: false,
        }
    }

    /// The attempt ended, with a failure of this kind if it failed.
    pub(crate) fn ended(mut self, failure: Option<FailureKind>, took: Duration) {
        self.has_ended = true;
        self.of.ended(failure).increment(1);
        self.of.took.record(seconds(took));
    }
}

impl Drop for AttemptMeter {
    fn drop(&mut self) {
        self.of.slots_used.decrement(1.0);
        if !self.has_ended {
            self.of.abandoned.increment(1);
        }
    }
}

/// Measures how long connections of a pool are waited for.
#[cfg(feature = "postgres")]
#[derive(Debug, Clone)]
pub(crate) struct PoolMeter(Histogram);

#[cfg(feature = "postgres")]
impl PoolMeter {
    pub(crate) fn new(pool: &str) -> Self {
        Self(histogram(&catalog::POOL_WAIT, &[pool]))
    }

    /// Measures how long this takes.
    pub(crate) async fn measure<T>(&self, wait: impl Future<Output = T>) -> T {
        if !meter::IS_ON {
            return wait.await;
        }
        let began = std::time::Instant::now();
        let waited = wait.await;
        self.0.record(seconds(began.elapsed()));
        waited
    }
}

const fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
