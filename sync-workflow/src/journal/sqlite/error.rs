//! What SQLite's errors mean to the journal.

use std::path::PathBuf;

use crate::journal::{Error, cause::words};

/// The database file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the sqlite journal {}", path.display())]
pub(super) struct CannotOpen {
    pub(super) path: PathBuf,
    pub(super) source: sqlx::Error,
}

/// This process is linked with a SQLite that can corrupt its database.
#[derive(Debug, thiserror::Error)]
#[error("sqlite {found} can corrupt a database in wal mode, 3.51.3 or newer is needed")]
pub(super) struct TooOld {
    pub(super) found: String,
}

/// A transactional step was to commit, but its transaction had ended before.
#[derive(Debug, thiserror::Error)]
#[error("the step's transaction was ended by sqlite or by the step itself")]
pub(super) struct StepEnded;

/// The turn to write did not come.
#[derive(Debug, thiserror::Error)]
#[error("another transaction of this process keeps the database file locked")]
pub(super) struct TurnTimedOut;

/// What the failure of a statement means: nothing was written.
pub(super) fn failed(error: sqlx::Error) -> Error {
    match Failure::of(&error) {
        Failure::Contended => Error::Contended(words(error)),
        Failure::Refused => Error::Refused(words(error)),
        Failure::Other => Error::Unavailable(words(error)),
    }
}

/// What the failure of a COMMIT means.
pub(super) fn commit_failed(error: sqlx::Error) -> Error {
    match Failure::of(&error) {
        Failure::Contended => Error::Contended(words(error)),
        Failure::Refused => Error::Refused(words(error)),
        // A write or sync that failed, for want of room or otherwise, may have left the commit in the
        // file, or not.
        Failure::Other => Error::Unknown(words(error)),
    }
}

enum Failure {
    Contended,
    Refused,
    Other,
}

impl Failure {
    fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => Self::of_code(
                database
                    .code()
                    .and_then(|code| code.parse().ok())
                    .unwrap_or_default(),
            ),
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Io(_) => Self::Other,
            _ => Self::Refused,
        }
    }

    /// The low byte of an extended result code is the primary one.
    const fn of_code(code: i32) -> Self {
        match code & 0xff {
            libsqlite3_sys::SQLITE_BUSY | libsqlite3_sys::SQLITE_LOCKED => Self::Contended,
            // A disk that is full has room again some day.
            libsqlite3_sys::SQLITE_FULL
            | libsqlite3_sys::SQLITE_IOERR
            | libsqlite3_sys::SQLITE_NOMEM
            | libsqlite3_sys::SQLITE_INTERRUPT => Self::Other,
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use libsqlite3_sys as sqlite;

    use super::*;

    #[test]
    fn a_read_only_file_is_refused_and_a_lock_is_contended() {
        for code in [
            sqlite::SQLITE_READONLY,
            sqlite::SQLITE_CONSTRAINT,
            sqlite::SQLITE_CORRUPT,
        ] {
            assert!(matches!(Failure::of_code(code), Failure::Refused), "{code}");
        }
        for code in [
            sqlite::SQLITE_BUSY,
            sqlite::SQLITE_BUSY_SNAPSHOT,
            sqlite::SQLITE_LOCKED,
        ] {
            assert!(
                matches!(Failure::of_code(code), Failure::Contended),
                "{code}"
            );
        }
    }

    #[test]
    fn what_a_full_or_failing_disk_refuses_may_be_tried_again() {
        for code in [sqlite::SQLITE_FULL, sqlite::SQLITE_IOERR_FSYNC] {
            assert!(matches!(Failure::of_code(code), Failure::Other), "{code}");
        }
    }
}
