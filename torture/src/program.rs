//! The programs that workflows carry out, and the oracle that knows how they end.
//!
//! A program is made from a seed and travels in the input of its run. The oracle computes its end from
//! the input alone; it knows nothing of journals.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// One step of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// An activity that takes this many milliseconds.
    Activity {
        n: u64,
        millis: u64,
    },
    /// An activity whose first attempts fail.
    Flaky {
        n: u64,
        failures: u32,
    },
    /// An activity that may run at most once.
    Once {
        n: u64,
        millis: u64,
    },
    /// A transactional step.
    Transaction {
        n: u64,
    },
    /// A transactional step that writes and then fails.
    Rollback,
    Sleep {
        millis: u64,
    },
    /// A wait for the next signal.
    Signal,
    /// A child that carries out a program of its own.
    Child {
        steps: Vec<Self>,
    },
    /// Children side by side.
    FanOut {
        each: Vec<u64>,
    },
    /// A child that fails.
    FailingChild,
    /// A child that is told these words by signals, answers by a signal, and ends. After that it cannot be told
    /// anything.
    Talk {
        words: Vec<u64>,
    },
    /// Activities side by side.
    Join {
        each: Vec<u64>,
    },
    /// An activity against a timer; the loser is dropped.
    Race {
        n: u64,
        millis: u64,
        timer: u64,
    },
    /// A random number that an activity is told, and must be told again after a crash.
    Random,
    /// Shows how often it has shown something.
    Publish,
    /// Tags the run.
    Tag {
        n: u64,
    },
    /// The new way of a change of the code.
    Version,
    /// An activity of a worker that serves another queue.
    Remote {
        n: u64,
        millis: u64,
    },
    /// A workflow for each, in slices.
    Spread {
        each: Vec<u64>,
        slice: usize,
    },
    /// Activities that are undone in reverse, if the one after them fails.
    Saga {
        each: Vec<u64>,
        fails: bool,
    },
    /// An activity against a timer in a scope, which is cancelled then with a child that only sleeps.
    Scope {
        n: u64,
        millis: u64,
        timer: u64,
    },
    /// The rest happens in a new run.
    Continue,
}

/// The input of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Input {
    pub(crate) steps: Vec<Step>,
    /// What the runs before this one in its chain came to.
    pub(crate) sum: u64,
    /// How many signals they received.
    pub(crate) signals: u64,
    /// What they showed.
    #[serde(default)]
    pub(crate) shown: Shown,
    /// The run fails after its steps.
    pub(crate) fails: bool,
}

/// What a chain of runs shows to others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// How often it has published something, which is what it publishes.
    pub(crate) published: u64,
    pub(crate) tag: Option<u64>,
}

/// The name under which a program publishes.
pub(crate) const PROGRESS: &str = "progress";
/// The tag that a program sets.
pub(crate) const MARK: &str = "mark";
/// The queue of the workers that run remote activities.
pub(crate) const SIDE: &str = "side";

/// How a run must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    Completed(u64),
    Failed,
    /// It continues as new with this input.
    Continued(Input),
}

/// What an activity makes of its number.
pub(crate) fn effect_of(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) >> 16
}

/// Adds the value of a step; the order counts.
pub(crate) fn add(sum: u64, value: u64) -> u64 {
    (sum.wrapping_mul(31).wrapping_add(value)) & 0xffff_ffff_ffff
}

/// What a step that was rolled back counts.
pub(crate) const ROLLED_BACK: u64 = 7;
/// What a child that failed counts.
pub(crate) const CHILD_FAILED: u64 = 11;
/// What the new way of a change counts.
pub(crate) const NEW_WAY: u64 = 17;
/// What a saga counts that was undone.
pub(crate) const UNDONE: u64 = 19;
/// What a step counts whose outcome depends on time.
pub(crate) const EITHER_WAY: u64 = 13;

/// The number of the activity that undoes the one with this number.
pub(crate) const fn undo_of(n: u64) -> u64 {
    n + (1 << 40)
}

impl Input {
    pub(crate) fn new(steps: Vec<Step>) -> Self {
        Self {
            steps,
            sum: 0,
            signals: 0,
            shown: Shown::default(),
            fails: false,
        }
    }

    /// The program of a seed.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(4..14);
        let mut steps: Vec<_> = (0..count).map(|_| any_step(&mut rng, true)).collect();
        if rng.u8(..4) == 0 {
            let place = rng.usize(1..steps.len());
            steps.insert(place, Step::Continue);
        }
        // A run that continues as new has its children settled: every step awaits its own.
        Self {
            fails: rng.u8(..16) == 0,
            ..Self::new(steps)
        }
    }

    /// How many signals the whole chain waits for.
    pub(crate) fn signals_awaited(&self) -> u64 {
        let waits = self.steps.iter().filter(|step| **step == Step::Signal);
        waits.count() as u64
    }

    /// The steps of the run itself, without those of the runs after it.
    pub(crate) fn own_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps
            .iter()
            .take_while(|step| **step != Step::Continue)
    }

    /// What a run with this input shows in the end.
    pub(crate) fn shows(&self) -> Shown {
        self.own_steps().fold(self.shown, |shown, step| match step {
            Step::Publish => Shown {
                published: shown.published + 1,
                ..shown
            },
            Step::Tag { n } => Shown {
                tag: Some(*n),
                ..shown
            },
            _ => shown,
        })
    }

    /// How a run with this input must end.
    pub(crate) fn expected(&self) -> Expected {
        let (mut sum, mut signals) = (self.sum, self.signals);
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                Step::Activity { n, .. } | Step::Flaky { n, .. } => sum = add(sum, effect_of(*n)),
                Step::Transaction { n } => sum = add(sum, *n),
                Step::Rollback => sum = add(sum, ROLLED_BACK),
                Step::Sleep { .. } => {}
                Step::Signal => {
                    sum = add(sum, signals);
                    signals += 1;
                }
                Step::Child { steps } => sum = add(sum, value_of(steps)),
                Step::Saga { fails: true, .. } => sum = add(sum, UNDONE),
                Step::FanOut { each }
                | Step::Join { each }
                | Step::Spread { each, .. }
                | Step::Saga { each, .. } => {
                    sum = each.iter().fold(sum, |sum, n| add(sum, effect_of(*n)));
                }
                Step::FailingChild => sum = add(sum, CHILD_FAILED),
                Step::Talk { words } => sum = add(sum, sum_of(words)),
                Step::Once { .. } | Step::Race { .. } | Step::Random | Step::Scope { .. } => {
                    sum = add(sum, EITHER_WAY);
                }
                Step::Publish | Step::Tag { .. } => {}
                Step::Version => sum = add(sum, NEW_WAY),
                Step::Remote { n, .. } => sum = add(sum, effect_of(*n)),
                Step::Continue => {
                    return Expected::Continued(Self {
                        steps: self.steps[index + 1..].to_vec(),
                        sum,
                        signals,
                        shown: self.shows(),
                        fails: self.fails,
                    });
                }
            }
        }
        if self.fails {
            Expected::Failed
        } else {
            Expected::Completed(sum)
        }
    }
}

/// What a listener makes of the words that it is told, in this order.
pub(crate) fn sum_of(words: &[u64]) -> u64 {
    words.iter().fold(0, |sum, word| add(sum, *word))
}

/// The value of a child's steps, which neither fail nor continue.
fn value_of(steps: &[Step]) -> u64 {
    match Input::new(steps.to_vec()).expected() {
        Expected::Completed(value) => value,
        Expected::Failed | Expected::Continued(_) => 0,
    }
}

fn any_step(rng: &mut Rng, may_nest: bool) -> Step {
    let n = rng.u64(1..1_000_000);
    let millis = match rng.u8(..5) {
        // Long enough that whoever is killed is in the middle of some.
        0 => rng.u64(50..400),
        _ => rng.u64(..12),
    };
    match rng.u8(..if may_nest { 33 } else { 16 }) {
        0..=3 => Step::Activity { n, millis },
        4 => Step::Flaky {
            n,
            failures: rng.u32(1..3),
        },
        5 => Step::Once { n, millis },
        6..=8 => Step::Transaction { n },
        9 => Step::Rollback,
        10 => Step::Sleep {
            millis: rng.u64(1..120),
        },
        11 => Step::Join {
            each: (0..rng.u64(2..5)).map(|more| n + more).collect(),
        },
        12 => Step::Race {
            n,
            millis: rng.u64(..30),
            timer: rng.u64(1..30),
        },
        13 => Step::Publish,
        14 => Step::Tag { n },
        15 => Step::Version,
        16..=18 => Step::Signal,
        19 | 20 => {
            let count = rng.usize(1..5);
            Step::Child {
                steps: (0..count).map(|_| any_step(rng, false)).collect(),
            }
        }
        21 => Step::FanOut {
            each: (0..rng.u64(2..6)).map(|more| n + more).collect(),
        },
        22 => Step::FailingChild,
        23 => Step::Random,
        24 => Step::Sleep { millis },
        25 | 26 => Step::Remote { n, millis },
        27 => Step::Spread {
            each: (0..rng.u64(2..6)).map(|more| n + more).collect(),
            slice: rng.usize(1..4),
        },
        28 | 29 => Step::Saga {
            each: (0..rng.u64(1..4)).map(|more| n + more).collect(),
            fails: rng.bool(),
        },
        30 => Step::Scope {
            n,
            millis: rng.u64(..30),
            timer: rng.u64(1..30),
        },
        _ => Step::Talk {
            words: (0..rng.u64(1..5)).map(|more| n + more).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_program() {
        for seed in 0..200 {
            assert_eq!(Input::of_seed(seed), Input::of_seed(seed));
        }
    }

    #[test]
    fn a_chain_comes_to_the_same_as_its_steps_in_one_run() {
        let mut chains = 0;
        for seed in 0..500 {
            let input = Input::of_seed(seed);
            let mut joined = input.clone();
            joined.steps.retain(|step| *step != Step::Continue);
            let mut end = input.expected();
            while let Expected::Continued(next) = end {
                chains += 1;
                end = next.expected();
            }
            assert_eq!(end, joined.expected());
        }
        assert!(chains > 50, "{chains}");
    }

    #[test]
    fn the_order_of_steps_counts() {
        let steps = [Step::Transaction { n: 1 }, Step::Transaction { n: 2 }];
        let swapped = [steps[1].clone(), steps[0].clone()];
        assert_ne!(value_of(&steps), value_of(&swapped));
    }
}
