//! The referee at the end of a simulation: everything that is in the journal, held against the
//! script and against what really happened.

use std::collections::{HashMap, HashSet};

use sync_workflow::{
    Failure, FailureKind, Workflow as _,
    id::{CommandId, Position, RunId},
    journal::{Journal, RunFilter, RunInfo},
    record::{Record, RecordKind, fingerprint},
    status::RunStatus,
    testing::ReplayCheck,
};

use crate::{
    interpret::{Interpreter, Job, Outcome, SQUATTER},
    ledger::records,
    oracle::{self, Circumstances},
    process::Link,
    program::{Program, Step, act_value, line_of, sent_value, workflow_id},
    side::Piece,
    world::{World, at_once},
};

/// One run as the journal tells it.
pub(crate) struct Told {
    pub(crate) info: RunInfo,
    pub(crate) does: Does,
    pub(crate) records: Vec<Record>,
    /// The run in which it goes on.
    pub(crate) next: Option<RunId>,
}

/// What a run does.
#[derive(Debug, Clone)]
pub(crate) enum Does {
    /// A part of a program.
    Program(Job),
    /// One activity of a fan-out.
    Piece(usize),
    /// An activity of another worker's run.
    Remote(usize),
    /// A slice of a fan-out.
    Branch,
}

impl Told {
    /// The part of a program that it is.
    pub(crate) const fn job(&self) -> Option<&Job> {
        match &self.does {
            Does::Program(job) => Some(job),
            Does::Piece(_) | Does::Remote(_) | Does::Branch => None,
        }
    }

    fn end(&self) -> Option<&Record> {
        self.records.last()
    }
}

/// Looks at everything that is left.
pub(crate) fn check(world: &std::sync::Arc<World>, is_thorough: bool) {
    if let Err(what) = look(world, is_thorough) {
        world.violate(|| what);
    }
}

fn look(world: &std::sync::Arc<World>, is_thorough: bool) -> Result<(), String> {
    let runs = told(world)?;
    let mut ledger = world.lock();
    ledger.ledger.runs = runs.len() as u64;
    ledger.ledger.records = runs.iter().map(|run| run.records.len() as u64).sum();
    drop(ledger);
    for run in &runs {
        let named = |what: String| format!("{} ({}): {what}", run.info.workflow_id, run.info.run);
        well_formed(run).map_err(named)?;
        kept_its_word(world, run).map_err(named)?;
        counted(world, run).map_err(named)?;
    }
    steps_once(world, &runs)?;
    crate::lineage::check(world, &runs)?;
    sends(world, &runs)?;
    children(&runs)?;
    crate::timers::check(world, &runs)?;
    crate::saga::check(world, &runs)?;
    let variety = crate::variety::count(world, &runs);
    world.lock().ledger.variety.add(&variety);
    replays(world, &runs, is_thorough)
}

/// The journals that are left, for a person to read.
pub(crate) fn tell(world: &World) -> Vec<String> {
    let runs = told(world).unwrap_or_default();
    let mut lines = Vec::new();
    for run in runs.iter().rev() {
        lines.push(format!(
            "{} {}: {}",
            run.info.workflow_id, run.info.run, run.info.status
        ));
        lines.extend(run.records.iter().map(|record| {
            format!(
                "    {:>3} {:?} {:?} of {}: {}",
                record.position,
                record.kind,
                record.name,
                record.command,
                String::from_utf8_lossy(&record.payload)
            )
        }));
    }
    lines
}

/// Every run of the simulation's programs.
fn told(world: &World) -> Result<Vec<Told>, String> {
    let filter = RunFilter {
        limit: RunFilter::MAX_LIMIT,
        ..RunFilter::default()
    };
    let page = at_once(world.journal.list(&filter)).map_err(|error| error.to_string())?;
    if page.more {
        return Err("there are more runs than a simulation has programs".into());
    }
    page.items
        .into_iter()
        .filter(|info| info.workflow_id.as_str() != SQUATTER)
        .map(|info| {
            let records = records(world, info.run);
            let first = records.first().ok_or("a run without records")?;
            let does = does(&info.workflow, &first.payload).map_err(|error| error.to_string())?;
            let closed = at_once(world.journal.outcome(info.run));
            Ok(Told {
                next: closed.ok().flatten().and_then(|closed| closed.next),
                info,
                does,
                records,
            })
        })
        .collect()
}

fn does(workflow: &str, input: &[u8]) -> serde_json::Result<Does> {
    /// What a worker of another queue is given.
    #[derive(serde::Deserialize)]
    struct Remote {
        input: usize,
    }
    Ok(match workflow {
        Interpreter::NAME => Does::Program(serde_json::from_slice(input)?),
        Piece::NAME => Does::Piece(serde_json::from_slice(input)?),
        "fan-out/branch" => Does::Branch,
        _ => Does::Remote(serde_json::from_slice::<Remote>(input)?.input),
    })
}

/// Positions without gaps, a start, an end, and each command completed once after it was asked for.
fn well_formed(run: &Told) -> Result<(), String> {
    let mut completed = HashSet::new();
    let mut created = HashSet::new();
    let last = run.records.len() - 1;
    for (index, record) in run.records.iter().enumerate() {
        if record.position != Position(u32::try_from(index).unwrap_or(u32::MAX)) {
            return Err(format!("record {index} has position {}", record.position));
        }
        if (record.kind == RecordKind::Started) != (index == 0) {
            return Err(format!("{:?} at position {index}", record.kind));
        }
        let is_parked = run.info.status == RunStatus::Parked;
        if !is_parked && record.kind.is_final() != (index == last) {
            return Err(format!("{:?} at position {index} of {last}", record.kind));
        }
        let creates = matches!(
            record.kind,
            RecordKind::TimerStarted | RecordKind::ChildStarted | RecordKind::ActivityAttempted
        );
        let needs_creation = matches!(
            record.kind,
            RecordKind::TimerFired | RecordKind::ChildCompleted | RecordKind::ChildFailed
        );
        if creates && !created.insert(record.command) {
            return Err(format!("command {} was asked for twice", record.command));
        }
        if needs_creation && !created.contains(&record.command) {
            return Err(format!("command {} ended before it began", record.command));
        }
        let is_completion = record.command != Record::RUN && !creates;
        if is_completion && !completed.insert(record.command) {
            return Err(format!("command {} was completed twice", record.command));
        }
    }
    Ok(())
}

/// The run ended as what it does may.
fn kept_its_word(world: &World, run: &Told) -> Result<(), String> {
    match &run.does {
        Does::Program(job) => program_kept_its_word(world, run, job),
        Does::Piece(act) | Does::Remote(act) => act_kept_its_word(world, run, *act),
        Does::Branch => match run.info.status {
            RunStatus::Completed | RunStatus::Cancelled => Ok(()),
            status => Err(format!("a branch ended as {status}")),
        },
    }
}

fn act_kept_its_word(world: &World, run: &Told, act: usize) -> Result<(), String> {
    let payload = run.end().map(|end| &end.payload[..]).unwrap_or_default();
    let outcome = match run.info.status {
        RunStatus::Completed => serde_json::from_slice(payload).map(Outcome::Value).ok(),
        RunStatus::Failed => {
            let failure = serde_json::from_slice::<Failure>(payload).ok();
            failure.map(|failure| Outcome::Failed(failure.kind))
        }
        RunStatus::Cancelled => return Ok(()),
        _ => None,
    };
    let circumstances = circumstances(world);
    match outcome {
        Some(outcome) if oracle::act_may(&world.script, act, &outcome, &circumstances) => Ok(()),
        outcome => Err(format!(
            "act {act} ended as {}: {outcome:?}",
            run.info.status
        )),
    }
}

fn program_kept_its_word(world: &World, run: &Told, job: &Job) -> Result<(), String> {
    let program = program_of(world, run, job)?;
    let payload = &run.records[run.records.len() - 1].payload;
    let failure = || serde_json::from_slice::<Failure>(payload).map_err(|error| error.to_string());
    match run.info.status {
        RunStatus::Completed if !program.fails => {
            let outcomes: Vec<Outcome> =
                serde_json::from_slice(payload).map_err(|error| error.to_string())?;
            let circumstances = circumstances(world);
            let number = job.program;
            oracle::check_program(&world.script, program, number, &outcomes, &circumstances)
        }
        RunStatus::Failed if program.fails => {
            let failure = failure()?;
            if failure.message == "the program fails" {
                Ok(())
            } else {
                Err(format!("it failed otherwise: {failure}"))
            }
        }
        RunStatus::Cancelled if program.may_cancel || is_below(world, job.program) => {
            let cleaned = act_value(program.cleanup).to_string();
            let is_clean = run.records.iter().any(|record| {
                record.kind == RecordKind::ActivityCompleted
                    && record.payload[..] == *cleaned.as_bytes()
            });
            if is_clean && failure()?.kind == FailureKind::Cancelled {
                Ok(())
            } else {
                Err("it was cancelled without its clean-up".into())
            }
        }
        RunStatus::Terminated if program.may_terminate => Ok(()),
        RunStatus::ContinuedAsNew if run.was_reset() => Ok(()),
        RunStatus::ContinuedAsNew if job.segment + 1 < program.segments.len() => Ok(()),
        RunStatus::Parked => Ok(()),
        status => Err(format!(
            "it ended as {status}: {}",
            String::from_utf8_lossy(payload)
        )),
    }
}

/// Whether one above a program was begun again, so that somebody asked it to cancel.
fn is_below(world: &World, program: usize) -> bool {
    world.lock().ledger.again.is_below(&world.script, program)
}

fn program_of<'a>(world: &'a World, run: &Told, job: &Job) -> Result<&'a Program, String> {
    let program = world
        .script
        .programs
        .get(job.program)
        .ok_or("it runs no program of the script")?;
    let id = run.info.workflow_id.as_str();
    if id.strip_suffix(line_of(id)) != Some(&workflow_id(job.program)) {
        return Err(format!("it runs program {}", job.program));
    }
    Ok(program)
}

fn circumstances(world: &World) -> Circumstances {
    let state = world.lock();
    let again = &state.ledger.again;
    let programs = 0..world.script.programs.len();
    Circumstances {
        interrupts: state.ledger.interruptions() > 0 || !again.origins.is_empty(),
        shaken: programs
            .filter(|program| again.is_shaken(&world.script, *program))
            .collect(),
        again: again.touched.clone(),
    }
}

/// No activity ran more often than it had to, and the interruptions allow.
fn counted(world: &World, run: &Told) -> Result<(), String> {
    let state = world.lock();
    let interruptions = state.ledger.interruptions();
    for ((_, act), times) in state
        .ledger
        .executions
        .iter()
        .filter(|((id, _), _)| *id == run.info.run)
    {
        let spec = &world.script.acts[*act];
        let most = if spec.is_poison {
            let resumed = state.ledger.resumed.get(run.info.workflow_id.as_str());
            crate::profile::POISON_CLAIMS * (1 + resumed.copied().unwrap_or_default())
        } else if spec.in_transaction {
            // Each refusal of its commit is a failed attempt.
            continue;
        } else {
            spec.attempts() + interruptions
        };
        if *times > most {
            return Err(format!(
                "act {act} ran {times} times, at most {most} are explained"
            ));
        }
    }
    Ok(())
}

/// The writes of each step and its record exist together, once.
fn steps_once(world: &World, runs: &[Told]) -> Result<(), String> {
    let committed = world.lock().ledger.steps.clone();
    let mut recorded = HashMap::new();
    for run in runs {
        let own = run.records.iter();
        for record in own.filter(|record| record.position >= run.own_from()) {
            recorded.insert((run.info.run, record.position), record.kind);
            let times = committed
                .get(&(run.info.run, record.position))
                .copied()
                .unwrap_or(0);
            let is_step = record.kind == RecordKind::TransactionCompleted;
            if times > 1 || (is_step && times != 1) {
                return Err(format!(
                    "the writes of {:?} at {} of {} were committed {times} times",
                    record.kind, record.position, run.info.run
                ));
            }
        }
    }
    for (place, _) in committed {
        let kind = recorded.get(&place);
        if !matches!(
            kind,
            Some(RecordKind::TransactionCompleted | RecordKind::ActivityCompleted)
        ) {
            return Err(format!(
                "a step at {place:?} was committed, and {kind:?} is there"
            ));
        }
    }
    Ok(())
}

/// What a run records as sent was delivered once, what it records as failed was not, and nothing was
/// delivered twice.
fn sends(world: &World, runs: &[Told]) -> Result<(), String> {
    let state = world.lock();
    let delivered = state.ledger.delivered.clone();
    let again = &state.ledger.again;
    let programs = 0..world.script.programs.len();
    // A run that was begun again sends again.
    let shaken: HashSet<usize> = programs
        .filter(|program| again.is_shaken(&world.script, *program))
        .collect();
    drop(state);
    let mut times: HashMap<u64, u32> = HashMap::new();
    for (id, values) in delivered {
        // A fork has a copy of what its origin was sent.
        let is_first_line = line_of(&id).is_empty();
        for value in values.into_iter().filter(|_| is_first_line) {
            *times.entry(value).or_default() += 1;
        }
    }
    let is_clients = |value: u64| value < sent_value(0, 0);
    let mut often = times.iter().filter(|(_, times)| **times > 1);
    if let Some((value, times)) = often.find(|(value, _)| shaken.is_empty() || is_clients(**value))
    {
        return Err(format!("signal {value} was delivered {times} times"));
    }
    for run in runs {
        let is_shaken = run.job().is_some_and(|job| shaken.contains(&job.program));
        let own = run.records.iter();
        for record in own.filter(|record| record.position >= run.own_from()) {
            let expected = match record.kind {
                RecordKind::SignalSent => 1,
                RecordKind::SignalFailed => 0,
                _ => continue,
            };
            let value = sent_by(world, run, record)?;
            let delivered = times.get(&value).copied().unwrap_or(0);
            let is_right = match is_shaken {
                true => delivered >= expected,
                false => delivered == expected,
            };
            if !is_right {
                return Err(format!(
                    "{} records {:?} of signal {value}, delivered {delivered} times",
                    run.info.workflow_id, record.kind
                ));
            }
        }
    }
    Ok(())
}

/// The value of the signal that a record is about: the fingerprint tells the program's sends apart.
fn sent_by(world: &World, run: &Told, record: &Record) -> Result<u64, String> {
    let values = world
        .script
        .steps()
        .into_iter()
        .filter_map(|step| match step {
            Step::Send { to, name, number } => Some((*to, sent_value(*name, *number))),
            _ => None,
        });
    let asked_for = |to: usize, value: u64| {
        fingerprint(workflow_id(to).as_bytes()).rotate_left(1)
            ^ fingerprint(value.to_string().as_bytes())
    };
    values
        .filter(|(to, value)| asked_for(*to, *value) == record.fingerprint)
        .map(|(_, value)| value)
        .next()
        .ok_or_else(|| format!("{} sent a signal that no step sends", run.info.workflow_id))
}

/// A parent was told the end that its child came to.
fn children(runs: &[Told]) -> Result<(), String> {
    let ends: HashMap<RunId, &Told> = runs.iter().map(|run| (run.info.run, run)).collect();
    for parent in runs {
        let started: HashMap<CommandId, RunId> = parent
            .records
            .iter()
            .filter_map(|record| Some((record.command, started_run(record)?)))
            .collect();
        for record in &parent.records {
            if record.kind != RecordKind::ChildCompleted {
                continue;
            }
            let child = started.get(&record.command).and_then(|run| ends.get(run));
            let end = child.and_then(|child| last_of_chain(&ends, child));
            let is_true = end.is_some_and(|end| {
                end.info.status == RunStatus::Completed
                    && end.records.last().map(|last| &last.payload) == Some(&record.payload)
            });
            if !is_true {
                return Err(format!(
                    "{} was told another end of its child than it came to, at {}",
                    parent.info.workflow_id, record.position
                ));
            }
        }
    }
    Ok(())
}

/// The child that a record starts.
pub(crate) fn started_run(record: &Record) -> Option<RunId> {
    if record.kind != RecordKind::ChildStarted {
        return None;
    }
    let started: serde_json::Value = serde_json::from_slice(&record.payload).ok()?;
    serde_json::from_value(started.get("run")?.clone()).ok()
}

fn last_of_chain<'a>(runs: &HashMap<RunId, &'a Told>, child: &'a Told) -> Option<&'a Told> {
    let mut last = child;
    while let Some(next) = last.next {
        last = runs.get(&next)?;
    }
    Some(last)
}

/// The code says the same again from every place where a crash could have cut the journal.
fn replays(world: &std::sync::Arc<World>, runs: &[Told], is_thorough: bool) -> Result<(), String> {
    let chosen = world.lock().rng.usize(0..runs.len().max(1));
    for (index, run) in runs.iter().enumerate() {
        let records = run.records.clone();
        let link = Link::new(std::sync::Arc::clone(world), 0, 0);
        link.kill();
        let (id, workflow_id) = (run.info.run, run.info.workflow_id.clone());
        let (check, parts) = match &run.does {
            Does::Program(job) => {
                let steps = &program_of(world, run, job)?.segments[job.segment];
                if steps.iter().any(|step| meets_change(world, step)) {
                    continue;
                }
                let parts = steps.iter().any(|step| parts_when_cut(world, step));
                let code = Interpreter(link);
                (ReplayCheck::new(code, id, workflow_id, records), parts)
            }
            Does::Piece(act) => {
                let parts = world.script.acts[*act].at_most_once;
                let code = Piece(link);
                (ReplayCheck::new(code, id, workflow_id, records), parts)
            }
            Does::Remote(_) | Does::Branch => continue,
        };
        let result = if !parts && (is_thorough || index == chosen) {
            check.every_prefix()
        } else {
            check.whole()
        };
        result.map_err(|difference| {
            format!("{} replays otherwise: {difference}", run.info.workflow_id)
        })?;
    }
    Ok(())
}

/// Whether a step meets a change that was deployed while it was under way, perhaps: where the journal of a run ends
/// there, code that knows the change takes the new way, and the run may have ended by the old one.
fn meets_change(world: &World, step: &Step) -> bool {
    let more = world.profile.more.as_ref();
    let is_deployed = more.is_some_and(|more| more.deployed_at.is_some());
    let meets = |step: &Step| matches!(step, Step::Change { .. });
    is_deployed && (meets(step) || step.parts().iter().any(|part| meets_change(world, part)))
}

/// Whether a replay of a journal that was cut within a step may part from it: an attempt that may run once is not
/// repeated after a cut.
fn parts_when_cut(world: &World, step: &Step) -> bool {
    let runs_once = |act: &usize| world.script.acts[*act].at_most_once;
    match step {
        Step::Act(act) => runs_once(act),
        Step::Change { before, after, .. } => [before, after].into_iter().any(runs_once),
        Step::Saga { steps, .. } => steps.iter().any(|step| runs_once(&step.act)),
        Step::Race(_)
        | Step::Join(_)
        | Step::Scope { .. }
        | Step::Timeout { .. }
        | Step::Shield(_)
        | Step::Transaction { .. }
        | Step::Sleep(_)
        | Step::Wait(_)
        | Step::Send { .. }
        | Step::Child { .. }
        | Step::TakenChild
        | Step::Draw(_)
        | Step::Show
        | Step::Tag { .. }
        | Step::Update
        | Step::FanOut(_) => step.parts().iter().any(|part| parts_when_cut(world, part)),
    }
}
