//! What can go wrong when a server is started or controlled.

use std::io;

use crate::Entity;

/// Why a server could not be started or controlled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A port could not be bound; another process may have it.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port that was asked for; zero means any.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The data could not be generated, because the runtime was shutting down.
    #[error("the generator was cancelled")]
    Generate,
    /// No kind of record has this name.
    #[error("no entity is called {0:?}")]
    UnknownEntity(String),
    /// The record does not exist, or no longer.
    #[error("there is no {entity} {id}")]
    UnknownRecord {
        /// Its kind.
        entity: Entity,
        /// Its id.
        id: u64,
    },
    /// A new record refers to one that does not exist.
    #[error("a new record of {entity} needs an existing {key}")]
    MissingReference {
        /// The kind of the new record.
        entity: Entity,
        /// The attribute that must name an existing record.
        key: &'static str,
    },
    /// The server has fewer organisations.
    #[error("there is no organisation number {0}")]
    UnknownOrganisation(usize),
}
