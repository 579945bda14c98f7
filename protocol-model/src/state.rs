//! One state of the whole system.

use std::collections::BTreeSet;

use crate::database::{Commit, Database, Incarnation};

/// What a node knows of a run that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    /// Steps that the node believes are in the journal.
    pub(crate) done: u8,
    /// The commit that it sent and has no answer to.
    pub(crate) sent: Option<Commit>,
    /// Whether it gave up waiting for the answer.
    pub(crate) in_doubt: bool,
}

/// One process. What it knows dies with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) incarnation: Incarnation,
    pub(crate) holds: Vec<Option<Held>>,
}

/// How often what may go wrong can still go wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) reaps: u8,
    pub(crate) lost_answers: u8,
    pub(crate) terminations: u8,
    pub(crate) pauses: u8,
}

/// One state of nodes, network and database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub(crate) database: Database,
    pub(crate) nodes: Vec<Option<Node>>,
    /// Commits on their way. They may arrive long after their sender gave up, or crashed.
    pub(crate) network: BTreeSet<Commit>,
    pub(crate) next_incarnation: Incarnation,
    pub(crate) budget: Budget,
    /// How often each step of each run was executed.
    pub(crate) executions: Vec<Vec<u8>>,
}

impl State {
    pub(crate) fn held(&self, node: usize, run: usize) -> Option<&Held> {
        self.nodes[node].as_ref()?.holds[run].as_ref()
    }

    pub(crate) fn held_mut(&mut self, node: usize, run: usize) -> Option<&mut Held> {
        self.nodes[node].as_mut()?.holds[run].as_mut()
    }

    /// The node that is this incarnation, if it still runs.
    pub(crate) fn node_of(&self, incarnation: Incarnation) -> Option<usize> {
        self.nodes.iter().position(|node| {
            node.as_ref()
                .is_some_and(|node| node.incarnation == incarnation)
        })
    }
}
