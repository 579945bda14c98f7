//! The five jobs, the same for every engine. Each runs in a process of its own.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    engines::{Engine, Work},
    memory::Memory,
    quantity::{Quantity, percentile},
    step::{Pass, Stall, Step},
};

/// The jobs by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Job {
    /// 500 workflows at once of 10 sequential steps.
    W1,
    /// One workflow of one step at a time.
    W2,
    /// A parent with 1,000 children of one step.
    W3,
    /// 5,000 sequential steps in one run, and then a kill.
    W4,
    /// The memory of 10,000 workflows that sleep for an hour.
    W5,
}

impl Job {
    pub(crate) const ALL: [Self; 5] = [Self::W1, Self::W2, Self::W3, Self::W4, Self::W5];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::W1 => "w1",
            Self::W2 => "w2",
            Self::W3 => "w3",
            Self::W4 => "w4",
            Self::W5 => "w5",
        }
    }
}

/// What a process measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) figures: BTreeMap<Quantity, f64>,
    /// Where the job was cut short, and how far it had come.
    pub(crate) note: Option<String>,
}

/// How large the jobs are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// How long the measured part of a job may take.
    pub(crate) limit: Duration,
    /// A share of the full size.
    pub(crate) scale: f64,
}

impl Size {
    fn of(self, full: u32) -> u32 {
        ((f64::from(full) * self.scale).round() as u32).max(1)
    }

    /// The long run of `w4`: the step after these is the one that is killed.
    fn long_run(self) -> u32 {
        self.of(5_000)
    }

    /// How many steps the first and the last part of the long run have.
    fn part(self) -> u32 {
        self.of(500)
    }
}

/// How many workflows are started at once at most.
const CROWD: u32 = 500;
/// Steps of one workflow of `w1`.
const STEPS: u32 = 10;
/// How many steps of the long run are left when it is killed.
const LEFT: u32 = 50;
/// A round of `w1` or `w3` repeats the job until this much time or this many times have passed.
const REPEAT_FOR: Duration = Duration::from_secs(2);
const REPEAT_AT_MOST: u32 = 20;

/// 500 workflows at once, again and again.
pub(crate) async fn w1<E: Engine>(url: &str, size: Size) -> anyhow::Result<Outcome> {
    let step = Step::counted();
    let engine = Arc::new(E::start(url, Work::Steps(STEPS), step.clone()).await?);
    crowd(&engine, "warm-up", size.of(100)).await?;
    let idle = Memory::resident()?;
    Memory::forget_peak()?;
    let measured = repeated(size.limit, &step, async |number| {
        crowd(&engine, &format!("w1-{number}"), size.of(CROWD)).await
    })
    .await?;
    let peak = Memory::peak()? - idle;
    stop(engine).await;
    let mut outcome = measured.outcome(Quantity::StepRate);
    outcome.figures.insert(Quantity::CrowdMemory, peak);
    Ok(outcome)
}

/// One workflow after the other.
pub(crate) async fn w2<E: Engine>(url: &str, size: Size) -> anyhow::Result<Outcome> {
    let engine = E::start(url, Work::Steps(1), Step::counted()).await?;
    for index in 0..size.of(50) {
        engine.run(&format!("warm-up-{index}")).await?;
    }
    let mut times = Vec::new();
    let started = Instant::now();
    for index in 0..size.of(1_000) {
        if started.elapsed() > size.limit / 4 {
            break;
        }
        let before = Instant::now();
        engine.run(&format!("w2-{index}")).await?;
        times.push(before.elapsed().as_secs_f64() * 1e3);
    }
    engine.stop().await;
    let note = (times.len() < size.of(1_000) as usize)
        .then(|| format!("{} workflows within the limit", times.len()));
    let figures = [
        (Quantity::MedianTime, percentile(&times, 0.5)),
        (Quantity::SlowTime, percentile(&times, 0.99)),
    ];
    Ok(Outcome {
        figures: figures.into(),
        note,
    })
}

/// One family after the other.
pub(crate) async fn w3<E: Engine>(url: &str, size: Size) -> anyhow::Result<Outcome> {
    let step = Step::counted();
    let engine = E::start(url, Work::Children(size.of(1_000)), step.clone()).await?;
    let warm_up = Instant::now();
    let warmed_up = timeout(size.limit, engine.run("warm-up")).await;
    if warmed_up.is_err() {
        let rate = step.passed() as f64 / warm_up.elapsed().as_secs_f64();
        return Ok(Outcome {
            figures: [(Quantity::ChildRate, rate)].into(),
            note: Some(format!(
                "cut after {} children of the first family",
                step.passed()
            )),
        });
    }
    let measured = repeated(size.limit, &step, async |number| {
        engine.run(&format!("w3-{number}")).await
    })
    .await?;
    engine.stop().await;
    Ok(measured.outcome(Quantity::ChildRate))
}

/// The process that is killed: runs the long workflow until its step stalls.
pub(crate) async fn w4<E: Engine>(url: &str, size: Size) -> anyhow::Result<(E, Outcome)> {
    let stalls = Stall {
        at: size.long_run().into(),
        after: Some(Instant::now() + size.limit),
    };
    let (step, mut passes) = Step::traced(stalls);
    let work = Work::LongRun(size.long_run() + LEFT);
    let engine = E::start(url, work, step).await?;
    let times = until_stalled(&engine, &mut passes).await?;
    Ok((engine, first_and_last(&times, size)?))
}

/// When each step began.
async fn until_stalled<E: Engine>(
    engine: &E,
    passes: &mut mpsc::UnboundedReceiver<Pass>,
) -> anyhow::Result<Vec<Instant>> {
    let mut times = Vec::new();
    let mut run = pin!(engine.run("long"));
    loop {
        tokio::select! {
            ended = &mut run => {
                ended?;
                bail!("the long run ended without its last steps");
            }
            pass = passes.recv() => {
                let pass = pass.context("the worker ended")?;
                times.push(pass.at);
                if pass.has_stalled {
                    return Ok(times);
                }
            }
        }
    }
}

fn first_and_last(times: &[Instant], size: Size) -> anyhow::Result<Outcome> {
    let passed = times.len() - 1;
    let part = size.part() as usize;
    ensure!(passed >= part, "only {passed} steps within the limit");
    let rate = |from: usize, to: usize| part as f64 / (times[to] - times[from]).as_secs_f64();
    let (first, last) = (rate(0, part), rate(passed - part, passed));
    let figures = [
        (Quantity::FirstRate, first),
        (Quantity::LastRate, last),
        (Quantity::Slowing, last / first),
        (Quantity::Reached, passed as f64),
    ];
    let is_cut = passed < size.long_run() as usize;
    let seconds = size.limit.as_secs();
    Ok(Outcome {
        figures: figures.into(),
        note: is_cut.then(|| format!("killed at step {passed}, after {seconds} s")),
    })
}

/// The process that goes on with the killed one's work: waits for its first step.
pub(crate) async fn successor<E: Engine>(
    url: &str,
    size: Size,
    is_ready: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let stalls = Stall {
        at: u64::MAX,
        after: None,
    };
    let (step, mut passes) = Step::traced(stalls);
    let work = Work::LongRun(size.long_run() + LEFT);
    let engine = E::start(url, work, step).await?;
    is_ready().await?;
    let pass = passes.recv().await;
    engine.stop().await;
    Ok(pass.map_or(0, |pass| pass.number))
}

/// 10,000 sleepers.
pub(crate) async fn w5<E: Engine>(url: &str, size: Size) -> anyhow::Result<Outcome> {
    let step = Step::counted();
    let hour = Duration::from_secs(3_600);
    let engine = Arc::new(E::start(url, Work::Sleep(hour), step.clone()).await?);
    let (few, all) = (size.of(100), size.of(10_000));
    crowd(&engine, "warm-up", few).await?;
    let deadline = Instant::now() + size.limit;
    asleep(&step, few, deadline).await?;
    let idle = Memory::resident()?;
    Memory::forget_peak()?;
    let left = deadline - Instant::now();
    let starting = timeout(left, crowd(&engine, "sleeper", all));
    if let Ok(started) = starting.await {
        started?;
    }
    asleep(&step, few + all, deadline).await?;
    let (above, peak) = (Memory::resident()? - idle, Memory::peak()? - idle);
    let count = step.passed() - u64::from(few);
    let mut figures = BTreeMap::from([(Quantity::IdleMemory, idle)]);
    let is_cut = count < u64::from(all);
    if !is_cut {
        figures.extend([
            (Quantity::SleeperMemory, above),
            (Quantity::SleeperPeak, peak),
        ]);
    }
    let seconds = size.limit.as_secs();
    let note = format!("{count} sleepers within {seconds} s, {above:.1} MB above idle");
    Ok(Outcome {
        figures,
        note: is_cut.then_some(note),
    })
}

/// Waits until all have passed their step, and then until the memory stays the same for three
/// seconds, or ten seconds.
async fn asleep(step: &Step, count: u32, deadline: Instant) -> anyhow::Result<()> {
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    while step.passed() < count.into() && Instant::now() < deadline {
        looks.tick().await;
    }
    let (mut quiet, mut before) = (0, Memory::resident()?);
    for _ in 0..100 {
        looks.tick().await;
        let now = Memory::resident()?;
        quiet = if (now - before).abs() < 0.1 {
            quiet + 1
        } else {
            0
        };
        before = now;
        if quiet == 30 {
            break;
        }
    }
    Ok(())
}

/// Runs this many workflows, all at once up to [`CROWD`].
async fn crowd<E: Engine>(engine: &Arc<E>, name: &str, count: u32) -> anyhow::Result<()> {
    stream::iter(0..count)
        .map(|index| {
            let (engine, id) = (Arc::clone(engine), format!("{name}-{index}"));
            tokio::spawn(async move { engine.run(&id).await })
        })
        .buffer_unordered(CROWD as usize)
        .map(|ended| ended?)
        .try_collect()
        .await
}

async fn stop<E: Engine>(engine: Arc<E>) {
    // A workflow that was given up at the limit may still hold it; the process ends soon anyway.
    if let Ok(engine) = Arc::try_unwrap(engine) {
        engine.stop().await;
    }
}

/// How many steps took how long.
struct Measured {
    steps: u64,
    elapsed: Duration,
    is_cut: bool,
}

impl Measured {
    fn outcome(self, quantity: Quantity) -> Outcome {
        let rate = self.steps as f64 / self.elapsed.as_secs_f64();
        let seconds = self.elapsed.as_secs();
        let note = format!("cut after {} steps and {seconds} s", self.steps);
        Outcome {
            figures: [(quantity, rate)].into(),
            note: self.is_cut.then_some(note),
        }
    }
}

/// Repeats a job for a while; cuts it short at the limit.
async fn repeated(
    limit: Duration,
    step: &Step,
    mut job: impl AsyncFnMut(u32) -> anyhow::Result<()>,
) -> anyhow::Result<Measured> {
    let before = step.passed();
    let started = Instant::now();
    let mut is_cut = false;
    for number in 0..REPEAT_AT_MOST {
        let left = limit.saturating_sub(started.elapsed());
        match timeout(left, job(number)).await {
            Ok(ended) => ended?,
            Err(_) => is_cut = true,
        }
        if is_cut || started.elapsed() >= REPEAT_FOR {
            break;
        }
    }
    Ok(Measured {
        steps: step.passed() - before,
        elapsed: started.elapsed(),
        is_cut,
    })
}
