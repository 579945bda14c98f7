//! The trace of a simulation: a hash of every decision, and words for a person who wants them.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

/// What happened, in order.
pub(crate) struct Trace {
    hash: Xxh3,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps its words, or only their hash.
    pub(crate) fn new(keeps_lines: bool) -> Self {
        Self {
            hash: Xxh3::new(),
            lines: keeps_lines.then(Vec::new),
        }
    }

    /// Takes note of an event: its numbers for the hash, its words for a person.
    pub(crate) fn note(&mut self, at: u64, numbers: [u64; 3], words: impl FnOnce() -> String) {
        for number in [at, numbers[0], numbers[1], numbers[2]] {
            self.hash.update(&number.to_le_bytes());
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>6}.{:03}  {}", at / 1_000, at % 1_000, words()));
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.hash.digest()
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("digest", &self.digest())
            .finish()
    }
}
