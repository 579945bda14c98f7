//! The processes that the jobs run in, and what they tell.

use std::{
    future::pending,
    io::Write,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{
    engines::{
        Bare, CONNECTIONS, Dbos, Duroxide, Engine, EngineName, SyncWorkflow, Underway, duroxide,
    },
    job::{self, Job, Outcome, Size},
};

/// What one process does: a job, or what comes after a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Job,
    Successor,
}

/// One line on the output of a process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    Measured(Outcome),
    /// The successor runs.
    Ready,
    /// The successor has come to this step.
    GoesOn(u64),
    Failed(String),
}

/// The command line of such a process.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    engine: EngineName,
    #[arg(long)]
    job: Job,
    #[arg(long)]
    part: Part,
    #[arg(long)]
    url: String,
    #[arg(long)]
    limit: u64,
    #[arg(long)]
    scale: f64,
}

impl Arguments {
    /// Runs the part; whatever goes wrong is told like a figure.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let ended = match self.engine {
            EngineName::SyncWorkflow => Box::pin(self.run_on::<SyncWorkflow>()).await,
            EngineName::Dbos => Box::pin(self.run_on::<Dbos>()).await,
            EngineName::Duroxide => Box::pin(self.run_on::<Duroxide>()).await,
            EngineName::Underway => Box::pin(self.run_on::<Underway>()).await,
            EngineName::Bare => Box::pin(self.run_on::<Bare>()).await,
        };
        match ended {
            Ok(()) => Ok(()),
            Err(error) => say(&Said::Failed(format!("{error:#}"))),
        }
    }

    async fn run_on<E: Engine>(&self) -> anyhow::Result<()> {
        let url = self.url.as_str();
        let size = Size {
            limit: Duration::from_secs(self.limit),
            scale: self.scale,
        };
        if self.part == Part::Successor {
            let is_ready = async || say(&Said::Ready);
            let step = job::successor::<E>(url, size, is_ready).await?;
            return say(&Said::GoesOn(step));
        }
        let outcome = match self.job {
            Job::W1 => job::w1::<E>(url, size).await?,
            Job::W2 => job::w2::<E>(url, size).await?,
            Job::W3 => job::w3::<E>(url, size).await?,
            Job::W4 => {
                let (_engine, outcome) = job::w4::<E>(url, size).await?;
                say(&Said::Measured(outcome))?;
                return pending().await;
            }
            Job::W5 => job::w5::<E>(url, size).await?,
        };
        say(&Said::Measured(outcome))
    }
}

fn say(what: &Said) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(what)?)?;
    output.flush()?;
    Ok(())
}

/// A process of one part; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start(
        engine: EngineName,
        job: Job,
        part: Part,
        url: &str,
        size: Size,
    ) -> anyhow::Result<Self> {
        let part = match part {
            Part::Job => "job",
            Part::Successor => "successor",
        };
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .args(["part", "--engine", engine.name(), "--job", job.name()])
            .args(["--part", part, "--url", url])
            .args(["--limit", &size.limit.as_secs().to_string()])
            .args(["--scale", &size.scale.to_string()])
            .env(duroxide::POOL_VARIABLE, CONNECTIONS.to_string())
            // duroxide subscribes to the events of all libraries and prints them.
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a process")?;
        let output = child.stdout.take().context("the process has no output")?;
        Ok(Self {
            child,
            lines: BufReader::new(output).lines(),
        })
    }

    /// The next thing that the process says. Whatever else libraries print is passed over.
    pub(crate) async fn says(&mut self, within: Duration) -> anyhow::Result<Said> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = timeout(left, self.lines.next_line()).await else {
                bail!("nothing within {} s", within.as_secs());
            };
            let Some(line) = line? else {
                bail!("the process ended with {}", self.child.wait().await?);
            };
            match serde_json::from_str(&line) {
                Ok(Said::Failed(error)) => bail!(error),
                Ok(said) => return Ok(said),
                Err(_) => eprintln!("{line}"),
            }
        }
    }

    /// Sends SIGKILL and waits for the end; an ended process is left alone.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        if self.child.id().is_none() {
            return Ok(());
        }
        self.child.kill().await.context("cannot kill the process")
    }
}
