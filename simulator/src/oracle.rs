//! The oracle: what a program may come to, from the script alone.

use std::collections::{HashMap, HashSet};

use sync_workflow::FailureKind;

use crate::{
    interpret::Outcome,
    program::{
        Act, FanOut, Program, Script, Step, Tie, Undoable, act_value, numbers_of, sent_value,
        signal_value, update_value,
    },
    side::has_failed,
};

/// What the oracle takes for granted.
pub(crate) struct Circumstances {
    /// Whether an activity may have been interrupted.
    pub(crate) interrupts: bool,
    /// The programs that were begun again, or one above them was: what they await may have been asked to cancel for that.
    pub(crate) shaken: HashSet<usize>,
    /// The programs that were begun again: the workflow ids of their children may be taken.
    pub(crate) again: HashSet<usize>,
}

/// What is wrong with what a program came to.
pub(crate) fn check_program(
    script: &Script,
    program: &Program,
    number: usize,
    outcomes: &[Outcome],
    circumstances: &Circumstances,
) -> Result<(), String> {
    let steps: Vec<&Step> = program.segments.iter().flatten().collect();
    if steps.len() != outcomes.len() {
        return Err(format!(
            "{} steps came to {} outcomes",
            steps.len(),
            outcomes.len()
        ));
    }
    let oracle = Oracle {
        script,
        program: number,
        circumstances,
    };
    let mut outcomes = outcomes.iter();
    for segment in &program.segments {
        let mut versions = HashMap::new();
        for (step, outcome) in segment.iter().zip(outcomes.by_ref()) {
            oracle.check(step, outcome)?;
            agree(step, outcome, &mut versions)?;
        }
    }
    Ok(())
}

/// A run goes by one version of each change.
fn agree(step: &Step, outcome: &Outcome, versions: &mut HashMap<usize, u32>) -> Result<(), String> {
    match (step, outcome) {
        (Step::Change { number, .. }, Outcome::Changed(version, _)) => {
            let chosen = *versions.entry(*number).or_insert(*version);
            if chosen != *version {
                return Err(format!(
                    "change {number} has version {chosen} and {version}"
                ));
            }
            Ok(())
        }
        (Step::Race(steps), Outcome::Raced(winner, outcome)) => match steps.get(*winner) {
            Some(step) => agree(step, outcome, versions),
            None => Ok(()),
        },
        (Step::Timeout { step, .. }, Outcome::InTime(outcome))
        | (Step::Shield(step), Outcome::Shielded(outcome)) => agree(step, outcome, versions),
        (Step::Join(steps), Outcome::Joined(parts))
        | (Step::Scope { steps, .. }, Outcome::Scoped(parts)) => steps
            .iter()
            .zip(parts)
            .try_for_each(|(step, outcome)| agree(step, outcome, versions)),
        _ => Ok(()),
    }
}

/// Whether an activity may come to this.
pub(crate) fn act_may(
    script: &Script,
    act: usize,
    outcome: &Outcome,
    circumstances: &Circumstances,
) -> bool {
    let spec: &Act = &script.acts[act];
    match outcome {
        Outcome::Value(value) => spec.succeeds() && *value == act_value(act),
        Outcome::Failed(FailureKind::Application) => !spec.succeeds() && !spec.hangs,
        Outcome::Failed(FailureKind::TimedOut) => !spec.succeeds() && spec.hangs,
        Outcome::Failed(FailureKind::Interrupted) => spec.at_most_once && circumstances.interrupts,
        _ => false,
    }
}

struct Oracle<'a> {
    script: &'a Script,
    program: usize,
    circumstances: &'a Circumstances,
}

impl Oracle<'_> {
    fn check(&self, step: &Step, outcome: &Outcome) -> Result<(), String> {
        let is_right = match (step, outcome) {
            (Step::Act(act), outcome) => self.act_may(*act, outcome),
            (Step::Transaction { value, fails }, Outcome::Value(got)) => !fails && got == value,
            (Step::Transaction { fails, .. }, Outcome::Failed(FailureKind::Application)) => *fails,
            (Step::Sleep(_), Outcome::Slept) => true,
            (Step::Wait(name), Outcome::Signal(value)) => {
                let count = self.script.programs[self.program].waits[*name];
                let is_one = |number: u32| signal_value(self.program, *name, number) == *value;
                (0..count).flat_map(numbers_of).any(is_one) || self.is_sent_to_it(*name, *value)
            }
            (Step::Send { .. }, Outcome::Sent | Outcome::Failed(FailureKind::NotOpen)) => true,
            (Step::Child { program, tie }, outcome) => return self.child(*program, *tie, outcome),
            (Step::TakenChild, Outcome::Failed(kind)) => *kind == FailureKind::Rejected,
            (Step::Draw(_), Outcome::Drawn(_)) => true,
            (Step::Race(steps), Outcome::Raced(winner, outcome)) => {
                return match steps.get(*winner) {
                    Some(step) => self.check(step, outcome),
                    None => Err(format!("branch {winner} of {} won", steps.len())),
                };
            }
            (Step::Join(steps), Outcome::Joined(outcomes)) if steps.len() == outcomes.len() => {
                return steps
                    .iter()
                    .zip(outcomes)
                    .try_for_each(|(step, outcome)| self.check(step, outcome));
            }
            (Step::Show, Outcome::Shown) | (Step::Tag { .. }, Outcome::Tagged) => true,
            (Step::Update, Outcome::Answered(asked)) => {
                let count = self.script.programs[self.program].updates;
                let is_one = |number: u32| update_value(self.program, number) == *asked;
                (0..count).flat_map(numbers_of).any(is_one)
            }
            (Step::Change { before, after, .. }, Outcome::Changed(version, outcome)) => {
                match version {
                    0 => self.act_may(*before, outcome),
                    1 => self.act_may(*after, outcome),
                    _ => false,
                }
            }
            (
                Step::Scope {
                    steps,
                    cancelled_after,
                },
                Outcome::Scoped(parts),
            ) if steps.len() == parts.len() => {
                return steps.iter().zip(parts).try_for_each(|(step, part)| {
                    match (cancelled_after, part) {
                        (Some(_), Outcome::Stopped) => Ok(()),
                        _ => self.check(step, part),
                    }
                });
            }
            (Step::Timeout { .. }, Outcome::Elapsed) => true,
            (Step::Timeout { step, .. }, Outcome::InTime(outcome))
            | (Step::Shield(step), Outcome::Shielded(outcome)) => {
                return self.check(step, outcome);
            }
            (Step::Saga { steps, fails }, outcome) => self.saga_may(steps, *fails, outcome),
            (Step::FanOut(plan), Outcome::FannedOut(ended)) => self.fan_out_may(plan, ended),
            _ => false,
        };
        if is_right {
            Ok(())
        } else {
            Err(format!("{step:?} came to {outcome:?}"))
        }
    }

    fn is_sent_to_it(&self, waited_for: usize, value: u64) -> bool {
        self.script.steps().into_iter().any(|step| match step {
            Step::Send { to, name, number } => {
                *to == self.program && *name == waited_for && sent_value(*name, *number) == value
            }
            _ => false,
        })
    }

    /// Whether the program may find that what it awaits elsewhere was cancelled.
    fn is_shaken(&self) -> bool {
        self.circumstances.shaken.contains(&self.program)
    }

    fn act_may(&self, act: usize, outcome: &Outcome) -> bool {
        let is_elsewhere = self.script.acts[act].is_remote;
        let is_cancelled = *outcome == Outcome::Failed(FailureKind::Cancelled);
        is_cancelled && is_elsewhere && self.is_shaken()
            || act_may(self.script, act, outcome, self.circumstances)
    }

    /// A saga fails if it must, or if one of its activities may.
    fn saga_may(&self, steps: &[Undoable], fails: bool, outcome: &Outcome) -> bool {
        let mut acts = steps.iter().map(|step| &self.script.acts[step.act]);
        match outcome {
            Outcome::Done => !fails && acts.all(Act::succeeds),
            Outcome::Undone => {
                let may_fail = |act: &Act| {
                    !act.succeeds()
                        || act.at_most_once && self.circumstances.interrupts
                        || act.is_remote && self.is_shaken()
                };
                fails || acts.any(may_fail)
            }
            _ => false,
        }
    }

    fn fan_out_may(&self, plan: &FanOut, ended: &[(usize, Outcome)]) -> bool {
        let is_told_once = ended.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let failed = ended.iter().filter(|(_, outcome)| has_failed(outcome));
        let is_stopped = plan.stop_after.is_some_and(|most| failed.count() >= most);
        let is_stopped = is_stopped || self.is_shaken();
        is_told_once
            && (is_stopped || ended.len() == plan.acts.len())
            && ended.iter().all(|(index, outcome)| {
                let act = plan.acts.get(*index);
                let is_cancelled = *outcome == Outcome::Failed(FailureKind::Cancelled);
                is_cancelled && self.is_shaken()
                    || act.is_some_and(|act| self.act_may(*act, outcome))
            })
    }

    fn child(&self, number: usize, tie: Tie, outcome: &Outcome) -> Result<(), String> {
        let child = &self.script.programs[number];
        match (tie, outcome) {
            (Tie::Awaited, Outcome::Child(outcomes)) if !child.fails => {
                check_program(self.script, child, number, outcomes, self.circumstances)
            }
            (Tie::Awaited, Outcome::Failed(FailureKind::Application)) if child.fails => Ok(()),
            (Tie::Awaited, Outcome::Failed(FailureKind::Cancelled))
                if child.may_cancel || self.is_shaken() =>
            {
                Ok(())
            }
            (Tie::Awaited, Outcome::Failed(FailureKind::Rejected))
                if self.circumstances.again.contains(&self.program) =>
            {
                Ok(())
            }
            (Tie::Started | Tie::Detached, Outcome::Started) => Ok(()),
            _ => Err(format!("child {number} came to {outcome:?}")),
        }
    }
}
