//! Where it ran.

use std::{fmt, fs, process::Command};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The machine, and the day.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    day: String,
    processors: usize,
    processor: String,
    memory_gib: u64,
    system: String,
    postgres: String,
    commit: String,
}

impl Machine {
    /// This one, now. What cannot be found out is left empty.
    pub(crate) fn here() -> Self {
        Self {
            day: Timestamp::now().strftime("%Y-%m-%d").to_string(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            processor: value_in("/proc/cpuinfo", "model name").unwrap_or_default(),
            memory_gib: value_in("/proc/meminfo", "MemTotal")
                .and_then(|total| total.split(' ').next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib.div_ceil(1024 * 1024)),
            system: said_by("uname", &["-sr"]),
            postgres: said_by("psql", &["--version"])
                .trim_start_matches("psql ")
                .to_owned(),
            commit: said_by("git", &["rev-parse", "--short", "HEAD"]),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            day,
            processors,
            processor,
            memory_gib,
            system,
            postgres,
            commit,
        } = self;
        write!(
            f,
            "{day}, commit {commit}: {processors} cores of {processor}, {memory_gib} GiB, {system}, {postgres}"
        )
    }
}

fn value_in(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
