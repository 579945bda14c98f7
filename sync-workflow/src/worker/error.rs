//! What can go wrong with a worker.

use crate::journal;

/// The error of starting or stopping a worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two workflows, or two activities, have the same name. Register one of them under another.
    #[error("two {what} registrations are named {name:?}")]
    DuplicateName {
        /// Workflow or activity.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A closure has no name of its own. Give it one, or make it a function.
    #[error("a {what} without a name was registered")]
    Unnamed {
        /// Workflow or activity.
        what: &'static str,
    },
    /// A limit or interval makes no sense.
    #[error("{setting} must be {expected}")]
    InvalidSetting {
        /// The setting.
        setting: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The journal could not be opened or used.
    #[error("the journal failed")]
    Journal(#[from] journal::Error),
    /// The thread of the heartbeat could not be started.
    #[error("the heartbeat thread could not be started")]
    Heartbeat(#[source] std::io::Error),
}
