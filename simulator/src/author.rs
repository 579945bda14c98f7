//! Who writes random programs.

use fastrand::Rng;

use crate::{
    profile::Profile,
    program::{Act, Draw, FanOut, Program, SIGNALS, Script, Step, Tie, Undoable},
};

/// Writes the programs of a simulation. What only some seeds know is drawn from `more`, so that the
/// others keep their meaning when programs learn something.
pub(crate) fn write(rng: &mut Rng, more: &mut Rng, profile: &Profile) -> Script {
    let workflows = profile.workflows;
    let mut author = Author {
        rng,
        more,
        profile,
        script: Script {
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

/// How deep steps and children may be nested.
const DEPTH: u32 = 2;

struct Author<'a> {
    rng: &'a mut Rng,
    /// Chance of its own for what [`Profile::more`] adds.
    more: &'a mut Rng,
    profile: &'a Profile,
    script: Script,
    /// How many steps may still be written.
    budget: u32,
    /// How many signals workflows send.
    sends: u64,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    nesting: u32,
    /// Whether the program may go on without what began here: children may be asked to cancel.
    leaves_behind: bool,
    /// Whether the step may be dropped in the middle.
    is_dropped: bool,
}

impl Place {
    const fn inside(self) -> Self {
        Self {
            nesting: self.nesting + 1,
            ..self
        }
    }

    const fn in_race(self) -> Self {
        Self {
            leaves_behind: true,
            is_dropped: true,
            ..self.inside()
        }
    }

    const fn in_cancelled_scope(self) -> Self {
        Self {
            leaves_behind: true,
            ..self.inside()
        }
    }
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
            updates: 0,
        });
        let segments = if self.chance(25) {
            self.rng.usize(2..=3)
        } else {
            1
        };
        for _ in 0..segments {
            let length = self.rng.usize(1..=4);
            let steps = (0..length)
                .map(|_| self.step(program, depth, Place::default()))
                .collect();
            self.script.programs[program].segments.push(steps);
        }
        program
    }

    fn step(&mut self, program: usize, depth: u32, at: Place) -> Step {
        self.budget = self.budget.saturating_sub(1);
        let is_leaf = at.nesting >= DEPTH || self.budget == 0;
        if self.profile.more.is_some() && self.more.u32(0..100) < 40 {
            return self.further_step(program, depth, at, is_leaf);
        }
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
            79..=88 if depth < DEPTH && self.budget > 0 => {
                self.child(program, depth, at.leaves_behind)
            }
            79..=88 => Step::Act(self.act()),
            89..=96 => {
                let width = self.rng.usize(2..=3);
                Step::Race(self.steps(width, program, depth, at.in_race()))
            }
            _ => {
                let width = self.rng.usize(2..=3);
                Step::Join(self.steps(width, program, depth, at.inside()))
            }
        }
    }

    /// One of the steps that only some seeds know.
    fn further_step(&mut self, program: usize, depth: u32, at: Place, is_leaf: bool) -> Step {
        let has_side = self.profile.has_side();
        match self.more.u32(0..if is_leaf { 72 } else { 100 }) {
            0..=11 => Step::Show,
            12..=21 => Step::Tag {
                removes: self.more.u32(0..100) < 30,
            },
            22..=31 => {
                self.script.programs[program].updates += 1;
                Step::Update
            }
            32..=41 => Step::Change {
                number: self.more.usize(0..2),
                before: self.act(),
                after: self.act(),
            },
            42..=53 if has_side => {
                let act = self.act();
                self.script.acts[act].is_remote = true;
                Step::Act(act)
            }
            54..=61 if has_side => self.fan_out(),
            62..=71 if !at.is_dropped => self.saga(),
            42..=71 => Step::Show,
            72..=82 => {
                let cancelled_after = match self.more.u32(0..3) {
                    0 => None,
                    1 => Some(self.more.u64(0..100)),
                    _ => Some(self.more.u64(100..4_000)),
                };
                let within = match cancelled_after {
                    Some(_) => at.in_cancelled_scope(),
                    None => at.inside(),
                };
                let width = self.more.usize(1..=3);
                Step::Scope {
                    steps: self.steps(width, program, depth, within),
                    cancelled_after,
                }
            }
            83..=90 => Step::Timeout {
                millis: self.more.u64(0..3_000),
                step: Box::new(self.step(program, depth, at.in_race())),
            },
            _ => Step::Shield(Box::new(self.step(program, depth, at.inside()))),
        }
    }

    fn fan_out(&mut self) -> Step {
        let width = self.more.usize(1..=5);
        Step::FanOut(FanOut {
            acts: (0..width).map(|_| self.act()).collect(),
            slice: self.more.usize(1..=4),
            at_once: self.more.usize(1..=6),
            stop_after: (self.more.u32(0..3) == 0).then(|| self.more.usize(1..=2)),
            key: ["", "left", "right"][self.more.usize(0..3)],
        })
    }

    fn saga(&mut self) -> Step {
        let length = self.more.usize(1..=3);
        let steps = (0..length).map(|_| Undoable {
            act: self.act(),
            undo: self.plain_act(),
        });
        Step::Saga {
            steps: steps.collect(),
            fails: self.more.bool(),
        }
    }

    fn steps(&mut self, width: usize, program: usize, depth: u32, at: Place) -> Vec<Step> {
        (0..width).map(|_| self.step(program, depth, at)).collect()
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

    fn child(&mut self, program: usize, depth: u32, leaves_behind: bool) -> Step {
        let tie = match self.rng.u32(0..10) {
            0..=6 => Tie::Awaited,
            7 | 8 => Tie::Started,
            _ => Tie::Detached,
        };
        let parent_may_cancel = self.script.programs[program].may_cancel;
        let may_cancel = match tie {
            Tie::Awaited => parent_may_cancel || leaves_behind,
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
