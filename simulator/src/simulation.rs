//! One simulation: from a seed to what is wrong with it, if anything is.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use serde::Serialize;
use sync_workflow::{
    Worker,
    journal::{Hint, Journal, RunFilter, RunInfo},
    status::RunStatus,
    worker,
};
use tokio::task::JoinHandle;

use crate::{
    again,
    agenda::{Errand, Event, Fault},
    audit, author,
    builds::{self, Rollout},
    errand,
    interpret::{Actor, Interpreter},
    journal::FaultyJournal,
    local,
    mutant::Mutant,
    process::Link,
    profile::Profile,
    program::SIDE,
    pulse,
    side::Piece,
    trace::Trace,
    variety::Variety,
    world::{World, at_once},
};

/// More steps than any simulation needs that gets anywhere: a fork asks every few minutes for the end of a child that is not its own.
const MAX_STEPS: u64 = 1_000_000;
/// How long everything must have come to its end after the faults have stopped, in milliseconds.
const PATIENCE: u64 = 900_000;

/// Parts the chance of what only some seeds have from that of what all have. Of the seeds that once found something, those
/// from before there was more have no more.
const MORE: u64 = 1 << 32;
/// The same for what an operator begins again.
const AGAIN: u64 = 1 << 33;
/// The same for builds.
const BUILDS: u64 = 1 << 35;

/// How a simulation is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// A deliberate bug.
    pub mutant: Option<Mutant>,
    /// Whether to keep the trace in words.
    pub traces: bool,
    /// Whether every prefix of every journal is replayed, instead of some.
    pub is_thorough: bool,
}

/// What came of a simulation.
#[derive(Debug)]
pub struct Report {
    /// The seed that it follows from.
    pub seed: u64,
    /// The hash of its trace.
    pub digest: u64,
    /// What is wrong.
    pub violation: Option<String>,
    /// The trace in words, if they were kept.
    pub lines: Vec<String>,
    /// How much happened.
    pub figures: Figures,
}

/// How much happened.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Figures {
    /// Steps of the simulation.
    pub steps: u64,
    /// Simulated milliseconds.
    pub millis: u64,
    /// Runs that have ended.
    pub runs: u64,
    /// Records in their journals.
    pub records: u64,
    /// Commits.
    pub commits: u64,
    /// Attempts of activities.
    pub attempts: u64,
    /// Transactional steps.
    pub transactions: u64,
    /// Signals that were delivered.
    pub signals: u64,
    /// Nodes that were declared dead or retired.
    pub dead_nodes: u64,
    /// Processes that were crashed.
    pub crashes: u64,
    /// Drivers that lost their run while their node lived.
    pub lost_runs: u64,
    /// Starts through a worker's own client.
    pub local_starts: u64,
    /// How often a run gave up its place in memory.
    pub suspensions: u64,
    /// Commits that were sent while another of the same process was under way.
    pub beside: u64,
    /// Commits that happened before an earlier one of the same process.
    pub overtaking: u64,
    /// Crashes between two commits that were under way.
    pub torn: u64,
    /// Commits in doubt that happened after the journal had been asked about them.
    pub belated: u64,
    /// Commits that were sent again and met their own records.
    pub met_itself: u64,
    /// What only some programs do.
    #[serde(flatten)]
    pub variety: Variety,
}

impl Figures {
    /// Adds up.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.millis += other.millis;
        self.runs += other.runs;
        self.records += other.records;
        self.commits += other.commits;
        self.attempts += other.attempts;
        self.transactions += other.transactions;
        self.signals += other.signals;
        self.dead_nodes += other.dead_nodes;
        self.crashes += other.crashes;
        self.lost_runs += other.lost_runs;
        self.local_starts += other.local_starts;
        self.suspensions += other.suspensions;
        self.beside += other.beside;
        self.overtaking += other.overtaking;
        self.torn += other.torn;
        self.belated += other.belated;
        self.met_itself += other.met_itself;
        self.variety.add(&other.variety);
    }
}

/// Runs the simulation of a seed. The report is a function of the arguments.
///
/// # Panics
///
/// When the operating system refuses a runtime.
#[must_use]
pub fn simulate(seed: u64, options: Options) -> Report {
    let runtime = pulse::runtime().expect("a runtime without input and output");
    runtime.block_on(async {
        let mut simulation = Simulation::new(seed, options);
        simulation.run().await;
        simulation.report()
    })
}

struct Simulation {
    seed: u64,
    options: Options,
    world: Arc<World>,
    processes: Vec<Process>,
    poison: Option<usize>,
    figures: Figures,
}

/// Where a process stands.
enum Process {
    Down,
    Starting(Arc<Link>, JoinHandle<Result<Worker, worker::Error>>),
    Up(Arc<Link>, Worker),
    Stopping(Arc<Link>, JoinHandle<()>),
}

impl Simulation {
    fn new(seed: u64, options: Options) -> Self {
        let mut rng = Rng::with_seed(seed);
        // A stream of its own: seeds keep their meaning when there is more.
        let mut more = Rng::with_seed(seed ^ MORE);
        let mut profile = Profile::random(&mut rng);
        profile.add_more(&mut more);
        let mut again = Rng::with_seed(seed ^ AGAIN);
        profile.add_again(&mut again);
        let mut builds = Rng::with_seed(seed ^ BUILDS);
        profile.rollout = Rollout::random(&mut builds, profile.quiet_at);
        if options.mutant == Some(Mutant::UncountedClaims) {
            profile.has_poison = true;
            profile.max_claims = crate::profile::POISON_CLAIMS;
        }
        if options.mutant == Some(Mutant::HintsOnly) {
            profile.poll_interval = Duration::from_secs(36_000);
        }
        let mut script = author::write(&mut rng, &mut more, &profile);
        let poison = profile.has_poison.then(|| script.add_poison());
        let world = World::new(rng.fork(), script, profile, options);
        errand::plan(&world, &mut rng);
        errand::plan_more(&world, &mut more);
        again::plan(&world, &mut again);
        builds::plan(&world);
        plan_faults(&world, &mut rng);
        prologue(&world);
        let processes = (0..world.profile.processes)
            .map(|_| Process::Down)
            .collect();
        Self {
            seed,
            options,
            world,
            processes,
            poison,
            figures: Figures::default(),
        }
    }

    async fn run(&mut self) {
        loop {
            self.figures.steps += 1;
            fastrand::seed(self.seed ^ self.figures.steps.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            pulse::settled().await;
            self.world.admit();
            self.tend().await;
            let now = self.world.now();
            if self.world.lock().violation.is_some() {
                return;
            }
            if let Some(event) = self.next_event(now) {
                self.perform(event, now);
                continue;
            }
            if self.is_over(now) {
                audit::check(&self.world, self.options.is_thorough);
                return;
            }
            let limit = self.world.lock().agenda.next_at().unwrap_or(now + 60_000);
            pulse::pass_time(self.world.instant(limit)).await;
        }
    }

    fn next_event(&self, now: u64) -> Option<Event> {
        loop {
            let event = {
                let mut state = self.world.lock();
                let state = &mut *state;
                state.agenda.take_due(now, &mut state.rng)?
            };
            match self.world.thaws_at(&event) {
                Some(at) => self.world.lock().agenda.enter(at, event),
                None => return Some(event),
            }
        }
    }

    fn perform(&mut self, event: Event, now: u64) {
        match event {
            Event::Apply(id) => self.world.apply(id),
            Event::Answer(id) => self.world.answer(id),
            Event::Done(id) => self.world.done(id),
            Event::Hint { process, hint } => self.world.deliver(process, hint),
            Event::Fault(fault) => self.befall(fault, now),
            Event::Errand(errand) => self.run_errand(errand),
        }
    }

    fn run_errand(&self, errand: Errand) {
        if let Errand::Start {
            program,
            through: Some(process),
        } = errand
            && let Process::Up(link, worker) = &self.processes[process]
        {
            let now = self.world.now();
            let numbers = [31, program as u64, process as u64];
            self.world.lock().note(now, numbers, || {
                format!("a client within p{process} starts program {program}")
            });
            local::start(link, worker.client(), program);
        } else if let Errand::BeginAgain {
            program,
            through,
            is_fork,
        } = errand
        {
            match &self.processes[through] {
                Process::Up(link, worker) => again::ask(link, worker.client(), program, is_fork),
                Process::Down | Process::Starting(..) | Process::Stopping(..) => {
                    again::later(&self.world, errand);
                }
            }
        } else {
            errand::run(&self.world, errand);
        }
    }

    fn befall(&mut self, fault: Fault, now: u64) {
        let kind = match fault {
            Fault::Crash(process) => [process as u64, 0],
            Fault::Start(process) => [process as u64, 1],
            Fault::Stop(process) => [process as u64, 2],
            Fault::Freeze(process, until) => [process as u64, until],
            Fault::ShortLease(process, share) => [process as u64, u64::from(share)],
            Fault::Suspend(process, until) => [process as u64, until],
            Fault::Resume(process) => [process as u64, 6],
            Fault::Leap(process, millis) => [process as u64, millis],
            Fault::ClockJump(millis) => [millis.unsigned_abs(), 3],
            Fault::LookAgain(process) => [process as u64, 4],
            Fault::Deploy => [0, 7],
            Fault::Quiet => [0, 5],
        };
        self.world
            .lock()
            .note(now, [20, kind[0], kind[1]], || format!("{fault:?}"));
        match fault {
            Fault::Crash(process) => self.crash(process, now),
            Fault::Start(process) => self.start(process),
            Fault::Stop(process) => self.stop(process),
            Fault::Freeze(process, until) => {
                self.world.lock().processes[process].frozen_until = until;
            }
            Fault::Suspend(process, until) => {
                self.world.clocks[process].suspend();
                let mut state = self.world.lock();
                state.processes[process].frozen_until = until;
                let resume = Event::Fault(Fault::Resume(process));
                state.agenda.enter(until, resume);
            }
            Fault::Resume(process) => self.world.clocks[process].resume(),
            Fault::Leap(process, millis) => self.world.leap(process, millis),
            Fault::ShortLease(process, share) => {
                self.world.lock().processes[process].lease_share = share;
            }
            Fault::ClockJump(millis) => self.world.jump_clock(millis),
            Fault::LookAgain(process) => self.world.deliver(process, Hint::LookAgain),
            Fault::Deploy => {
                self.world.lock().is_deployed = true;
                (0..self.processes.len()).for_each(|process| self.crash(process, now));
            }
            Fault::Quiet => self.calm(now),
        }
    }

    /// The faults are over: every process lives, and nothing gets lost any more.
    fn calm(&mut self, now: u64) {
        self.world.clocks.iter().for_each(|clock| clock.resume());
        {
            let mut state = self.world.lock();
            state.is_quiet = true;
            for surroundings in &mut state.processes {
                surroundings.frozen_until = 0;
                surroundings.lease_share = 100;
            }
        }
        for process in 0..self.processes.len() {
            if !matches!(self.processes[process], Process::Up(..)) {
                self.crash(process, now);
                self.world
                    .lock()
                    .agenda
                    .enter(now + 1, Event::Fault(Fault::Start(process)));
            }
        }
    }

    fn start(&mut self, process: usize) {
        if !matches!(self.processes[process], Process::Down) {
            return;
        }
        let life = {
            let mut state = self.world.lock();
            state.processes[process].life += 1;
            state.processes[process].life
        };
        let link = Link::new(Arc::clone(&self.world), process, life);
        let profile = &self.world.profile;
        let starting = Worker::builder().simulated(self.surroundings(process));
        let starting = match profile.is_on_side(process) {
            true => starting
                .queue(SIDE)
                .workflow(Piece(Arc::clone(&link)))
                .remote_activity(Actor(Arc::clone(&link))),
            false => starting
                .workflow(Interpreter(Arc::clone(&link)))
                .activity(Actor(Arc::clone(&link))),
        };
        let starting = match link.build() {
            Some(build) => starting.build_id(build),
            None => starting,
        };
        let starting = starting
            .lease(profile.lease)
            .poll_interval(profile.poll_interval)
            .evict_after(profile.evict_after)
            .activity_slots(profile.activity_slots)
            .max_claims(profile.max_claims)
            .max_resident_runs(profile.max_resident_runs)
            .start_on(Arc::new(FaultyJournal::new(Arc::clone(&link))));
        self.processes[process] = Process::Starting(link, tokio::spawn(starting));
    }

    /// What is simulated around a worker.
    fn surroundings(&self, process: usize) -> worker::Simulation {
        let clock = Arc::clone(&self.world.clocks[process]);
        let world = Arc::downgrade(&self.world);
        let commits = self.world.profile.commits;
        worker::Simulation::on_clock(move || clock.now())
            .run_ids(move || {
                let world = world
                    .upgrade()
                    .expect("a client lives no longer than the world");
                world.name_run()
            })
            .commits(commits.queue, commits.batch, commits.worth_dividing)
            .births(commits.births)
    }

    fn crash(&mut self, process: usize, now: u64) {
        self.world.note_torn(process);
        match std::mem::replace(&mut self.processes[process], Process::Down) {
            Process::Down => return,
            Process::Starting(link, starting) => {
                link.kill();
                starting.abort();
            }
            Process::Up(link, worker) => {
                link.kill();
                // Its tasks end without any effect: the world does not hear of them.
                tokio::spawn(worker.abandon());
            }
            Process::Stopping(link, stopping) => {
                link.kill();
                stopping.abort();
            }
        }
        self.figures.crashes += 1;
        self.world.bury(process);
        let mut state = self.world.lock();
        let pause = if state.is_quiet {
            50
        } else {
            state.rng.u64(1..4_000)
        };
        state
            .agenda
            .enter(now + pause, Event::Fault(Fault::Start(process)));
    }

    fn stop(&mut self, process: usize) {
        match std::mem::replace(&mut self.processes[process], Process::Down) {
            Process::Up(link, worker) => {
                let stopping = tokio::spawn(worker.shutdown());
                self.processes[process] = Process::Stopping(link, stopping);
            }
            other => self.processes[process] = other,
        }
    }

    /// Takes over what started or stopped.
    async fn tend(&mut self) {
        let now = self.world.now();
        for process in 0..self.processes.len() {
            match &mut self.processes[process] {
                Process::Starting(link, starting) if starting.is_finished() => {
                    let link = Arc::clone(link);
                    self.processes[process] = match starting.await {
                        Ok(Ok(worker)) => Process::Up(link, worker),
                        Ok(Err(_)) | Err(_) => {
                            self.start_soon(process, now + 200);
                            Process::Down
                        }
                    };
                }
                Process::Stopping(link, stopping) if stopping.is_finished() => {
                    link.kill();
                    self.processes[process] = Process::Down;
                    self.world.bury(process);
                    self.start_soon(process, now + 100);
                }
                Process::Down | Process::Starting(..) | Process::Up(..) | Process::Stopping(..) => {
                }
            }
        }
    }

    fn start_soon(&self, process: usize, at: u64) {
        self.world
            .lock()
            .agenda
            .enter(at, Event::Fault(Fault::Start(process)));
    }

    /// Whether everything has come to its end. Whatever cannot is a violation.
    fn is_over(&self, now: u64) -> bool {
        let world = &self.world;
        let open = open_runs(world);
        for run in open.iter().filter(|run| run.status == RunStatus::Parked) {
            self.parked(run);
        }
        if world.lock().violation.is_some() {
            return false;
        }
        let is_quiet = world.lock().is_quiet;
        let waits = open
            .iter()
            .any(|run| !(run.status == RunStatus::Parked && self.is_poison(run)));
        let kept = self.kept_places();
        if is_quiet && !waits && kept == 0 && errand::all_started(world) {
            return true;
        }
        if now > world.profile.quiet_at + PATIENCE || self.figures.steps > MAX_STEPS {
            let runs = described(&open);
            world.violate(|| format!("these runs do not end: {runs}; {kept} places are kept"));
        }
        false
    }

    /// How many places workers keep for runs that are about to be born in them. A place that is never taken is lost.
    fn kept_places(&self) -> usize {
        let kept = self.processes.iter().map(|process| match process {
            Process::Up(_, worker) => worker.kept_places(),
            Process::Down | Process::Starting(..) | Process::Stopping(..) => 0,
        });
        kept.sum()
    }

    fn parked(&self, run: &RunInfo) {
        let reason = run.parked_reason.as_deref().unwrap_or_default();
        if self.is_poison(run) {
            return;
        }
        // Who shares a worker with a poison program may be taken for another one.
        if self.poison.is_some() && reason.contains("claims in a row") {
            errand::unpark(&self.world, run.run);
            return;
        }
        self.world
            .violate(|| format!("{} is parked: {reason}", run.workflow_id));
    }

    fn is_poison(&self, run: &RunInfo) -> bool {
        self.poison
            .is_some_and(|poison| run.workflow_id.as_str() == crate::program::workflow_id(poison))
    }

    fn report(mut self) -> Report {
        self.processes.clear();
        let epilogue = if self.options.traces {
            audit::tell(&self.world)
        } else {
            Vec::new()
        };
        let mut figures = self.figures;
        figures.millis = self.world.now();
        let mut state = self.world.lock();
        let ledger = &state.ledger;
        figures.commits = ledger.commits;
        figures.attempts = ledger
            .executions
            .values()
            .map(|times| u64::from(*times))
            .sum();
        figures.transactions = ledger.steps.len() as u64;
        figures.signals = ledger
            .delivered
            .values()
            .map(|sent| sent.len() as u64)
            .sum();
        figures.dead_nodes = ledger.dead.len() as u64;
        figures.lost_runs = u64::from(ledger.lost_runs);
        figures.local_starts = ledger.local_starts;
        figures.suspensions = ledger.suspensions;
        figures.beside = ledger.beside;
        figures.overtaking = ledger.overtaking;
        figures.torn = ledger.torn;
        figures.belated = ledger.belated;
        figures.met_itself = ledger.met_itself;
        figures.variety = ledger.variety;
        figures.runs = ledger.runs;
        figures.records = ledger.records;
        let trace = std::mem::replace(&mut state.trace, Trace::new(false));
        Report {
            seed: self.seed,
            digest: trace.digest(),
            violation: state.violation.take(),
            lines: trace.into_lines().into_iter().chain(epilogue).collect(),
            figures,
        }
    }
}

/// What a person wants to know before the trace.
fn prologue(world: &World) {
    let mut state = world.lock();
    state.note(0, [0; 3], || format!("{:?}", world.profile));
    for (number, program) in world.script.programs.iter().enumerate() {
        state.note(0, [0; 3], || format!("program {number}: {program:?}"));
    }
    for (number, act) in world.script.acts.iter().enumerate() {
        state.note(0, [0; 3], || format!("act {number}: {act:?}"));
    }
}

fn plan_faults(world: &World, rng: &mut Rng) {
    let profile = world.profile.clone();
    let mut state = world.lock();
    let mut enter = |at: u64, fault: Fault| state.agenda.enter(at, Event::Fault(fault));
    for process in 0..profile.processes {
        enter(rng.u64(0..200), Fault::Start(process));
    }
    let lease = u64::try_from(profile.lease.as_millis()).unwrap_or(u64::MAX);
    let end = profile.quiet_at;
    let someone = |rng: &mut Rng| (rng.u64(0..end), rng.usize(0..profile.processes));
    for _ in 0..profile.crashes {
        let (at, process) = someone(rng);
        enter(at, Fault::Crash(process));
    }
    for _ in 0..profile.graceful_stops {
        let (at, process) = someone(rng);
        enter(at, Fault::Stop(process));
    }
    for _ in 0..profile.freezes {
        let (at, process) = someone(rng);
        enter(at, Fault::Freeze(process, at + rng.u64(0..lease * 3)));
    }
    for _ in 0..profile.early_expiries {
        let (at, process) = someone(rng);
        enter(at, Fault::ShortLease(process, rng.u32(0..60)));
    }
    for _ in 0..profile.clock_jumps {
        let (at, _) = someone(rng);
        enter(at, Fault::ClockJump(rng.i64(-3_000..10_000)));
    }
    for _ in 0..profile.suspensions {
        let (at, process) = someone(rng);
        enter(at, Fault::Suspend(process, at + rng.u64(0..lease * 3)));
    }
    for _ in 0..profile.leaps {
        let (at, process) = someone(rng);
        enter(at, Fault::Leap(process, rng.u64(0..lease * 2)));
    }
    for _ in 0..rng.u32(0..3) {
        let (at, process) = someone(rng);
        enter(at, Fault::LookAgain(process));
    }
    let deployed_at = profile.more.and_then(|more| more.deployed_at);
    deployed_at
        .into_iter()
        .for_each(|at| enter(at, Fault::Deploy));
    enter(end, Fault::Quiet);
}

fn open_runs(world: &World) -> Vec<RunInfo> {
    let filter = RunFilter {
        statuses: RunStatus::OPEN.to_vec(),
        ..RunFilter::default()
    };
    at_once(world.journal.list(&filter)).map_or_else(|_| Vec::new(), |page| page.items)
}

fn described(runs: &[RunInfo]) -> String {
    let runs: Vec<_> = runs
        .iter()
        .map(|run| {
            format!(
                "{} {} (wakes at {:?}, held by {:?}, cancel requested: {})",
                run.workflow_id, run.status, run.wake_at, run.node, run.cancel_requested
            )
        })
        .collect();
    runs.join("; ")
}
