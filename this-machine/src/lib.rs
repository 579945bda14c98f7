//! What is known of the machine that figures are measured on: each page of figures says it beside them.
//!
//! Everything is read from Linux's files in `/proc`, and from programs. What cannot be found out is `None`.
//!
//! ```
//! let words = match (this_machine::processor(), this_machine::memory_bytes()) {
//!     (Some(processor), Some(bytes)) => format!("{processor}, {} GB", bytes / 1_000_000_000),
//!     _ => "somewhere".into(),
//! };
//! assert!(!words.is_empty());
//! ```

use std::{fs, process::Command};

/// The model of the processor.
#[must_use]
pub fn processor() -> Option<String> {
    value_in("/proc/cpuinfo", "model name")
}

/// The memory, in bytes.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    let total = value_in("/proc/meminfo", "MemTotal")?;
    let kibibytes: u64 = total.strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The load of the last minute.
#[must_use]
pub fn load() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next().map(str::to_owned)
}

/// The commit of the working tree that a folder is in, in twelve digits, and `-dirty` if it has changes beside.
#[must_use]
pub fn commit(folder: &str) -> Option<String> {
    let describe = ["describe", "--always", "--dirty", "--abbrev=12"];
    said_by("git", &[&["-C", folder], &describe[..]].concat())
}

/// What a program writes to its standard output, without the space around it.
#[must_use]
pub fn said_by(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The value of the first line that begins with this key, as in most files of `/proc`.
fn value_in(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let (_, value) = line.split_once(':')?;
    Some(value.trim().to_owned())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_memory_and_a_load() {
        assert!(memory_bytes().is_some_and(|bytes| bytes > 1_000_000));
        let load = load().expect("there is one");
        assert!(load.parse::<f64>().is_ok(), "{load}");
    }

    #[test]
    fn a_program_that_is_not_there_or_fails_says_nothing() {
        assert_eq!(said_by("echo", &["one", "two"]).as_deref(), Some("one two"));
        assert_eq!(said_by("no such program", &[]), None);
        assert_eq!(said_by("false", &[]), None);
    }
}
