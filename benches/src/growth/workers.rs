//! More worker processes on one database.

use std::{io::Write, time::Instant};

use anyhow::Context as _;
use clap::Args;
use sync_workflow::{Client, Worker};

use super::{
    Ground,
    series::{Axis, Database, Figures, Panel, Scale, Series},
};
use crate::{
    jobs::{w1, w3},
    process::Process,
};

const W1: &str = "w1";
const CLAIMED: &str = "w1, started by another process";
const W3: &str = "w3";

pub(super) const SERIES: Series = Series {
    name: "workers",
    what: "So many worker processes on one database, all on this machine. w1: each process starts 500 workflows at once of 10 steps and \
           runs them; w1, started by another process: a client without a worker starts 500 at once, and the processes claim them; \
           w3: each process runs a parent with 1,000 children. The work is the same for every number of processes.",
    grows: Axis {
        label: "worker processes",
        scale: Scale::Steps,
    },
    panels: &[
        Panel {
            unit: "steps/s, all together",
            scale: Scale::Linear,
            quantities: &[W1, CLAIMED],
        },
        Panel {
            unit: "children/s, all together",
            scale: Scale::Linear,
            quantities: &[W3],
        },
    ],
};

/// How large the job is, for all processes together.
#[derive(Debug, Clone, Copy)]
struct Size {
    workflows: u32,
    waves: u32,
    children: u32,
    families: u32,
}

pub(super) async fn round(ground: &Ground, figures: &mut Figures) -> anyhow::Result<()> {
    let size = Size {
        workflows: ground.pick(500, 5),
        waves: ground.pick(16, 4),
        children: ground.pick(1_000, 10),
        families: ground.pick(8, 4),
    };
    for database in Database::BOTH {
        let sizes: &[u32] = ground.pick(&[1, 2, 4], &[1, 2]);
        for &workers in sizes {
            let storage = ground.database(database)?;
            let at = (database, u64::from(workers));
            let mut crew = Crew::start(storage.url(), workers, size).await?;
            let seconds = crew.do_all("w1").await?;
            let all = w1::Size {
                workflows: size.workflows,
                waves: size.waves,
            };
            figures.add(at, W1, all.steps() / seconds);
            let seconds = crew.do_all("w3").await?;
            let children = f64::from(size.children * size.families);
            figures.add(at, W3, children / seconds);
            let client = Client::connect(storage.url()).await?;
            w1::wave(&client, "claimed-0", size.workflows).await?;
            let seconds = w1::waves(&client, "claimed", all).await?;
            figures.add(at, CLAIMED, all.steps() / seconds);
        }
    }
    Ok(())
}

/// Worker processes that begin a job at the same time.
struct Crew(Vec<Process>);

impl Crew {
    async fn start(url: &str, workers: u32, size: Size) -> anyhow::Result<Self> {
        let mut crew = Vec::new();
        for worker in 0..workers {
            let [name, workflows, waves, children, families] = [
                worker,
                size.workflows,
                size.waves / workers,
                size.children,
                size.families / workers,
            ]
            .map(|number| number.to_string());
            let arguments = [
                ["--journal", url],
                ["--name", &name],
                ["--workflows", &workflows],
                ["--waves", &waves],
                ["--children", &children],
                ["--families", &families],
            ];
            let arguments = [&["grown", "worker"], arguments.as_flattened()].concat();
            crew.push(Process::start(&arguments)?);
        }
        for process in &mut crew {
            process.line().await?;
        }
        Ok(Self(crew))
    }

    /// Has all do their share of a job; how many seconds it took.
    async fn do_all(&mut self, job: &str) -> anyhow::Result<f64> {
        let started = Instant::now();
        for process in &mut self.0 {
            process.say(job).await?;
        }
        for process in &mut self.0 {
            process.line().await?;
        }
        Ok(started.elapsed().as_secs_f64())
    }
}

/// A worker that does its share of a job when it is told to.
#[derive(Debug, Args)]
pub(crate) struct Told {
    #[arg(long)]
    journal: String,
    #[arg(long)]
    name: String,
    #[arg(long)]
    workflows: u32,
    #[arg(long)]
    waves: u32,
    #[arg(long)]
    children: u32,
    #[arg(long)]
    families: u32,
}

impl Told {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let worker = super::worker().start(&self.journal).await?;
        let id = |job: &str| format!("{job}-{}", self.name);
        w1::wave(&worker.client(), &id("warm-up"), self.workflows).await?;
        w3::family(&worker.client(), &id("warm-up-family"), self.children).await?;
        loop {
            say("ready")?;
            let Some(job) = told().await? else {
                worker.shutdown().await;
                return Ok(());
            };
            self.work(&worker, &job).await?;
        }
    }

    async fn work(&self, worker: &Worker, job: &str) -> anyhow::Result<()> {
        let client = worker.client();
        let name = format!("{job}-{}", self.name);
        match job {
            "w1" => {
                let share = w1::Size {
                    workflows: self.workflows,
                    waves: self.waves,
                };
                w1::waves(&client, &name, share).await.map(drop)
            }
            "w3" => {
                for number in 0..self.families {
                    w3::family(&client, &format!("{name}-{number}"), self.children).await?;
                }
                Ok(())
            }
            job => anyhow::bail!("unknown job {job:?}"),
        }
    }
}

/// Says a line to the process that started this one.
pub(super) fn say(line: &str) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush().context("nobody listens")
}

/// What the process that started this one says next; nothing when it is gone.
pub(super) async fn told() -> anyhow::Result<Option<String>> {
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?;
    Ok(line.transpose()?)
}
