//! 1,000 children of one activity, started and awaited by one parent: children per second.

use std::time::Instant;

use sync_workflow::{Client, Context, Failure, Worker};

use super::{Plan, trivial};
use crate::{
    bare::Bare,
    cpu::{self, CpuTime},
    report::{Figure, Goal, Report, Target, ratios},
};

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let children = plan.scaled(1_000, 10);
    let families = plan.scaled(10, 1);
    let (mut engine, mut bare, mut used) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let storage = plan.server.database()?;
        bare.push(bare_rate(storage.url(), children, families).await?);
        let (rate, cpu) = engine_rate(plan, storage.url(), children, families).await?;
        engine.push(rate);
        used.push(cpu);
    }
    let rate = Figure::of("engine", "children/s", &engine);
    let goals = vec![Goal::new(
        "engine, children/s",
        Target::AtLeast(20_000.0),
        rate.median(),
    )];
    let mut figures = vec![
        rate,
        Figure::of("bare group commit, two rows a child", "children/s", &bare),
        Figure::of("engine / bare", "", &ratios(&engine, &bare)),
    ];
    figures.extend(cpu::figures(
        [
            "processor time a child, program",
            "processor time a child, PostgreSQL",
        ],
        &used,
        f64::from(children) * f64::from(families),
    ));
    Ok(Report {
        job: "w3: 1,000 children of one activity, started and awaited by one parent",
        database: plan.server.name(),
        rounds: plan.rounds,
        figures,
        goals,
    })
}

/// A child costs its start and its step.
async fn bare_rate(url: &str, children: u32, families: u32) -> anyhow::Result<f64> {
    let (mut bare, _warm) = Bare::create(url).await?.group_commit(children, 2).await?;
    let mut seconds = 0.0;
    for _ in 0..families {
        let family;
        (bare, family) = bare.group_commit(children, 2).await?;
        seconds += family.elapsed().as_secs_f64();
    }
    Ok(f64::from(children) * f64::from(families) / seconds)
}

async fn engine_rate(
    plan: &Plan,
    url: &str,
    children: u32,
    families: u32,
) -> anyhow::Result<(f64, CpuTime)> {
    let worker = Worker::builder()
        .workflow(parent)
        .workflow(child)
        .activity(trivial)
        .start(url)
        .await?;
    family(&worker.client(), "w3-0", children).await?;
    let before = CpuTime::now(&plan.server)?;
    let started = Instant::now();
    for number in 1..=families {
        family(&worker.client(), &format!("w3-{number}"), children).await?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let used = CpuTime::now(&plan.server)?.since(before);
    worker.shutdown().await;
    Ok((f64::from(children) * f64::from(families) / seconds, used))
}

/// Runs a parent with its children.
pub(crate) async fn family(client: &Client, name: &str, children: u32) -> anyhow::Result<()> {
    let handle = client.start(parent, name, u64::from(children)).await?;
    let sum = handle.result().await?;
    let expected = (1..=u64::from(children)).sum::<u64>();
    anyhow::ensure!(sum == expected, "a parent ended with {sum}");
    Ok(())
}

pub(crate) async fn parent(ctx: Context, children: u64) -> Result<u64, Failure> {
    let started: Vec<_> = (0..children).map(|n| ctx.child(child, n).start()).collect();
    let mut sum = 0;
    for child in started {
        sum += child.await?;
    }
    Ok(sum)
}

pub(crate) async fn child(ctx: Context, n: u64) -> Result<u64, Failure> {
    Ok(ctx.activity(trivial, n).await?)
}
