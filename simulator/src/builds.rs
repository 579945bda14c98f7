//! Builds of workers: a run is driven by workers of the build that began it, and by no other unless it was moved.
//!
//! In some of the seeds the fleet gets a new build. Either some workers stay, to finish what they began; or all go, and an operator
//! moves what they left as soon as nobody holds it. The new build is then made the current one. At every claim and every
//! commit these hold:
//!
//! - no run that is of a build is claimed, or committed to, by a worker of another one;
//! - no worker begins a run while another build is the current one.

use std::collections::HashMap;

use fastrand::Rng;
use sync_workflow::{
    id::{BuildId, NodeId, RunId},
    journal::{BuildMove, BuildMoved, ClaimRequest, ClaimedRun, Journal, RunFilter},
    status::RunStatus,
};

use crate::{
    agenda::{Errand, Event, Fault},
    ledger::records,
    mutant::Mutant,
    program::MAIN,
    world::{World, at_once},
};

/// The build that the fleet begins with, and the one that it gets.
const OLD: &str = "old";
const NEW: &str = "new";
/// How long an operator waits until it looks again for what is to be moved, in milliseconds.
const LATER: u64 = 700;

/// How a new build comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rollout {
    /// When workers of it start, in milliseconds, and those that they replace end.
    at: u64,
    /// How much later it becomes the current one.
    becomes_current_after: u64,
    /// Whether it replaces all workers, so that what they began must be moved.
    replaces_all: bool,
}

impl Rollout {
    pub(crate) fn random(rng: &mut Rng, quiet_at: u64) -> Option<Self> {
        (rng.u32(0..3) == 0).then(|| Self {
            at: rng.u64(0..quiet_at + 2_000),
            becomes_current_after: rng.u64(0..3_000),
            replaces_all: rng.bool(),
        })
    }

    const fn replaces(self, process: usize) -> bool {
        self.replaces_all || process % 2 == 1
    }
}

/// Whose runs are whose.
#[derive(Default)]
pub(crate) struct Builds {
    runs: HashMap<RunId, &'static str>,
    nodes: HashMap<NodeId, &'static str>,
    current: Option<&'static str>,
}

/// Plans how a new build comes.
pub(crate) fn plan(world: &World) {
    let Some(rollout) = world.profile.rollout else {
        return;
    };
    let mut state = world.lock();
    let mains = (0..world.profile.processes).filter(|process| !world.profile.is_on_side(*process));
    let replaced: Vec<usize> = mains.filter(|process| rollout.replaces(*process)).collect();
    for process in &replaced {
        let crash = Event::Fault(Fault::Crash(*process));
        state.agenda.enter(rollout.at, crash);
    }
    if !replaced.is_empty() {
        let at = rollout.at + rollout.becomes_current_after;
        let becomes = Event::Errand(Errand::BecomesCurrent);
        state.agenda.enter(at, becomes);
    }
    if rollout.replaces_all {
        let moves = Event::Errand(Errand::MoveRuns);
        state.agenda.enter(rollout.at + LATER, moves);
    }
}

/// The build of a process that starts now.
pub(crate) fn of_process(world: &World, process: usize) -> Option<&'static str> {
    let rollout = world.profile.rollout?;
    if world.profile.is_on_side(process) {
        return None;
    }
    let is_new = world.now() >= rollout.at && rollout.replaces(process);
    Some(if is_new { NEW } else { OLD })
}

/// A node is of a build.
pub(crate) fn enlisted(world: &World, node: NodeId, build: Option<&'static str>) {
    if let Some(build) = build {
        world.lock().ledger.builds.nodes.insert(node, build);
    }
}

/// The new build is the current one from now on.
pub(crate) fn becomes_current(world: &World) {
    let builds = world.journal.builds();
    at_once(builds.set_current_build(MAIN, Some(&build(NEW)))).expect("a build can be current");
    world.lock().ledger.builds.current = Some(NEW);
}

/// Moves what the workers have left that are gone, as far as nobody holds it.
pub(crate) fn move_runs(world: &World) {
    let filter = RunFilter {
        statuses: RunStatus::OPEN.to_vec(),
        queue: Some(MAIN.into()),
        build: Some(build(OLD)),
        limit: RunFilter::MAX_LIMIT,
        ..RunFilter::default()
    };
    let left = at_once(world.journal.list(&filter)).map_or_else(|_| Vec::new(), |page| page.items);
    for run in left {
        let length = records(world, run.run).len();
        let to = BuildMove {
            to: Some(build(NEW)),
            if_length: u32::try_from(length).ok(),
        };
        let moved = at_once(world.journal.builds().move_to_build(run.run, &to));
        if matches!(moved, Ok(BuildMoved::Moved)) {
            let mut state = world.lock();
            state.ledger.builds.runs.insert(run.run, NEW);
            state.ledger.variety.moved_runs += 1;
        }
    }
    let at = world.now() + LATER;
    let again = Event::Errand(Errand::MoveRuns);
    world.lock().agenda.enter(at, again);
}

/// What a claim asks for, but for a deliberate bug.
pub(crate) fn asked_for(world: &World, request: &ClaimRequest) -> ClaimRequest {
    let is_foreign = world.mutant == Some(Mutant::ForeignBuild) && world.lock().rng.u32(0..4) == 0;
    let build = request.build.as_ref().map(|asked| {
        let other = if asked.as_str() == OLD { NEW } else { OLD };
        if is_foreign {
            build(other)
        } else {
            asked.clone()
        }
    });
    ClaimRequest {
        build,
        ..request.clone()
    }
}

/// A node took these runs.
pub(crate) fn check_claim(world: &World, node: NodeId, claimed: &[ClaimedRun]) {
    let rollout = world.profile.rollout;
    let now = world.now();
    let mut state = world.lock();
    let builds = &mut state.ledger.builds;
    let Some(mine) = builds.nodes.get(&node).copied() else {
        return;
    };
    let current = builds.current.unwrap_or(mine);
    let (mut wrong, mut drained) = (None, 0);
    for run in claimed {
        let is_new = !builds.runs.contains_key(&run.run);
        let of = *builds.runs.entry(run.run).or_insert(mine);
        if of != mine || is_new && current != mine {
            wrong = wrong.or(Some((run.run, of)));
        }
        let is_late = rollout.is_some_and(|rollout| now > rollout.at);
        drained += u64::from(is_late && mine == OLD && !is_new);
    }
    state.ledger.variety.drained += drained;
    drop(state);
    if let Some((run, of)) = wrong {
        world.violate(|| {
            format!(
                "a worker of build {mine} claimed {run} of build {of}, and {current} is current"
            )
        });
    }
}

/// A node has committed to a run.
pub(crate) fn check_commit(world: &World, node: NodeId, run: RunId) {
    let state = world.lock();
    let builds = &state.ledger.builds;
    let mine = builds.nodes.get(&node).copied();
    let of = builds.runs.get(&run).copied();
    drop(state);
    if mine != of {
        world.violate(|| format!("a worker of build {mine:?} drives {run} of build {of:?}"));
    }
}

fn build(name: &str) -> BuildId {
    BuildId::new(name).expect("a short text is a build")
}
