//! Updates on the wire: a request is a signal, its answer is published.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// What a signal that carries an update holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request<I> {
    /// What the answer is published under.
    pub(crate) id: String,
    pub(crate) input: I,
}

/// What is published for it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer<O> {
    Accepted(O),
    Rejected(Failure),
}

/// The name of the signals that carry updates of a name.
pub(crate) fn signal_name(name: &str) -> String {
    format!("update/{name}")
}

/// The name under which the answer to an update is published.
pub(crate) fn answer_name(id: &str) -> String {
    format!("update/{id}")
}
