//! Random workflow programs: what a simulated workflow does, as data.

use fastrand::Rng;

/// Everything that the workflows of one simulation do. A program is run once, by the run of its
/// number.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) programs: Vec<Program>,
    pub(crate) acts: Vec<Act>,
}

/// What one workflow does.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Each segment is a run of the chain; the next one continues it as new.
    pub(crate) segments: Vec<Vec<Step>>,
    /// Whether it returns an error in the end.
    pub(crate) fails: bool,
    /// The activity that cleans up after a cancellation.
    pub(crate) cleanup: usize,
    /// The program that starts it as a child, with its end tied to its parent's or not.
    pub(crate) parent: Option<usize>,
    /// Whether somebody may ask it to cancel, or close its parent before it.
    pub(crate) may_cancel: bool,
    /// Whether an operator may end it.
    pub(crate) may_terminate: bool,
    /// How many signals of each name it waits for at most.
    pub(crate) waits: [u32; SIGNALS.len()],
}

/// The names of signals.
pub(crate) const SIGNALS: [&str; 2] = ["red", "blue"];

/// One thing that a workflow does.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Runs an activity.
    Act(usize),
    /// Runs a transactional step that returns this value, or fails.
    Transaction { value: u64, fails: bool },
    /// Sleeps for this many milliseconds.
    Sleep(u64),
    /// Waits for a signal of this name.
    Wait(usize),
    /// Sends a signal of this name, and with a number of its own, to another program.
    Send { to: usize, name: usize, number: u64 },
    /// Runs a program as a child.
    Child { program: usize, tie: Tie },
    /// Starts a child under a workflow id that is taken.
    TakenChild,
    /// Draws a value that replays must see again.
    Draw(Draw),
    /// Goes on with the first that ends.
    Race(Vec<Self>),
    /// Waits for all.
    Join(Vec<Self>),
}

/// How a parent is tied to its child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tie {
    /// It awaits the result.
    Awaited,
    /// It starts it and does not look again: the child is cancelled when the parent closes.
    Started,
    /// It lets it go.
    Detached,
}

/// A value that is drawn once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Draw {
    SideEffect,
    Now,
    Random,
    Uuid,
}

/// What an activity does.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    /// How many attempts fail before one succeeds.
    pub(crate) fails: u32,
    /// Whether a failing attempt hangs until its time is over.
    pub(crate) hangs: bool,
    /// Whether the first failure is final.
    pub(crate) is_final: bool,
    pub(crate) max_attempts: u32,
    pub(crate) retry_ms: u64,
    pub(crate) work_ms: u64,
    pub(crate) at_most_once: bool,
    /// Whether it opens a transaction that commits with its record.
    pub(crate) in_transaction: bool,
    /// Whether it reports progress.
    pub(crate) beats: bool,
    /// Whether it takes its worker down.
    pub(crate) is_poison: bool,
}

impl Act {
    /// The attempts that are made when nothing goes wrong but what the activity does by itself.
    pub(crate) fn attempts(&self) -> u32 {
        if self.is_final && self.fails > 0 {
            1
        } else {
            (self.fails + 1).min(self.max_attempts)
        }
    }

    /// Whether it succeeds in the end.
    pub(crate) fn succeeds(&self) -> bool {
        self.fails == 0 || (!self.is_final && self.fails < self.max_attempts)
    }

    /// How long an attempt may take.
    pub(crate) const TIME_LIMIT_MS: u64 = 2_500;
}

/// What an activity returns: the same however often it runs.
pub(crate) fn act_value(act: usize) -> u64 {
    1_000_000 + act as u64
}

/// The value of a signal: different for each that is sent.
pub(crate) fn signal_value(program: usize, name: usize, number: u32) -> u64 {
    2_000_000 + (program as u64) * 10_000 + (name as u64) * 1_000 + u64::from(number)
}

/// The value of a signal that a workflow sends.
pub(crate) const fn sent_value(name: usize, number: u64) -> u64 {
    3_000_000 + number * 10_000 + (name as u64) * 1_000
}

/// The workflow id of a program.
pub(crate) fn workflow_id(program: usize) -> String {
    format!("program-{program}")
}

impl Script {
    /// The steps of a program, with those inside of others.
    pub(crate) fn steps(&self) -> Vec<&Step> {
        let mut found: Vec<&Step> = Vec::new();
        let mut left: Vec<&Step> = self
            .programs
            .iter()
            .flat_map(|program| program.segments.iter().flatten())
            .collect();
        while let Some(step) = left.pop() {
            found.push(step);
            if let Step::Race(steps) | Step::Join(steps) = step {
                left.extend(steps);
            }
        }
        found
    }

    /// Writes the programs of a simulation.
    pub(crate) fn random(rng: &mut Rng, workflows: usize) -> Self {
        let mut author = Author {
            rng,
            script: Self {
                programs: Vec::new(),
                acts: Vec::new(),
            },
            budget: 0,
            sends: 0,
        };
        let most = if workflows > 3 { 6 } else { 14 };
        for _ in 0..workflows {
            author.budget = author.rng.u32(3..=most);
            let is_asked_to_cancel = author.chance(25);
            author.program(None, is_asked_to_cancel, 0);
        }
        author.script
    }

    /// Adds a program that takes down every worker that runs it.
    pub(crate) fn add_poison(&mut self) -> usize {
        self.acts.push(Act {
            is_poison: true,
            ..Act::plain(1)
        });
        let act = self.acts.len() - 1;
        self.programs.push(Program {
            segments: vec![vec![Step::Act(act)]],
            fails: false,
            cleanup: act,
            parent: None,
            may_cancel: false,
            may_terminate: false,
            waits: [0; SIGNALS.len()],
        });
        self.programs.len() - 1
    }
}

impl Act {
    const fn plain(work_ms: u64) -> Self {
        Self {
            fails: 0,
            hangs: false,
            is_final: false,
            max_attempts: 100,
            retry_ms: 200,
            work_ms,
            at_most_once: false,
            in_transaction: false,
            beats: false,
            is_poison: false,
        }
    }
}

/// How deep steps and children may be nested.
const DEPTH: u32 = 2;

struct Author<'a> {
    rng: &'a mut Rng,
    script: Script,
    /// How many steps may still be written.
    budget: u32,
    /// How many signals workflows send.
    sends: u64,
}

impl Author<'_> {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    fn program(&mut self, parent: Option<usize>, may_cancel: bool, depth: u32) -> usize {
        let cleanup = self.plain_act();
        let program = self.script.programs.len();
        let may_terminate = parent.is_none() && self.chance(5);
        self.script.programs.push(Program {
            segments: Vec::new(),
            fails: self.rng.u32(0..100) < 10,
            cleanup,
            parent,
            may_cancel: may_cancel || may_terminate,
            may_terminate,
            waits: [0; SIGNALS.len()],
        });
        let segments = if self.chance(25) {
            self.rng.usize(2..=3)
        } else {
            1
        };
        for _ in 0..segments {
            let length = self.rng.usize(1..=4);
            let steps = (0..length)
                .map(|_| self.step(program, depth, 0, false))
                .collect();
            self.script.programs[program].segments.push(steps);
        }
        program
    }

    /// One step. Within a race, children may be left behind.
    fn step(&mut self, program: usize, depth: u32, nesting: u32, in_race: bool) -> Step {
        self.budget = self.budget.saturating_sub(1);
        let is_leaf = nesting >= DEPTH || self.budget == 0;
        match self.rng.u32(0..if is_leaf { 82 } else { 106 }) {
            0..=29 => Step::Act(self.act()),
            30..=39 => Step::Transaction {
                value: self.rng.u64(0..1_000),
                fails: self.rng.u32(0..100) < 15,
            },
            40..=52 => Step::Sleep(self.sleep_ms()),
            53..=62 => {
                let name = self.rng.usize(0..SIGNALS.len());
                self.script.programs[program].waits[name] += 1;
                Step::Wait(name)
            }
            63..=70 => Step::Draw(self.draw()),
            71..=72 => Step::TakenChild,
            73..=78 => self.send(),
            79..=88 if depth < DEPTH && self.budget > 0 => self.child(program, depth, in_race),
            79..=88 => Step::Act(self.act()),
            89..=96 => {
                let width = self.rng.usize(2..=3);
                Step::Race(self.steps(width, program, depth, nesting, true))
            }
            _ => {
                let width = self.rng.usize(2..=3);
                Step::Join(self.steps(width, program, depth, nesting, in_race))
            }
        }
    }

    fn steps(
        &mut self,
        width: usize,
        program: usize,
        depth: u32,
        nesting: u32,
        in_race: bool,
    ) -> Vec<Step> {
        (0..width)
            .map(|_| self.step(program, depth, nesting + 1, in_race))
            .collect()
    }

    /// To a program that was begun before, or to itself.
    fn send(&mut self) -> Step {
        self.sends += 1;
        Step::Send {
            to: self.rng.usize(0..self.script.programs.len()),
            name: self.rng.usize(0..SIGNALS.len()),
            number: self.sends,
        }
    }

    fn child(&mut self, program: usize, depth: u32, in_race: bool) -> Step {
        let tie = match self.rng.u32(0..10) {
            0..=6 => Tie::Awaited,
            7 | 8 => Tie::Started,
            _ => Tie::Detached,
        };
        let parent_may_cancel = self.script.programs[program].may_cancel;
        let may_cancel = match tie {
            Tie::Awaited => parent_may_cancel || in_race,
            Tie::Started => true,
            Tie::Detached => false,
        };
        let child = self.program(Some(program), may_cancel, depth + 1);
        Step::Child {
            program: child,
            tie,
        }
    }

    fn sleep_ms(&mut self) -> u64 {
        match self.rng.u32(0..10) {
            0 => 0,
            1..=5 => self.rng.u64(1..200),
            6..=8 => self.rng.u64(200..3_000),
            _ => self.rng.u64(3_000..20_000),
        }
    }

    fn draw(&mut self) -> Draw {
        match self.rng.u32(0..4) {
            0 => Draw::SideEffect,
            1 => Draw::Now,
            2 => Draw::Random,
            _ => Draw::Uuid,
        }
    }

    fn plain_act(&mut self) -> usize {
        let work_ms = self.rng.u64(0..50);
        self.add(Act::plain(work_ms))
    }

    fn act(&mut self) -> usize {
        let work_ms = match self.rng.u32(0..10) {
            0..=5 => self.rng.u64(0..20),
            6..=8 => self.rng.u64(20..500),
            _ => self.rng.u64(500..2_000),
        };
        let mut act = Act {
            beats: self.chance(15),
            retry_ms: self.rng.u64(10..2_000),
            ..Act::plain(work_ms)
        };
        match self.rng.u32(0..10) {
            0 => act.at_most_once = true,
            1 => act.in_transaction = true,
            2..=4 => {
                act.fails = self.rng.u32(1..=3);
                act.max_attempts = self.rng.u32(1..=4);
                act.hangs = self.chance(25);
                act.is_final = !act.hangs && self.chance(20);
            }
            _ => {}
        }
        self.add(act)
    }

    fn add(&mut self, act: Act) -> usize {
        self.script.acts.push(act);
        self.script.acts.len() - 1
    }
}
