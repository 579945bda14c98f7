//! Clients within the process of a worker: what they start goes into the worker's own commits.

use std::sync::Arc;

use sync_workflow::{
    Client, Workflow,
    id::RunId,
    journal::{Journal, RunSelector},
};

use crate::{
    interpret::{Interpreter, Job},
    process::Link,
    program::workflow_id,
    world::{World, at_once},
};

/// Starts a program. Whether that works is told to nobody who insists: a client elsewhere does.
pub(crate) fn start(link: &Arc<Link>, client: Client, program: usize) {
    let link = Arc::clone(link);
    tokio::spawn(async move {
        let (id, job) = (workflow_id(program), Job::first(program));
        let started = client.start(Interpreter::workflow(), &id, job).await;
        if let Ok(run) = started
            && !link.is_dead()
        {
            link.world.lock().ledger.local_starts += 1;
            told(&link.world, program, run.run_id(), run.is_new());
        }
    });
}

/// A client was told which run a program has, and whether that is a new one.
pub(crate) fn told(world: &World, program: usize, run: RunId, is_new: bool) {
    let found = at_once(world.journal.describe(&RunSelector::Run(run)));
    let is_there = found
        .ok()
        .flatten()
        .is_some_and(|found| found.workflow_id.as_str() == workflow_id(program));
    if !is_there {
        world.violate(|| {
            format!("a client was told of {run}, which no run of program {program} is")
        });
    }
    let mut state = world.lock();
    state.ledger.started.insert(program);
    if !is_new {
        return;
    }
    let first = *state.ledger.begun.entry(program).or_insert(run);
    drop(state);
    if first != run {
        world.violate(|| format!("program {program} was started as {first} and again as {run}"));
    }
}
