//! Shows how reliable the engine is, by experiment, and writes down what was shown.
//!
//! ```text
//!   protocol-model ─┐
//!        simulator ─┼── JSON ──▶ findings ──▶ page ──▶ docs/RELIABILITY.md
//!          torture ─┘
//! ```

mod findings;
mod machine;
mod page;
mod tool;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;

use crate::{findings::Findings, machine::Machine};

/// Runs the model, the simulator and torture, and writes what they found.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// How long torture takes, in minutes; without it, every fault strikes as often as a claim needs.
    #[arg(long)]
    minutes: Option<f64>,
    /// How many seeds the simulator runs.
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// The threads of the model and of the simulator.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A few minutes of all.
    #[arg(long, conflicts_with_all = ["minutes", "seeds"])]
    short: bool,
    /// The page.
    #[arg(long, default_value = "docs/RELIABILITY.md")]
    output: PathBuf,
    /// What was found by an earlier run, in place of another one.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Where what was found is kept as JSON.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("reliability: a promise was broken, or a deliberate bug was not found");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("reliability: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `false` if something does not hold. The page says so then.
fn run(options: &Options) -> anyhow::Result<bool> {
    let findings = match &options.from {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            serde_json::from_str(&text).with_context(|| path.display().to_string())?
        }
        None => find(options)?,
    };
    if let Some(path) = &options.keep {
        write(path, &serde_json::to_string_pretty(&findings)?)?;
    }
    write(&options.output, &page::of(&findings))?;
    Ok(findings.hold())
}

fn write(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// What was run, without what only concerns files.
fn command(options: &Options) -> String {
    let seeds = options.seeds;
    let arguments = match (options.short, options.minutes) {
        (true, _) => "--short".into(),
        (false, Some(minutes)) => format!("--minutes {minutes} --seeds {seeds}"),
        (false, None) => format!("--seeds {seeds}"),
    };
    format!("cargo run --release -p reliability -- {arguments}")
}

fn find(options: &Options) -> anyhow::Result<Findings> {
    let machine = Machine::here();
    let threads = options.threads.to_string();
    let seeds = match options.short {
        true => 5_000,
        false => options.seeds,
    };
    eprintln!("the model: every state");
    let model = tool::lines("protocol-model", &["--json", "--threads", &threads])?;
    eprintln!("the simulator: {seeds} seeds, then its deliberate bugs");
    let simulator = tool::one(
        "simulator",
        &[
            "simulate",
            "--json",
            "--from",
            "1",
            "--seeds",
            &seeds.to_string(),
            "--threads",
            &threads,
        ],
    )?;
    let mutants = tool::lines("simulator", &["mutants", "--json"])?;
    let campaigns = match (options.short, options.minutes) {
        (true, _) => tool::one("torture", &["short", "--json"])?,
        (false, None) => tool::one("torture", &["long", "--json"])?,
        (false, Some(minutes)) => {
            let minutes = minutes.to_string();
            tool::one("torture", &["long", "--json", "--minutes", &minutes])?
        }
    };
    let bugs = tool::one("torture", &["mutants", "--json"])?;
    Ok(Findings {
        command: command(options),
        machine,
        model,
        simulator,
        mutants,
        campaigns,
        bugs,
    })
}
