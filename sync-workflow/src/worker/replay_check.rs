//! Replaying what is open against the code that is about to be deployed.

mod arguments;
mod command;
mod report;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    task::Waker,
};

use futures_util::stream::{self, StreamExt as _};

pub use self::{
    command::{ReplayCheckCommand, Verdict},
    report::{OfOthers, Outcome, ReplayReport, Replayed, RunDifference},
};
use super::{WorkerBuilder, driver, registry::Registry};
use crate::{
    context::Context,
    failure::Failure,
    id::{BuildId, Position, RunId},
    journal::{self, BuildMove, BuildMoved, Hint, History, Journal, RunFilter, RunInfo},
    record::RecordKind,
    replay::{Action, Execution, Fault, Machine, Progress, Turn},
    status::RunStatus,
};

/// How many records are read at once.
const PAGE: u32 = 5_000;

/// Which open runs are replayed, and how many journals are in memory for it.
///
/// ```
/// use sync_workflow::worker::ReplayScope;
///
/// let scope = ReplayScope {
///     workflow: Some("order".into()),
///     ..ReplayScope::default()
/// };
/// assert_eq!(scope.journals_at_once, 8);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayScope {
    /// Only runs of this workflow.
    pub workflow: Option<Arc<str>>,
    /// Only runs of this build.
    pub build: Option<BuildId>,
    /// How many journals are read ahead of the one that is replayed; at most [`Self::MOST_JOURNALS`].
    pub journals_at_once: usize,
}

impl ReplayScope {
    /// A journal may be a hundred thousand records long: so many of them still fit into memory.
    pub const MOST_JOURNALS: usize = 64;
}

impl Default for ReplayScope {
    fn default() -> Self {
        Self {
            workflow: None,
            build: None,
            journals_at_once: 8,
        }
    }
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
    /// Runs of another [build](Self::build_id) are replayed as well, and stay with its workers if they do not fit: they are
    /// told of, and no reason not to deploy.
    ///
    /// A run that moves on meanwhile is replayed as far as it was read. Memory: a few journals at a time.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub async fn replay_check(&self, journal: &dyn Journal) -> journal::Result<ReplayReport> {
        self.replay_check_within(journal, &ReplayScope::default(), &mut |_| {})
            .await
    }

    /// As [`Self::replay_check`], of some of the runs. After each page of the list of runs `progress` is told what came of
    /// it so far.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub async fn replay_check_within(
        &self,
        journal: &dyn Journal,
        scope: &ReplayScope,
        progress: &mut (dyn FnMut(&ReplayReport) + Send),
    ) -> journal::Result<ReplayReport> {
        self.replay_each(journal, scope, None, progress).await
    }

    /// Replays the open runs of the builder's queue, and moves those that are of another build and fit to the builder's
    /// own: its workers drive them from then on. The rest stays where it is.
    ///
    /// A run moves only if nobody holds it and its journal is as long as what was replayed, in one transaction: no
    /// other worker has it meanwhile. One that is held is counted, and moves when this is called again after it
    /// was given up. Parked and paused runs move as they are, and are unparked or resumed by a person.
    ///
    /// Nothing happens to runs of no build, which workers of the current build take anyhow. Safe to repeat, and to drop: what
    /// was moved stays moved.
    ///
    /// ```no_run
    /// # use sync_workflow::{Context, Failure, Worker, WorkerBuilder, journal, worker::ReplayScope};
    /// # async fn hello(ctx: Context, name: String) -> Result<String, Failure> { Ok(name) }
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let worker = || Worker::builder().workflow(hello).build_id("2026-11-22.2");
    /// let journal = journal::connect("postgres://localhost/app").await?;
    /// let report = worker()
    ///     .move_what_replays(&*journal, &ReplayScope::default(), &mut |_| {})
    ///     .await?;
    /// println!("{} moved, {} stay", report.moved, report.of_others.different + report.held);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`journal::Error::Unsupported`] for a builder without a build; else when the journal cannot be read or written.
    pub async fn move_what_replays(
        &self,
        journal: &dyn Journal,
        scope: &ReplayScope,
        progress: &mut (dyn FnMut(&ReplayReport) + Send),
    ) -> journal::Result<ReplayReport> {
        let Some(build) = &self.settings.build else {
            return Err(journal::Error::Unsupported {
                what: "moving runs to a worker without a build",
            });
        };
        self.replay_each(journal, scope, Some(build), progress)
            .await
    }

    async fn replay_each(
        &self,
        journal: &dyn Journal,
        scope: &ReplayScope,
        to: Option<&BuildId>,
        progress: &mut (dyn FnMut(&ReplayReport) + Send),
    ) -> journal::Result<ReplayReport> {
        let mut report = ReplayReport::of_queue(Arc::clone(&self.settings.queue));
        let mut filter = RunFilter {
            statuses: RunStatus::OPEN.to_vec(),
            queue: Some(Arc::clone(&self.settings.queue)),
            workflow: scope.workflow.clone(),
            build: scope.build.clone(),
            limit: RunFilter::MAX_LIMIT,
            ..RunFilter::default()
        };
        let ahead = scope.journals_at_once.clamp(1, ReplayScope::MOST_JOURNALS);
        loop {
            let page = journal.list(&filter).await?;
            filter.before = page.items.last().map(|info| info.run);
            let (known, unknown): (Vec<_>, Vec<_>) = page
                .items
                .into_iter()
                .partition(|info| self.registry.workflow(&info.workflow).is_some());
            for info in unknown {
                report.leave(info.workflow);
            }
            let mut journals = stream::iter(known)
                .map(async |info| load(journal, info.run).await.map(|read| (info, read)))
                .buffered(ahead);
            while let Some(loaded) = journals.next().await {
                let (info, history) = loaded?;
                if has_ended(&history) {
                    continue;
                }
                let length = history.as_ref().map_or(0, |history| history.records.len());
                let outcome = replayed(&self.registry, &info, history);
                let is_of_other = info.build.is_some() && info.build != self.settings.build;
                if let Some(to) = to.filter(|_| is_of_other && outcome.is_none()) {
                    report.count_move(move_run(journal, info.run, to, length).await?);
                }
                report.add(info, is_of_other, outcome);
            }
            if report.moved > 0 {
                let queue = Arc::clone(&self.settings.queue);
                journal.notify(&[Hint::Ready(queue)]).await?;
            }
            progress(&report);
            if !page.more {
                return Ok(report);
            }
        }
    }
}

/// Moves a run whose journal was replayed to this length.
async fn move_run(
    journal: &dyn Journal,
    run: RunId,
    to: &BuildId,
    length: usize,
) -> journal::Result<BuildMoved> {
    let to = BuildMove {
        to: Some(to.clone()),
        if_length: u32::try_from(length).ok(),
    };
    journal.builds().move_to_build(run, &to).await
}

/// The whole journal of a run, or what is wrong with it.
async fn load(journal: &dyn Journal, run: RunId) -> journal::Result<Result<History, Fault>> {
    let mut history = History::default();
    loop {
        let from = Position(u32::try_from(history.records.len()).unwrap_or(u32::MAX));
        match journal.load(run, from, PAGE).await {
            Ok(page) => {
                let is_last = page.records.len() < PAGE as usize;
                history.records.extend(page.records);
                history.attempts.extend(page.attempts);
                if is_last {
                    return Ok(Ok(history));
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

/// Whether the run ended between the list and the look.
fn has_ended(history: &Result<History, Fault>) -> bool {
    history.as_ref().is_ok_and(|History { records, .. }| {
        records.is_empty() || records.iter().any(|record| record.kind.is_final())
    })
}

/// Replays a journal, or tells what is wrong with it.
fn replayed(
    registry: &Registry,
    info: &RunInfo,
    history: Result<History, Fault>,
) -> Option<Outcome> {
    match history {
        Ok(history) => outcome(registry, info, history),
        Err(fault) => Some(Outcome::Parked(fault)),
    }
}

/// Replays a run; nothing, if it would go on.
fn outcome(registry: &Registry, info: &RunInfo, history: History) -> Option<Outcome> {
    let History { records, attempts } = history;
    if let Some(fault) = driver::history::fault_in(&records) {
        return Some(Outcome::Parked(fault));
    }
    let factory = registry.workflow(&info.workflow)?;
    let input = records.first()?.payload.clone();
    let attempted = attempts.iter().map(|attempt| attempt.command);
    let machine =
        Machine::new(info.run, info.workflow_id.clone(), records).with_attempts(attempted);
    let machine = Arc::new(Mutex::new(machine));
    let context = Context::new(Arc::clone(&machine));
    let future = match driver::history::make_future(factory, context, &input) {
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
