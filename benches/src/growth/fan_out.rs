//! A fan-out over more and more inputs.

use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};
use sync_workflow::{Client, Context, Failure, Worker};

use super::{
    Ground,
    series::{Axis, Database, Figures, Panel, Scale, Series},
    workers::say,
};
use crate::{
    jobs::{trivial, w3},
    process::{Memory, Process, forget_peak, megabytes},
};

const RATE: &str = "results";
const PEAK: &str = "peak above idle";
const RECORDS: &str = "in the journal of the run";

pub(super) const SERIES: Series = Series {
    name: "fan-out",
    what: "One run fans out over so many inputs, each the work of a workflow of one activity, 1,000 at once, and adds the results up: results from \
           its start to its end, the memory of the process, and the length of its journal.",
    grows: Axis {
        label: "inputs",
        scale: Scale::Log,
    },
    panels: &[
        Panel {
            unit: "/s",
            scale: Scale::Linear,
            quantities: &[RATE],
        },
        Panel {
            unit: "MB",
            scale: Scale::Linear,
            quantities: &[PEAK],
        },
        Panel {
            unit: "records",
            scale: Scale::Log,
            quantities: &[RECORDS],
        },
    ],
};

/// Over how many inputs the idle worker has fanned out before it is measured.
const WARM_UP: u64 = 200;

pub(super) async fn round(ground: &Ground, figures: &mut Figures) -> anyhow::Result<()> {
    for database in Database::BOTH {
        let sizes: &[u64] = ground.pick(&[100, 1_000, 10_000, 100_000, 1_000_000], &[20]);
        for &size in sizes {
            let at = (database, size);
            let fanned = fan_out(ground, at).await?;
            figures.add(at, RATE, size as f64 / fanned.seconds);
            figures.add(at, PEAK, fanned.peak);
            figures.add(at, RECORDS, f64::from(fanned.records));
        }
    }
    Ok(())
}

async fn fan_out(ground: &Ground, (database, size): (Database, u64)) -> anyhow::Result<Fanned> {
    let storage = ground.database(database)?;
    let size = size.to_string();
    let arguments = [
        "grown",
        "fan-out",
        "--journal",
        storage.url(),
        "--inputs",
        &size,
    ];
    let mut process = Process::start(&arguments)?;
    let line = process.line().await?;
    process.end().await?;
    serde_json::from_str(&line).context("the other process measured nothing")
}

/// What the other process measured, in seconds and megabytes above idle.
#[derive(Debug, Serialize, Deserialize)]
struct Fanned {
    seconds: f64,
    peak: f64,
    records: u32,
}

/// A process that runs a fan-out and measures itself.
#[derive(Debug, Args)]
pub(crate) struct FanOut {
    #[arg(long)]
    journal: String,
    #[arg(long)]
    inputs: u64,
}

impl FanOut {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let worker = Worker::builder()
            .workflow(adds_up)
            .workflow(w3::child)
            .activity(trivial)
            .start(&self.journal)
            .await?;
        let client = worker.client();
        sum(&client, "warm-up", WARM_UP.min(self.inputs)).await?;
        forget_peak()?;
        let idle = Memory::now()?.resident;
        let started = Instant::now();
        let records = sum(&client, "fan-out", self.inputs).await?;
        let fanned = Fanned {
            seconds: started.elapsed().as_secs_f64(),
            peak: megabytes(Memory::now()?.peak) - megabytes(idle),
            records,
        };
        say(&serde_json::to_string(&fanned)?)?;
        worker.shutdown().await;
        Ok(())
    }
}

/// Runs a fan-out and returns how many records it left in the journal of its run.
async fn sum(client: &Client, name: &str, inputs: u64) -> anyhow::Result<u32> {
    const PAGE: u32 = 1_000;
    let handle = client.start(adds_up, name, inputs).await?;
    let sum = handle.result().await?;
    let expected = (1..=inputs).sum::<u64>();
    anyhow::ensure!(sum == expected, "a fan-out ended with {sum}");
    let mut records = 0;
    loop {
        let page = client.history(handle.run_id(), records, PAGE).await?;
        records += u32::try_from(page.items.len())?;
        if !page.more {
            return Ok(records);
        }
    }
}

async fn adds_up(ctx: Context, inputs: u64) -> Result<u64, Failure> {
    let mut results = ctx.fan_out(w3::child, 0..inputs);
    let mut sum = 0;
    while let Some((_, result)) = results.next().await {
        sum += result?;
    }
    Ok(sum)
}
