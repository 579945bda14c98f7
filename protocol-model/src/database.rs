//! The database: it applies one statement at a time, completely or not at all.

use std::collections::BTreeSet;

use crate::protocol::Variant;

/// One incarnation of a node. Never used twice.
pub(crate) type Incarnation = u8;

/// What a commit does to its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Deed {
    /// It appends the run's next record.
    Append,
    /// It gives the run back, and has no record.
    Release,
}

/// A statement of a node for one of its runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commit {
    pub(crate) deed: Deed,
    pub(crate) node: Incarnation,
    pub(crate) run: usize,
    /// The step that the record completes. Its place in the journal must be the same.
    pub(crate) step: u8,
    pub(crate) position: u8,
    /// How often it was sent before.
    pub(crate) attempt: u8,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Record {
    Step { step: u8, by: Incarnation },
    Terminated,
}

/// What the database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    /// The node's row is gone.
    Fenced,
    /// The position is taken.
    Lost,
}

/// One run's row and journal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub(crate) owner: Option<Incarnation>,
    pub(crate) journal: Vec<Record>,
    pub(crate) is_closed: bool,
    /// An operator wants it to pause.
    pub(crate) pause_requested: bool,
    /// Nobody may claim it.
    pub(crate) is_paused: bool,
    /// It was let go on after nobody could claim it.
    pub(crate) was_paused: bool,
}

impl Run {
    /// Nobody holds it any more: it is paused if an operator wants that, and can be claimed otherwise.
    fn give_back(&mut self) {
        self.owner = None;
        self.is_paused = self.pause_requested;
    }
}

/// Everything that survives a crash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    /// The rows of living nodes.
    pub(crate) nodes: BTreeSet<Incarnation>,
    pub(crate) runs: Vec<Run>,
    /// Whether a record was ever written for a node whose row was gone.
    pub(crate) zombie_wrote: bool,
    /// Whether a record was ever written for a node that the run did not name.
    pub(crate) stranger_wrote: bool,
    /// Whether a run was ever claimed that an operator wanted to pause.
    pub(crate) claimed_paused: bool,
}

impl Database {
    pub(crate) fn new(runs: usize) -> Self {
        let run = Run {
            owner: None,
            journal: Vec::new(),
            is_closed: false,
            pause_requested: false,
            is_paused: false,
            was_paused: false,
        };
        Self {
            nodes: BTreeSet::new(),
            runs: vec![run; runs],
            zombie_wrote: false,
            stranger_wrote: false,
            claimed_paused: false,
        }
    }

    /// Applies a commit. `steps` is the length of a run.
    ///
    /// It does not look whom the run names: whoever takes a run from a living node appends a record,
    /// so that the position decides.
    pub(crate) fn apply(&mut self, commit: &Commit, variant: Variant, steps: u8) -> Answer {
        let is_alive = self.nodes.contains(&commit.node);
        let run = &mut self.runs[commit.run];
        let is_owner = run.owner == Some(commit.node);
        if commit.deed == Deed::Release {
            // There is no position to decide: it must look whom the run names.
            return match (is_alive, is_owner) {
                (false, _) => Answer::Fenced,
                (true, false) => Answer::Lost,
                (true, true) => {
                    run.give_back();
                    Answer::Done
                }
            };
        }
        let is_free = run.journal.len() == usize::from(commit.position);
        match variant {
            // The sender looked at its clock before it sent, and nobody looks again.
            Variant::FenceByTimeOnly => {}
            _ if !is_alive => return Answer::Fenced,
            _ => {}
        }
        if !is_free && variant != Variant::NoPrimaryKey {
            return Answer::Lost;
        }
        self.zombie_wrote |= !is_alive;
        self.stranger_wrote |= !is_owner;
        run.journal.push(Record::Step {
            step: commit.step,
            by: commit.node,
        });
        if commit.step + 1 >= steps {
            run.is_closed = true;
            run.owner = None;
        }
        Answer::Done
    }

    /// Whether a commit is in the journal.
    pub(crate) fn holds(&self, commit: &Commit) -> bool {
        let record = Record::Step {
            step: commit.step,
            by: commit.node,
        };
        let found = self.runs[commit.run]
            .journal
            .get(usize::from(commit.position));
        found == Some(&record)
    }

    /// Declares a node dead: deletes its row and frees its runs, in one statement.
    pub(crate) fn reap(&mut self, node: Incarnation, variant: Variant) {
        self.nodes.remove(&node);
        if variant == Variant::ReapWithoutFreeing {
            return;
        }
        for run in &mut self.runs {
            if run.owner == Some(node) {
                run.give_back();
                run.is_paused &= variant != Variant::ReapForgetsPause;
            }
        }
    }

    /// A node takes a run that can be claimed.
    pub(crate) fn claim(&mut self, run: usize, node: Incarnation) {
        let run = &mut self.runs[run];
        self.claimed_paused |= run.pause_requested;
        run.owner = Some(node);
    }

    /// An operator asks a run to pause: at once where nobody holds it, and once it is given back otherwise.
    pub(crate) fn pause(&mut self, run: usize) {
        let run = &mut self.runs[run];
        run.pause_requested = true;
        run.is_paused = run.owner.is_none();
    }

    /// An operator lets it go on.
    pub(crate) fn resume(&mut self, run: usize) {
        let run = &mut self.runs[run];
        run.pause_requested = false;
        run.was_paused |= run.is_paused;
        run.is_paused = false;
    }

    /// An operator ends a run: a record, and nobody owns it.
    pub(crate) fn terminate(&mut self, run: usize) {
        let run = &mut self.runs[run];
        run.journal.push(Record::Terminated);
        run.is_closed = true;
        run.owner = None;
    }
}
