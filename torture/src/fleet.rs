//! The worker processes under torture.

use std::{
    fs::File,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use sync_workflow::id::NodeId;

use crate::{ledger::Roll, victim};

/// How long a worker may take to stop when it is asked to.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// What the environment of a worker holds beside the referee's own, by the worker's number.
pub(crate) type Environment = fn(u32) -> Vec<(&'static str, String)>;

/// The workers that run, and what it takes to start another one.
pub(crate) struct Fleet {
    program: PathBuf,
    arguments: victim::Arguments,
    environment: Environment,
    logs: PathBuf,
    workers: Vec<Worker>,
    enlisted: Roll,
    started: u32,
    /// What workers did that nobody asked for.
    pub(crate) misdeeds: Vec<String>,
}

/// A running worker.
struct Worker {
    process: Child,
    pid: u32,
    number: u32,
    serves: Serves,
}

/// Whom a worker serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serves {
    /// The queue of the programs.
    Programs,
    /// The queue of the activities that programs send elsewhere.
    Side,
}

impl Fleet {
    pub(crate) fn new(
        program: PathBuf,
        arguments: victim::Arguments,
        environment: Environment,
        logs: PathBuf,
    ) -> Self {
        Self {
            enlisted: Roll::of(&arguments.ledger),
            program,
            arguments,
            environment,
            logs,
            workers: Vec::new(),
            started: 0,
            misdeeds: Vec::new(),
        }
    }

    /// The processes, in the order in which they were started.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.workers.iter().map(|worker| worker.pid).collect()
    }

    /// The node that a process is, or was last.
    pub(crate) fn node_of(&mut self, pid: u32) -> anyhow::Result<Option<NodeId>> {
        self.enlisted.node_of(pid)
    }

    /// How many processes were started in all.
    pub(crate) const fn started(&self) -> u32 {
        self.started
    }

    /// Whom a worker serves: another one takes its place.
    pub(crate) fn serves(&self, pid: u32) -> Serves {
        let worker = self.workers.iter().find(|worker| worker.pid == pid);
        worker.map_or(Serves::Programs, |worker| worker.serves)
    }

    /// Starts one more worker.
    pub(crate) fn start(&mut self, serves: Serves) -> anyhow::Result<u32> {
        self.started += 1;
        let number = self.started;
        let log = File::create(self.logs.join(format!("worker-{number}.log")))?;
        let settings = self.arguments.settings;
        let mutant = self
            .arguments
            .mutant
            .and_then(|mutant| mutant.to_possible_value());
        let mutant = mutant.map(|mutant| ["--mutant".to_owned(), mutant.get_name().to_owned()]);
        let process = Command::new(&self.program)
            .arg("worker")
            .args(["--journal", &self.arguments.journal])
            .arg("--ledger")
            .arg(&self.arguments.ledger)
            .args(["--lease", &settings.lease.to_string()])
            .args(["--pool", &settings.pool.to_string()])
            .args(["--deadline", &settings.deadline.to_string()])
            .args(["--drops", &settings.drops.to_string()])
            .args((serves == Serves::Side).then_some("--side"))
            .args(mutant.into_iter().flatten())
            .envs((self.environment)(number))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("a worker cannot be started")?;
        let pid = process.id().context("the worker is gone at once")?;
        self.workers.push(Worker {
            process,
            pid,
            number,
            serves,
        });
        Ok(pid)
    }

    /// Replaces workers that ended although nobody ended them, and remembers that.
    pub(crate) fn look_after(&mut self) -> anyhow::Result<()> {
        let (mut gone, mut places) = (Vec::new(), Vec::new());
        self.workers.retain_mut(|worker| {
            let what = match worker.process.try_wait() {
                Ok(None) => return true,
                Ok(Some(status)) => format!("ended by itself: {status}"),
                Err(error) => error.to_string(),
            };
            gone.push(format!("worker-{}: {what}", worker.number));
            places.push(worker.serves);
            false
        });
        for serves in places {
            self.start(serves)?;
        }
        self.misdeeds.append(&mut gone);
        Ok(())
    }

    /// Kills workers as a machine does that loses its power: all of them at the same time.
    pub(crate) async fn kill(&mut self, pids: &[u32]) -> anyhow::Result<()> {
        let mut victims = Vec::new();
        for pid in pids {
            let mut worker = self.take(*pid)?;
            worker.process.start_kill().context("kill a worker")?;
            victims.push(worker);
        }
        for mut victim in victims {
            let status = victim.process.wait().await?;
            ensure!(
                status.code().is_none(),
                "the worker ended before it was killed: {status}"
            );
        }
        Ok(())
    }

    fn take(&mut self, pid: u32) -> anyhow::Result<Worker> {
        let place = self.workers.iter().position(|worker| worker.pid == pid);
        Ok(self
            .workers
            .remove(place.context("there is no such worker")?))
    }

    /// Stops the time of a worker.
    pub(crate) fn pause(&self, pid: u32) -> anyhow::Result<()> {
        signal(pid, Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub(crate) fn resume(&self, pid: u32) -> anyhow::Result<()> {
        signal(pid, Signal::SIGCONT)
    }

    /// Asks a worker to stop, and waits until it has.
    pub(crate) async fn stop(&mut self, pid: u32) -> anyhow::Result<ExitStatus> {
        let mut worker = self.take(pid)?;
        self.wait_until_it_listens(&mut worker).await?;
        signal(worker.pid, Signal::SIGTERM)?;
        let Ok(status) = timeout(STOPS_WITHIN, worker.process.wait()).await else {
            self.misdeeds.push(format!(
                "worker-{} did not stop within {STOPS_WITHIN:?}",
                worker.number
            ));
            worker.process.kill().await?;
            return Ok(worker.process.wait().await?);
        };
        let status = status?;
        if !status.success() {
            self.misdeeds
                .push(format!("worker-{} stopped with {status}", worker.number));
        }
        Ok(status)
    }

    /// Waits until at least half of them listen, as long as a worker may take.
    pub(crate) async fn wait_until_half_listen(&mut self, pids: &[u32]) -> anyhow::Result<()> {
        let until = Instant::now() + STOPS_WITHIN;
        while Instant::now() < until {
            let mut listen = 0;
            for pid in pids {
                listen += usize::from(self.node_of(*pid)?.is_some());
            }
            if 2 * listen >= pids.len() {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// A process that has only just begun knows nothing of signals. One that enlisted does.
    async fn wait_until_it_listens(&mut self, worker: &mut Worker) -> anyhow::Result<()> {
        let until = Instant::now() + STOPS_WITHIN;
        while self.node_of(worker.pid)?.is_none()
            && worker.process.try_wait()?.is_none()
            && Instant::now() < until
        {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Asks every worker to stop.
    pub(crate) async fn stop_all(&mut self) -> anyhow::Result<()> {
        self.look_after()?;
        for pid in self.pids() {
            self.stop(pid).await?;
        }
        Ok(())
    }
}

fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    kill(Pid::from_raw(pid.cast_signed()), signal)
        .with_context(|| format!("{signal} to process {pid}"))
}
