//! Breaks processes, connections and databases under running workflows, and checks that nothing was
//! lost.
//!
//! ```text
//!   referee ── starts, kills, stops ──▶ workers (torture worker) ──▶ proxy ──▶ Postgres, or a SQLite file
//!      │                                      │                                   ▲
//!      ├── load: starts, signals, cancels ────┼───────────────────────────────────┤
//!      └── checker: reads the journal ────────┼───────────────────────────────────┘
//!                 reads the ledger ◀── effects, in a file
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `program` | random programs, and the oracle that knows how they end |
//! | `workflow` | the workflows and the activity that carry them out |
//! | `ledger` | the effects of activities, outside the database |
//! | `victim` | a worker process |
//! | `tapped` | the journal as a worker sees it: calls may be dropped in the middle |
//! | `mutant` | deliberate bugs of that journal, which the referee must catch |
//! | `store`, `proxy` | the database, and what stands before it |
//! | `fleet`, `load` | the workers, and what they are given to do |
//! | `fault` | one module for each kind of fault |
//! | `check` | the promise, rule by rule |
//! | `campaign` | one fault from beginning to end |
//! | `lanes`, `report` | campaigns side by side, and what is told of all |

mod campaign;
mod check;
mod fault;
mod fleet;
mod lanes;
mod ledger;
mod load;
mod mutant;
mod program;
mod proxy;
mod report;
mod store;
mod tapped;
mod victim;
mod workflow;

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::ensure;
use clap::{Args, Parser, Subcommand};

use crate::{campaign::Outcome, fault::Entry, lanes::Course};

/// Breaks things under running workflows, and checks that nothing was lost.
#[derive(Parser)]
#[command(version)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Every fault a few times, in about a minute.
    Short(Choice),
    /// Every fault as often as a claim needs, or as there is time for.
    Long {
        #[command(flatten)]
        choice: Choice,
        /// How long all faults take together, but for the checks at their ends; as long as it takes, if not given.
        #[arg(long)]
        minutes: Option<f64>,
        /// How often each fault strikes, if not as often as it says by itself.
        #[arg(long)]
        cycles: Option<u64>,
    },
    /// Lets faults meet workers with deliberate bugs, each of which must be caught.
    Mutants(Choice),
    /// Names the faults.
    Faults,
    /// A worker under torture: what the others start.
    #[command(hide = true)]
    Worker(victim::Arguments),
}

/// Which campaigns, and what is told of them.
#[derive(Args)]
struct Choice {
    /// Only these faults.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only on this database.
    #[arg(long, value_parser = ["postgres", "sqlite"])]
    database: Option<String>,
    /// Repeats the programs and choices of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// Tells the outcome as JSON.
    #[arg(long)]
    json: bool,
    /// How many seconds runs may take to end when nothing is broken any more.
    #[arg(long, default_value_t = 240)]
    patience: u64,
    /// How many campaigns run side by side; one more than there are processors, if not given.
    #[arg(long)]
    at_once: Option<usize>,
    /// Where evidence is kept; a new directory, if none is given.
    #[arg(long)]
    evidence: Option<PathBuf>,
}

// The referee also waits for servers to start and databases to be dropped, while proxies go on.
#[tokio::main(worker_threads = 8)]
async fn main() -> ExitCode {
    let done = match Command::parse().action {
        Action::Short(choice) => torture(choice, None).await,
        Action::Long {
            choice,
            minutes,
            cycles,
        } => torture(choice, Some((minutes, cycles))).await,
        Action::Mutants(choice) => mutants(choice).await,
        Action::Faults => list(),
        Action::Worker(arguments) => victim::work(arguments).await.map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> anyhow::Result<bool> {
    let mut out = std::io::stdout();
    for entry in fault::ALL {
        writeln!(out, "{:<18} {:<9} {}", entry.name, entry.kind, entry.what)?;
    }
    Ok(true)
}

/// How long all may take, and how often each fault strikes.
type Long = (Option<f64>, Option<u64>);

/// Runs the campaigns. `false` if a promise was broken.
async fn torture(choice: Choice, long: Option<Long>) -> anyhow::Result<bool> {
    let entries = choice.entries(long.is_some())?;
    let minutes = long.and_then(|(minutes, _)| minutes);
    let course = choice.course(minutes, entries.len())?;
    let (directory, seed) = (course.directory.clone(), course.seed);
    let goal = |entry: &'static Entry| match long {
        None => (entry, entry.short),
        Some((_, cycles)) => (entry, cycles.unwrap_or(entry.long)),
    };
    let outcomes = course.run(entries.into_iter().map(goal).collect()).await;
    // Evidence stays, an empty directory does not.
    let _has_evidence = std::fs::remove_dir(&directory);
    choice.tell(&outcomes, seed)?;
    Ok(outcomes.iter().all(|outcome| outcome.violations.is_empty()))
}

/// `false` if a deliberate bug was not caught.
async fn mutants(choice: Choice) -> anyhow::Result<bool> {
    let course = choice.course(None, usize::MAX)?;
    let directory = course.directory.clone();
    let verdicts = mutant::all(course).await;
    let _is_empty = std::fs::remove_dir(&directory);
    let mut out = std::io::stdout();
    if choice.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&verdicts)?)?;
    } else {
        write!(out, "{}", report::verdicts(&verdicts))?;
    }
    Ok(verdicts
        .iter()
        .all(|verdict| verdict.caught_after.is_some()))
}

impl Choice {
    fn entries(&self, is_long: bool) -> anyhow::Result<Vec<&'static Entry>> {
        for name in &self.only {
            let is_known = fault::ALL.iter().any(|entry| entry.name == name);
            ensure!(is_known, "there is no fault {name:?}; see `torture faults`");
        }
        let is_chosen = |entry: &&Entry| {
            let database = entry.kind.to_string();
            (self.only.is_empty() || self.only.iter().any(|name| name == entry.name))
                && self.database.as_ref().is_none_or(|only| *only == database)
        };
        let entries: Vec<_> = fault::ALL
            .iter()
            .filter(is_chosen)
            .filter(|entry| is_long || entry.short > 0)
            .collect();
        ensure!(!entries.is_empty(), "no fault was chosen");
        Ok(entries)
    }

    fn course(&self, minutes: Option<f64>, most_at_once: usize) -> anyhow::Result<Course> {
        let directory = match &self.evidence {
            Some(directory) => directory.clone(),
            None => tempfile::Builder::new()
                .prefix("torture-")
                .tempdir()?
                .keep(),
        };
        Ok(Course {
            program: std::env::current_exe()?,
            directory,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..1 << 48)),
            patience: Duration::from_secs(self.patience),
            at_once: self.at_once().min(most_at_once),
            time: minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0)),
        })
    }

    fn at_once(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        self.at_once.unwrap_or_else(|| processors() + 1).max(1)
    }

    fn tell(&self, outcomes: &[Outcome], seed: u64) -> anyhow::Result<()> {
        let mut out = std::io::stdout();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(outcomes)?)?;
        } else {
            write!(out, "{}", report::table(outcomes, seed))?;
        }
        Ok(())
    }
}
