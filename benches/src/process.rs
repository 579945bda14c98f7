//! A second process of this program, and what `/proc` tells of this one.

use std::process::Stdio;

use anyhow::Context;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// A process of this program; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a second process")?;
        let input = child.stdin.take().context("the process has no input")?;
        let output = child.stdout.take().context("the process has no output")?;
        Ok(Self {
            child,
            input,
            lines: BufReader::new(output).lines(),
        })
    }

    /// The next line that the process prints.
    pub(crate) async fn line(&mut self) -> anyhow::Result<String> {
        let line = self.lines.next_line().await?;
        line.context("the process ended too soon")
    }

    /// Sends a line to the process.
    pub(crate) async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let line = format!("{line}\n");
        let sent = self.input.write_all(line.as_bytes()).await;
        sent.context("the process ended too soon")
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.start_kill().context("cannot kill the process")
    }

    /// Waits for the end of the process.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.child.wait().await?;
        Ok(())
    }
}

/// The memory of this process, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// In use now.
    pub(crate) resident: u64,
    /// The most that was ever in use.
    pub(crate) peak: u64,
}

impl Memory {
    pub(crate) fn now() -> anyhow::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        Ok(Self {
            resident: field(&status, "VmRSS:")?,
            peak: field(&status, "VmHWM:")?,
        })
    }
}

fn field(status: &str, name: &str) -> anyhow::Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    let kibibytes = kibibytes.with_context(|| format!("no {name} in the status of the process"))?;
    Ok(kibibytes.parse::<u64>()? * 1024)
}

/// Has the peak of this process's memory begin anew.
pub(crate) fn forget_peak() -> anyhow::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of the memory")
}

/// Bytes in megabytes of a million.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
