//! What really happened, written down beside the journal: the effects of activities and steps, and
//! what clients did.

use std::collections::{HashMap, HashSet};

use sync_workflow::{
    ActivityContext,
    id::{NodeId, Position, RunId},
    journal::{Journal, RunSelector},
    record::{Record, RecordKind},
    status::RunStatus,
};

use crate::{
    again::Again,
    agenda::{Event, Fault},
    builds::Builds,
    process::Link,
    program::act_value,
    variety::Variety,
    world::{World, at_once},
};

/// What happened beside the journal.
#[derive(Default)]
pub(crate) struct Ledger {
    /// How often each activity ran, by run and act.
    pub(crate) executions: HashMap<(RunId, usize), u32>,
    /// What programs were asked for by updates, in order, by workflow id.
    pub(crate) asked: HashMap<String, Vec<u64>>,
    /// The greatest value that each workflow id has shown.
    pub(crate) shown: HashMap<String, u64>,
    /// How often each program was let go on after it was paused, which forgets its claims.
    pub(crate) resumed: HashMap<String, u32>,
    /// What an operator has begun again.
    pub(crate) again: Again,
    /// Whose builds the runs are.
    pub(crate) builds: Builds,
    /// The run whose attempts have shown each idempotency key to the world outside.
    pub(crate) keys: HashMap<String, RunId>,
    /// How often what only some programs do has happened.
    pub(crate) variety: Variety,
    /// How often each step's writes were committed, by run and position.
    pub(crate) steps: HashMap<(RunId, Position), u32>,
    /// The nodes that were declared dead, or retired.
    pub(crate) dead: HashSet<NodeId>,
    /// The signals that were delivered, in order, by workflow id.
    pub(crate) delivered: HashMap<String, Vec<u64>>,
    /// The programs whose start is known to have happened.
    pub(crate) started: HashSet<usize>,
    /// The run that clients were told to have started, by program.
    pub(crate) begun: HashMap<usize, RunId>,
    /// How many starts through a worker's own client were answered.
    pub(crate) local_starts: u64,
    /// How often a run gave up its place in memory.
    pub(crate) suspensions: u64,
    /// How many commits were sent while another of the same process was under way, and how many
    /// of them happened before it.
    pub(crate) beside: u64,
    pub(crate) overtaking: u64,
    /// How many crashes fell between two commits that were under way.
    pub(crate) torn: u64,
    /// How many commits in doubt happened after the journal had been asked about them.
    pub(crate) belated: u64,
    /// How often a commit that was sent again met its own records.
    pub(crate) met_itself: u64,
    /// How far the clocks of machines have leapt ahead, in milliseconds.
    pub(crate) leaps: u64,
    /// How often a driver lost its run for another reason than the end of its node.
    pub(crate) lost_runs: u32,
    /// How many commits happened.
    pub(crate) commits: u64,
    pub(crate) drawn: u64,
    /// Runs and records that were left at the end.
    pub(crate) runs: u64,
    pub(crate) records: u64,
}

impl Ledger {
    /// Notes a signal that was delivered.
    pub(crate) fn deliver(&mut self, to: &RunSelector, value: u64) {
        if let RunSelector::Latest(workflow_id) = to {
            let delivered = self.delivered.entry(workflow_id.to_string()).or_default();
            delivered.push(value);
        }
    }

    /// How often an activity may have been interrupted: each end of a node does that once, and each
    /// loss of its run.
    pub(crate) fn interruptions(&self) -> u32 {
        u32::try_from(self.dead.len()).unwrap_or(u32::MAX) + self.lost_runs
    }
}

/// An attempt of an activity begins in a process that is alive.
pub(crate) fn begin_act(link: &Link, ctx: &ActivityContext, act: usize) {
    let (world, run) = (&link.world, ctx.run_id());
    let spec = &world.script.acts[act];
    let executions = {
        let now = world.now();
        let mut state = world.lock();
        state.note(
            now,
            [
                7,
                link.process as u64,
                (act as u64) << 8 | u64::from(ctx.attempt()),
            ],
            || {
                format!(
                    "p{} runs act {act}, attempt {}",
                    link.process,
                    ctx.attempt()
                )
            },
        );
        if spec.is_poison {
            state
                .agenda
                .enter(now, Event::Fault(Fault::Crash(link.process)));
        }
        let executions = state.ledger.executions.entry((run, act)).or_default();
        *executions += 1;
        *executions
    };
    let key = ctx.idempotency_key();
    let owner = *world.lock().ledger.keys.entry(key).or_insert(run);
    if owner != run {
        world.violate(|| format!("act {act} of {run} has an idempotency key of {owner}"));
    }
    if spec.at_most_once && executions > 1 {
        world.violate(|| format!("act {act} of {run} may run once and ran {executions} times"));
    }
    // A zombie may not know yet; a node that holds the run must.
    let nodes = world.lock().processes[link.process].nodes.clone();
    if let [node] = nodes[..]
        && holds(world, run, node)
        && has_result(world, run, act)
    {
        world.violate(|| format!("act {act} of {run} runs although its result is in the journal"));
    }
}

fn holds(world: &World, run: RunId, node: NodeId) -> bool {
    at_once(world.journal.describe(&RunSelector::Run(run)))
        .ok()
        .flatten()
        .is_some_and(|info| info.status == RunStatus::Running && info.node == Some(node))
}

fn has_result(world: &World, run: RunId, act: usize) -> bool {
    let value = act_value(act).to_string();
    records(world, run).iter().any(|record| {
        record.kind == RecordKind::ActivityCompleted && record.payload[..] == *value.as_bytes()
    })
}

/// The journal of a run.
pub(crate) fn records(world: &World, run: RunId) -> Vec<Record> {
    at_once(world.journal.load(run, Position(0), u32::MAX))
        .map(|history| history.records)
        .unwrap_or_default()
}
