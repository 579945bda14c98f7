//! 500 workflows at once of 10 sequential activities: journaled steps per second.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use sync_workflow::{Client, Context, Failure, Worker};

use super::{Plan, trivial};
use crate::{
    bare::{Bare, whole::Whole},
    cpu::{self, CpuTime},
    report::{Figure, Goal, Report, Target, ratios},
};

const STEPS: u32 = 10;

/// How large one round is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) workflows: u32,
    /// How often all workflows run, after a first time that does not count.
    pub(crate) waves: u32,
}

impl Size {
    pub(crate) fn steps(self) -> f64 {
        f64::from(self.workflows) * f64::from(STEPS) * f64::from(self.waves)
    }
}

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let size = Size {
        workflows: plan.scaled(500, 5),
        waves: plan.scaled(20, 1),
    };
    let (mut engine, mut bare, mut batches) = (Vec::new(), Vec::new(), Vec::new());
    let (mut used, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let apart = plan.server.database()?;
        if apart.is_postgres() {
            whole.push(whole_rate(apart.url(), size).await?);
        }
        drop(apart);
        let storage = plan.server.database()?;
        let (rate, steps_per_batch) = bare_rate(storage.url(), size).await?;
        bare.push(rate);
        batches.push(steps_per_batch);
        let (rate, cpu) = engine_rate(plan, storage.url(), size).await?;
        engine.push(rate);
        used.push(cpu);
    }
    let shares = Figure::of("engine / bare", "", &ratios(&engine, &bare));
    let rate = Figure::of("engine", "steps/s", &engine);
    let mut goals = vec![Goal::new(
        "engine, steps/s",
        Target::AtLeast(100_000.0),
        rate.median(),
    )];
    let mut figures = vec![
        rate,
        Figure::of("bare group commit", "steps/s", &bare),
        Figure::of("bare group commit", "steps per commit", &batches),
        shares,
    ];
    if !whole.is_empty() {
        let name = "bare group commit, all rows of a workflow";
        figures.push(Figure::of(name, "steps/s", &whole));
        let name = "engine / bare, all rows";
        let shares = Figure::of(name, "", &ratios(&engine, &whole));
        goals.push(Goal::new(name, Target::AtLeast(0.6), shares.median()));
        figures.push(shares);
    }
    figures.extend(cpu::figures(
        [
            "processor time a step, program",
            "processor time a step, PostgreSQL",
        ],
        &used,
        size.steps(),
    ));
    Ok(Report {
        job: "w1: 500 workflows at once of 10 sequential activities",
        database: plan.server.name(),
        rounds: plan.rounds,
        figures,
        goals,
    })
}

async fn bare_rate(url: &str, size: Size) -> anyhow::Result<(f64, f64)> {
    let bare = Bare::create(url).await?;
    let (mut bare, _warm) = bare.group_commit(size.workflows, STEPS).await?;
    let (mut seconds, mut batches) = (0.0, 0.0);
    for _ in 0..size.waves {
        let wave;
        (bare, wave) = bare.group_commit(size.workflows, STEPS).await?;
        seconds += wave.elapsed().as_secs_f64();
        batches += f64::from(size.workflows * STEPS) / wave.steps_per_batch();
    }
    Ok((size.steps() / seconds, size.steps() / batches))
}

async fn whole_rate(url: &str, size: Size) -> anyhow::Result<f64> {
    let whole = Whole::create(url).await?;
    let (mut whole, _warm) = whole.group_commit(size.workflows, STEPS).await?;
    let mut seconds = 0.0;
    for _ in 0..size.waves {
        let wave;
        (whole, wave) = whole.group_commit(size.workflows, STEPS).await?;
        seconds += wave.elapsed().as_secs_f64();
    }
    Ok(size.steps() / seconds)
}

async fn engine_rate(plan: &Plan, url: &str, size: Size) -> anyhow::Result<(f64, CpuTime)> {
    let worker = Worker::builder()
        .workflow(ten_steps)
        .activity(trivial)
        .start(url)
        .await?;
    wave(&worker.client(), "w1-0", size.workflows).await?;
    let before = CpuTime::now(&plan.server)?;
    let seconds = waves(&worker.client(), "w1", size).await?;
    let used = CpuTime::now(&plan.server)?.since(before);
    worker.shutdown().await;
    Ok((size.steps() / seconds, used))
}

/// Runs wave after wave; how many seconds they took.
pub(crate) async fn waves(client: &Client, name: &str, size: Size) -> anyhow::Result<f64> {
    let started = Instant::now();
    for number in 1..=size.waves {
        wave(client, &format!("{name}-{number}"), size.workflows).await?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Starts all workflows at once and awaits their results.
pub(crate) async fn wave(client: &Client, name: &str, workflows: u32) -> anyhow::Result<()> {
    let all = workflows as usize;
    stream::iter(0..workflows)
        .map(async |index| {
            let handle = client
                .start(ten_steps, &format!("{name}-{index}"), 0)
                .await?;
            let result = handle.result().await?;
            anyhow::ensure!(result == u64::from(STEPS), "a workflow ended with {result}");
            Ok(())
        })
        .buffer_unordered(all)
        .try_collect()
        .await
}

pub(crate) async fn ten_steps(ctx: Context, mut n: u64) -> Result<u64, Failure> {
    for _ in 0..STEPS {
        n = ctx.activity(trivial, n).await?;
    }
    Ok(n)
}
