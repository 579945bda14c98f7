//! What an operator begins again: programs that are taken back to a place of their histories, and forks of them beside them.
//!
//! It goes through the client of a worker, so that the history that was read is an old one when the journal is asked, the
//! question gets lost, or its answer does. When it has happened, in that very moment, these hold:
//!
//! - the new run's journal is the origin's up to the place, and a record that names it;
//! - the origin has ended if it was open and its place was taken, and is what it was otherwise;
//! - a child that is awaited at the place has the new run for its parent if that took the origin's place, and nobody has asked it
//!   to cancel for that.
//!
//! What must hold in the end is in `lineage.rs`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use fastrand::Rng;
use sync_workflow::{
    Client,
    client::{ForkError, ForkPoint},
    id::{CommandId, Position, RunId},
    journal::{
        Batch, Fork, ForkOutcome, ForkTarget, Inbox, Journal, Published, Result, RunInfo,
        RunSelector,
    },
    record::{Record, RecordKind},
    status::RunStatus,
};

use crate::{
    agenda::{Errand, Event},
    audit::started_run,
    errand::in_line,
    interpret::Job,
    ledger::records,
    mutant::Mutant,
    process::Link,
    program::{Script, id_in_line, in_fork, line_of},
    shown::{PROGRESS, draws, published},
    world::{World, at_once},
};

/// How long an operator waits for somebody to ask, in milliseconds.
const LATER: u64 = 700;

/// What an operator has begun again.
#[derive(Default)]
pub(crate) struct Again {
    /// What each run that was begun again began with.
    pub(crate) origins: HashMap<RunId, Origin>,
    /// The programs that were begun again.
    pub(crate) touched: HashSet<usize>,
    /// How often a run that had ended was begun again under its workflow id.
    pub(crate) revivals: HashMap<String, usize>,
    /// The workflow ids that lack signals which were received where their origins had gone on.
    gaps: HashSet<String>,
    /// How many lines forks have begun.
    lines: u32,
    /// Signals that a deliberate bug keeps from a workflow id.
    hidden: HashMap<String, HashSet<Vec<u8>>>,
}

/// What a run began with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    /// The run whose first records were copied.
    pub(crate) run: RunId,
    /// Whether it began a chain of its own, which shows nothing of what was shown in earlier runs of the origin's.
    pub(crate) begins_chain: bool,
    /// Whether signals are missing that the origin received later: it had gone on in another run.
    pub(crate) has_gap: bool,
}

impl Again {
    /// Whether a program's run may be asked to cancel because one above it was begun again, or find that what it awaits was.
    pub(crate) fn is_shaken(&self, script: &Script, program: usize) -> bool {
        self.touched.contains(&program) || self.is_below(script, program)
    }

    /// Whether one above a program was begun again.
    pub(crate) fn is_below(&self, script: &Script, program: usize) -> bool {
        let parent = script.programs[program].parent;
        parent.is_some_and(|parent| self.is_shaken(script, parent))
    }
}

/// Plans when an operator begins something again.
pub(crate) fn plan(world: &World, rng: &mut Rng) {
    let poison = usize::from(world.profile.has_poison);
    let programs = world.script.programs.len() - poison;
    let again = world.profile.again;
    let mut state = world.lock();
    for (times, is_fork) in [(again.resets, false), (again.forks, true)] {
        for _ in 0..times {
            let errand = Errand::BeginAgain {
                program: rng.usize(0..programs),
                through: rng.usize(0..world.profile.processes),
                is_fork,
            };
            let at = rng.u64(300..world.profile.quiet_at + 5_000);
            state.agenda.enter(at, Event::Errand(errand));
        }
    }
}

/// Tries again in a while.
pub(crate) fn later(world: &World, errand: Errand) {
    let at = world.now() + LATER;
    world.lock().agenda.enter(at, Event::Errand(errand));
}

/// Asks for a program to be begun again from a random place of what its latest run has come to.
pub(crate) fn ask(link: &Arc<Link>, client: Client, program: usize, is_fork: bool) {
    let world = &link.world;
    let line = {
        let mut state = world.lock();
        let lines = state.ledger.again.lines;
        state.rng.u32(0..=lines)
    };
    let found = at_once(world.journal.describe(&in_line(program, line)));
    let Some(origin) = found.ok().flatten() else {
        return later(
            world,
            Errand::BeginAgain {
                program,
                through: link.process,
                is_fork,
            },
        );
    };
    let length = u32::try_from(records(world, origin.run).len()).unwrap_or(u32::MAX);
    let (point, target) = {
        let now = world.now();
        let mut state = world.lock();
        let point = random_point(&mut state.rng, length);
        let target = match is_fork {
            true => {
                state.ledger.again.lines += 1;
                state.ledger.again.lines
            }
            false => line,
        };
        let target = id_in_line(program, target);
        let numbers = [40, program as u64, u64::from(length)];
        state.note(now, numbers, || {
            format!(
                "an operator begins {} again as {target}, from {point:?}",
                origin.run
            )
        });
        (point, target)
    };
    let link = Arc::clone(link);
    tokio::spawn(async move {
        let begun = match is_fork {
            true => client.fork(origin.run, point, &target).await,
            false => client.reset(&target, point).await,
        };
        if !link.is_dead() {
            answered(&link.world, &begun);
        }
    });
}

fn random_point(rng: &mut Rng, length: u32) -> ForkPoint {
    match rng.u32(0..10) {
        0 => ForkPoint::Start,
        1 => ForkPoint::LastFailure,
        2 => ForkPoint::End,
        _ => ForkPoint::Position(Position(rng.u32(1..=length.max(1)))),
    }
}

/// An operator was told what came of it.
fn answered(world: &World, begun: &std::result::Result<RunId, ForkError>) {
    match begun {
        Ok(run) => {
            if !world.lock().ledger.again.origins.contains_key(run) {
                world.violate(|| format!("an operator was told of {run}, which nobody began"));
            }
        }
        Err(error @ (ForkError::ChildGone { .. } | ForkError::Unreadable { .. })) => {
            world.violate(|| format!("nothing can be begun again: {error}"));
        }
        // There is no such place, another run has come after the origin, or the way to the journal is bad.
        Err(_) => {}
    }
}

/// A fork reaches the journal.
pub(crate) fn fork(world: &World, fork: Fork) -> Result<ForkOutcome> {
    let before = Before::new(world, &fork);
    let mut asked = fork.clone();
    if let ForkTarget::Same { children, .. } = &mut asked.target
        && world.mutant == Some(Mutant::ForsakenChildren)
    {
        children.clear();
    }
    let outcome = at_once(world.journal.fork(&asked))?;
    if let (ForkOutcome::Forked { .. }, Some(before)) = (&outcome, before) {
        if let Err(what) = before.check(world, &fork) {
            world.violate(|| format!("{} was begun again as {}: {what}", fork.origin, fork.run));
        }
        before.take_note(world, &fork);
    }
    Ok(outcome)
}

/// How things stand before a run is begun again.
struct Before {
    origin: RunInfo,
    /// Whether it is the last one of its workflow id.
    is_latest: bool,
    records: Vec<Record>,
    /// What the origin shows.
    shown: Option<Published>,
    /// The children that are awaited at the place, as far as they are open and the origin's.
    children: Vec<RunInfo>,
}

impl Before {
    fn new(world: &World, fork: &Fork) -> Option<Self> {
        let origin = described(world, fork.origin)?;
        let latest = RunSelector::Latest(origin.workflow_id.clone());
        let latest = at_once(world.journal.describe(&latest)).ok().flatten();
        let records = records(world, fork.origin);
        let kept = records.get(..fork.forked.position.0 as usize)?;
        let children = awaited(kept).into_iter();
        let children = children.filter_map(|child| described(world, tip(world, child)));
        let is_its_own =
            |child: &RunInfo| child.parent == Some(fork.origin) && !child.status.is_closed();
        Some(Self {
            is_latest: latest.is_some_and(|latest| latest.run == fork.origin),
            children: children.filter(is_its_own).collect(),
            shown: published(world, &RunSelector::Run(fork.origin), PROGRESS),
            origin,
            records,
        })
    }

    fn takes_place(&self, fork: &Fork) -> bool {
        matches!(fork.target, ForkTarget::Same { .. }) && !self.origin.status.is_closed()
    }

    fn check(&self, world: &World, fork: &Fork) -> std::result::Result<(), String> {
        let kept = fork.forked.position.0 as usize;
        let copied = records(world, fork.run);
        let mut wanted = self.records[..kept].to_vec();
        wanted.push(fork.forked.clone());
        if copied != wanted {
            return Err("its records are not the origin's".into());
        }
        let origin = described(world, fork.origin).ok_or("the origin is gone")?;
        let outcome = at_once(world.journal.outcome(fork.origin)).ok().flatten();
        let next = outcome.and_then(|closed| closed.next);
        let length = records(world, fork.origin).len();
        match self.takes_place(fork) {
            true if origin.status != RunStatus::ContinuedAsNew
                || next != Some(fork.run)
                || length != self.records.len() + 1 =>
            {
                return Err(format!(
                    "the origin is {} with {length} records, and goes on in {next:?}",
                    origin.status
                ));
            }
            false if origin.status != self.origin.status || length != self.records.len() => {
                return Err("the origin is not what it was".into());
            }
            true | false => {}
        }
        if !self.takes_place(fork) {
            let shows = published(world, &RunSelector::Run(fork.run), PROGRESS);
            self.check_inherited(shows.as_ref())?;
        }
        let parent = match fork.target {
            ForkTarget::Same { .. } => fork.run,
            ForkTarget::New(_) => fork.origin,
        };
        for child in &self.children {
            let now = described(world, child.run).ok_or("a child is gone")?;
            if now.parent != Some(parent) || now.cancel_requested != child.cancel_requested {
                return Err(format!(
                    "its child {} is that of {:?}, cancel requested: {}",
                    now.workflow_id, now.parent, now.cancel_requested
                ));
            }
        }
        Ok(())
    }

    /// What was shown before the origin began, its copy shows too, and nothing that the origin shows itself.
    fn check_inherited(&self, shows: Option<&Published>) -> std::result::Result<(), String> {
        let Some(shown) = &self.shown else {
            return Ok(());
        };
        let is_own = draws(&self.records, &shown.payload);
        let is_later = shown.at > self.origin.created_at;
        // The journal goes by its clock, which may have been set back in between.
        if is_own != is_later {
            return Ok(());
        }
        let wanted = Some(shown).filter(|_| !is_own);
        match shows == wanted {
            true => Ok(()),
            false => Err(format!("it shows {shows:?} and was given {wanted:?}")),
        }
    }

    fn take_note(&self, world: &World, fork: &Fork) {
        let Some(job) = self.job() else { return };
        let program = job.program;
        let has_gone_on = self.origin.status == RunStatus::ContinuedAsNew;
        let origin_id = self.origin.workflow_id.to_string();
        let kept = fork.forked.position;
        let received = self.received_after(kept);
        let mut state = world.lock();
        let state = &mut *state;
        let ledger = &mut state.ledger;
        let had_gap = ledger.again.gaps.contains(&origin_id);
        let has_gap = has_gone_on || !self.is_latest || had_gap;
        let origin = Origin {
            run: fork.origin,
            begins_chain: !self.takes_place(fork),
            has_gap,
        };
        ledger.again.origins.insert(fork.run, origin);
        ledger.again.touched.insert(program);
        ledger.variety.kept_records += u64::from(kept.0);
        ledger.variety.given_back += if has_gap { 0 } else { received.len() as u64 };
        let now = world.now();
        let (line, signals_again) = match &fork.target {
            ForkTarget::Same { .. } => {
                // What it shows goes back with it.
                ledger.shown.remove(&origin_id);
                let is_closed = self.origin.status.is_closed();
                ledger.variety.adopted += self.children.len() as u64;
                ledger.variety.resets += u64::from(!is_closed);
                ledger.variety.revivals += u64::from(is_closed);
                if is_closed {
                    *ledger.again.revivals.entry(origin_id.clone()).or_default() += 1;
                }
                if world.mutant == Some(Mutant::SignalsStayReceived) {
                    let hidden = ledger.again.hidden.entry(origin_id.clone()).or_default();
                    hidden.extend(received);
                }
                (number_of_line(&origin_id), is_closed)
            }
            ForkTarget::New(id) => {
                ledger.variety.forks += 1;
                if has_gap {
                    ledger.again.gaps.insert(id.to_string());
                }
                let delivered = ledger
                    .delivered
                    .get(&origin_id)
                    .cloned()
                    .unwrap_or_default();
                if world.mutant == Some(Mutant::ForkWithoutSignals) {
                    let hidden = ledger.again.hidden.entry(id.to_string()).or_default();
                    hidden.extend(delivered.iter().map(|value| value.to_string().into_bytes()));
                }
                let asked = ledger.asked.get(&origin_id).cloned().unwrap_or_default();
                ledger.delivered.insert(id.to_string(), delivered);
                ledger.asked.insert(id.to_string(), asked);
                (number_of_line(id.as_str()), true)
            }
        };
        if !signals_again {
            return;
        }
        // Clients send again what they sent, to those below it too.
        for (number, written) in world.script.programs.iter().enumerate() {
            if number != program && !is_below(&world.script, number, program) {
                continue;
            }
            let mut enter = |rng: &mut Rng, errand| {
                let at = now + rng.u64(1..4_000);
                state.agenda.enter(at, Event::Errand(errand));
            };
            let lines: &[u32] = match has_gap && number == program {
                true => &[0, line],
                false => &[0],
            };
            for sent_to in lines {
                for (name, waits) in written.waits.iter().enumerate() {
                    for signal in 0..*waits {
                        let errand = Errand::Signal {
                            program: number,
                            line,
                            name,
                            number: in_fork(signal, *sent_to),
                        };
                        enter(&mut state.rng, errand);
                    }
                }
                for update in 0..written.updates {
                    let errand = Errand::Update {
                        program: number,
                        line,
                        number: in_fork(update, *sent_to),
                    };
                    enter(&mut state.rng, errand);
                }
            }
        }
    }

    /// Which part of a program the origin is.
    fn job(&self) -> Option<Job> {
        serde_json::from_slice(&self.records.first()?.payload).ok()
    }

    /// The signals that the origin received after a place.
    fn received_after(&self, kept: Position) -> Vec<Vec<u8>> {
        let later = self.records.iter().skip(kept.0 as usize);
        later
            .filter(|record| record.kind == RecordKind::SignalReceived)
            .map(|record| record.payload.to_vec())
            .collect()
    }
}

fn described(world: &World, run: RunId) -> Option<RunInfo> {
    at_once(world.journal.describe(&RunSelector::Run(run)))
        .ok()
        .flatten()
}

/// The run in which a run has gone on, the last one.
pub(crate) fn tip(world: &World, mut run: RunId) -> RunId {
    let next = |run| at_once(world.journal.outcome(run)).ok().flatten()?.next;
    while let Some(later) = next(run) {
        run = later;
    }
    run
}

/// The children that were started and have not ended.
fn awaited(records: &[Record]) -> Vec<RunId> {
    let ended: HashSet<CommandId> = records
        .iter()
        .filter(|record| {
            matches!(
                record.kind,
                RecordKind::ChildCompleted | RecordKind::ChildFailed
            )
        })
        .map(|record| record.command)
        .collect();
    let open = records
        .iter()
        .filter(|record| !ended.contains(&record.command));
    open.filter_map(started_run).collect()
}

fn is_below(script: &Script, program: usize, above: usize) -> bool {
    let parent = script.programs[program].parent;
    parent.is_some_and(|parent| parent == above || is_below(script, parent, above))
}

fn number_of_line(workflow_id: &str) -> u32 {
    let line = line_of(workflow_id).get(1..).unwrap_or_default();
    line.parse().unwrap_or(0)
}

/// What waits for a run, but for what a deliberate bug keeps from it.
pub(crate) fn inbox(world: &World, run: RunId, children: &[RunId], limit: u32) -> Result<Inbox> {
    let mut inbox = at_once(world.journal.inbox(run, children, limit))?;
    let hides = matches!(
        world.mutant,
        Some(Mutant::SignalsStayReceived | Mutant::ForkWithoutSignals)
    );
    if hides && let Some(info) = described(world, run) {
        let state = world.lock();
        let hidden = state.ledger.again.hidden.get(info.workflow_id.as_str());
        let is_hidden = |payload: &[u8]| hidden.is_some_and(|hidden| hidden.contains(payload));
        inbox.signals.retain(|signal| !is_hidden(&signal.payload));
    }
    Ok(inbox)
}

/// Lets the commits to runs that were reset go to those that took their places. Tells whether there is one.
pub(crate) fn redirect(world: &World, batch: &mut Batch) -> bool {
    let mut is_redirected = false;
    for commit in &mut batch.runs {
        let next = tip(world, commit.run);
        let is_reset = world.lock().ledger.again.origins.contains_key(&next);
        if is_reset && next != commit.run {
            commit.run = next;
            is_redirected = true;
        }
    }
    is_redirected
}
