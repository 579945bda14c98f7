//! The whole jobs that the engine is for, timed beside bare loops that write the same without it.
//!
//! ```text
//! cargo run --profile dist -p benches -- <w1|w2|w3|w4|w5|sync> [--database URL] [--json] [--rounds N]
//! cargo run --release -p benches -- growth [--only SERIES,...] [--rounds N] [--json] [--write]
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `jobs` | one module per job |
//! | `growth` | what becomes of the figures when something grows: one module per series |
//! | `bare` | the loops without an engine, on Postgres and on SQLite |
//! | `server` | where the databases of the rounds come from |
//! | `process` | a second process of this program, and what `/proc` tells of it |
//! | `report` | figures, goals, and how they are printed |

mod bare;
mod cpu;
mod growth;
mod jobs;
mod process;
mod report;
mod server;

use std::{io::Write, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{jobs::Plan, server::Server};

/// Times whole jobs beside bare loops that write the same without an engine.
#[derive(Debug, Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// 500 workflows at once of 10 sequential activities: journaled steps per second.
    W1(Settings),
    /// One workflow of one activity at a time: milliseconds from start to result.
    W2(Settings),
    /// 1,000 children of one activity, started and awaited by one parent: children per second.
    W3(Settings),
    /// 5,000 sequential steps in one run; then a kill, and the time until another process goes on.
    W4(Settings),
    /// The memory of 10,000 workflows that sleep for an hour.
    W5(Settings),
    /// A full sync of 410,000 records: records per second, and memory.
    Sync(Settings),
    /// What becomes of the figures when something grows, as tables and plots.
    Growth(growth::Growth),
    /// A process that a series of `growth` measures.
    #[command(hide = true, subcommand)]
    Grown(growth::Grown),
    /// The second process of `w4`: runs a workflow that stops at a step, and says so.
    #[command(hide = true)]
    Stalls(jobs::w4::Stalls),
    /// The process that `w5` measures.
    #[command(hide = true)]
    Sleepers(jobs::w5::Sleepers),
    /// The process that serves the records of `sync`.
    #[command(hide = true)]
    Source(jobs::sync::Source),
    /// The process that `sync` measures.
    #[command(hide = true)]
    Synced(jobs::sync::Filler),
    /// The bare loop of `sync`.
    #[command(hide = true)]
    Copies(jobs::sync::Filler),
}

#[derive(Debug, Args)]
struct Settings {
    /// `postgres://…`: each round runs in a database of its own on that server. `sqlite:` or
    /// `sqlite:DIRECTORY`: in a file of its own. Without it, a PostgreSQL of its own is started.
    #[arg(long, env = "BENCH_DATABASE")]
    database: Option<String>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// How often everything is repeated; medians are printed.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The size of the job, as a share of the full one.
    #[arg(long, hide = true, default_value_t = 1.0)]
    scale: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(CommandLine::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    let (settings, job) = match command {
        Command::W1(settings) => (settings, jobs::Job::W1),
        Command::W2(settings) => (settings, jobs::Job::W2),
        Command::W3(settings) => (settings, jobs::Job::W3),
        Command::W4(settings) => (settings, jobs::Job::W4),
        Command::W5(settings) => (settings, jobs::Job::W5),
        Command::Sync(settings) => (settings, jobs::Job::Sync),
        Command::Growth(growth) => return growth.run().await,
        Command::Grown(process) => return process.run().await,
        Command::Stalls(process) => return process.run().await,
        Command::Sleepers(process) => return process.run().await,
        Command::Source(process) => return process.run().await,
        Command::Synced(process) => return process.sync().await,
        Command::Copies(process) => return process.copy().await,
    };
    let server = Server::open(settings.database.as_deref())?;
    let plan = Plan {
        server,
        rounds: settings.rounds,
        scale: settings.scale,
    };
    let report = job.run(&plan).await?;
    let text = if settings.json {
        serde_json::to_string_pretty(&report)?
    } else {
        report.to_string()
    };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}
