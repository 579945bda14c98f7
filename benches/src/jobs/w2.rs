//! One workflow of one activity at a time: milliseconds from start to result.

use std::time::{Duration, Instant};

use sync_workflow::{Client, Context, Failure, Worker};

use super::{Plan, trivial};
use crate::{
    bare::{Bare, whole::Whole},
    cpu::{self, CpuTime},
    report::{Figure, Goal, Report, Target, percentile, ratios},
};

/// How many come before those that count.
const WARM_UP: u32 = 50;

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let count = plan.scaled(1_000, 10);
    let (mut p50, mut p99, mut bare, mut used) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut whole = Vec::new();
    for _ in 0..plan.rounds {
        let apart = plan.server.database()?;
        if apart.is_postgres() {
            let mut two_commits = Whole::create(apart.url()).await?;
            two_commits.one_by_one(WARM_UP).await?;
            let times = milliseconds(&two_commits.one_by_one(count).await?);
            whole.push(percentile(&times, 0.5));
        }
        drop(apart);
        let storage = plan.server.database()?;
        let mut loop_alone = Bare::create(storage.url()).await?;
        loop_alone.lone_appends(WARM_UP).await?;
        bare.push(percentile(
            &milliseconds(&loop_alone.lone_appends(count).await?),
            0.5,
        ));
        let before = CpuTime::now(&plan.server)?;
        let times = milliseconds(&engine_times(storage.url(), count).await?);
        used.push(CpuTime::now(&plan.server)?.since(before));
        p50.push(percentile(&times, 0.5));
        p99.push(percentile(&times, 0.99));
    }
    let shares = Figure::of("engine p50 / bare p50", "", &ratios(&p50, &bare));
    let mut goals = vec![Goal::new(
        "engine p50, ms",
        Target::AtMost(1.0),
        percentile(&p50, 0.5),
    )];
    let mut figures = vec![
        Figure::of("engine, start to result, p50", "ms", &p50),
        Figure::of("engine, start to result, p99", "ms", &p99),
        Figure::of("bare single-row commit, p50", "ms", &bare),
        shares,
    ];
    if !whole.is_empty() {
        let name = "bare, two commits with all rows of a workflow, p50";
        figures.push(Figure::of(name, "ms", &whole));
        let name = "engine p50 / bare p50, all rows";
        let shares = Figure::of(name, "", &ratios(&p50, &whole));
        goals.push(Goal::new(name, Target::AtMost(1.5), shares.median()));
        figures.push(shares);
    }
    figures.extend(cpu::figures(
        [
            "processor time a workflow, program",
            "processor time a workflow, PostgreSQL",
        ],
        &used,
        f64::from(WARM_UP + count),
    ));
    Ok(Report {
        job: "w2: one workflow of one activity at a time",
        database: plan.server.name(),
        rounds: plan.rounds,
        figures,
        goals,
    })
}

async fn engine_times(url: &str, count: u32) -> anyhow::Result<Vec<Duration>> {
    let worker = Worker::builder()
        .workflow(one_step)
        .activity(trivial)
        .start(url)
        .await?;
    let client = worker.client();
    start_to_result(&client, "warm-up", WARM_UP).await?;
    let times = start_to_result(&client, "w2", count).await?;
    worker.shutdown().await;
    Ok(times)
}

/// Runs so many workflows, one after the other; how long each took from its start to its result.
pub(crate) async fn start_to_result(
    client: &Client,
    name: &str,
    count: u32,
) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count as usize);
    for index in 0..count {
        let started = Instant::now();
        let handle = client
            .start(one_step, &format!("{name}-{index}"), 1)
            .await?;
        let result = handle.result().await?;
        times.push(started.elapsed());
        anyhow::ensure!(result == 2, "a workflow ended with {result}");
    }
    Ok(times)
}

pub(crate) async fn one_step(ctx: Context, n: u64) -> Result<u64, Failure> {
    Ok(ctx.activity(trivial, n).await?)
}

pub(crate) fn milliseconds(times: &[Duration]) -> Vec<f64> {
    times.iter().map(|time| time.as_secs_f64() * 1e3).collect()
}
