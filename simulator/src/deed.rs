//! What calls do when they reach the journal, with the deliberate bugs.

use std::time::Duration;

use jiff::Timestamp;
use sync_workflow::{
    id::{NodeId, Position, RunId},
    journal::{
        Batch, BatchOutcome, Claim, ClaimRequest, ClaimedRun, Error, History, IdReuse, Journal,
        NewSignal, OpenTransaction, Outlook, Renewal, Result, RunCommit, RunOutcome, RunSelector,
        SignalOutcome, StartOutcome, TransactionCommit, Transition, WakeAt, WokenRun,
    },
};

use crate::{
    again, builds, ledger,
    mutant::Mutant,
    shown, turns,
    world::{World, at_once},
};

/// The lease that the journal grants, which may be shorter than the process believes.
pub(crate) fn granted(world: &World, process: usize, lease: Duration) -> Duration {
    lease * world.lock().processes[process].lease_share / 100
}

/// What a worker is told about the time.
pub(crate) fn told(world: &World, now: Timestamp) -> Timestamp {
    if world.mutant == Some(Mutant::WorkerClock) {
        return now.checked_add(Duration::from_secs(300)).unwrap_or(now);
    }
    now
}

pub(crate) fn reap(world: &World, limit: u32) -> Result<Vec<NodeId>> {
    let dead = at_once(world.journal.reap(limit))?;
    world.lock().ledger.dead.extend(&dead);
    if world.mutant == Some(Mutant::EagerReaper) {
        let alive = world.lock().processes[0].nodes.last().copied();
        if let Some(node) = alive {
            at_once(world.journal.retire(node))?;
            at_once(world.journal.enlist(node, world.profile.lease))?;
        }
    }
    Ok(dead)
}

pub(crate) fn retire(world: &World, node: NodeId) -> Result<()> {
    at_once(world.journal.retire(node))?;
    world.lock().ledger.dead.insert(node);
    Ok(())
}

pub(crate) fn commit(world: &World, node: NodeId, mut batch: Batch) -> Result<BatchOutcome> {
    match world.mutant {
        Some(Mutant::NoFence) => return commit_unfenced(world, node, &batch),
        Some(Mutant::UnfencedReset) if again::redirect(world, &mut batch) => {
            return commit_unfenced(world, node, &batch);
        }
        Some(Mutant::EarlyAcknowledgement) if is_lost(world) => return Ok(claimed_outcome(&batch)),
        Some(Mutant::EarlyPublication) if is_lost(world) => {
            return publish_alone(world, node, batch);
        }
        Some(Mutant::BlindRetry) => batch
            .runs
            .iter_mut()
            .for_each(|run| append_anywhere(world, run)),
        Some(Mutant::SignalsStay) => {
            batch
                .runs
                .iter_mut()
                .for_each(|run| run.consumed_signals.clear());
        }
        Some(Mutant::ForgottenAttempts) => {
            batch.runs.iter_mut().for_each(|run| run.attempts.clear())
        }
        Some(Mutant::BlindStart) => {
            let starts = batch.starts.iter_mut();
            starts.for_each(|new| new.reuse = IdReuse::StartNew);
        }
        Some(Mutant::ForgottenAlarm) => batch.runs.iter_mut().for_each(forget_alarm),
        Some(Mutant::BlindSuspension) => {
            batch.runs.iter_mut().for_each(|run| look_away(world, run))
        }
        _ => {}
    }
    let mut met_itself = 0;
    let mut suspensions = 0;
    let mut outcome = in_order(batch, |batch| {
        let outcome = at_once(world.journal.commit(node, batch))?;
        for (commit, came_of_it) in batch.runs.iter().zip(&outcome.runs) {
            if *came_of_it != RunOutcome::Lost {
                shown::check_commit(world, commit);
                builds::check_commit(world, node, commit.run);
            }
            let is_there =
                *came_of_it == RunOutcome::Lost && is_stored(world, commit) == Some(true);
            met_itself += u64::from(is_there);
            let is_asleep = matches!(commit.transition, Transition::Suspend { .. })
                && *came_of_it == RunOutcome::Committed;
            suspensions += u64::from(is_asleep);
        }
        Ok(outcome)
    })?;
    let mut state = world.lock();
    state.ledger.commits += 1;
    state.ledger.suspensions += suspensions;
    // Nobody hears what comes of a belated commit.
    if !state.is_belated {
        state.ledger.met_itself += met_itself;
        let lost = outcome.runs.iter().filter(|run| **run == RunOutcome::Lost);
        state.ledger.lost_runs += u32::try_from(lost.count()).unwrap_or(u32::MAX);
    }
    let is_dead = state.ledger.dead.contains(&node);
    drop(state);
    if is_dead {
        world.violate(|| format!("node {node} committed after it was declared dead"));
    }
    if world.mutant == Some(Mutant::SilentRejection) {
        outcome.rejected_children.clear();
    }
    Ok(outcome)
}

/// Commits with the runs in the order of their ids, which tells nothing about the order in which
/// their tasks ran.
fn in_order(
    mut batch: Batch,
    commit: impl FnOnce(&Batch) -> Result<BatchOutcome>,
) -> Result<BatchOutcome> {
    let mut order: Vec<usize> = (0..batch.runs.len()).collect();
    order.sort_by_key(|index| batch.runs[*index].run);
    batch.runs.sort_by_key(|commit| commit.run);
    let mut outcome = commit(&batch)?;
    let mut runs = vec![RunOutcome::Lost; order.len()];
    for (index, came_of_it) in order.into_iter().zip(&outcome.runs) {
        runs[index] = *came_of_it;
    }
    outcome.runs = runs;
    Ok(outcome)
}

/// What was told to be committed must be there.
pub(crate) fn check_acknowledged(world: &World, batch: &Batch, outcome: &BatchOutcome) {
    for (commit, came_of_it) in batch.runs.iter().zip(&outcome.runs) {
        if *came_of_it != RunOutcome::Lost && is_stored(world, commit) == Some(false) {
            world.violate(|| {
                format!(
                    "records of {} were acknowledged and are not in the journal",
                    commit.run
                )
            });
        }
    }
    for (start, came_of_it) in batch.starts.iter().zip(&outcome.starts) {
        let found = at_once(world.journal.describe(&RunSelector::Run(start.run)));
        if *came_of_it == StartOutcome::Started && !found.is_ok_and(|found| found.is_some()) {
            world.violate(|| {
                format!(
                    "the start of {} was acknowledged and is not in the journal",
                    start.run
                )
            });
        }
    }
}

/// Whether the first record of a commit has its place in the journal, if it has one.
fn is_stored(world: &World, commit: &RunCommit) -> Option<bool> {
    let first = commit.records.first()?;
    let stored = at_once(world.journal.load(commit.run, first.position, 1));
    Some(stored.is_ok_and(|stored| stored.records.first() == Some(first)))
}

pub(crate) fn was_committed(world: &World, node: NodeId, batch: &Batch) -> Result<Option<bool>> {
    match world.mutant {
        Some(Mutant::BlindRetry) => Ok(Some(false)),
        Some(Mutant::AssumeCommitted) => Ok(Some(true)),
        _ => at_once(world.journal.was_committed(node, batch)),
    }
}

pub(crate) fn owned(world: &World, node: NodeId) -> Result<Vec<ClaimedRun>> {
    let mut owned = at_once(world.journal.owned(node))?;
    if world.mutant == Some(Mutant::ForgetfulOwner) {
        owned.clear();
    }
    Ok(owned)
}

pub(crate) fn renew_and_look(
    world: &World,
    process: usize,
    (node, lease): (NodeId, Duration),
    request: &ClaimRequest,
) -> Result<(Renewal, Option<Outlook>)> {
    let lease = granted(world, process, lease);
    let (renewal, outlook) = at_once(world.journal.renew_and_look(node, lease, request))?;
    let outlook = outlook.map(|seen| Outlook {
        next_wake: seen
            .next_wake
            .filter(|_| world.mutant != Some(Mutant::HintsOnly)),
        holds_runs: seen.holds_runs && world.mutant != Some(Mutant::ForgetfulOwner),
    });
    Ok((renewal, outlook))
}

pub(crate) fn request_cancel(world: &World, run: &RunSelector) -> Result<Option<WokenRun>> {
    world.lock().ledger.variety.cancelled_children += 1;
    at_once(world.journal.request_cancel(run))
}

pub(crate) fn claim(world: &World, node: NodeId, request: &ClaimRequest) -> Result<Claim> {
    let before = turns::before_claim(world, &request.queue);
    if world.mutant == Some(Mutant::PausedClaim) {
        turns::resume_all(world, &before);
    }
    let asked = builds::asked_for(world, request);
    let mut claim = at_once(world.journal.claim(node, &asked))?;
    builds::check_claim(world, node, &claim.runs);
    turns::check_claim(world, &request.queue, &before, &claim.runs);
    if world.mutant == Some(Mutant::UncountedClaims) {
        claim.runs.iter_mut().for_each(|run| run.attempts = 1);
    }
    if world.mutant == Some(Mutant::HintsOnly) {
        claim.next_wake = None;
    }
    Ok(claim)
}

pub(crate) fn load(world: &World, run: RunId, from: Position, limit: u32) -> Result<History> {
    let mut history = at_once(world.journal.load(run, from, limit))?;
    if world.mutant == Some(Mutant::StaleReads) && is_lost(world) && history.records.len() > 1 {
        history.records.pop();
    }
    Ok(history)
}

pub(crate) fn commit_step(
    world: &World,
    transaction: OpenTransaction,
    mut commit: TransactionCommit,
) -> Result<()> {
    if world.mutant == Some(Mutant::BlindStep) {
        commit.record.position = end_of(world, commit.run);
    }
    if world.mutant == Some(Mutant::NoFence)
        && world.lock().ledger.dead.contains(&commit.node)
        && let Some(owner) = owner_of(world, commit.run)
    {
        commit.node = owner;
        commit.record.position = end_of(world, commit.run);
    }
    let is_dead = world.lock().ledger.dead.contains(&commit.node);
    let result = at_once(world.journal.commit_step(transaction, &commit));
    match &result {
        Ok(()) => {
            let mut state = world.lock();
            state.ledger.commits += 1;
            let times = state
                .ledger
                .steps
                .entry((commit.run, commit.record.position))
                .or_default();
            *times += 1;
            drop(state);
            if is_dead {
                world.violate(|| format!("a step of dead node {} was committed", commit.node));
            }
        }
        Err(Error::RunLost { .. }) => world.lock().ledger.lost_runs += 1,
        Err(_) => {}
    }
    result
}

/// What a signal says.
pub(crate) fn value_of(signal: &NewSignal) -> Option<u64> {
    serde_json::from_slice(&signal.payload).ok()
}

pub(crate) fn send_signal(
    world: &World,
    node: NodeId,
    mut signal: NewSignal,
) -> Result<SignalOutcome> {
    if world.mutant == Some(Mutant::NoDedupe) {
        signal.id = format!("{} {}", signal.id, world.now()).into();
    }
    let outcome = match world.mutant {
        // It is sent as a client would: nobody asks who lives.
        Some(Mutant::NoFence) => at_once(world.journal.signal(&signal))?,
        _ => at_once(world.journal.send_signal(node, &signal))?,
    };
    if let (SignalOutcome::Delivered(_), Some(value)) = (outcome, value_of(&signal)) {
        world.lock().ledger.deliver(&signal.to, value);
    }
    Ok(outcome)
}

/// Now and then, for bugs that lose something.
fn is_lost(world: &World) -> bool {
    let mut state = world.lock();
    !state.is_quiet && state.rng.u32(0..100) < 3
}

/// Shows what the runs of a batch publish, and loses the batch.
fn publish_alone(world: &World, node: NodeId, mut batch: Batch) -> Result<BatchOutcome> {
    for commit in &mut batch.runs {
        *commit = RunCommit {
            run: commit.run,
            records: Vec::new(),
            children: Vec::new(),
            consumed_signals: Vec::new(),
            attempts: Vec::new(),
            settled_attempts: Vec::new(),
            published: std::mem::take(&mut commit.published),
            tags: Vec::new(),
            transition: Transition::Continue,
        };
    }
    batch.starts.clear();
    let _shown = in_order(batch, |batch| {
        let outcome = at_once(world.journal.commit(node, batch))?;
        for (commit, came_of_it) in batch.runs.iter().zip(&outcome.runs) {
            if *came_of_it != RunOutcome::Lost {
                shown::check_commit(world, commit);
            }
        }
        Ok(outcome)
    })?;
    Err(Error::Unavailable("simulated".into()))
}

/// What a journal would answer if everything had happened.
pub(crate) fn claimed_outcome(batch: &Batch) -> BatchOutcome {
    BatchOutcome {
        runs: vec![RunOutcome::Committed; batch.runs.len()],
        starts: vec![StartOutcome::Started; batch.starts.len()],
        ..BatchOutcome::default()
    }
}

fn end_of(world: &World, run: RunId) -> Position {
    let end = ledger::records(world, run).len();
    Position(u32::try_from(end).unwrap_or(u32::MAX))
}

fn append_anywhere(world: &World, commit: &mut RunCommit) {
    let mut position = end_of(world, commit.run);
    for record in &mut commit.records {
        record.position = position;
        position = position.next();
    }
}

fn look_away(world: &World, commit: &mut RunCommit) {
    if let Transition::Suspend { seen_inbox, .. } = &mut commit.transition {
        let inbox = at_once(world.journal.inbox(commit.run, &[], 1));
        *seen_inbox = inbox.map_or(*seen_inbox, |inbox| inbox.count);
    }
}

fn forget_alarm(commit: &mut RunCommit) {
    if let Transition::Suspend { wake_at, .. } = &mut commit.transition {
        *wake_at = WakeAt::Arrival;
    }
}

fn owner_of(world: &World, run: RunId) -> Option<NodeId> {
    let info = at_once(world.journal.describe(&RunSelector::Run(run))).ok()??;
    info.node
}

/// Commits each run in the name of whoever holds it, wherever its journal ends.
fn commit_unfenced(world: &World, node: NodeId, batch: &Batch) -> Result<BatchOutcome> {
    let mut outcome = BatchOutcome::default();
    for commit in &batch.runs {
        let mut commit = commit.clone();
        append_anywhere(world, &mut commit);
        let owner = owner_of(world, commit.run).unwrap_or(node);
        let single = Batch {
            runs: vec![commit],
            starts: Vec::new(),
        };
        match at_once(world.journal.commit(owner, &single)) {
            Ok(single) => {
                outcome.runs.extend(single.runs);
                outcome.rejected_children.extend(single.rejected_children);
                outcome.woken.extend(single.woken);
                outcome.awaited.extend(single.awaited);
            }
            Err(_) => outcome.runs.push(RunOutcome::Lost),
        }
    }
    if !batch.starts.is_empty() {
        let starts = Batch {
            runs: Vec::new(),
            starts: batch.starts.clone(),
        };
        outcome.starts = at_once(world.journal.commit(node, &starts))?.starts;
    }
    Ok(outcome)
}
