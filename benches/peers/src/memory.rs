//! What `/proc` tells of the memory of this process, in megabytes of a million bytes.

use anyhow::Context;

pub(crate) struct Memory;

impl Memory {
    /// In use now.
    pub(crate) fn resident() -> anyhow::Result<f64> {
        field("VmRSS:")
    }

    /// The most that was in use since the peak was last forgotten.
    pub(crate) fn peak() -> anyhow::Result<f64> {
        field("VmHWM:")
    }

    pub(crate) fn forget_peak() -> anyhow::Result<()> {
        std::fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of memory")
    }
}

fn field(name: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    let kibibytes = kibibytes.with_context(|| format!("no {name} in the status of the process"))?;
    Ok(kibibytes.parse::<f64>()? * 1024.0 / 1e6)
}
