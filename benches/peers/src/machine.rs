//! Where and on what the figures were measured.

use anyhow::Context;
use serde::Serialize;
use throwaway_postgres::Cluster;

use crate::engines::EngineName;

/// The machine, as it was when the rounds began.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_gigabytes: f64,
    pub(crate) postgres: String,
    pub(crate) date: String,
    /// Of this repository.
    pub(crate) commit: Option<String>,
    /// The load of the last minute, before this program added its own.
    pub(crate) load_before: String,
}

impl Machine {
    pub(crate) fn now(cluster: &Cluster) -> anyhow::Result<Self> {
        let memory = this_machine::memory_bytes().context("cannot tell the memory")?;
        Ok(Self {
            processor: this_machine::processor().unwrap_or_else(|| "unknown".into()),
            processors: std::thread::available_parallelism()?.get(),
            memory_gigabytes: memory as f64 / 1e9,
            postgres: cluster.psql("show server_version")?,
            date: cluster.psql("select current_date")?,
            commit: this_machine::commit(env!("CARGO_MANIFEST_DIR")),
            load_before: load()?,
        })
    }
}

/// The load of the last minute.
pub(crate) fn load() -> anyhow::Result<String> {
    this_machine::load().context("cannot tell the load")
}

/// The packages that an engine consists of, with their versions.
pub(crate) fn packages(engine: EngineName) -> String {
    let names: &[&str] = match engine {
        EngineName::SyncWorkflow => &["sync-workflow"],
        EngineName::Dbos => &["dbos"],
        EngineName::Duroxide => &["duroxide", "duroxide-pg"],
        EngineName::Underway => &["underway"],
        EngineName::Bare => return "bare loop".into(),
    };
    let versions = names.iter().map(|name| match locked(name) {
        Some(version) => format!("{name} {version}"),
        None => (*name).to_owned(),
    });
    versions.collect::<Vec<_>>().join(", ")
}

/// The version that this program was built with.
fn locked(name: &str) -> Option<&'static str> {
    let mut lines = include_str!("../Cargo.lock").lines();
    lines.find(|line| *line == format!("name = \"{name}\""))?;
    lines
        .next()?
        .strip_prefix("version = ")
        .map(|text| text.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::packages;
    use crate::engines::EngineName;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        assert_eq!(packages(EngineName::Dbos), "dbos 0.5.0");
        let two = packages(EngineName::Duroxide);
        assert_eq!(two, "duroxide 0.1.32, duroxide-pg 0.1.38");
    }
}
