//! The command of the simulator.

use std::{
    io::Write,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;
use simulator::{Figures, Mutant, Options, Report, simulate};

/// Simulates the durable engine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the simulations of many seeds, or of one.
    Simulate(Simulate),
    /// Shows that each deliberate bug is caught, and after how many seeds.
    Mutants {
        /// Gives up on a bug after this many seeds.
        #[arg(long, default_value_t = 20_000)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Tells the outcome as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct Simulate {
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// One seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// How many threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Prints what happened, step by step.
    #[arg(long)]
    trace: bool,
    /// Replays every prefix of every journal.
    #[arg(long)]
    thorough: bool,
    /// Runs each seed twice and compares the traces.
    #[arg(long)]
    twice: bool,
    /// With a deliberate bug.
    #[arg(long)]
    mutant: Option<Mutant>,
    /// Stops after this many violations.
    #[arg(long, default_value_t = 10)]
    violations: u64,
    /// Tells the outcome as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Simulate(arguments) => run(&arguments),
        Command::Mutants { seeds, from, json } => mutants(from, seeds, json),
    }
}

fn run(arguments: &Simulate) -> anyhow::Result<ExitCode> {
    let options = Options {
        mutant: arguments.mutant,
        traces: arguments.trace,
        is_thorough: arguments.thorough,
    };
    let (from, seeds) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (arguments.from, arguments.seeds),
    };
    let began = Instant::now();
    let campaign = Campaign {
        options,
        twice: arguments.twice,
        json: arguments.json,
        most_violations: arguments.violations,
        next: AtomicU64::new(from),
        end: from + seeds,
        found: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| campaign.work());
        }
    });
    let found = campaign
        .found
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let mut out = std::io::stdout().lock();
    let seconds = began.elapsed().as_secs_f64();
    let told = match arguments.json {
        true => writeln!(
            out,
            "{}",
            json!({
                "from": from,
                "seeds": found.seeds,
                "violations": found.violations,
                "seconds": seconds,
                "figures": found.figures,
            })
        ),
        false => summary(&mut out, &found, seconds),
    };
    told.context("the summary could not be written")?;
    Ok(if found.violations == 0 && found.seeds > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Many seeds, shared by threads.
struct Campaign {
    options: Options,
    twice: bool,
    /// Whether the standard output is for JSON alone.
    json: bool,
    most_violations: u64,
    next: AtomicU64,
    end: u64,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    seeds: u64,
    violations: u64,
    figures: Figures,
}

impl Campaign {
    fn tell(&self, report: &Report) -> std::io::Result<()> {
        match self.json {
            true => print(std::io::stderr().lock(), report),
            false => print(std::io::stdout().lock(), report),
        }
    }

    fn work(&self) {
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end {
                return;
            }
            let mut report = simulate(seed, self.options);
            if self.twice && report.violation.is_none() {
                let digest = simulate(seed, self.options).digest;
                if digest != report.digest {
                    report.violation = Some(format!(
                        "the same seed gave another trace: {digest:016x} instead of {:016x}",
                        report.digest
                    ));
                }
            }
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.seeds += 1;
            found.figures.add(&report.figures);
            found.violations += u64::from(report.violation.is_some());
            if self.tell(&report).is_err() || found.violations >= self.most_violations {
                self.next.store(self.end, Ordering::Relaxed);
            }
        }
    }
}

fn print(mut out: impl Write, report: &Report) -> std::io::Result<()> {
    for line in &report.lines {
        writeln!(out, "{line}")?;
    }
    if let Some(violation) = &report.violation {
        writeln!(out, "seed {}: {violation}", report.seed)?;
    } else if !report.lines.is_empty() {
        writeln!(out, "seed {}: trace {:016x}", report.seed, report.digest)?;
    }
    Ok(())
}

fn summary(out: &mut impl Write, found: &Found, seconds: f64) -> std::io::Result<()> {
    let figures = &found.figures;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = found.seeds as f64 / seconds;
    writeln!(
        out,
        "{} seeds in {seconds:.1} s ({rate:.0}/s): {} violations",
        found.seeds, found.violations
    )?;
    writeln!(
        out,
        "{} steps, {} simulated hours, {} runs, {} records, {} commits, {} attempts, {} steps in transactions, \
         {} signals, {} crashes, {} dead nodes, {} lost runs, {} starts through a worker, {} suspensions, \
         {} commits beside another, {} of them first, {} crashes between two, {} belated commits, \
         {} that met themselves",
        figures.steps,
        figures.millis / 3_600_000,
        figures.runs,
        figures.records,
        figures.commits,
        figures.attempts,
        figures.transactions,
        figures.signals,
        figures.crashes,
        figures.dead_nodes,
        figures.lost_runs,
        figures.local_starts,
        figures.suspensions,
        figures.beside,
        figures.overtaking,
        figures.torn,
        figures.belated,
        figures.met_itself
    )
}

fn mutants(from: u64, seeds: u64, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut survivors = 0;
    for mutant in Mutant::value_variants() {
        let options = Options {
            mutant: Some(*mutant),
            ..Options::default()
        };
        let caught = (from..from + seeds).find_map(|seed| {
            let violation = simulate(seed, options).violation?;
            // What is wrong without the bug as well is none of its doing.
            let is_its_doing = simulate(seed, Options::default()).violation.is_none();
            is_its_doing.then_some((seed, violation))
        });
        let name = mutant
            .to_possible_value()
            .context("every mutant has a name")?;
        if as_json {
            let runs = caught.as_ref().map(|(seed, _)| seed - from + 1);
            let line = json!({
                "mutant": name.get_name(),
                "what": name.get_help().map(ToString::to_string),
                "caught_after": runs,
            });
            survivors += u32::from(runs.is_none());
            writeln!(out, "{line}")?;
            continue;
        }
        match caught {
            Some((seed, violation)) => {
                let runs = seed - from + 1;
                writeln!(
                    out,
                    "{:<22} caught after {runs} seeds: {violation}",
                    name.get_name()
                )?;
            }
            None => {
                survivors += 1;
                writeln!(out, "{:<22} NOT caught in {seeds} seeds", name.get_name())?;
            }
        }
        out.flush()?;
    }
    Ok(if survivors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
