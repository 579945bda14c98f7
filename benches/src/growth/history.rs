//! Journals that are longer.

use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};
use sync_workflow::{
    Activity, ActivityContext, Client, Context, Failure, Worker, worker::WorkerBuilder,
};
use tokio::sync::mpsc;

use super::{
    Ground,
    series::{Axis, Database, Figures, Panel, Scale, Series},
    workers::say,
};
use crate::{
    jobs::{trivial, w5::until_empty},
    process::{Memory, Process, forget_peak, megabytes},
};

const RESUMED: &str = "until the run goes on";
const RATE: &str = "records replayed";
const MEMORY: &str = "memory above idle, when it goes on";
const PEAK: &str = "peak of memory above idle";

pub(super) const SERIES: Series = Series {
    name: "history",
    what: "A run with a journal of so many records, most of them steps of one after the other, waits for a signal; another process, which \
           idles, sends it and takes the run up: from sending until the first step after the wait. A run may have 100,000 records.",
    grows: Axis {
        label: "records in the journal",
        scale: Scale::Log,
    },
    panels: &[
        Panel {
            unit: "ms",
            scale: Scale::Log,
            quantities: &[RESUMED],
        },
        Panel {
            unit: "records/s",
            scale: Scale::Log,
            quantities: &[RATE],
        },
        Panel {
            unit: "MB",
            scale: Scale::Log,
            quantities: &[MEMORY, PEAK],
        },
    ],
};

pub(super) async fn round(ground: &Ground, figures: &mut Figures) -> anyhow::Result<()> {
    // A few records of the largest are left for the signal and what comes after.
    let sizes: &[u64] = ground.pick(&[10, 100, 1_000, 10_000, 99_900], &[10, 100]);
    for database in Database::BOTH {
        let storage = ground.database(database)?;
        build(storage.url(), sizes).await?;
        for size in sizes {
            let at = (database, *size);
            let text = size.to_string();
            let arguments = [
                "grown",
                "resume",
                "--journal",
                storage.url(),
                "--records",
                &text,
            ];
            let mut process = Process::start(&arguments)?;
            let line = process.line().await?;
            process.end().await?;
            let resumed: Resumed =
                serde_json::from_str(&line).context("the other process measured nothing")?;
            figures.add(at, RESUMED, resumed.seconds * 1e3);
            figures.add(at, RATE, *size as f64 / resumed.seconds);
            figures.add(at, MEMORY, resumed.memory);
            figures.add(at, PEAK, resumed.peak);
        }
    }
    Ok(())
}

/// Runs the workflows up to where they wait.
async fn build(url: &str, sizes: &[u64]) -> anyhow::Result<()> {
    let (seen, _nobody) = mpsc::unbounded_channel();
    let worker = worker(seen).start(url).await?;
    for size in sizes {
        // The first record is the start.
        let steps = size - 1;
        worker.client().start(remembers, &id(*size), steps).await?;
    }
    until_empty(&worker).await;
    worker.shutdown().await;
    Ok(())
}

/// How many steps the run has that goes on before the process is measured.
const WARM_UP: u64 = 10;

fn id(records: u64) -> String {
    format!("remembers-{records}")
}

fn worker(seen: mpsc::UnboundedSender<(Instant, u64)>) -> WorkerBuilder {
    Worker::builder()
        .workflow(remembers)
        .activity(trivial)
        .activity(Seen(seen))
}

async fn remembers(ctx: Context, steps: u64) -> Result<u64, Failure> {
    for step in 0..steps {
        ctx.activity(trivial, step).await?;
    }
    ctx.wait::<()>("go on").await?;
    ctx.activity(Seen::activity(), ()).await?;
    Ok(steps)
}

/// A step that tells when it ran, and what the process took in memory then.
struct Seen(mpsc::UnboundedSender<(Instant, u64)>);

impl Activity for Seen {
    const NAME: &'static str = "seen";
    type Input = ();
    type Output = ();
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, (): ()) -> Result<(), Failure> {
        let at = Instant::now();
        let memory = Memory::now().map_err(|error| Failure::new(error.to_string()))?;
        let told = self.0.send((at, memory.resident));
        told.map_err(|_gone| Failure::new("nobody waits for the run"))
    }
}

/// What the other process measured, in seconds and megabytes above idle.
#[derive(Debug, Serialize, Deserialize)]
struct Resumed {
    seconds: f64,
    memory: f64,
    peak: f64,
}

/// A process that takes a run up.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[arg(long)]
    journal: String,
    #[arg(long)]
    records: u64,
}

impl Resume {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (seen, mut sights) = mpsc::unbounded_channel();
        let worker = worker(seen).start(&self.journal).await?;
        // Each process warms up with a run of its own.
        let warm_up = format!("warm-up-{}", self.records);
        let client = worker.client();
        client.start(remembers, &warm_up, WARM_UP).await?;
        until_empty(&worker).await;
        go_on(&client, &warm_up).await?;
        sights.recv().await.context("the run did not go on")?;
        until_empty(&worker).await;
        forget_peak()?;
        let idle = Memory::now()?;
        let started = Instant::now();
        go_on(&client, &id(self.records)).await?;
        let (at, resident) = sights.recv().await.context("the run did not go on")?;
        let above = |bytes: u64| megabytes(bytes) - megabytes(idle.resident);
        let resumed = Resumed {
            seconds: (at - started).as_secs_f64(),
            memory: above(resident),
            peak: above(Memory::now()?.peak),
        };
        say(&serde_json::to_string(&resumed)?)?;
        client
            .handle(remembers, &id(self.records))
            .await?
            .result()
            .await?;
        worker.shutdown().await;
        Ok(())
    }
}

async fn go_on(client: &Client, id: &str) -> anyhow::Result<()> {
    Ok(client.signal(id, "go on", &()).await?)
}
