//! How often what only some programs do has happened: a simulation in which it never does proves nothing of it.

use serde::Serialize;
use sync_workflow::record::RecordKind;

use crate::{
    audit::{Does, Told},
    interpret::Outcome,
    saga, shown,
    world::World,
};

/// How often what only some programs do has happened.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Variety {
    /// Values that were published.
    pub publications: u64,
    /// Tags that were set or taken away.
    pub tags: u64,
    /// Updates that were answered.
    pub answers: u64,
    /// Versions of a change that were chosen.
    pub versions: u64,
    /// Parts of a program that went by the code before a change.
    pub old_ways: u64,
    /// Calls that were cancelled with their scope.
    pub scope_cancellations: u64,
    /// Time limits that were over first.
    pub elapsed: u64,
    /// Shielded parts of programs.
    pub shields: u64,
    /// Activities that a saga has undone.
    pub undone: u64,
    /// Activities that a worker of another queue ran.
    pub remote: u64,
    /// Workflows of fan-outs.
    pub pieces: u64,
    /// Slices of fan-outs.
    pub branches: u64,
    /// Runs that an operator held back and let go.
    pub pauses: u64,
    /// Claims that left a run waiting for its turn.
    pub turns_awaited: u64,
    /// Children that a run asked to cancel.
    pub cancelled_children: u64,
    /// Open runs that were taken back to a place of their history.
    pub resets: u64,
    /// Runs that had ended and were begun again under their workflow id.
    pub revivals: u64,
    /// Runs that were begun again beside others.
    pub forks: u64,
    /// Records that these began with as copies.
    pub kept_records: u64,
    /// Signals that waited again.
    pub given_back: u64,
    /// Children that got another parent.
    pub adopted: u64,
    /// Activities that ran again in a run that was begun again.
    pub acts_again: u64,
    /// Claims of runs by the build that had begun them, while the fleet had another one.
    pub drained: u64,
    /// Runs that were moved to another build.
    pub moved_runs: u64,
}

impl Variety {
    /// Each with its name.
    #[must_use]
    pub const fn each(&self) -> [(&'static str, u64); 24] {
        [
            ("publications", self.publications),
            ("tags", self.tags),
            ("answers", self.answers),
            ("versions", self.versions),
            ("old ways", self.old_ways),
            ("scope cancellations", self.scope_cancellations),
            ("elapsed", self.elapsed),
            ("shields", self.shields),
            ("undone", self.undone),
            ("remote", self.remote),
            ("pieces", self.pieces),
            ("branches", self.branches),
            ("pauses", self.pauses),
            ("turns awaited", self.turns_awaited),
            ("cancelled children", self.cancelled_children),
            ("resets", self.resets),
            ("revivals", self.revivals),
            ("forks", self.forks),
            ("kept records", self.kept_records),
            ("signals given back", self.given_back),
            ("adopted children", self.adopted),
            ("acts again", self.acts_again),
            ("drained", self.drained),
            ("moved runs", self.moved_runs),
        ]
    }

    /// Adds up.
    pub fn add(&mut self, other: &Self) {
        self.publications += other.publications;
        self.tags += other.tags;
        self.answers += other.answers;
        self.versions += other.versions;
        self.old_ways += other.old_ways;
        self.scope_cancellations += other.scope_cancellations;
        self.elapsed += other.elapsed;
        self.shields += other.shields;
        self.undone += other.undone;
        self.remote += other.remote;
        self.pieces += other.pieces;
        self.branches += other.branches;
        self.pauses += other.pauses;
        self.turns_awaited += other.turns_awaited;
        self.cancelled_children += other.cancelled_children;
        self.resets += other.resets;
        self.revivals += other.revivals;
        self.forks += other.forks;
        self.kept_records += other.kept_records;
        self.given_back += other.given_back;
        self.adopted += other.adopted;
        self.acts_again += other.acts_again;
        self.drained += other.drained;
        self.moved_runs += other.moved_runs;
    }
}

/// Counts in the journals that are left.
pub(crate) fn count(world: &World, runs: &[Told]) -> Variety {
    let mut variety = Variety::default();
    for run in runs {
        let [publications, tags, answers] = shown::count(run);
        variety.publications += publications;
        variety.tags += tags;
        variety.answers += answers;
        let chosen = run.records.iter();
        variety.versions += chosen
            .filter(|record| record.kind == RecordKind::VersionChosen)
            .count() as u64;
        variety.undone += saga::count(world, run);
        match &run.does {
            Does::Program(_) => {
                let end = run.records.last();
                let ended = end.and_then(|end| serde_json::from_slice(&end.payload).ok());
                let outcomes: Vec<Outcome> = ended.unwrap_or_default();
                outcomes
                    .iter()
                    .for_each(|outcome| tally(outcome, &mut variety));
            }
            Does::Piece(_) => variety.pieces += 1,
            Does::Remote(_) => variety.remote += 1,
            Does::Branch => variety.branches += 1,
        }
    }
    variety
}

fn tally(outcome: &Outcome, variety: &mut Variety) {
    match outcome {
        Outcome::Changed(version, _) => variety.old_ways += u64::from(*version == 0),
        Outcome::Stopped => variety.scope_cancellations += 1,
        Outcome::Elapsed => variety.elapsed += 1,
        Outcome::Shielded(inner) => {
            variety.shields += 1;
            tally(inner, variety);
        }
        Outcome::Raced(_, inner) | Outcome::InTime(inner) => tally(inner, variety),
        Outcome::Joined(parts) | Outcome::Scoped(parts) => {
            parts.iter().for_each(|part| tally(part, variety));
        }
        // A child counts its own.
        Outcome::Child(_)
        | Outcome::Value(_)
        | Outcome::Failed(_)
        | Outcome::Slept
        | Outcome::Signal(_)
        | Outcome::Sent
        | Outcome::Started
        | Outcome::Drawn(_)
        | Outcome::Shown
        | Outcome::Tagged
        | Outcome::Answered(_)
        | Outcome::Done
        | Outcome::Undone
        | Outcome::FannedOut(_) => {}
    }
}
