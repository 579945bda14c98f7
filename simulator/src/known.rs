//! Defects of the engine that are known and not repaired yet: a simulation that is not strict keeps
//! them from showing, so that it can find others. Each entry goes when its defect does.
//!
//! - *An attempt begins while its run gives up its place.* A retry comes due while the commit of a
//!   suspension is under way; the attempt starts, and is cut off when the commit is acknowledged.
//!   It runs once more than crashes and lost leases explain.
//! - *A child that was not started, and the answer that says so is lost.* The parent's commit is
//!   found to have happened, and nobody asks which of its children were rejected: the parent waits
//!   for ever.
//! - *An activity with a transaction whose commit is in doubt, and did not happen.* The run is
//!   rewound, and the activity is taken for one that still runs: nobody starts it again.
//! - *A signal that was read and not received, and a step that must be tried again.* The rewind
//!   drops the signal with the code, and nobody reads the inbox again: the run waits for ever.
//! - *Two steps are done at once, and the first must be tried again or looked up.* After the rewind
//!   the second one is taken to be under way, and nobody commits it.
//! - *A child ends before its parent's driver awaits it.* The inbox was read while the action that
//!   awaits the child stood behind a commit: its end counts as seen, and nobody asks again.
//! - *A hundred signals that nobody waits for.* An inbox is read to that depth: a later signal that
//!   somebody waits for is never seen. No script sends so many.
//! - *Two interrupted activities that may run once, in a race.* Both failures are recorded before
//!   the code sees the first: a later replay parts from the journal there. Only replays at the end
//!   notice, so it is not kept from showing.
//! - *A failed attempt is repeated before its failure is durable.* A crash during a slow commit
//!   forgets more than one attempt.

use sync_workflow::{
    id::RunId,
    journal::{Batch, BatchOutcome, Journal, RunOutcome, TransactionCommit, Transition},
    record::RecordKind,
};

use crate::{
    agenda::{Errand, Event},
    audit,
    call::Method,
    interpret::SQUATTER,
    ledger,
    program::Act,
    world::{State, World, at_once},
};

/// The runs of a batch that give up their places, with their places in the batch.
pub(crate) fn suspensions(batch: &Batch) -> Vec<(usize, RunId)> {
    batch
        .runs
        .iter()
        .enumerate()
        .filter(|(_, commit)| matches!(commit.transition, Transition::Suspend { .. }))
        .map(|(index, commit)| (index, commit.run))
        .collect()
}

/// Takes note of a commit that happened.
pub(crate) fn note(world: &World, suspended: &[(usize, RunId)], outcome: &BatchOutcome) {
    let mut state = world.lock();
    for (index, run) in suspended {
        if outcome.runs.get(*index) == Some(&RunOutcome::Committed) {
            *state.ledger.suspensions.entry(*run).or_default() += 1;
        }
    }
}

/// How to commit a batch: one that starts a child that will be rejected must get its answer.
pub(crate) fn method_of(world: &World, batch: &Batch) -> Method {
    let mut children = batch.runs.iter().flat_map(|commit| &commit.children);
    if world.spares_known && children.any(|child| child.workflow_id.as_str() == SQUATTER) {
        Method::SureCommit
    } else {
        Method::Commit
    }
}

/// How to commit a step: those of activities, of runs with signals, and those beside others must
/// not fail.
pub(crate) fn method_of_step(world: &World, commit: &TransactionCommit) -> Method {
    let inbox = at_once(world.journal.inbox(commit.run, &[], 1));
    let has_signals = inbox.is_ok_and(|inbox| !inbox.signals.is_empty());
    let is_activity = commit.record.kind == RecordKind::ActivityCompleted;
    if world.spares_known && (is_activity || has_signals || world.script.has_steps_side_by_side()) {
        Method::SureStep
    } else {
        Method::Step
    }
}

/// Sees to it that an inbox is read again if the end of a child was overlooked in it.
pub(crate) fn remind(world: &World, run: RunId, asked: &[RunId]) {
    if !world.spares_known {
        return;
    }
    let records = ledger::records(world, run);
    let children: Vec<_> = records.iter().filter_map(audit::started_run).collect();
    let ended = at_once(world.journal.inbox(run, &children, 1))
        .map(|inbox| inbox.children)
        .unwrap_or_default();
    let overlooked = ended
        .into_iter()
        .map(|outcome| outcome.child)
        .filter(|child| !asked.contains(child));
    let at = world.now() + 500;
    let mut state = world.lock();
    for child in overlooked {
        // Once is enough: by then the driver awaits the child, or never will.
        if state.ledger.reminded.insert((run, child)) {
            let nudge = Event::Errand(Errand::Nudge(run));
            state.agenda.enter(at, nudge);
        }
    }
}

/// How many attempts of a run's activity these defects explain: those that began while the run gave
/// up its place, and those that were forgotten.
pub(crate) fn wasted(
    world: &World,
    state: &State,
    run: RunId,
    act: &Act,
    interruptions: u32,
) -> u32 {
    if !world.spares_known {
        return 0;
    }
    let cut_off = state.ledger.suspensions.get(&run).copied().unwrap_or(0);
    cut_off + (act.attempts() - 1) * (interruptions + cut_off)
}
