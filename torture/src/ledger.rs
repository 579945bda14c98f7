//! The ledger of effects: a file outside the database, which no fault touches.
//!
//! One line an entry, each written by one call in append mode, so that entries of many processes
//! do not mix and a killed process leaves whole lines only.
//!
//! ```text
//! node   <microseconds> <pid> <node>
//! began  <microseconds> <pid> <node> <run>/<command> <attempt>
//! effect <microseconds> <pid> <node> <run>/<command> <attempt>
//! drop   <microseconds> <pid> -      <method>
//! ```

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use sync_workflow::{ActivityContext, id::NodeId};
use uuid::Uuid;

/// The writing end, in a worker.
#[derive(Clone)]
pub(crate) struct Ledger {
    file: Arc<File>,
}

impl Ledger {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("the ledger {} cannot be opened", path.display()))?;
        Ok(Self {
            file: Arc::new(file),
        })
    }

    /// The worker enlisted as this node.
    pub(crate) fn enlisted(&self, node: NodeId) {
        self.write("node", &node.to_string());
    }

    /// An attempt of an activity begins, on the node that claimed its run: the process may have enlisted as another since.
    pub(crate) fn began(&self, attempt: &ActivityContext) {
        self.write("began", &Self::words_of(attempt));
    }

    /// An attempt of an activity has had its effect, and will tell so.
    pub(crate) fn had_effect(&self, attempt: &ActivityContext) {
        self.write("effect", &Self::words_of(attempt));
    }

    /// A call of the journal was dropped in the middle.
    pub(crate) fn dropped(&self, method: &str) {
        self.write("drop", &format!("- {method}"));
    }

    fn words_of(attempt: &ActivityContext) -> String {
        let (node, key) = (attempt.node(), attempt.idempotency_key());
        format!("{node} {key} {}", attempt.attempt())
    }

    fn write(&self, what: &str, rest: &str) {
        let line = format!(
            "{what} {} {} {rest}\n",
            Timestamp::now().as_microsecond(),
            std::process::id(),
        );
        // An effect that left no line would look like one that never was.
        (&*self.file)
            .write_all(line.as_bytes())
            .expect("the ledger is on a disk of its own");
    }
}

/// A try of an activity, by its idempotency key and the number of the attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub(crate) at: i64,
    pub(crate) node: NodeId,
    pub(crate) attempt: u32,
}

/// What the ledger says.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// The tries of each activity.
    pub(crate) begun: HashMap<String, Vec<Begun>>,
    /// How many of the tries of each activity had their effect.
    pub(crate) effects: HashMap<String, u32>,
    /// How many calls of the journal were dropped in the middle.
    pub(crate) drops: u64,
}

impl Entries {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            // No worker lived long enough to open it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).context("the ledger cannot be read"),
        };
        let mut entries = Self::default();
        for line in text.lines() {
            entries
                .take(line)
                .with_context(|| format!("line of the ledger: {line:?}"))?;
        }
        Ok(entries)
    }

    fn take(&mut self, line: &str) -> anyhow::Result<()> {
        let mut words = line.split(' ');
        let mut word = || words.next().context("it is too short");
        let (what, at, _pid, node) = (word()?, word()?.parse()?, word()?, word()?);
        if what == "drop" {
            self.drops += 1;
            return Ok(());
        }
        let node = NodeId::from_uuid(Uuid::parse_str(node)?);
        match what {
            "node" => {}
            "began" => {
                let (key, attempt) = (word()?.to_owned(), word()?.parse()?);
                let begun = Begun { at, node, attempt };
                self.begun.entry(key).or_default().push(begun);
            }
            "effect" => *self.effects.entry(word()?.to_owned()).or_default() += 1,
            _ => bail!("it is none of the kinds"),
        }
        Ok(())
    }
}

/// Who has enlisted so far. It reads on where it was: a ledger grows long under fire.
pub(crate) struct Roll {
    path: PathBuf,
    /// How far it has been read, to the end of a line.
    read: u64,
    nodes: HashMap<u32, NodeId>,
}

impl Roll {
    pub(crate) fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            read: 0,
            nodes: HashMap::new(),
        }
    }

    /// The node that a process is, or was last.
    pub(crate) fn node_of(&mut self, pid: u32) -> anyhow::Result<Option<NodeId>> {
        self.read_on().context("the ledger cannot be read")?;
        Ok(self.nodes.get(&pid).copied())
    }

    fn read_on(&mut self) -> anyhow::Result<()> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole]
            .lines()
            .filter(|line| line.starts_with("node "))
        {
            let words: Vec<_> = line.split(' ').collect();
            let [_, _, pid, node] = words[..] else {
                bail!("line of the ledger: {line:?}");
            };
            let node = NodeId::from_uuid(Uuid::parse_str(node)?);
            self.nodes.insert(pid.parse()?, node);
        }
        self.read += whole as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "began 1 2 00000000-0000-0000-0000-000000000001 run/1";

    #[test]
    fn tries_and_effects_are_counted_by_activity() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let effect = RUN.replace("began", "effect");
        std::fs::write(&path, format!("{RUN} 1\n{RUN} 2\n{effect} 2\n")).unwrap();
        Ledger::open(&path).unwrap().dropped("commit");
        let entries = Entries::read(&path).unwrap();
        let attempts: Vec<_> = entries.begun["run/1"].iter().map(|b| b.attempt).collect();
        assert_eq!(attempts, [1, 2]);
        assert_eq!(entries.effects["run/1"], 1);
        assert_eq!(entries.drops, 1);
    }

    #[test]
    fn the_roll_tells_who_a_process_is_now() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let mut roll = Roll::of(&path);
        let pid = std::process::id();
        assert_eq!(roll.node_of(pid).unwrap(), None);
        let ledger = Ledger::open(&path).unwrap();
        for _ in 0..2 {
            let node = NodeId::from_uuid(Uuid::new_v4());
            ledger.enlisted(node);
            ledger.dropped("renew");
            assert_eq!(roll.node_of(pid).unwrap(), Some(node));
        }
    }

    #[test]
    fn a_line_that_was_cut_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        std::fs::write(&path, "began 1 2\n").unwrap();
        assert!(Entries::read(&path).is_err());
    }
}
