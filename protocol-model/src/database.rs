//! The database: it applies one statement at a time, completely or not at all.

use std::collections::BTreeSet;

use crate::protocol::Variant;

/// One incarnation of a node. Never used twice.
pub(crate) type Incarnation = u8;

/// A statement that appends a run's next record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commit {
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
    Appended,
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
}

impl Database {
    pub(crate) fn new(runs: usize) -> Self {
        let run = Run {
            owner: None,
            journal: Vec::new(),
            is_closed: false,
        };
        Self {
            nodes: BTreeSet::new(),
            runs: vec![run; runs],
            zombie_wrote: false,
            stranger_wrote: false,
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
        Answer::Appended
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
    pub(crate) fn reap(&mut self, node: Incarnation) {
        self.nodes.remove(&node);
        for run in &mut self.runs {
            if run.owner == Some(node) {
                run.owner = None;
            }
        }
    }

    /// An operator ends a run: a record, and nobody owns it.
    pub(crate) fn terminate(&mut self, run: usize) {
        let run = &mut self.runs[run];
        run.journal.push(Record::Terminated);
        run.is_closed = true;
        run.owner = None;
    }
}
