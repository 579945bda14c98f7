//! The world of a simulation: the journal, the way to it, and everything that goes wrong on it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use futures_util::FutureExt;
use jiff::Timestamp;
use sync_workflow::{
    id::{NodeId, RunId},
    journal::{Hint, Result, memory::MemoryJournal},
};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    agenda::{Agenda, Event, Fault},
    call::{Call, Key, Method, Then, Verdict, error_of},
    clock::MachineClock,
    ledger::Ledger,
    mutant::Mutant,
    process::Link,
    profile::Profile,
    program::Script,
    simulation::Options,
    trace::Trace,
};

/// The journal of a simulation with the way to it.
pub(crate) struct World {
    pub(crate) script: Script,
    pub(crate) profile: Profile,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) journal: MemoryJournal,
    /// The clock of each process's machine.
    pub(crate) clocks: Vec<Arc<MachineClock>>,
    start: Instant,
    /// How far the database's clock has jumped, in milliseconds.
    jumped: Arc<AtomicI64>,
    state: Mutex<State>,
}

/// What changes in the world.
pub(crate) struct State {
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) agenda: Agenda,
    pub(crate) ledger: Ledger,
    pub(crate) processes: Vec<Surroundings>,
    pub(crate) is_quiet: bool,
    /// Whether processes that start have the code after the change.
    pub(crate) is_deployed: bool,
    /// The first thing that is wrong.
    pub(crate) violation: Option<String>,
    /// What was asked for since the simulation looked last.
    arrived: Vec<(Key, Asked)>,
    calls: BTreeMap<u64, Call>,
    works: BTreeMap<u64, oneshot::Sender<()>>,
    last_id: u64,
    /// What reaches the journal now is a commit in doubt that it was asked about already.
    pub(crate) is_belated: bool,
    /// How many crashes between two commits are still to come.
    torn_left: u32,
    /// How many runs were named for workers' own clients.
    named: u128,
}

enum Asked {
    Call(Call),
    Work(u64, oneshot::Sender<()>),
}

/// What surrounds a process.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// Counts the starts of the process.
    pub(crate) life: u32,
    pub(crate) frozen_until: u64,
    /// The share of a lease that the journal grants, in hundredths.
    pub(crate) lease_share: u32,
    pub(crate) hints: VecDeque<Hint>,
    pub(crate) bell: Arc<Notify>,
    /// The nodes that the process has been, the last one last.
    pub(crate) nodes: Vec<NodeId>,
}

impl World {
    /// A world at its beginning. Must be made within the simulation's runtime.
    pub(crate) fn new(rng: Rng, script: Script, profile: Profile, options: Options) -> Arc<Self> {
        let start = Instant::now();
        let jumped = Arc::new(AtomicI64::new(0));
        let clock = {
            let (jumped, rate) = (Arc::clone(&jumped), profile.clock_rate);
            move || database_time(start, rate, jumped.load(Ordering::Relaxed))
        };
        let processes = (0..profile.processes)
            .map(|_| Surroundings {
                lease_share: 100,
                ..Surroundings::default()
            })
            .collect();
        let clocks = profile
            .machine_rates
            .iter()
            .map(|rate| Arc::new(MachineClock::new(*rate)))
            .collect();
        let torn_left = profile.torn_commits;
        let is_deployed = profile
            .more
            .as_ref()
            .is_none_or(|more| more.deployed_at.is_none());
        let state = State {
            rng,
            trace: Trace::new(options.traces),
            agenda: Agenda::default(),
            ledger: Ledger::default(),
            processes,
            is_quiet: false,
            is_deployed,
            violation: None,
            arrived: Vec::new(),
            calls: BTreeMap::new(),
            works: BTreeMap::new(),
            last_id: 0,
            is_belated: false,
            torn_left,
            named: 0,
        };
        Arc::new(Self {
            script,
            profile,
            mutant: options.mutant,
            journal: MemoryJournal::with_clock(clock),
            clocks,
            start,
            jumped,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of the simulation in whole milliseconds.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The runtime's time of a moment of the simulation.
    pub(crate) fn instant(&self, at: u64) -> Instant {
        self.start + Duration::from_millis(at)
    }

    pub(crate) fn jump_clock(&self, millis: i64) {
        if millis < 0 {
            self.lock().ledger.leaps += millis.unsigned_abs();
        }
        self.jumped.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn violate(&self, what: impl FnOnce() -> String) {
        let mut state = self.lock();
        if state.violation.is_none() {
            let what = what();
            state.note(self.now(), [90, 0, 0], || format!("VIOLATION {what}"));
            state.violation = Some(what);
        }
    }

    /// Sends a call to the journal and waits for its answer.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        link: &Link,
        method: Method,
        about: u128,
        op: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if link.is_dead() {
            return Err(error_of(Verdict::Dead));
        }
        let (reply, answer) = oneshot::channel();
        let result = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&result);
        let call = Call {
            key: Key {
                process: link.process,
                method,
                about,
            },
            life: link.life,
            apply: Some(Box::new(move |world| {
                let done = op(world);
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
            })),
            reply: Some(Box::new(move |verdict| {
                let _caller_gone = reply.send(verdict);
            })),
            verdict: Verdict::Answer,
            then: Then::Nothing,
            was_asked_about: false,
        };
        self.lock().arrived.push((call.key, Asked::Call(call)));
        match answer.await {
            Ok(Verdict::Answer) => result
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
                .unwrap_or_else(|| Err(error_of(Verdict::Unavailable))),
            Ok(verdict) => Err(error_of(verdict)),
            Err(_gone) => Err(error_of(Verdict::Dead)),
        }
    }

    /// Lets code of an activity or a step take its time. A dead process never gets there.
    pub(crate) async fn work(&self, link: &Link, millis: u64) {
        let (done, is_done) = oneshot::channel();
        let key = Key {
            process: link.process,
            method: Method::Look,
            about: u128::from(millis),
        };
        if !link.is_dead() {
            self.lock().arrived.push((key, Asked::Work(millis, done)));
            if is_done.await.is_ok() && !link.is_dead() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Plans what was asked for since the last look, in an order of its own.
    pub(crate) fn admit(&self) {
        let now = self.now();
        let mut state = self.lock();
        let mut arrived = std::mem::take(&mut state.arrived);
        arrived.sort_by_key(|(key, _)| *key);
        for (key, asked) in arrived {
            match asked {
                Asked::Call(call) => self.plan(&mut state, call, now),
                Asked::Work(millis, done) => {
                    let id = state.new_id();
                    state.note(now, [1, key.process as u64, millis], || {
                        format!("p{} works for {millis} ms", key.process)
                    });
                    state.works.insert(id, done);
                    state.agenda.enter(now + millis, Event::Done(id));
                }
            }
        }
    }

    fn plan(&self, state: &mut State, mut call: Call, now: u64) {
        let key = call.key;
        let there = self.travel(state);
        let back = self.travel(state);
        let id = state.new_id();
        if key.method == Method::Commit && state.commits_under_way(key.process) > 0 {
            self.tear(state, key.process, now);
        }
        (call.then, call.verdict) = self.fate(state, key.method, back);
        let event = match call.then {
            Then::Answer(_) => Event::Apply(id),
            Then::Apply(_) | Then::Nothing => Event::Answer(id),
        };
        state.agenda.enter(now + there, event);
        state.note(
            now,
            [2, id, (key.method as u64) << 8 | key.process as u64],
            || {
                format!(
                    "p{} calls {:?} #{id} {}",
                    key.process,
                    key.method,
                    short(key.about)
                )
            },
        );
        state.calls.insert(id, call);
    }

    /// How long a message travels one way.
    fn travel(&self, state: &mut State) -> u64 {
        if state.is_quiet {
            return state.rng.u64(0..=1);
        }
        let (slow, slowest) = self.profile.slow;
        if state.rng.u32(0..1_000) < slow {
            state.rng.u64(0..=slowest)
        } else {
            state.rng.u64(0..=self.profile.latency)
        }
    }

    /// A commit is sent beside another one: now and then their process crashes before both are done.
    fn tear(&self, state: &mut State, process: usize, now: u64) {
        state.ledger.beside += 1;
        if state.torn_left > 0 && !state.is_quiet && state.rng.u32(0..100) < 50 {
            state.torn_left -= 1;
            let at = now + state.rng.u64(0..=self.profile.latency);
            state.agenda.enter(at, Event::Fault(Fault::Crash(process)));
        }
    }

    fn fate(&self, state: &mut State, method: Method, back: u64) -> (Then, Verdict) {
        let is_fine = state.rng.u32(0..1_000) >= self.profile.errors;
        if is_fine || state.is_quiet {
            return (Then::Answer(back), Verdict::Answer);
        }
        if !method.writes() {
            return (Then::Nothing, Verdict::Unavailable);
        }
        match state.rng.u32(0..5) {
            0 | 1 => (Then::Nothing, Verdict::Unavailable),
            2 => (Then::Nothing, Verdict::Unknown),
            3 if method.may_be_in_doubt() => {
                let longest = if state.rng.bool() { 30 } else { 200 };
                (Then::Apply(state.rng.u64(0..longest)), Verdict::Unknown)
            }
            _ => (Then::Answer(back), Verdict::Unknown),
        }
    }

    /// Lets a call reach the journal.
    pub(crate) fn apply(&self, id: u64) {
        let now = self.now();
        let mut state = self.lock();
        let Some(call) = state.calls.get_mut(&id) else {
            return;
        };
        let (apply, key, then) = (call.apply.take(), call.key, call.then);
        let is_belated = call.was_asked_about;
        if call.reply.is_none() {
            state.calls.remove(&id);
        } else if let Then::Answer(back) = then {
            state.agenda.enter(now + back, Event::Answer(id));
        }
        state.note(now, [3, id, 0], || {
            format!("p{} {:?} #{id} happens", key.process, key.method)
        });
        state.ledger.belated += u64::from(is_belated);
        state.is_belated = is_belated;
        if key.method == Method::Commit {
            state.ledger.overtaking += u64::from(state.overtakes(id, key.process));
        }
        drop(state);
        if let Some(apply) = apply {
            apply(self);
        }
    }

    /// Lets the answer of a call reach its caller.
    pub(crate) fn answer(&self, id: u64) {
        let now = self.now();
        let mut state = self.lock();
        let Some(call) = state.calls.get_mut(&id) else {
            return;
        };
        let (reply, key, verdict) = (call.reply.take(), call.key, call.verdict);
        if let Then::Apply(late) = call.then {
            state.agenda.enter(now + late, Event::Apply(id));
        } else {
            state.calls.remove(&id);
        }
        state.note(now, [4, id, verdict as u64], || {
            format!(
                "p{} {:?} #{id} is told: {verdict:?}",
                key.process, key.method
            )
        });
        drop(state);
        if let Some(reply) = reply {
            reply(verdict);
        }
    }

    /// The work of an activity or step is done.
    pub(crate) fn done(&self, id: u64) {
        let mut state = self.lock();
        state.note(self.now(), [5, id, 0], || format!("work #{id} is done"));
        if let Some(done) = state.works.remove(&id) {
            let _nobody_waits = done.send(());
        }
    }

    /// Decides the commits of a process that it gave up on while they were under way: what a
    /// database does before it answers a question about them. It knows nothing of those that are
    /// held on their way to it.
    pub(crate) fn settle_doubts(&self, process: usize, life: u32) {
        let mut state = self.lock();
        let in_doubt: Vec<u64> = state
            .calls
            .iter()
            .filter(|(_, call)| {
                call.reply.is_none() && call.key.process == process && call.life == life
            })
            .map(|(id, _)| *id)
            .collect();
        let mut settled = Vec::new();
        for id in in_doubt {
            let held = if state.is_quiet { 0 } else { self.profile.held };
            let is_held = state.rng.u32(0..100) < held;
            match state.calls.get_mut(&id) {
                Some(call) if is_held && call.key.method == Method::Commit => {
                    call.was_asked_about = true;
                }
                _ => settled.push(id),
            }
        }
        let in_doubt = settled;
        let happens: Vec<bool> = in_doubt.iter().map(|_| state.rng.bool()).collect();
        drop(state);
        for (id, happens) in in_doubt.into_iter().zip(happens) {
            if happens {
                self.apply(id);
            } else {
                self.lock().calls.remove(&id);
            }
        }
    }

    /// The process is gone: what was on its way to the journal arrives or does not, and no answer
    /// reaches anybody.
    pub(crate) fn bury(&self, process: usize) {
        let now = self.now();
        let mut state = self.lock();
        let state = &mut *state;
        let on_the_way: Vec<u64> = state
            .calls
            .iter()
            .filter(|(_, call)| call.key.process == process)
            .map(|(id, _)| *id)
            .collect();
        for id in on_the_way {
            if let Some(call) = state.calls.get_mut(&id) {
                if let Some(reply) = call.reply.take() {
                    reply(Verdict::Dead);
                }
                let is_done = call.apply.is_none() || call.then == Then::Nothing;
                if is_done || state.rng.bool() {
                    state.calls.remove(&id);
                } else if let Then::Apply(late) = call.then {
                    call.then = Then::Nothing;
                    state.agenda.enter(now + late, Event::Apply(id));
                }
            }
        }
        state.arrived.retain(|(key, _)| key.process != process);
        let surroundings = &mut state.processes[process];
        surroundings.hints.clear();
        surroundings.frozen_until = 0;
        surroundings.lease_share = 100;
        state
            .agenda
            .retain(|event| !matches!(event, Event::Hint { process: to, .. } if *to == process));
    }

    /// Sends hints to every process, as far as they arrive.
    pub(crate) fn broadcast(&self, hints: &[Hint]) {
        let now = self.now();
        let mut state = self.lock();
        for hint in hints {
            for process in 0..self.profile.processes {
                if !state.is_quiet && state.rng.u32(0..100) < self.profile.lost_hints {
                    continue;
                }
                if self.mutant == Some(Mutant::HintsOnly) && state.rng.u32(0..100) < 20 {
                    continue;
                }
                let copies =
                    if !state.is_quiet && state.rng.u32(0..100) < self.profile.repeated_hints {
                        2
                    } else {
                        1
                    };
                for _ in 0..copies {
                    let at = now + self.travel(&mut state);
                    let hint = hint.clone();
                    state.agenda.enter(at, Event::Hint { process, hint });
                }
            }
        }
    }

    /// A hint reaches a process.
    pub(crate) fn deliver(&self, process: usize, hint: Hint) {
        let mut state = self.lock();
        state.note(self.now(), [6, process as u64, 0], || {
            format!("p{process} hears {hint:?}")
        });
        let surroundings = &mut state.processes[process];
        surroundings.hints.push_back(hint);
        surroundings.bell.notify_one();
    }

    /// When the process thaws, if an event must wait for that.
    pub(crate) fn thaws_at(&self, event: &Event) -> Option<u64> {
        let state = self.lock();
        let process = match event {
            Event::Apply(id) | Event::Answer(id) => state.calls.get(id)?.key.process,
            Event::Hint { process, .. } => *process,
            Event::Done(_) | Event::Fault(_) | Event::Errand(_) => return None,
        };
        let until = state.processes[process].frozen_until;
        (until > self.now()).then_some(until)
    }

    /// A fresh name for a node, which tells nothing about the order in which tasks ran.
    pub(crate) fn name_node(&self, process: usize) -> NodeId {
        let mut state = self.lock();
        let surroundings = &mut state.processes[process];
        let number = surroundings.nodes.len() as u128 + 1;
        let node = NodeId::from_uuid(Uuid::from_u128(((process as u128 + 1) << 32) | number));
        surroundings.nodes.push(node);
        node
    }
}

impl World {
    /// A name for a run that a worker's own client starts.
    pub(crate) fn name_run(&self) -> RunId {
        /// A version 7 uuid of the beginning of the simulation, beyond the names that clients
        /// elsewhere give.
        const FIRST: u128 = 0x01b8_da06_f000_7000_8000_0001_0000_0000;
        let mut state = self.lock();
        state.named += 1;
        RunId::from_uuid(Uuid::from_u128(FIRST + state.named))
    }

    /// Whether a commit is taken for done because another one is under way.
    pub(crate) fn crosses_lanes(&self, link: &Link) -> bool {
        if self.mutant != Some(Mutant::CrossedLanes) {
            return false;
        }
        let mut state = self.lock();
        state.commits_under_way(link.process) > 0 && state.rng.u32(0..100) < 10
    }

    /// Takes note of a crash that falls between two commits.
    pub(crate) fn note_torn(&self, process: usize) {
        let mut state = self.lock();
        let is_torn = state.commits_under_way(process) > 1;
        state.ledger.torn += u64::from(is_torn);
    }

    pub(crate) fn leap(&self, process: usize, millis: u64) {
        self.lock().ledger.leaps += millis;
        self.clocks[process].leap(Duration::from_millis(millis));
    }
}

impl State {
    /// How many commits of a process are waited for.
    fn commits_under_way(&self, process: usize) -> usize {
        let is_one = |call: &&Call| {
            call.key.process == process && call.key.method == Method::Commit && call.reply.is_some()
        };
        self.calls.values().filter(is_one).count()
    }

    /// Whether a commit happens while an earlier one of the same process has not.
    fn overtakes(&self, id: u64, process: usize) -> bool {
        self.calls.range(..id).any(|(_, call)| {
            call.key.process == process
                && call.key.method == Method::Commit
                && call.apply.is_some()
                && call.then != Then::Nothing
        })
    }

    pub(crate) fn note(&mut self, at: u64, numbers: [u64; 3], words: impl FnOnce() -> String) {
        self.trace.note(at, numbers, words);
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

fn database_time(start: Instant, rate: i64, jumped: i64) -> Timestamp {
    /// 2030-01-01, in microseconds.
    const EPOCH: i64 = 1_893_456_000_000_000;
    let elapsed = i64::try_from(start.elapsed().as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_microsecond(EPOCH + elapsed * rate / 1_000 + jumped * 1_000)
        .expect("a simulation ends before the calendar does")
}

/// The result of a call of the memory journal, which never waits.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    future
        .now_or_never()
        .expect("the memory journal answers at once")
}

/// The end of a run's id, enough to tell runs apart.
fn short(run: u128) -> String {
    if run == 0 {
        String::new()
    } else {
        format!("run …{:06x}", run & 0xff_ffff)
    }
}
