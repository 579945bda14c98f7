//! More workflows asleep in one process, and all of them woken up at once.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_workflow::{Context, Failure, Worker, journal::RunFilter, status::RunStatus};

use super::{
    Ground,
    series::{Axis, Database, Figures, Panel, Scale, Series},
    workers::say,
};
use crate::{
    jobs::trivial,
    process::{Memory, Process, forget_peak, megabytes},
};

const ASLEEP: &str = "memory above idle, all asleep";
const WAKING: &str = "peak above idle while they wake";
const STARTED: &str = "started and fallen asleep";
const WOKEN: &str = "woken and ended";
const SECONDS: &str = "until all wake-ups are done";

pub(super) const SERIES: Series = Series {
    name: "sleepers",
    what: "One process starts so many workflows, 500 starts at once, that sleep after one step until the same time: the memory of the process \
           when all are asleep, and from that time until all have woken up, replayed their journals and ended.",
    grows: Axis {
        label: "workflows asleep",
        scale: Scale::Log,
    },
    panels: &[
        Panel {
            unit: "MB",
            scale: Scale::Linear,
            quantities: &[ASLEEP, WAKING],
        },
        Panel {
            unit: "workflows/s",
            scale: Scale::Linear,
            quantities: &[STARTED, WOKEN],
        },
        Panel {
            unit: "s",
            scale: Scale::Log,
            quantities: &[SECONDS],
        },
    ],
};

/// How many starts are under way at once.
const STARTS: usize = 500;
/// How many workflows run before the idle worker is measured.
const WARM_UP: u64 = 200;

pub(super) async fn round(ground: &Ground, figures: &mut Figures) -> anyhow::Result<()> {
    for database in Database::BOTH {
        let sizes: &[u64] = ground.pick(&[1_000, 10_000, 100_000], &[20]);
        for &size in sizes {
            let at = (database, size);
            let slept = sleep(ground, at).await?;
            figures.add(at, ASLEEP, slept.asleep);
            figures.add(at, WAKING, slept.waking);
            figures.add(at, STARTED, size as f64 / slept.seconds_to_sleep);
            figures.add(at, WOKEN, size as f64 / slept.seconds_to_wake);
            figures.add(at, SECONDS, slept.seconds_to_wake);
        }
    }
    Ok(())
}

/// Has a process measure itself, which needs more time before the alarm if it was not done in time.
async fn sleep(ground: &Ground, (database, size): (Database, u64)) -> anyhow::Result<Slept> {
    let mut lead =
        Duration::from_secs(ground.pick(4, 2)) + Duration::from_micros(300) * size as u32;
    for _ in 0..4 {
        let storage = ground.database(database)?;
        let [count, seconds] = [size.to_string(), lead.as_secs().to_string()];
        let arguments = [
            "grown",
            "sleepers",
            "--journal",
            storage.url(),
            "--count",
            &count,
            "--lead",
            &seconds,
        ];
        let mut process = Process::start(&arguments)?;
        let line = process.line().await?;
        process.end().await?;
        let slept: Option<Slept> =
            serde_json::from_str(&line).context("the other process measured nothing")?;
        if let Some(slept) = slept {
            return Ok(slept);
        }
        lead *= 2;
    }
    anyhow::bail!(
        "{size} workflows did not fall asleep within {} s",
        lead.as_secs() / 2
    )
}

/// What the other process measured, in seconds and megabytes above idle.
#[derive(Debug, Serialize, Deserialize)]
struct Slept {
    asleep: f64,
    waking: f64,
    seconds_to_sleep: f64,
    seconds_to_wake: f64,
}

/// A process that starts workflows which sleep until the same time, and measures itself.
#[derive(Debug, Args)]
pub(crate) struct Sleepers {
    #[arg(long)]
    journal: String,
    #[arg(long)]
    count: u64,
    /// The seconds from the first start until the time at which all wake up.
    #[arg(long)]
    lead: u64,
}

impl Sleepers {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let worker = Worker::builder()
            .workflow(sleeps)
            .activity(trivial)
            .start(&self.journal)
            .await?;
        let soon = Timestamp::now() + Duration::from_millis(1_200);
        start_all(&worker, "warm-up", WARM_UP.min(self.count), soon).await?;
        until_none(&worker, &OPEN).await?;
        forget_peak()?;
        let idle = Memory::now()?.resident;
        say(&serde_json::to_string(&self.measure(&worker, idle).await?)?)?;
        worker.shutdown().await;
        Ok(())
    }

    /// Nothing if some were not asleep in time.
    async fn measure(&self, worker: &Worker, idle: u64) -> anyhow::Result<Option<Slept>> {
        let above = |bytes: u64| megabytes(bytes) - megabytes(idle);
        let started = Instant::now();
        let lead = Duration::from_secs(self.lead);
        let alarm = Timestamp::now() + lead;
        start_all(worker, "sleeper", self.count, alarm).await?;
        until_none(worker, &AWAKE).await?;
        let slept = started.elapsed();
        let Some(rest) = lead.checked_sub(slept) else {
            return Ok(None);
        };
        let asleep = Memory::now()?.resident;
        forget_peak()?;
        tokio::time::sleep(rest).await;
        let alarm = Instant::now();
        until_none(worker, &OPEN).await?;
        Ok(Some(Slept {
            asleep: above(asleep),
            waking: above(Memory::now()?.peak),
            seconds_to_sleep: slept.as_secs_f64(),
            seconds_to_wake: alarm.elapsed().as_secs_f64(),
        }))
    }
}

async fn start_all(
    worker: &Worker,
    name: &str,
    count: u64,
    alarm: Timestamp,
) -> anyhow::Result<()> {
    stream::iter(0..count)
        .map(async |index| {
            let id = format!("{name}-{index}");
            worker.client().start(sleeps, &id, alarm).await.map(drop)
        })
        .buffer_unordered(STARTS)
        .try_collect::<()>()
        .await?;
    Ok(())
}

const OPEN: [RunStatus; 3] = [RunStatus::Pending, RunStatus::Running, RunStatus::Parked];
/// A run that a node holds is not asleep, even if it is not in memory yet.
const AWAKE: [RunStatus; 2] = [RunStatus::Running, RunStatus::Parked];

/// Waits until no run has one of these statuses.
async fn until_none(worker: &Worker, statuses: &[RunStatus]) -> anyhow::Result<()> {
    let open = RunFilter {
        statuses: statuses.to_vec(),
        limit: 1,
        ..RunFilter::default()
    };
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    loop {
        looks.tick().await;
        // The list is a question to the database, so it is asked only when it may be the last.
        if worker.resident_runs() > 0 {
            continue;
        }
        let Some(run) = worker.client().list(&open).await?.items.pop() else {
            return Ok(());
        };
        anyhow::ensure!(run.status != RunStatus::Parked, "a run was parked: {run:?}");
    }
}

async fn sleeps(ctx: Context, alarm: Timestamp) -> Result<u64, Failure> {
    let n = ctx.activity(trivial, 1).await?;
    ctx.sleep_until(alarm).await?;
    Ok(n)
}
