//! What clients do: start programs, send signals, ask to cancel, end runs.

use fastrand::Rng;
use sync_workflow::{
    Failure, FailureKind,
    id::{Position, RunId, WorkflowId},
    journal::{
        Hint, IdReuse, Journal, NewRun, NewSignal, Placement, RunSelector, SignalOutcome,
        StartOutcome, Ticket, WokenRun,
    },
    record::{Record, RecordKind},
    status::RunStatus,
    tag::Tags,
};
use uuid::Uuid;

use crate::{
    agenda::{Errand, Event},
    builds,
    interpret::{Job, SQUATTER},
    local,
    mutant::Mutant,
    program::{SIGNALS, id_in_line, signal_value, update_value, workflow_id},
    shown::update_signal,
    turns,
    world::{World, at_once},
};

/// How long a client waits before it tries again, in milliseconds.
const AGAIN: u64 = 700;

/// Plans what clients do.
pub(crate) fn plan(world: &World, rng: &mut Rng) {
    squat(world);
    let end = world.profile.quiet_at;
    let mut state = world.lock();
    for (number, program) in world.script.programs.iter().enumerate() {
        let start = match world.profile.is_stampede {
            true => rng.u64(300..320),
            false => rng.u64(0..end / 2),
        };
        if program.parent.is_none() {
            let mut enter = |at: u64, errand| state.agenda.enter(at, Event::Errand(errand));
            enter(start, start_of(world, number, rng));
            if rng.u32(0..10) < 3 {
                let again = rng.u64(0..end);
                enter(again.max(start), start_of(world, number, rng));
            }
            enter(start + rng.u64(1_000..20_000), Errand::Insist(number));
            let may_be_asked = program.may_cancel && !program.may_terminate;
            if may_be_asked {
                let at = rng.u64(start..end + 5_000);
                state
                    .agenda
                    .enter(at, Event::Errand(Errand::Cancel(number)));
            }
            if program.may_terminate {
                let at = rng.u64(start..end + 5_000);
                state
                    .agenda
                    .enter(at, Event::Errand(Errand::Terminate(number)));
            }
        }
        for (name, waits) in program.waits.iter().enumerate() {
            for signal in 0..*waits {
                let errand = Errand::Signal {
                    program: number,
                    line: 0,
                    name,
                    number: signal,
                };
                for _ in 0..rng.u32(1..=2) {
                    let at = rng.u64(start..end + 3_000);
                    state.agenda.enter(at, Event::Errand(errand));
                }
            }
        }
    }
}

/// Plans what operators do, and who asks for something, where there is more than in every seed.
pub(crate) fn plan_more(world: &World, rng: &mut Rng) {
    let Some(more) = &world.profile.more else {
        return;
    };
    turns::limit(world, more);
    let end = world.profile.quiet_at;
    let mut state = world.lock();
    let mut enter = |at: u64, errand| state.agenda.enter(at, Event::Errand(errand));
    for (program, written) in world.script.programs.iter().enumerate() {
        for number in 0..written.updates {
            for _ in 0..rng.u32(1..=2) {
                let errand = Errand::Update {
                    program,
                    line: 0,
                    number,
                };
                enter(rng.u64(0..end + 3_000), errand);
            }
        }
        let (share, most) = more.pauses;
        if rng.u32(0..100) < share {
            for _ in 0..rng.u32(1..=most) {
                let at = rng.u64(0..end + 2_000);
                enter(at, Errand::Pause(program));
                // Of what happens at one moment anything may be first.
                enter(at + 1 + rng.u64(0..6_000), Errand::Resume(program));
            }
        }
    }
    for _ in 0..more.queue_pauses {
        let at = rng.u64(0..end);
        enter(at, Errand::PauseSide(true));
        enter(at + 1 + rng.u64(0..8_000), Errand::PauseSide(false));
    }
}

fn start_of(world: &World, program: usize, rng: &mut Rng) -> Errand {
    let is_local = rng.u32(0..100) < world.profile.local_starts;
    Errand::Start {
        program,
        through: is_local.then(|| rng.usize(0..world.profile.processes)),
    }
}

/// Takes a workflow id, so that children of that id are rejected.
fn squat(world: &World) {
    let run = new_run(SQUATTER, u128::MAX, usize::MAX);
    let run = NewRun {
        queue: "nobody serves it".into(),
        ..run
    };
    let record = terminated("never meant to run");
    let selector = RunSelector::Run(run.run);
    at_once(world.journal.start(&run)).expect("the memory journal takes a run");
    at_once(world.journal.terminate(&selector, &record)).expect("it takes its end");
}

fn new_run(id: &str, number: u128, program: usize) -> NewRun {
    /// A version 7 uuid of the beginning of the simulation, but for its last bits.
    const FIRST: u128 = 0x01b8_da06_f000_7000_8000_0000_0000_0000;
    let run = RunId::from_uuid(Uuid::from_u128(FIRST | (number & 0xffff_ffff)));
    let job = Job::first(program);
    NewRun {
        run,
        chain: run,
        workflow_id: WorkflowId::new(id).expect("a short text is an id"),
        workflow: "program".into(),
        queue: "default".into(),
        input: serde_json::to_vec(&job)
            .expect("a job has a JSON form")
            .into(),
        reuse: IdReuse::ReturnExisting,
        parent: None,
        trace: None,
        placement: Placement::Anywhere,
        ticket: Ticket::default(),
        tags: Tags::new(),
        carried_over: Vec::new(),
    }
}

fn terminated(reason: &str) -> Record {
    let failure = serde_json::json!({
        "kind": FailureKind::Terminated,
        "message": reason,
        "is_final": true,
    });
    debug_assert!(serde_json::from_value::<Failure>(failure.clone()).is_ok());
    Record {
        position: Position(0),
        kind: RecordKind::Terminated,
        command: Record::RUN,
        name: "".into(),
        fingerprint: 0,
        payload: failure.to_string().into(),
    }
}

/// Whether every program that a client starts was started.
pub(crate) fn all_started(world: &World) -> bool {
    let state = world.lock();
    world
        .script
        .programs
        .iter()
        .enumerate()
        .all(|(number, program)| program.parent.is_some() || state.ledger.started.contains(&number))
}

/// Does what a client does.
pub(crate) fn run(world: &World, errand: Errand) {
    let now = world.now();
    world.lock().note(now, [30, kind(errand), 0], || {
        format!("a client: {errand:?}")
    });
    match errand {
        Errand::Start { program, .. } => start(world, program),
        Errand::Insist(program) => {
            if !world.lock().ledger.started.contains(&program) {
                start(world, program);
            }
        }
        Errand::Signal {
            program,
            line,
            name,
            number,
        } => signal(world, (program, line), name, number),
        Errand::Update {
            program,
            line,
            number,
        } => update(world, (program, line), number),
        // The simulation knows who is there to be asked.
        Errand::BeginAgain { .. } => {}
        Errand::Pause(program) => {
            if let Ok(Some(woken)) = at_once(world.journal.pause(&latest(program))) {
                announce(world, woken);
            }
        }
        Errand::Resume(program) => resume(world, program),
        Errand::PauseSide(is_paused) => turns::pause(world, is_paused),
        Errand::BecomesCurrent => builds::becomes_current(world),
        Errand::MoveRuns => builds::move_runs(world),
        Errand::Cancel(program) => {
            let asked = at_once(world.journal.request_cancel(&latest(program)));
            if let Ok(Some(woken)) = asked {
                announce(world, woken);
            }
        }
        Errand::Terminate(program) => terminate(world, program),
    }
}

fn kind(errand: Errand) -> u64 {
    match errand {
        Errand::Start { program, .. } => program as u64,
        Errand::Insist(program) => 300 + program as u64,
        Errand::Signal {
            program,
            line,
            name,
            number,
        } => signal_value(program, name, number) + u64::from(line) * 10_000_000,
        Errand::Update {
            program,
            line,
            number,
        } => update_value(program, number) + u64::from(line) * 10_000_000,
        Errand::BeginAgain {
            program, is_fork, ..
        } => 700 + 2 * program as u64 + u64::from(is_fork),
        Errand::Pause(program) => 400 + program as u64,
        Errand::Resume(program) => 500 + program as u64,
        Errand::PauseSide(is_paused) => 600 + u64::from(is_paused),
        Errand::BecomesCurrent => 602,
        Errand::MoveRuns => 603,
        Errand::Cancel(program) => 100 + program as u64,
        Errand::Terminate(program) => 200 + program as u64,
    }
}

fn start(world: &World, program: usize) {
    let is_first = world.lock().ledger.started.insert(program);
    let number = program as u128 + if is_first { 1 } else { 1_000 };
    let run = new_run(&workflow_id(program), number, program);
    let outcome = at_once(world.journal.start(&run)).expect("the memory journal takes a run");
    let (told, is_new) = match outcome {
        StartOutcome::Started => (run.run, true),
        StartOutcome::Existing { run, .. } => (run, false),
    };
    local::told(world, program, told, is_new);
    world.broadcast(&[Hint::Ready("default".into())]);
}

fn signal(world: &World, (program, line): (usize, u32), name: usize, number: u32) {
    let value = signal_value(program, name, number);
    let id = if world.mutant == Some(Mutant::NoDedupe) {
        format!("{value} {}", world.now())
    } else {
        value.to_string()
    };
    let to = in_line(program, line);
    let signal = NewSignal {
        to: to.clone(),
        id: id.into(),
        name: SIGNALS[name].into(),
        payload: value.to_string().into(),
    };
    match at_once(world.journal.signal(&signal)) {
        Ok(SignalOutcome::Delivered(woken)) => {
            world.lock().ledger.deliver(&to, value);
            announce(world, woken);
        }
        Ok(SignalOutcome::NotOpen) if !exists(world, &to) => {
            let errand = Errand::Signal {
                program,
                line,
                name,
                number,
            };
            let at = world.now() + AGAIN;
            world.lock().agenda.enter(at, Event::Errand(errand));
        }
        Ok(SignalOutcome::NotOpen | SignalOutcome::Duplicate) | Err(_) => {}
    }
}

/// Asks for something as a client does: by a signal that carries an update.
fn update(world: &World, (program, line): (usize, u32), number: u32) {
    let value = update_value(program, number);
    let id = value.to_string();
    let request = serde_json::json!({ "id": id, "input": value });
    let to = in_line(program, line);
    let signal = NewSignal {
        to: to.clone(),
        id: id.into(),
        name: update_signal().into(),
        payload: request.to_string().into(),
    };
    match at_once(world.journal.signal(&signal)) {
        Ok(SignalOutcome::Delivered(woken)) => {
            let mut state = world.lock();
            let asked = state.ledger.asked.entry(id_in_line(program, line));
            asked.or_default().push(value);
            drop(state);
            announce(world, woken);
        }
        Ok(SignalOutcome::NotOpen) if !exists(world, &to) => {
            let errand = Errand::Update {
                program,
                line,
                number,
            };
            let at = world.now() + AGAIN;
            world.lock().agenda.enter(at, Event::Errand(errand));
        }
        Ok(SignalOutcome::NotOpen | SignalOutcome::Duplicate) | Err(_) => {}
    }
}

fn resume(world: &World, program: usize) {
    let found = at_once(world.journal.describe(&latest(program)));
    let is_paused = found
        .ok()
        .flatten()
        .is_some_and(|run| run.status == RunStatus::Paused);
    if is_paused {
        let mut state = world.lock();
        state.ledger.variety.pauses += 1;
        *state
            .ledger
            .resumed
            .entry(workflow_id(program))
            .or_default() += 1;
    }
    if let Ok(Some(woken)) = at_once(world.journal.resume(&latest(program))) {
        announce(world, woken);
    }
}

fn terminate(world: &World, program: usize) {
    let ended = at_once(
        world
            .journal
            .terminate(&latest(program), &terminated("an operator")),
    );
    if let Ok(Some(woken)) = ended {
        announce(world, woken);
        // The relatives of the run are told by whoever ended it.
        world.broadcast(&[Hint::LookAgain]);
    }
}

/// Lets a parked run go on.
pub(crate) fn unpark(world: &World, run: RunId) {
    if let Ok(Some(woken)) = at_once(world.journal.unpark(&RunSelector::Run(run))) {
        announce(world, woken);
    }
}

fn latest(program: usize) -> RunSelector {
    in_line(program, 0)
}

pub(crate) fn in_line(program: usize, line: u32) -> RunSelector {
    let id = id_in_line(program, line);
    RunSelector::Latest(WorkflowId::new(id).expect("a short text is an id"))
}

fn exists(world: &World, run: &RunSelector) -> bool {
    at_once(world.journal.describe(run)).is_ok_and(|run| run.is_some())
}

/// Tells whoever holds a run that something arrived for it.
fn announce(world: &World, woken: WokenRun) {
    let hint = match woken.node {
        Some(node) => Hint::Arrived {
            node,
            run: woken.run,
        },
        None => Hint::Ready("".into()),
    };
    world.broadcast(&[hint]);
}
