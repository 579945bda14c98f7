//! Replaying what is open against the code that is about to be deployed.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, Mutex},
    task::Waker,
};

use futures_util::stream::{self, StreamExt as _};

use super::{WorkerBuilder, driver::history, registry::Registry};
use crate::{
    context::Context,
    failure::Failure,
    id::{Position, RunId, WorkflowId},
    journal::{self, Journal, RunFilter, RunInfo},
    record::{Record, RecordKind},
    replay::{Action, Execution, Fault, Machine, Progress, Turn},
    status::RunStatus,
};

/// How many journals are read ahead.
const AHEAD: usize = 8;
/// How many records are read at once.
const PAGE: u32 = 5_000;

/// What came of replaying the open runs: see [`WorkerBuilder::replay_check`].
#[derive(Debug, Clone, Default)]
#[must_use = "a difference is a reason not to deploy"]
pub struct ReplayReport {
    /// How many runs were replayed.
    pub replayed: u64,
    /// How many of them do not replay.
    pub different: u64,
    /// The first of those, at most [`ReplayReport::MOST_DIFFERENCES`].
    pub differences: Vec<RunDifference>,
    /// How many open runs the worker would leave alone, by workflow: it does not know the workflow.
    pub unregistered: BTreeMap<Arc<str>, u64>,
}

impl ReplayReport {
    /// How many differences are told in full.
    pub const MOST_DIFFERENCES: usize = 1_000;

    /// Whether every run that this code would drive replays.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.different == 0
    }
}

/// An open run that the code cannot drive on.
#[derive(Debug, Clone)]
pub struct RunDifference {
    /// The run.
    pub run: RunId,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// The registered name of its workflow.
    pub workflow: Arc<str>,
    /// What would become of it.
    pub outcome: Outcome,
}

/// What would become of a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Outcome {
    /// It would be parked. A nondeterminism names the journal's record, the code's command and the position.
    Parked(Fault),
    /// It would fail at once, without anything having happened: as when the code refuses what it took before.
    Failed(Failure),
}

impl WorkerBuilder {
    /// Replays every open run of the builder's queue against the builder's workflows, and reports those that
    /// would be parked or would fail. Nothing is written, and no activity runs; code runs on
    /// from the end of each journal to where it waits, so that the closures of
    /// [`crate::Context::side_effect`] may be called.
    ///
    /// Run it with the new binary before it takes over, for instance in CI or in the first step of a deployment,
    /// against the database of production or a replica of it:
    ///
    /// ```
    /// # use sync_workflow::{Context, Failure, Worker, WorkerBuilder, journal};
    /// # async fn hello(ctx: Context, name: String) -> Result<String, Failure> { Ok(name) }
    /// fn worker() -> WorkerBuilder {
    ///     Worker::builder().workflow(hello)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let report = worker().replay_check(&*journal::connect("memory:").await?).await?;
    /// println!("{report}");
    /// assert!(report.holds());
    /// # Ok(()) }
    /// ```
    ///
    /// Where payloads are encoded, hand it `codecs.on(journal)`: see [`Codecs::on`](crate::payload::Codecs::on).
    ///
    /// A run that moves on meanwhile is replayed as far as it was read. Memory: a few journals at a time.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub async fn replay_check(&self, journal: &dyn Journal) -> journal::Result<ReplayReport> {
        let mut report = ReplayReport::default();
        let mut filter = RunFilter {
            statuses: RunStatus::OPEN.to_vec(),
            queue: Some(Arc::clone(&self.settings.queue)),
            limit: RunFilter::MAX_LIMIT,
            ..RunFilter::default()
        };
        loop {
            let page = journal.list(&filter).await?;
            filter.before = page.items.last().map(|info| info.run);
            let (known, unknown): (Vec<_>, Vec<_>) = page
                .items
                .into_iter()
                .partition(|info| self.registry.workflow(&info.workflow).is_some());
            for info in unknown {
                *report.unregistered.entry(info.workflow).or_default() += 1;
            }
            let mut journals = stream::iter(known)
                .map(async |info| load(journal, info.run).await.map(|read| (info, read)))
                .buffered(AHEAD);
            while let Some(loaded) = journals.next().await {
                let (info, records) = loaded?;
                report.add(&self.registry, info, records);
            }
            if !page.more {
                return Ok(report);
            }
        }
    }
}

/// The whole journal of a run, or what is wrong with it.
async fn load(journal: &dyn Journal, run: RunId) -> journal::Result<Result<Vec<Record>, Fault>> {
    let mut records = Vec::new();
    loop {
        let from = Position(u32::try_from(records.len()).unwrap_or(u32::MAX));
        match journal.load(run, from, PAGE).await {
            Ok(page) => {
                let is_last = page.records.len() < PAGE as usize;
                records.extend(page.records);
                if is_last {
                    return Ok(Ok(records));
                }
            }
            Err(error @ journal::Error::Corrupt { .. }) => {
                let detail = error.to_string();
                return Ok(Err(Fault::Damaged { detail }));
            }
            Err(error) => return Err(error),
        }
    }
}

impl ReplayReport {
    fn add(&mut self, registry: &Registry, info: RunInfo, records: Result<Vec<Record>, Fault>) {
        let is_over = |records: &Vec<Record>| {
            records.is_empty() || records.iter().any(|record| record.kind.is_final())
        };
        if records.as_ref().is_ok_and(is_over) {
            // It ended between the list and the look.
            return;
        }
        self.replayed += 1;
        let outcome = match records {
            Ok(records) => outcome(registry, &info, records),
            Err(fault) => Some(Outcome::Parked(fault)),
        };
        let Some(outcome) = outcome else { return };
        self.different += 1;
        if self.differences.len() < Self::MOST_DIFFERENCES {
            self.differences.push(RunDifference {
                run: info.run,
                workflow_id: info.workflow_id,
                workflow: info.workflow,
                outcome,
            });
        }
    }
}

/// Replays a run; nothing, if it would go on.
fn outcome(registry: &Registry, info: &RunInfo, records: Vec<Record>) -> Option<Outcome> {
    if let Some(fault) = history::fault_in(&records) {
        return Some(Outcome::Parked(fault));
    }
    let factory = registry.workflow(&info.workflow)?;
    let input = records.first()?.payload.clone();
    let machine = Machine::new(info.run, info.workflow_id.clone(), records);
    let machine = Arc::new(Mutex::new(machine));
    let context = Context::new(Arc::clone(&machine));
    let future = match history::make_future(factory, context, &input) {
        Ok(future) => future,
        Err(fault) => return Some(Outcome::Parked(fault)),
    };
    let mut execution = Execution::new(machine, future, Waker::noop().clone()).after_wait(true);
    let turn = execution.start(info.created_at, &HashSet::new());
    if let Some(name) = unregistered_activity(registry, &turn) {
        let what = "activity";
        return Some(Outcome::Parked(Fault::Unregistered { what, name }));
    }
    match turn.progress {
        Progress::Faulted(fault) => Some(Outcome::Parked(fault)),
        Progress::Closed(RunStatus::Failed) => {
            let last = turn.records.last();
            let last = last.filter(|record| record.kind == RecordKind::Failed)?;
            Some(Outcome::Failed(Failure::decode(&last.payload)))
        }
        Progress::Closed(_) | Progress::Continued(_) | Progress::Waiting => None,
    }
}

fn unregistered_activity(registry: &Registry, turn: &Turn) -> Option<Arc<str>> {
    turn.actions.iter().find_map(|action| match action {
        Action::StartActivity { name, .. } if registry.activity(name).is_none() => {
            Some(Arc::clone(name))
        }
        _ => None,
    })
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} open runs replayed, {} of them differ",
            self.replayed, self.different
        )?;
        for (workflow, runs) in &self.unregistered {
            writeln!(
                f,
                "{runs} open runs of {workflow:?}, which is not registered"
            )?;
        }
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        let untold = self.different - self.differences.len() as u64;
        if untold > 0 {
            writeln!(f, "and {untold} more")?;
        }
        Ok(())
    }
}

impl fmt::Display for RunDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            run,
            workflow_id,
            workflow,
            outcome,
        } = self;
        write!(f, "{workflow} {workflow_id} ({run}) ")?;
        match outcome {
            Outcome::Parked(fault) => write!(f, "would be parked: {fault}"),
            Outcome::Failed(failure) => write!(f, "would fail: {failure}"),
        }
    }
}
