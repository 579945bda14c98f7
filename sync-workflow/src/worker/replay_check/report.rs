//! What came of replaying the open runs, for people and for programs.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::{
    failure::Failure,
    id::{BuildId, Position, RunId, WorkflowId},
    journal::{BuildMoved, RunInfo},
    replay::{Asked, Fault, Mismatch},
};

/// What came of replaying the open runs of a queue: see
/// [`WorkerBuilder::replay_check`](crate::WorkerBuilder::replay_check).
///
/// Its text is for people. As JSON it has the fields that it has here, and of each difference the names that
/// [`RunDifference`] tells of.
#[derive(Debug, Clone, Default, Serialize)]
#[must_use = "a difference is a reason not to deploy"]
pub struct ReplayReport {
    /// The queue.
    pub queue: Arc<str>,
    /// How many runs were replayed.
    pub replayed: u64,
    /// How many of them do not replay.
    pub different: u64,
    /// How many of these are of another build than the worker's.
    pub of_others: OfOthers,
    /// How many were moved to the worker's build.
    pub moved: u64,
    /// How many fit and were not moved, for a worker held them.
    pub held: u64,
    /// What was replayed by workflow.
    pub workflows: BTreeMap<Arc<str>, Replayed>,
    /// How many open runs the worker would leave alone, by workflow: it does not know the workflow.
    pub unregistered: BTreeMap<Arc<str>, u64>,
    /// The first differences, at most [`ReplayReport::MOST_DIFFERENCES`].
    pub differences: Vec<RunDifference>,
}

/// What came of the runs of other builds, which stay with the workers of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct OfOthers {
    /// How many runs were replayed.
    pub replayed: u64,
    /// How many of them do not replay.
    pub different: u64,
}

/// What came of the runs of one workflow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// How many runs were replayed.
    pub replayed: u64,
    /// How many of them do not replay, by the name of the [outcome](Outcome::name).
    pub different: BTreeMap<&'static str, u64>,
}

/// An open run that the code cannot drive on.
///
/// As JSON: `run`, `workflow_id`, `workflow`, `build`, `outcome` (its [name](Outcome::name)), `message`, `advice`, and where the journal
/// and the code part `position`, `journal` and `code`, which are null elsewhere.
#[derive(Debug, Clone)]
pub struct RunDifference {
    /// The run.
    pub run: RunId,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// The registered name of its workflow.
    pub workflow: Arc<str>,
    /// The build that it is of.
    pub build: Option<BuildId>,
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

impl ReplayReport {
    /// How many differences are told in full.
    pub const MOST_DIFFERENCES: usize = 1_000;

    pub(super) fn of_queue(queue: Arc<str>) -> Self {
        Self {
            queue,
            ..Self::default()
        }
    }

    /// Whether every run that this code would drive replays. Runs of other builds stay with these.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.different == self.of_others.different
    }

    /// Counts a move.
    pub(super) const fn count_move(&mut self, moved: BuildMoved) {
        match moved {
            BuildMoved::Moved => self.moved += 1,
            // One that grew was held until a moment ago.
            BuildMoved::Held | BuildMoved::Grown => self.held += 1,
            BuildMoved::NotOpen => {}
        }
    }

    /// Counts a run that the worker would leave alone.
    pub(super) fn leave(&mut self, workflow: Arc<str>) {
        *self.unregistered.entry(workflow).or_default() += 1;
    }

    /// Counts a run that was replayed; it goes on if nothing else would become of it.
    pub(super) fn add(&mut self, info: RunInfo, is_of_other: bool, outcome: Option<Outcome>) {
        let workflow = self
            .workflows
            .entry(Arc::clone(&info.workflow))
            .or_default();
        self.replayed += 1;
        workflow.replayed += 1;
        self.of_others.replayed += u64::from(is_of_other);
        let Some(outcome) = outcome else { return };
        self.different += 1;
        self.of_others.different += u64::from(is_of_other);
        *workflow.different.entry(outcome.name()).or_default() += 1;
        if self.differences.len() < Self::MOST_DIFFERENCES {
            self.differences.push(RunDifference {
                run: info.run,
                workflow_id: info.workflow_id,
                workflow: info.workflow,
                build: info.build,
                outcome,
            });
        }
    }
}

impl Outcome {
    /// Its short name: that of the [fault](Fault::name), or `failed`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Parked(fault) => fault.name(),
            Self::Failed(_) => "failed",
        }
    }

    /// What helps, in a sentence.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Parked(fault) => fault.advice(),
            Self::Failed(_) => "the code refuses what it took before: see that this is meant",
        }
    }

    /// Where journal and code part, if that is it.
    #[must_use]
    pub const fn mismatch(&self) -> Option<&Mismatch> {
        match self {
            Self::Parked(Fault::Nondeterministic(mismatch)) => Some(mismatch),
            Self::Parked(_) | Self::Failed(_) => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parked(fault) => write!(f, "would be parked: {fault}"),
            Self::Failed(failure) => write!(f, "would fail: {failure}"),
        }
    }
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            queue,
            replayed,
            different,
            ..
        } = self;
        writeln!(
            f,
            "queue {queue:?}: {replayed} open runs replayed, {different} of them differ"
        )?;
        let OfOthers {
            replayed,
            different,
        } = self.of_others;
        if replayed > 0 {
            writeln!(
                f,
                "  {replayed} are of other builds, where {different} of them stay"
            )?;
        }
        if self.moved + self.held > 0 {
            writeln!(
                f,
                "  {} moved here, {} held by workers",
                self.moved, self.held
            )?;
        }
        for (workflow, runs) in &self.workflows {
            writeln!(f, "  {workflow}: {runs}")?;
        }
        for (workflow, runs) in &self.unregistered {
            writeln!(
                f,
                "  {workflow}: {runs} open, and not registered with this worker"
            )?;
        }
        for difference in &self.differences {
            write!(f, "\n{difference}")?;
        }
        let untold = self.different - self.differences.len() as u64;
        if untold > 0 {
            writeln!(f, "\nand {untold} more")?;
        }
        Ok(())
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} replayed", self.replayed)?;
        for (outcome, runs) in &self.different {
            write!(f, ", {runs} {outcome}")?;
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
            build,
            outcome,
        } = self;
        write!(f, "{workflow} {workflow_id} ({run})")?;
        match build {
            Some(build) => writeln!(f, " of the build {build}")?,
            None => writeln!(f)?,
        }
        match outcome.mismatch() {
            Some(mismatch) => {
                writeln!(f, "  nondeterministic at position {}", mismatch.position)?;
                let inputs = mismatch
                    .asked
                    .as_ref()
                    .is_some_and(|asked| asked.is_same_call(&mismatch.recorded));
                write_asked(f, "journal", Some(&mismatch.recorded), inputs)?;
                write_asked(f, "code", mismatch.asked.as_ref(), inputs)?;
            }
            None => writeln!(f, "  {outcome}")?,
        }
        writeln!(f, "  hint: {}", outcome.advice())
    }
}

/// One side of a difference; with the fingerprint of its input where nothing else differs.
fn write_asked(
    f: &mut fmt::Formatter<'_>,
    side: &str,
    asked: Option<&Asked>,
    input: bool,
) -> fmt::Result {
    match asked {
        None => writeln!(f, "  {side:7}  no such command"),
        Some(asked) if input => {
            writeln!(
                f,
                "  {side:7}  {asked} with the input {:016x}",
                asked.fingerprint
            )
        }
        Some(asked) => writeln!(f, "  {side:7}  {asked}"),
    }
}

impl Serialize for RunDifference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mismatch = self.outcome.mismatch();
        let mut difference = serializer.serialize_struct("RunDifference", 10)?;
        difference.serialize_field("run", &self.run)?;
        difference.serialize_field("workflow_id", &self.workflow_id)?;
        difference.serialize_field("workflow", &self.workflow)?;
        difference.serialize_field("build", &self.build)?;
        difference.serialize_field("outcome", self.outcome.name())?;
        difference.serialize_field("message", &self.outcome.to_string())?;
        difference.serialize_field("advice", self.outcome.advice())?;
        let position = mismatch.map(
            |Mismatch {
                 position: Position(position),
                 ..
             }| position,
        );
        difference.serialize_field("position", &position)?;
        difference.serialize_field(
            "journal",
            &mismatch.map(|mismatch| call(&mismatch.recorded)),
        )?;
        let code = mismatch.and_then(|mismatch| mismatch.asked.as_ref());
        difference.serialize_field("code", &code.map(call))?;
        difference.end()
    }
}

/// A command as JSON tells it. A fingerprint is a text, for not every reader has whole numbers of 64 bits.
fn call(asked: &Asked) -> impl Serialize {
    #[derive(Serialize)]
    struct Call {
        command: u32,
        kind: crate::record::RecordKind,
        name: Arc<str>,
        fingerprint: String,
    }
    Call {
        command: asked.command.0,
        kind: asked.kind,
        name: Arc::clone(&asked.name),
        fingerprint: format!("{:016x}", asked.fingerprint),
    }
}
