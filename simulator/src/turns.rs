//! Whose turn it is: the limits of a queue, and runs and queues that an operator has paused.

use std::{collections::BTreeMap, sync::Arc};

use sync_workflow::{
    id::RunId,
    journal::{Admission, ClaimedRun, Hint, Journal, QueueLimits, RunFilter, RunInfo, RunSelector},
    status::RunStatus,
};

use crate::{
    mutant::Mutant,
    profile::More,
    program::SIDE,
    world::{World, at_once},
};

/// Limits the queue of the side.
pub(crate) fn limit(world: &World, more: &More) {
    let Some(limits) = more.limits else {
        return;
    };
    let extra = u32::from(world.mutant == Some(Mutant::OneTooMany));
    let limits = QueueLimits {
        max_running: Some(limits.running + extra),
        max_running_per_key: limits.per_key.map(|most| most + extra),
        max_in_worker: limits.in_worker,
        rate: None,
    };
    at_once(world.journal.limit_queue(SIDE, &limits)).expect("these limits are valid");
}

/// Admits no run of the side, or does so again.
pub(crate) fn pause(world: &World, is_paused: bool) {
    at_once(world.journal.pause_queue(SIDE, is_paused)).expect("a queue can be paused");
    if !is_paused {
        world.broadcast(&[Hint::Ready(SIDE.into())]);
    }
}

/// How things stand before a claim.
pub(crate) struct Before {
    /// The runs that an operator has paused.
    paused: Vec<RunId>,
    /// Those that count against the limits, where none may be admitted.
    fixed: Option<usize>,
}

pub(crate) fn before_claim(world: &World, queue: &str) -> Before {
    if world.profile.more.is_none() {
        return Before {
            paused: Vec::new(),
            fixed: None,
        };
    }
    let filter = RunFilter {
        statuses: vec![RunStatus::Paused],
        limit: RunFilter::MAX_LIMIT,
        ..RunFilter::default()
    };
    let queues = at_once(world.journal.queues()).unwrap_or_default();
    let is_fixed = queues
        .iter()
        .any(|info| *info.queue == *queue && info.is_paused);
    Before {
        paused: list(world, &filter).iter().map(|run| run.run).collect(),
        fixed: is_fixed.then(|| admitted(world, queue).len()),
    }
}

/// Lets every run go on that an operator has paused.
pub(crate) fn resume_all(world: &World, before: &Before) {
    for run in &before.paused {
        let _nobody_is_told = at_once(world.journal.resume(&RunSelector::Run(*run)));
    }
}

/// No run was handed out that is paused, and no more were admitted than the limits allow.
pub(crate) fn check_claim(world: &World, queue: &str, before: &Before, claimed: &[ClaimedRun]) {
    let paused = claimed
        .iter()
        .find(|claimed| before.paused.contains(&claimed.run));
    if let Some(claimed) = paused {
        world.violate(|| format!("{} is paused and was claimed", claimed.workflow_id));
    }
    if queue != SIDE {
        return;
    }
    let admitted = admitted(world, queue);
    if before.fixed.is_some_and(|fixed| admitted.len() > fixed) {
        world.violate(|| "a queue that is paused has admitted a run".into());
    }
    let queues = at_once(world.journal.queues()).unwrap_or_default();
    let waiting: u64 = queues.iter().map(|info| info.waiting).sum();
    world.lock().ledger.variety.turns_awaited += u64::from(waiting > 0);
    let limits = world.profile.more.as_ref().and_then(|more| more.limits);
    let Some(limits) = limits else {
        return;
    };
    let mut keys: BTreeMap<Arc<str>, u32> = BTreeMap::new();
    for run in &admitted {
        *keys.entry(Arc::clone(&run.ticket.key)).or_default() += 1;
    }
    let running: u32 = keys.values().sum();
    if running > limits.running {
        world.violate(|| {
            format!(
                "{running} runs were admitted, and {} may run",
                limits.running
            )
        });
    }
    for (key, running) in keys {
        if limits.per_key.is_some_and(|most| running > most) {
            world.violate(|| format!("{running} runs of key {key:?} were admitted: {limits:?}"));
        }
    }
    let unasked = claimed
        .iter()
        .find(|claimed| !claimed.ticket.admission.may_run());
    if let Some(claimed) = unasked {
        world.violate(|| format!("{} was claimed out of turn", claimed.workflow_id));
    }
}

/// The open runs of a queue that count against its limits.
fn admitted(world: &World, queue: &str) -> Vec<RunInfo> {
    let filter = RunFilter {
        statuses: RunStatus::OPEN.to_vec(),
        queue: Some(queue.into()),
        limit: RunFilter::MAX_LIMIT,
        ..RunFilter::default()
    };
    let mut runs = list(world, &filter);
    runs.retain(|run| run.ticket.admission == Admission::Admitted);
    runs
}

fn list(world: &World, filter: &RunFilter) -> Vec<RunInfo> {
    at_once(world.journal.list(filter)).map_or_else(|_| Vec::new(), |page| page.items)
}
