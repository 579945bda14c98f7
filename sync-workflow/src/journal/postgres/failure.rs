//! What an error of the database says about the write that met it.

use sqlx::error::DatabaseError;

use crate::journal::{Error, cause::words};

/// What a statement does, which decides what losing its answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changes nothing, or nothing that was committed: losing the answer loses nothing.
    None,
    /// It commits. Without its answer nobody knows whether it did.
    Commit,
}

/// No answer came within the deadline.
#[derive(Debug, thiserror::Error)]
#[error("the database did not answer within {0:?}")]
pub(super) struct NoAnswer(pub(super) std::time::Duration);

/// The error of a statement that was sent.
pub(super) fn of_statement(error: sqlx::Error, effect: Effect) -> Error {
    match &error {
        sqlx::Error::Database(answer) => match class(answer.as_ref()) {
            Class::Contended => Error::Contended(words(error)),
            Class::Unavailable => Error::Unavailable(words(error)),
            Class::Disconnected => lost(words(error), effect),
            Class::Refused => Error::Refused(words(error)),
        },
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Error::Unavailable(words(error)),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => lost(words(error), effect),
        _ => Error::Refused(words(error)),
    }
}

/// The error of a connection that was not made: nothing was sent.
pub(super) fn of_connect(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(answer) => match class(answer.as_ref()) {
            Class::Refused => Error::Refused(words(error)),
            Class::Contended | Class::Unavailable | Class::Disconnected => {
                Error::Unavailable(words(error))
            }
        },
        sqlx::Error::Configuration(_) => Error::Refused(words(error)),
        _ => Error::Unavailable(words(error)),
    }
}

/// The error of a statement whose answer did not come.
pub(super) fn lost(
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    effect: Effect,
) -> Error {
    match effect {
        Effect::None => Error::Unavailable(error.into()),
        Effect::Commit => Error::Unknown(error.into()),
    }
}

/// Whether an insert met the primary key of the journal: somebody else wrote at that position.
pub(super) fn is_taken_position(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|answer| answer.constraint() == Some("journal_pkey"))
}

/// Whether a statement names a table or a schema that does not exist.
pub(super) fn is_missing_table(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|answer| answer.code());
    matches!(code.as_deref(), Some("42P01" | "3F000"))
}

/// Whether the server cannot be written to on this connection any more, so that it is not reused.
pub(super) fn is_stale(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(answer) => {
            // A read-only server is a standby, or a primary that was demoted.
            answer.code().is_some_and(|code| code == "25006")
                || class(answer.as_ref()) == Class::Disconnected
        }
        _ => true,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Rolled back in favour of another transaction.
    Contended,
    /// Rolled back for want of something that comes back.
    Unavailable,
    /// The server ended the session. It may do so just after a commit, before it said so.
    Disconnected,
    /// Rolled back for good.
    Refused,
}

fn class(answer: &dyn DatabaseError) -> Class {
    let code = answer.code().unwrap_or_default();
    match code.as_ref() {
        // Serialization failure, deadlock, and a lock that was not granted in time.
        "40001" | "40P01" | "55P03" => Class::Contended,
        // A cancelled statement, a read-only server, an idle transaction that was ended, a server
        // that starts up, too many connections.
        "57014" | "25006" | "25P03" | "57P03" => Class::Unavailable,
        // Shutdown by an operator, crash of another session, dropped database.
        "57P01" | "57P02" | "57P04" => Class::Disconnected,
        code if code.starts_with("08") => Class::Disconnected,
        // Out of disk, memory or connections.
        code if code.starts_with("53") => Class::Unavailable,
        // Input and output errors of the server's own.
        code if code.starts_with("58") => Class::Unavailable,
        _ => Class::Refused,
    }
}
