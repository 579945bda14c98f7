use std::io;
use std::process::ExitStatus;

/// Why a cluster or a database could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server programs were found. Install them, or name their directory in `PG_BIN`.
    #[error(
        "PostgreSQL 15 or newer was not found: install it (Debian and Ubuntu: `apt-get install postgresql`), \
         or set PG_BIN to the directory of its programs, or set DATABASE_URL to a running server"
    )]
    NotInstalled,
    /// Server programs were found, but only of releases that are too old.
    #[error("PostgreSQL 15 or newer is needed, and only release {found} was found in {directory}")]
    TooOld {
        /// The newest major release that was found.
        found: u32,
        /// Where it was found.
        directory: String,
    },
    /// The `psql` program was not found. Debian and Ubuntu have it in `postgresql-client`.
    #[error(
        "psql was not found: install the PostgreSQL client programs (Debian and Ubuntu: `apt-get install postgresql-client`)"
    )]
    NoPsql,
    /// The caller is root, PostgreSQL refuses to run as root, and there is no other user to run as.
    #[error(
        "PostgreSQL cannot run as root, and this machine has neither a user `postgres` nor a user `nobody`"
    )]
    NoUnprivilegedUser,
    /// A system call failed.
    #[error("could not {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// `initdb` ended with an error.
    #[error("initdb failed with {status}: {output}")]
    Initdb {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        output: String,
    },
    /// The server ended before it accepted connections.
    #[error("postgres ended with {status} before it was ready: {log}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server ran, but did not accept connections within the deadline.
    #[error("postgres was not ready after {seconds} s: {log}")]
    NotReady {
        /// The deadline.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// The server runs already, and was asked to start again.
    #[error("the cluster is running already")]
    Running,
    /// A statement failed, or the server could not be reached.
    #[error("psql failed: {message}")]
    Psql {
        /// What psql said.
        message: String,
    },
    /// A database URL is not a URL of a PostgreSQL server.
    #[error("`{url}` is not a PostgreSQL URL such as postgres://user:password@127.0.0.1:5432/name")]
    Url {
        /// The URL, without its password.
        url: String,
    },
}

impl Error {
    /// For `map_err`: an input/output error while doing `what`.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_postgresql_is_one_line_that_says_what_to_install() {
        let message = Error::NotInstalled.to_string();
        assert!(message.contains("apt-get install postgresql"), "{message}");
        assert_eq!(message.lines().count(), 1);
    }
}
