//! What the tools found.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// Everything that the page is made of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) model: Vec<Variant>,
    pub(crate) simulator: Simulated,
    pub(crate) mutants: Vec<Mutant>,
    pub(crate) campaigns: Vec<Campaign>,
    pub(crate) bugs: Vec<Bug>,
}

/// The protocol as it is, or with a rule left out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Variant {
    pub(crate) variant: String,
    pub(crate) states: u64,
    pub(crate) depth: u64,
    pub(crate) seconds: f64,
    pub(crate) broken: Vec<String>,
}

/// Seeds of the simulator.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Simulated {
    pub(crate) from: u64,
    pub(crate) seeds: u64,
    pub(crate) violations: u64,
    pub(crate) seconds: f64,
    pub(crate) figures: Figures,
}

/// What happened in them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) millis: u64,
    pub(crate) runs: u64,
    pub(crate) records: u64,
    pub(crate) commits: u64,
    pub(crate) attempts: u64,
    pub(crate) transactions: u64,
    pub(crate) signals: u64,
    pub(crate) dead_nodes: u64,
    pub(crate) crashes: u64,
}

/// A deliberate bug.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Mutant {
    pub(crate) mutant: String,
    pub(crate) what: Option<String>,
    /// The first seed that it did not survive.
    pub(crate) caught_after: Option<u64>,
}

/// A deliberate bug of real workers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bug {
    pub(crate) mutant: String,
    pub(crate) what: String,
    /// The fault that met it, and on which database.
    pub(crate) fault: String,
    pub(crate) database: String,
    /// How often the fault had struck when the round ended that it did not survive.
    pub(crate) caught_after: Option<u64>,
    /// The rule that it broke.
    pub(crate) rule: Option<String>,
}

/// One fault on one database.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Campaign {
    pub(crate) fault: String,
    pub(crate) database: String,
    pub(crate) what: String,
    pub(crate) skipped: Option<String>,
    pub(crate) cycles: u64,
    pub(crate) struck: u64,
    pub(crate) runs: u64,
    pub(crate) records: u64,
    pub(crate) activities: u64,
    pub(crate) transactions: u64,
    pub(crate) workers: u64,
    pub(crate) seconds: f64,
    pub(crate) phases: Phases,
    pub(crate) violations: Vec<Violation>,
    pub(crate) recovery_p50: Option<f64>,
    pub(crate) recovery_p99: Option<f64>,
    pub(crate) seed: u64,
}

/// The rule that a round of a campaign breaks in which too few faults met somebody, or too few runs went on.
const TOO_LITTLE: &str = "something happened";

impl Campaign {
    /// The promises that were broken.
    pub(crate) fn broken(&self) -> impl Iterator<Item = &Violation> {
        let rules = self.violations.iter();
        rules.filter(|violation| violation.rule != TOO_LITTLE)
    }

    /// Rounds that show too little by themselves, after which the fault is left alone.
    pub(crate) fn thin_rounds(&self) -> impl Iterator<Item = &Violation> {
        let rules = self.violations.iter();
        rules.filter(|violation| violation.rule == TOO_LITTLE)
    }

    /// Whether all rounds together show enough: at least half of the faults met somebody.
    pub(crate) const fn shows_enough(&self) -> bool {
        self.skipped.is_some() || (self.struck > 0 && self.struck * 2 >= self.cycles)
    }
}

/// Where the time of a campaign went.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Phases {
    /// While the fault struck, in seconds.
    pub(crate) fire: f64,
}

/// A promise that was broken.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Violation {
    pub(crate) rule: String,
    pub(crate) detail: String,
}

/// The name of the protocol as it is.
pub(crate) const REAL: &str = "the protocol";

impl Findings {
    /// Whether everything holds that should, and nothing that should not. What was not looked at does not hold.
    pub(crate) fn hold(&self) -> bool {
        let was_looked_at = self.model.iter().any(|found| found.variant == REAL)
            && self.simulator.seeds > 0
            && !self.mutants.is_empty()
            && !self.bugs.is_empty()
            && self.campaigns.iter().any(|campaign| campaign.struck > 0);
        let is_model_right = self
            .model
            .iter()
            .all(|found| found.broken.is_empty() == (found.variant == REAL));
        was_looked_at
            && is_model_right
            && self.simulator.violations == 0
            && self
                .mutants
                .iter()
                .all(|mutant| mutant.caught_after.is_some())
            && self.bugs.iter().all(|bug| bug.caught_after.is_some())
            && self
                .campaigns
                .iter()
                .all(|campaign| campaign.broken().next().is_none() && campaign.shows_enough())
    }
}
