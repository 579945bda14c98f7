//! Sagas: what succeeded was undone in reverse, exactly if the saga did not succeed.

use sync_workflow::{
    record::{Record, RecordKind},
    status::RunStatus,
};

use crate::{
    audit::Told,
    program::{Step, Undoable, act_value},
    world::World,
};

/// Looks at every saga of every run.
pub(crate) fn check(world: &World, runs: &[Told]) -> Result<(), String> {
    for run in runs {
        let Some(job) = run.job() else { continue };
        let segment = &world.script.programs[job.program].segments[job.segment];
        for (steps, fails) in sagas(segment) {
            let told = |what: String| format!("{}: {what}", run.info.workflow_id);
            was_undone(run, steps, fails).map_err(told)?;
        }
    }
    Ok(())
}

/// How many activities were undone.
pub(crate) fn count(world: &World, run: &Told) -> u64 {
    let Some(job) = run.job() else { return 0 };
    let segment = &world.script.programs[job.program].segments[job.segment];
    let undone = sagas(segment).into_iter().map(|(steps, _)| {
        let undos: Vec<usize> = steps.iter().map(|step| step.undo).collect();
        succeeded(run, &undos).len() as u64
    });
    undone.sum()
}

fn sagas(steps: &[Step]) -> Vec<(&[Undoable], bool)> {
    let mut found = Vec::new();
    for step in steps {
        if let Step::Saga { steps, fails } = step {
            found.push((steps.as_slice(), *fails));
        }
        found.extend(sagas(step.parts()));
    }
    found
}

fn was_undone(run: &Told, steps: &[Undoable], fails: bool) -> Result<(), String> {
    let acts: Vec<usize> = steps.iter().map(|step| step.act).collect();
    let undos: Vec<usize> = steps.iter().map(|step| step.undo).collect();
    let done = succeeded(run, &acts);
    let undone = succeeded(run, &undos);
    if done[..] != acts[..done.len()] {
        return Err(format!("of the saga {acts:?}, {done:?} were done"));
    }
    let has_succeeded = done.len() == acts.len() && !fails;
    let mut due: Vec<usize> = match has_succeeded {
        true => Vec::new(),
        false => undos[..done.len()].to_vec(),
    };
    due.reverse();
    // Nobody undoes what an operator has ended.
    let is_ended = matches!(run.info.status, RunStatus::Terminated | RunStatus::Parked);
    if is_ended || run.was_reset() {
        due.truncate(undone.len());
    }
    if undone == due {
        Ok(())
    } else {
        Err(format!(
            "of the saga {acts:?}, {done:?} were done, {due:?} were to undo them, and {undone:?} did"
        ))
    }
}

/// Those of some activities that succeeded in a run, in the order of their records.
fn succeeded(run: &Told, acts: &[usize]) -> Vec<usize> {
    let act_of = |record: &Record| {
        let value = (record.kind == RecordKind::ActivityCompleted).then_some(&record.payload)?;
        let of = |act: &&usize| value[..] == *act_value(**act).to_string().as_bytes();
        acts.iter().find(of).copied()
    };
    run.records.iter().filter_map(act_of).collect()
}
