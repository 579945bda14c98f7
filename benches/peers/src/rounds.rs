//! The rounds: every job on every engine in turn, each in an empty database of its own.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::bail;
use serde::Serialize;
use throwaway_postgres::Cluster;

use crate::{
    child::{Part, Process, Said},
    engines::{EngineName, Recovery},
    job::{Job, Outcome, Size},
    quantity::Quantity,
};

/// How much longer than the limit of a job its preparation and its end may take.
const GRACE: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) jobs: Vec<Job>,
    pub(crate) engines: Vec<EngineName>,
    pub(crate) rounds: u32,
    pub(crate) size: Size,
}

/// All figures of all rounds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Results {
    /// `None` where a round has no figure.
    pub(crate) figures: BTreeMap<EngineName, BTreeMap<Quantity, Vec<Option<f64>>>>,
    pub(crate) remarks: Vec<Remark>,
}

/// What is to be said beside the figures: an error, a job that was cut short, one that is missing.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Remark {
    pub(crate) engine: EngineName,
    pub(crate) job: Job,
    /// From 1; 0 for all of them.
    pub(crate) round: u32,
    pub(crate) text: String,
}

impl Results {
    /// Runs the plan on a server.
    pub(crate) async fn of(plan: &Plan, cluster: &Cluster) -> anyhow::Result<Self> {
        let mut results = Self::default();
        for (job, engine) in pairs(plan) {
            if let Some(lack) = engine.lacks(job) {
                results.remark(engine, job, 0, lack.to_owned());
            }
        }
        for round in 1..=plan.rounds {
            for (job, engine) in pairs(plan) {
                if engine.lacks(job).is_some() {
                    continue;
                }
                results.measure(plan, cluster, round, job, engine).await?;
            }
        }
        Ok(results)
    }

    async fn measure(
        &mut self,
        plan: &Plan,
        cluster: &Cluster,
        round: u32,
        job: Job,
        engine: EngineName,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let database = cluster.create_database()?;
        // What the job before this one left to be written is not this one's burden.
        database.psql("checkpoint")?;
        let outcome = match job {
            Job::W4 => killed(engine, database.url(), plan.size).await,
            Job::W1 | Job::W2 | Job::W3 | Job::W5 => {
                one(engine, job, database.url(), plan.size).await
            }
        };
        let outcome = outcome.unwrap_or_else(|error| Outcome {
            figures: BTreeMap::new(),
            note: Some(format!("{error:#}")),
        });
        eprintln!(
            "round {round}, {}, {}: {} in {} s",
            job.name(),
            engine.name(),
            serde_json::to_string(&outcome.figures)?,
            started.elapsed().as_secs(),
        );
        if let Some(note) = outcome.note {
            self.remark(engine, job, round, note);
        }
        for quantity in Quantity::ALL
            .into_iter()
            .filter(|quantity| quantity.job() == job)
        {
            let figures = self.figures.entry(engine).or_default();
            let rounds = figures.entry(quantity).or_default();
            rounds.push(outcome.figures.get(&quantity).copied());
        }
        Ok(())
    }

    fn remark(&mut self, engine: EngineName, job: Job, round: u32, text: String) {
        eprintln!("{}, {}: {text}", engine.name(), job.name());
        self.remarks.push(Remark {
            engine,
            job,
            round,
            text,
        });
    }
}

/// Engines take turns within a job, so that a change of the machine's mood meets all of them.
fn pairs(plan: &Plan) -> impl Iterator<Item = (Job, EngineName)> + '_ {
    let engines = |job| plan.engines.iter().map(move |engine| (job, *engine));
    plan.jobs.iter().copied().flat_map(engines)
}

async fn one(engine: EngineName, job: Job, url: &str, size: Size) -> anyhow::Result<Outcome> {
    let mut process = Process::start(engine, job, Part::Job, url, size)?;
    let said = process.says(size.limit * 2 + GRACE).await;
    process.kill().await?;
    match said? {
        Said::Measured(outcome) => Ok(outcome),
        other => bail!("an answer was expected, not {other:?}"),
    }
}

/// Kills the process of the long run, and times the next new step elsewhere.
async fn killed(engine: EngineName, url: &str, size: Size) -> anyhow::Result<Outcome> {
    let mut victim = Process::start(engine, Job::W4, Part::Job, url, size)?;
    let Said::Measured(mut outcome) = victim.says(size.limit + GRACE).await? else {
        bail!("the long run was not measured");
    };
    match back_after(engine, url, size, victim).await {
        Ok(seconds) => {
            outcome.figures.insert(Quantity::BackAfter, seconds);
        }
        Err(error) => {
            let notes = outcome.note.into_iter();
            let notes = notes.chain([format!("after the kill: {error:#}")]);
            outcome.note = Some(notes.collect::<Vec<_>>().join("; "));
        }
    }
    Ok(outcome)
}

async fn back_after(
    engine: EngineName,
    url: &str,
    size: Size,
    mut victim: Process,
) -> anyhow::Result<f64> {
    let start = || Process::start(engine, Job::W4, Part::Successor, url, size);
    let (mut successor, killed) = match engine.recovery() {
        Recovery::TakeOver => {
            let mut successor = start()?;
            expect_ready(&mut successor).await?;
            let killed = Instant::now();
            victim.kill().await?;
            (successor, killed)
        }
        Recovery::Restart => {
            let killed = Instant::now();
            victim.kill().await?;
            let mut successor = start()?;
            expect_ready(&mut successor).await?;
            (successor, killed)
        }
    };
    let said = successor.says(size.limit + GRACE).await?;
    let seconds = killed.elapsed().as_secs_f64();
    match said {
        Said::GoesOn(_) => Ok(seconds),
        other => bail!("a step was expected, not {other:?}"),
    }
}

async fn expect_ready(successor: &mut Process) -> anyhow::Result<()> {
    match successor.says(GRACE).await? {
        Said::Ready => Ok(()),
        other => bail!("the successor is not ready but says {other:?}"),
    }
}
