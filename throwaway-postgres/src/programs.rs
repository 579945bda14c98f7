use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// The oldest release that the engine's SQL runs on.
const OLDEST: u32 = 15;

/// Where distributions put their server programs: the part before the release, the part after.
const ROOTS: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];

/// The directory of the PostgreSQL programs that a [`Cluster`](crate::Cluster) on this machine runs:
/// the first that is new enough of `PG_BIN`, the search path, the distributions' directories (newest
/// release first) and `pg_config`.
///
/// # Errors
///
/// [`Error::NotInstalled`] or [`Error::TooOld`].
pub fn installed() -> Result<PathBuf, Error> {
    Programs::find().map(|programs| programs.directory)
}

/// The directory of one PostgreSQL installation's programs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// See [`installed`].
    pub(crate) fn find() -> Result<Self, Error> {
        let mut too_old: Option<(u32, PathBuf)> = None;
        for directory in candidates() {
            match release(&directory) {
                Some(found) if found >= OLDEST => return Ok(Self { directory }),
                Some(found) if too_old.as_ref().is_none_or(|(newest, _)| found > *newest) => {
                    too_old = Some((found, directory));
                }
                Some(_) | None => {}
            }
        }
        Err(
            too_old.map_or(Error::NotInstalled, |(found, directory)| Error::TooOld {
                found,
                directory: directory.display().to_string(),
            }),
        )
    }

    pub(crate) fn initdb(&self) -> PathBuf {
        self.directory.join("initdb")
    }

    pub(crate) fn postgres(&self) -> PathBuf {
        self.directory.join("postgres")
    }
}

/// The `psql` program. One that stands beside a server is preferred to a wrapper on the search path.
pub(crate) fn psql() -> Result<PathBuf, Error> {
    candidates()
        .into_iter()
        .map(|directory| directory.join("psql"))
        .find(|program| program.is_file())
        .or_else(|| {
            search_path()
                .into_iter()
                .map(|directory| directory.join("psql"))
                .find(|program| program.is_file())
        })
        .ok_or(Error::NoPsql)
}

/// Directories that hold both server programs, in the order of preference.
fn candidates() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = env::var_os("PG_BIN")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    directories.extend(search_path());
    for (root, prefix, suffix) in ROOTS {
        directories.extend(releases(Path::new(root), prefix, suffix));
    }
    directories.extend(pg_config());
    directories.retain(|directory| {
        directory.join("initdb").is_file() && directory.join("postgres").is_file()
    });
    directories
}

fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map_or_else(Vec::new, |path| env::split_paths(&path).collect())
}

/// `root/PREFIXn/suffix` for each installed release n, newest first.
fn releases(root: &Path, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry
                .file_name()
                .to_str()?
                .strip_prefix(prefix)?
                .parse()
                .ok()?;
            Some((number, entry.path().join(suffix)))
        })
        .collect();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.into_iter().map(|(_, directory)| directory).collect()
}

fn pg_config() -> Option<PathBuf> {
    Some(PathBuf::from(
        stdout(OsStr::new("pg_config"), "--bindir")?.trim(),
    ))
}

/// The major release of the server in `directory`.
fn release(directory: &Path) -> Option<u32> {
    parse_release(&stdout(
        directory.join("postgres").as_os_str(),
        "--version",
    )?)
}

/// The major release in, for example, `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn parse_release(version: &str) -> Option<u32> {
    let number = version
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn stdout(program: &OsStr, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_every_form_of_the_version_line() {
        let check = |line, release| assert_eq!(parse_release(line), release, "{line}");
        check(
            "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)",
            Some(15),
        );
        check("postgres (PostgreSQL) 18beta1", Some(18));
        check("postgres (PostgreSQL) 9.6.24", Some(9));
        check("command not found", None);
    }

    #[test]
    fn the_newest_release_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for release in ["9", "15", "17", "other"] {
            fs::create_dir_all(root.path().join(release).join("bin")).unwrap();
        }
        let names: Vec<_> = releases(root.path(), "", "bin")
            .iter()
            .map(|directory| {
                directory
                    .strip_prefix(root.path())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect();
        assert_eq!(names, ["17/bin", "15/bin", "9/bin"]);
    }
}
