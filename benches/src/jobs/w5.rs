//! The memory of 10,000 workflows that sleep for an hour.

use std::{io::Write, time::Duration};

use anyhow::Context as _;
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use sync_workflow::{Context, Failure, Worker};

use super::{Plan, trivial};
use crate::{
    process::{Memory, Process, megabytes},
    report::{Figure, Goal, Report, Target},
};

/// How many starts are under way at once.
const STARTS: usize = 500;
/// How many workflows run before the idle worker is measured: code, connections and prepared
/// statements are there then.
const WARM_UP: u32 = 100;

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let count = plan.scaled(10_000, 20);
    let mut all = Vec::new();
    for _ in 0..plan.rounds {
        let storage = plan.server.database()?;
        let count = count.to_string();
        let mut process =
            Process::start(&["sleepers", "--journal", storage.url(), "--count", &count])?;
        let line = process.line().await?;
        process.end().await?;
        all.push(
            serde_json::from_str::<Measured>(&line)
                .context("the other process measured nothing")?,
        );
    }
    let column = |of: fn(&Measured) -> f64| all.iter().map(of).collect::<Vec<_>>();
    let above = Figure::of(
        "asleep, above idle",
        "MB",
        &column(|round| round.asleep - round.idle),
    );
    let goals = vec![Goal::new(
        "asleep, above the idle worker, MB",
        Target::AtMost(30.0),
        above.median(),
    )];
    let figures = vec![
        Figure::of("idle worker", "MB", &column(|round| round.idle)),
        Figure::of("all asleep", "MB", &column(|round| round.asleep)),
        above,
        Figure::of(
            "peak while they were started",
            "MB",
            &column(|round| round.peak),
        ),
        Figure::of(
            "first start until all are asleep",
            "s",
            &column(|round| round.seconds),
        ),
    ];
    Ok(Report {
        job: "w5: the memory of 10,000 workflows that sleep for an hour",
        database: plan.server.name(),
        rounds: plan.rounds,
        figures,
        goals,
    })
}

/// In megabytes, and how long it took.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    idle: f64,
    asleep: f64,
    peak: f64,
    seconds: f64,
}

/// A process that starts workflows which sleep, and measures itself.
#[derive(Debug, Args)]
pub(crate) struct Sleepers {
    #[arg(long)]
    journal: String,
    #[arg(long)]
    count: u32,
}

impl Sleepers {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let worker = Worker::builder()
            .workflow(nap)
            .activity(trivial)
            .start(&self.journal)
            .await?;
        start_all(&worker, "warm-up", WARM_UP.min(self.count), Duration::ZERO).await?;
        until_empty(&worker).await;
        let idle = Memory::now()?;
        let started = std::time::Instant::now();
        start_all(&worker, "sleeper", self.count, Duration::from_secs(3_600)).await?;
        until_empty(&worker).await;
        let seconds = started.elapsed().as_secs_f64();
        let asleep = Memory::now()?;
        let measured = Measured {
            idle: megabytes(idle.resident),
            asleep: megabytes(asleep.resident),
            peak: megabytes(asleep.peak),
            seconds,
        };
        writeln!(
            std::io::stdout().lock(),
            "{}",
            serde_json::to_string(&measured)?
        )?;
        worker.shutdown().await;
        Ok(())
    }
}

async fn start_all(
    worker: &Worker,
    name: &str,
    count: u32,
    length: Duration,
) -> anyhow::Result<()> {
    stream::iter(0..count)
        .map(async |index| {
            let id = format!("{name}-{index}");
            worker.client().start(nap, &id, length).await.map(drop)
        })
        .buffer_unordered(STARTS)
        .try_collect::<()>()
        .await?;
    Ok(())
}

/// Waits until no run is in memory.
pub(crate) async fn until_empty(worker: &Worker) {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    while worker.resident_runs() > 0 {
        looks.tick().await;
    }
}

async fn nap(ctx: Context, length: Duration) -> Result<u64, Failure> {
    let n = ctx.activity(trivial, 1).await?;
    ctx.sleep(length).await?;
    Ok(n)
}
