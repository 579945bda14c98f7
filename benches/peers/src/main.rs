//! The same five jobs on this engine and on other durable engines, side by side.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- [--jobs w1,w2] [--engines dbos]
//!     [--rounds 3] [--json] [--write]
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `engines` | one module per engine, behind one trait |
//! | `job` | the five jobs, generic over the engine |
//! | `step` | the step that all workflows consist of |
//! | `child` | the process that a job runs in |
//! | `rounds` | which process runs when; the kill |
//! | `quantity` | what is measured |
//! | `memory`, `machine` | what `/proc` tells |
//! | `report` | tables, JSON, the page |

mod child;
mod engines;
mod job;
mod machine;
mod memory;
mod quantity;
mod report;
mod rounds;
mod step;

use std::{
    io::Write,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use throwaway_postgres::Cluster;

use crate::{
    engines::EngineName,
    job::{Job, Size},
    machine::Machine,
    report::Report,
    rounds::{Plan, Results},
};

/// Runs the same jobs on this engine and on other durable engines, side by side.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One process of a round.
    #[command(hide = true)]
    Part(child::Arguments),
}

#[derive(Debug, Args)]
struct Settings {
    /// The jobs to run; all of them if none is named.
    #[arg(long, value_delimiter = ',')]
    jobs: Vec<Job>,
    /// The engines to compare; all of them if none is named.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<EngineName>,
    /// How often everything is repeated; medians are printed.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How many seconds the measured part of a job may take.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    limit: u64,
    /// Prints JSON, with the figures of all rounds, instead of tables.
    #[arg(long)]
    json: bool,
    /// Writes the page `docs/benchmarks/peers.md`.
    #[arg(long)]
    write: bool,
    /// The size of the jobs, as a share of the full one.
    #[arg(long, hide = true, default_value_t = 1.0)]
    scale: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let line = CommandLine::parse();
    let ended = match line.command {
        Some(Command::Part(arguments)) => Box::pin(arguments.run()).await,
        None => line.settings.run().await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Settings {
    async fn run(self) -> anyhow::Result<()> {
        let plan = self.plan();
        let cluster = Cluster::start().context("cannot start a PostgreSQL")?;
        let machine = Machine::now(&cluster)?;
        let started = Instant::now();
        let results = Results::of(&plan, &cluster).await?;
        let report = Report {
            machine,
            load_after: machine::load()?,
            minutes: started.elapsed().as_secs_f64() / 60.0,
            rounds: plan.rounds,
            limit_seconds: self.limit,
            results,
            plan,
        };
        if self.write {
            report.write(&self.command())?;
        }
        let mut output = std::io::stdout().lock();
        if self.json {
            writeln!(output, "{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            write!(output, "{report}")?;
        }
        Ok(())
    }

    fn plan(&self) -> Plan {
        Plan {
            jobs: chosen(&self.jobs, Job::ALL),
            engines: chosen(&self.engines, EngineName::ALL),
            rounds: self.rounds,
            size: Size {
                limit: Duration::from_secs(self.limit),
                scale: self.scale,
            },
        }
    }

    /// How to do the same again.
    fn command(&self) -> String {
        let mut command =
            String::from("cargo run --release --manifest-path benches/peers/Cargo.toml --");
        let mut say = |option: &str, value: &str| {
            command = format!("{command} {option} {value}");
        };
        let names: Vec<_> = self.jobs.iter().map(|job| job.name()).collect();
        if !names.is_empty() {
            say("--jobs", &names.join(","));
        }
        let names: Vec<_> = self.engines.iter().map(|engine| engine.name()).collect();
        if !names.is_empty() {
            say("--engines", &names.join(","));
        }
        say("--rounds", &self.rounds.to_string());
        say("--limit", &self.limit.to_string());
        command + " --write"
    }
}

/// What was named, in its usual order, or everything.
fn chosen<T: PartialEq + Copy, const N: usize>(named: &[T], all: [T; N]) -> Vec<T> {
    let is_chosen = |one: &T| named.is_empty() || named.contains(one);
    all.into_iter().filter(is_chosen).collect()
}
