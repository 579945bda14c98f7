//! The protocol between nodes and the database, small enough that every interleaving can be looked at.
//!
//! Modelled are nodes that enlist, claim runs, append records, lose acknowledgements, are declared
//! dead while they live, crash and come back as new incarnations; a database that applies one
//! statement at a time; a network that delivers requests late, after the sender gave up, or never;
//! and an operator who ends runs, pauses them and lets them go on. Time is not modelled: a lease may end at any moment, so whatever
//! holds here holds for every clock. What a lease of the right length adds is only that it seldom ends
//! early.
//!
//! [`Variant::Real`] is the protocol as the engine has it. Each other variant leaves one rule out,
//! and each must be caught by an invariant: that shows that the invariants can fail.

mod database;
mod protocol;
mod state;

pub use self::{
    database::Commit,
    protocol::{Action, Bounds, Protocol, Variant},
    state::State,
};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// What a search found.
#[derive(Debug, Clone)]
pub struct Found {
    /// States that were looked at.
    pub states: usize,
    /// The longest way to one of them, in actions.
    pub depth: usize,
    /// The properties that do not hold, with a way to where they break. A state that should be
    /// reached and never is counts as broken, without a way.
    pub broken: Vec<(&'static str, Vec<Action>)>,
}

/// Looks at every state of a protocol that holds, and at those before the first failure of one that does not.
pub fn search(model: Protocol, threads: usize) -> Found {
    let checker = model
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let found = checker.discoveries();
    let has_failed = |expectation: &Expectation| !matches!(expectation, Expectation::Sometimes);
    let failed = model
        .properties()
        .into_iter()
        .any(|property| has_failed(&property.expectation) && found.contains_key(property.name));
    let broken = model.properties().into_iter();
    let broken = broken
        .filter_map(|property| match found.get(property.name) {
            Some(path) if has_failed(&property.expectation) => {
                Some((property.name, path.clone().into_actions()))
            }
            // A search that ended early proves nothing about what it did not reach.
            None if !has_failed(&property.expectation) && !failed => {
                Some((property.name, Vec::new()))
            }
            _ => None,
        })
        .collect();
    Found {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        broken,
    }
}
