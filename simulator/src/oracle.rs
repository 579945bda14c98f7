//! The oracle: what a program may come to, from the script alone.

use sync_workflow::FailureKind;

use crate::{
    interpret::Outcome,
    program::{Act, Program, Script, Step, Tie, act_value, sent_value, signal_value},
};

/// What the oracle takes for granted.
pub(crate) struct Circumstances {
    /// Whether an activity may have been interrupted.
    pub(crate) interrupts: bool,
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
    steps
        .into_iter()
        .zip(outcomes)
        .try_for_each(|(step, outcome)| oracle.check(step, outcome))
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
                (0..count).any(|number| signal_value(self.program, *name, number) == *value)
                    || self.is_sent_to_it(*name, *value)
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

    fn act_may(&self, act: usize, outcome: &Outcome) -> bool {
        let spec: &Act = &self.script.acts[act];
        match outcome {
            Outcome::Value(value) => spec.succeeds() && *value == act_value(act),
            Outcome::Failed(FailureKind::Application) => !spec.succeeds() && !spec.hangs,
            Outcome::Failed(FailureKind::TimedOut) => !spec.succeeds() && spec.hangs,
            Outcome::Failed(FailureKind::Interrupted) => {
                spec.at_most_once && self.circumstances.interrupts
            }
            _ => false,
        }
    }

    fn child(&self, number: usize, tie: Tie, outcome: &Outcome) -> Result<(), String> {
        let child = &self.script.programs[number];
        match (tie, outcome) {
            (Tie::Awaited, Outcome::Child(outcomes)) if !child.fails => {
                check_program(self.script, child, number, outcomes, self.circumstances)
            }
            (Tie::Awaited, Outcome::Failed(FailureKind::Application)) if child.fails => Ok(()),
            (Tie::Awaited, Outcome::Failed(FailureKind::Cancelled)) if child.may_cancel => Ok(()),
            (Tie::Started | Tie::Detached, Outcome::Started) => Ok(()),
            _ => Err(format!("child {number} came to {outcome:?}")),
        }
    }
}
