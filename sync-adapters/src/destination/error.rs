//! What can go wrong at a destination.

use sqlx::error::{DatabaseError, ErrorKind};
use sync_core::{AdapterName, EntityName};

/// A destination that cannot be used, or that refuses what it is given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is that of no database this system knows. Use `postgres://…` or `sqlite://…`.
    #[error("{scheme:?} is no destination: use postgres:// or sqlite://")]
    UnsupportedUrl {
        /// What the address begins with.
        scheme: String,
    },
    /// The address cannot be read.
    #[error("the address of the destination cannot be read")]
    InvalidUrl(#[source] sqlx::Error),
    /// No connection to the server.
    #[error("the destination at {place} cannot be reached")]
    Unreachable {
        /// The server, or the file.
        place: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The server refuses the user or the password.
    #[error("the destination at {place} refuses the user or the password")]
    Refused {
        /// The server.
        place: String,
        /// What it says.
        #[source]
        source: sqlx::Error,
    },
    /// The server has no such database.
    #[error("there is no database {database:?} at {place}")]
    NoDatabase {
        /// The server.
        place: String,
        /// The database asked for.
        database: String,
    },
    /// The destination can be read, but not written.
    #[error("the destination cannot be written")]
    Unwritable(#[source] sqlx::Error),
    /// The file is no SQLite database, or a damaged one.
    #[error("{place} is no usable SQLite database")]
    NotADatabase {
        /// The file.
        place: String,
        /// What SQLite says.
        #[source]
        source: sqlx::Error,
    },
    /// The SQLite library is older than the first one that keeps a database with two connections whole.
    #[error("SQLite {found} is older than {needed}")]
    OldSqlite {
        /// The version found.
        found: String,
        /// The oldest that is good.
        needed: &'static str,
    },
    /// A column has another type than the manifest says. Nothing was changed: rename one of them, or
    /// drop the table and sync anew.
    #[error("{table}.{column} is {found}, but the manifest says {wanted}")]
    SchemaConflict {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type in the database.
        found: String,
        /// The type that the manifest asks for.
        wanted: String,
    },
    /// The name of the table is longer than a database takes.
    #[error("the table of {adapter} {entity} would have a name of {length} bytes")]
    NameTooLong {
        /// The adapter.
        adapter: AdapterName,
        /// The entity.
        entity: EntityName,
        /// How long the name would be.
        length: usize,
    },
    /// The manifest has no such entity.
    #[error("there is no entity {entity}")]
    UnknownEntity {
        /// The name asked for.
        entity: EntityName,
    },
    /// A record does not have the shape of its table.
    #[error("record {position} of the page does not have the shape of {table}")]
    Misshapen {
        /// The table.
        table: String,
        /// The record's place in the page.
        position: usize,
    },
    /// A proof speaks of other records than those of this table and organisation.
    #[error("the proof speaks of other records than those of {table}")]
    ForeignProof {
        /// The table.
        table: String,
    },
    /// A stored value cannot be read back.
    #[error("{what} cannot be read")]
    Unreadable {
        /// What it is.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value cannot be sent.
    #[error("a value cannot be sent")]
    Unsendable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database fails.
    #[error("the database fails")]
    Database(#[source] sqlx::Error),
}

impl Error {
    /// Whether the same operation can succeed later, in a new transaction.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Database(error) => is_passing(error),
            _ => false,
        }
    }

    pub(super) fn unreadable(
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unreadable {
            what,
            source: source.into(),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(DatabaseError::code);
        match code.as_deref() {
            // Postgres: read-only transaction, insufficient privilege. SQLite: read-only in its variants.
            Some("25006" | "42501" | "8" | "264" | "520" | "776" | "1032" | "1288" | "1544") => {
                Self::Unwritable(error)
            }
            _ => Self::Database(error),
        }
    }
}

/// Lost connections, timeouts, deadlocks, serialisation failures, a server that starts or stops, a busy file.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(database) if database.kind() == ErrorKind::Other => {
            let code = database.code();
            let code = code.as_deref().unwrap_or_default();
            let busy = matches!(code, "5" | "6" | "261" | "262" | "517");
            busy || ["40", "57P", "08", "53", "55P03"]
                .iter()
                .any(|class| code.starts_with(class))
        }
        _ => false,
    }
}
