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
//! | `store`, `proxy` | the database, and what stands before it |
//! | `fleet`, `load` | the workers, and what they are given to do |
//! | `fault` | one module for each kind of fault |
//! | `check` | the promise, rule by rule |
//! | `campaign`, `report` | one fault from beginning to end, and what is told of all |

mod campaign;
mod check;
mod fault;
mod fleet;
mod ledger;
mod load;
mod program;
mod proxy;
mod report;
mod store;
mod tapped;
mod victim;
mod workflow;

use std::{
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use throwaway_postgres::Cluster;

use crate::{
    campaign::{Arena, Length, Outcome},
    fault::Entry,
    store::Kind,
};

/// Breaks things under running workflows, and checks that nothing was lost.
#[derive(Parser)]
#[command(version)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Every fault a few times, in about three minutes.
    Short(Choice),
    /// Every fault as often as a claim needs, or as there is time for.
    Long {
        #[command(flatten)]
        choice: Choice,
        /// How long all faults take together, without the checks at their ends.
        #[arg(long, default_value_t = 240.0)]
        minutes: f64,
        /// How often each fault strikes, if not as often as it says by itself.
        #[arg(long)]
        cycles: Option<u64>,
    },
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
    /// Where evidence is kept; a new directory, if none is given.
    #[arg(long)]
    evidence: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Command::parse().action {
        Action::Short(choice) => torture(choice, None).await,
        Action::Long {
            choice,
            minutes,
            cycles,
        } => torture(choice, Some((minutes, cycles))).await,
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

/// Runs the campaigns one after the other. `false` if a promise was broken.
async fn torture(choice: Choice, long: Option<(f64, Option<u64>)>) -> anyhow::Result<bool> {
    let entries = choice.entries(long.is_some())?;
    let directory = match &choice.evidence {
        Some(directory) => directory.clone(),
        None => tempfile::Builder::new()
            .prefix("torture-")
            .tempdir()?
            .keep(),
    };
    let needs_server = entries.iter().any(|entry| entry.kind == Kind::Postgres);
    let arena = Arena {
        program: &std::env::current_exe()?,
        directory: &directory,
        seed: choice.seed.unwrap_or_else(|| fastrand::u64(..1 << 48)),
        patience: Duration::from_secs(choice.patience),
        server: needs_server.then(start_server).transpose()?,
    };
    let mut outcomes = Vec::new();
    let begun = Instant::now();
    for (index, entry) in entries.iter().enumerate() {
        let length = length(entry, entries.len() - index, begun.elapsed(), long);
        let outcome = entry.campaigns(&arena, length).await;
        tell_progress(&outcome);
        outcomes.push(outcome);
    }
    // Evidence stays, an empty directory does not.
    let _has_evidence = std::fs::remove_dir(&directory);
    choice.tell(&outcomes, arena.seed)?;
    Ok(outcomes.iter().all(|outcome| outcome.violations.is_empty()))
}

fn start_server() -> anyhow::Result<Arc<Cluster>> {
    // No fault here takes the machine down with its disk cache, so nothing waits for the disk.
    let server = Cluster::builder().fsync(false).start();
    Ok(Arc::new(server.context("a server for the journals")?))
}

/// What is left of the time is shared evenly by the faults that are left.
fn length(
    entry: &Entry,
    faults_left: usize,
    elapsed: Duration,
    long: Option<(f64, Option<u64>)>,
) -> Length {
    match long {
        None => Length {
            cycles: entry.short,
            time: Duration::from_secs(60),
        },
        Some((minutes, cycles)) => Length {
            cycles: cycles.unwrap_or(entry.long),
            time: Duration::from_secs_f64(minutes * 60.0).saturating_sub(elapsed)
                / u32::try_from(faults_left).unwrap_or(u32::MAX),
        },
    }
}

fn tell_progress(outcome: &Outcome) {
    let Outcome {
        fault, database, ..
    } = outcome;
    if let Some(reason) = &outcome.skipped {
        eprintln!("{fault} on {database}: skipped: {reason}");
        return;
    }
    eprintln!(
        "{fault} on {database}: {} of {} struck, {} runs, {} violations, {:.0} s",
        outcome.struck,
        outcome.cycles,
        outcome.runs,
        outcome.violations.len(),
        outcome.seconds,
    );
    if let Some(first) = outcome.violations.first() {
        eprintln!("  {}: {}", first.rule, first.detail);
    }
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
