use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Error;
use crate::account::Account;

/// Longer socket paths do not fit into a Unix socket address.
const LONGEST_SOCKET_DIRECTORY: usize = 80;

/// How much of a log goes into an error.
const LOG_TAIL: usize = 2_000;

/// The directory of a cluster: data, log, socket. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Home {
    directory: TempDir,
}

impl Home {
    pub(crate) fn create(account: Account) -> Result<Self, Error> {
        let directory = tempfile::Builder::new()
            .prefix("throwaway-postgres-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent(account))
            .map_err(Error::io("create a temporary directory"))?;
        account.own(directory.path())?;
        Ok(Self { directory })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path().join("postgres.log")
    }

    /// Where the server's Unix socket goes; `None` where the path is too long for one.
    pub(crate) fn socket_directory(&self) -> Option<&Path> {
        Some(self.path()).filter(|path| path.as_os_str().len() <= LONGEST_SOCKET_DIRECTORY)
    }

    /// The end of the server's log.
    pub(crate) fn log_tail(&self) -> String {
        fs::read(self.log()).map_or_else(|_| String::new(), |log| tail(&log))
    }
}

/// The end of a program's output, on one line.
pub(crate) fn tail(output: &[u8]) -> String {
    let start = output.len().saturating_sub(LOG_TAIL);
    let text = String::from_utf8_lossy(&output[start..]);
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" | ")
}

/// The system's temporary directory, or `/tmp` where another account could not enter it.
fn parent(account: Account) -> PathBuf {
    let directory = env::temp_dir();
    if account.is_caller() || is_open_to_all(&directory) {
        directory
    } else {
        PathBuf::from("/tmp")
    }
}

fn is_open_to_all(directory: &Path) -> bool {
    const OTHERS_MAY_ENTER: u32 = 0o001;
    directory.canonicalize().is_ok_and(|directory| {
        directory.ancestors().all(|ancestor| {
            fs::metadata(ancestor)
                .is_ok_and(|metadata| metadata.permissions().mode() & OTHERS_MAY_ENTER != 0)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_directory_is_not_open_to_all() {
        let private = tempfile::tempdir().unwrap();
        fs::set_permissions(private.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(!is_open_to_all(private.path()));
        assert!(is_open_to_all(Path::new("/")));
    }

    #[test]
    fn a_tail_is_one_bounded_line() {
        assert_eq!(tail(b"one\n\n  two\n"), "one | two");
        assert!(tail(&[b'x'; 3 * LOG_TAIL]).len() <= LOG_TAIL);
    }
}
