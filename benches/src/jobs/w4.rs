//! 5,000 sequential steps in one run; then a kill, and the time until another process goes on.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use clap::Args;
use sync_workflow::{Activity, ActivityContext, Context, Failure, Worker, worker::WorkerBuilder};
use tokio::sync::mpsc;

use super::Plan;
use crate::{
    bare::Bare,
    process::Process,
    report::{Figure, Goal, Report, Target, ratios},
};

const LEASE: Duration = Duration::from_secs(2);
/// How much longer than the lease a take-over may take.
const GRACE: Duration = Duration::from_millis(500);

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let steps = plan.scaled(5_000, 50);
    let mut rates = Rates::default();
    let mut bare = Vec::new();
    let mut taken_over = Vec::new();
    for _ in 0..plan.rounds {
        let storage = plan.server.database()?;
        let appends = Bare::create(storage.url())
            .await?
            .lone_appends(steps)
            .await?;
        bare.push(f64::from(steps) / appends.iter().sum::<Duration>().as_secs_f64());
        rates.measure(storage.url(), steps).await?;
        let kill_at = steps - steps / 50;
        taken_over.push(
            take_over(storage.url(), steps, kill_at)
                .await?
                .as_secs_f64(),
        );
    }
    let slowing = Figure::of(
        "last tenth / first tenth",
        "",
        &ratios(&rates.last, &rates.first),
    );
    let after = Figure::of("kill -9 to the next new step elsewhere", "s", &taken_over);
    let goals = vec![
        Goal::new(
            "last tenth / first tenth",
            Target::AtLeast(0.9),
            slowing.median(),
        ),
        Goal::new(
            "kill -9 to the next new step, with a lease of 2 s",
            Target::AtMost((LEASE + GRACE).as_secs_f64()),
            after.median(),
        ),
    ];
    let figures = vec![
        Figure::of("engine, first tenth of the steps", "steps/s", &rates.first),
        Figure::of("engine, last tenth of the steps", "steps/s", &rates.last),
        slowing,
        Figure::of("engine, all steps", "steps/s", &rates.all),
        Figure::of("bare single-row commits", "steps/s", &bare),
        Figure::of("engine / bare", "", &ratios(&rates.all, &bare)),
        after,
    ];
    Ok(Report {
        job: "w4: 5,000 sequential steps in one run, and a kill at step 4,900",
        database: plan.server.name(),
        rounds: plan.rounds,
        figures,
        goals,
    })
}

/// Steps per second of one run.
#[derive(Default)]
struct Rates {
    first: Vec<f64>,
    last: Vec<f64>,
    all: Vec<f64>,
}

impl Rates {
    async fn measure(&mut self, url: &str, steps: u32) -> anyhow::Result<()> {
        let (passed, mut passes) = mpsc::unbounded_channel();
        let worker = worker(Step {
            passed,
            stalls_at: None,
        })
        .start(url)
        .await?;
        let client = worker.client();
        client.start(walk, "warm-up", 20).await?.result().await?;
        while passes.try_recv().is_ok() {}
        client
            .start(walk, "measured", u64::from(steps))
            .await?
            .result()
            .await?;
        let ended = Instant::now();
        worker.shutdown().await;
        let mut times = Vec::with_capacity(steps as usize);
        while let Ok((_, at)) = passes.try_recv() {
            times.push(at);
        }
        anyhow::ensure!(
            times.len() == steps as usize,
            "{} of {steps} steps ran",
            times.len()
        );
        let tenth = times.len() / 10;
        let rate =
            |steps: usize, from: Instant, to: Instant| steps as f64 / (to - from).as_secs_f64();
        self.first.push(rate(tenth, times[0], times[tenth]));
        self.last
            .push(rate(tenth, times[times.len() - tenth], ended));
        self.all.push(rate(times.len(), times[0], ended));
        Ok(())
    }
}

/// Runs the workflow in a second process, kills that at a step, and times how long this process,
/// which idles meanwhile, takes to go on with the step.
async fn take_over(url: &str, steps: u32, kill_at: u32) -> anyhow::Result<Duration> {
    let (passed, mut passes) = mpsc::unbounded_channel();
    let worker = worker(Step {
        passed,
        stalls_at: None,
    })
    .start(url)
    .await?;
    let (steps, kill_at) = (steps.to_string(), kill_at.to_string());
    let arguments = [
        "stalls",
        "--journal",
        url,
        "--steps",
        &steps,
        "--stalls-at",
        &kill_at,
    ];
    let mut process = Process::start(&arguments)?;
    let said = process.line().await?;
    anyhow::ensure!(said == kill_at, "the other process says {said:?}");
    let killed = Instant::now();
    process.kill()?;
    let first = passes.recv().await;
    let Some((step, at)) = first else {
        anyhow::bail!("no step was passed")
    };
    anyhow::ensure!(
        step.to_string() == kill_at,
        "step {step} ran again after the kill"
    );
    process.end().await?;
    worker
        .client()
        .handle(walk, "killed")
        .await?
        .result()
        .await?;
    worker.shutdown().await;
    Ok(at - killed)
}

/// A process that starts the workflow and stops at a step.
#[derive(Debug, Args)]
pub(crate) struct Stalls {
    #[arg(long)]
    journal: String,
    #[arg(long)]
    steps: u64,
    #[arg(long)]
    stalls_at: u64,
}

impl Stalls {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (passed, mut passes) = mpsc::unbounded_channel();
        let worker = worker(Step {
            passed,
            stalls_at: Some(self.stalls_at),
        })
        .start(&self.journal)
        .await?;
        worker.client().start(walk, "killed", self.steps).await?;
        while let Some((step, _)) = passes.recv().await {
            if step == self.stalls_at {
                let mut output = std::io::stdout().lock();
                writeln!(output, "{step}")?;
                output.flush()?;
            }
        }
        Ok(())
    }
}

fn worker(step: Step) -> WorkerBuilder {
    Worker::builder().lease(LEASE).workflow(walk).activity(step)
}

async fn walk(ctx: Context, steps: u64) -> Result<u64, Failure> {
    for step in 0..steps {
        ctx.activity(Step::activity(), step).await?;
    }
    Ok(steps)
}

/// An activity that tells when it ran, and may never end.
struct Step {
    passed: mpsc::UnboundedSender<(u64, Instant)>,
    stalls_at: Option<u64>,
}

impl Activity for Step {
    const NAME: &'static str = "step";
    type Input = u64;
    type Output = u64;
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, step: u64) -> Result<u64, Failure> {
        self.passed
            .send((step, Instant::now()))
            .map_err(|_gone| Failure::new("nobody counts the steps"))?;
        if self.stalls_at == Some(step) {
            std::future::pending::<()>().await;
        }
        Ok(step)
    }
}
