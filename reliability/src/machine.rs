//! Where it ran.

use std::fmt;

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
            processor: this_machine::processor().unwrap_or_default(),
            memory_gib: this_machine::memory_bytes().map_or(0, |bytes| bytes.div_ceil(1 << 30)),
            system: said_by("uname", &["-sr"]),
            postgres: said_by("psql", &["--version"])
                .trim_start_matches("psql ")
                .to_owned(),
            commit: this_machine::commit(env!("CARGO_MANIFEST_DIR")).unwrap_or_default(),
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

/// What a program says, or nothing.
fn said_by(program: &str, arguments: &[&str]) -> String {
    this_machine::said_by(program, arguments).unwrap_or_default()
}
