//! Checks the protocol and its mutants, and prints what was found.

#![expect(clippy::print_stdout, reason = "what it finds is its output")]

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use comfy_table::{Table, presets};

use protocol_model::{Bounds, Protocol, Variant, search};
use serde_json::json;

/// Looks at every state that the protocol between nodes and database can reach, and shows that each of
/// its rules is needed.
#[derive(Debug, Parser)]
struct Options {
    /// Processes at once.
    #[arg(long, default_value_t = 2)]
    nodes: usize,
    /// Runs.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Steps of each run.
    #[arg(long, default_value_t = 3)]
    steps: u8,
    /// Crashes of a process.
    #[arg(long, default_value_t = 1)]
    crashes: u8,
    /// Living nodes that are declared dead.
    #[arg(long, default_value_t = 1)]
    reaps: u8,
    /// Answers that are lost, and requests that their sender gave up.
    #[arg(long, default_value_t = 2)]
    lost_answers: u8,
    /// Runs that an operator ends.
    #[arg(long, default_value_t = 1)]
    terminations: u8,
    /// Times that an operator pauses a run.
    #[arg(long, default_value_t = 1)]
    pauses: u8,
    /// Threads that search.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Print the way to each failure.
    #[arg(long)]
    paths: bool,
    /// Tells the outcome as JSON, a line for each variant.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let bounds = Bounds {
        nodes: options.nodes,
        runs: options.runs,
        steps: options.steps,
        crashes: options.crashes,
        reaps: options.reaps,
        lost_answers: options.lost_answers,
        terminations: options.terminations,
        pauses: options.pauses,
    };
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "variant",
        "states",
        "depth",
        "seconds",
        "what does not hold",
        "after actions",
    ]);
    let mut is_sound = true;
    for variant in std::iter::once(Variant::Real).chain(Variant::MUTANTS) {
        let started = Instant::now();
        let model = Protocol { variant, bounds };
        let found = search(model, options.threads);
        is_sound &= found.broken.is_empty() == (variant == Variant::Real);
        let names: Vec<_> = found.broken.iter().map(|(name, _)| *name).collect();
        let shortest = found.broken.iter().map(|(_, path)| path.len()).min();
        if options.json {
            let line = json!({
                "variant": variant.to_string(),
                "states": found.states,
                "depth": found.depth,
                "seconds": started.elapsed().as_secs_f64(),
                "broken": names,
            });
            println!("{line}");
            continue;
        }
        if options.paths {
            for (name, path) in &found.broken {
                println!("{variant}: {name}: {path:?}");
            }
        }
        table.add_row([
            variant.to_string(),
            found.states.to_string(),
            found.depth.to_string(),
            format!("{:.1}", started.elapsed().as_secs_f64()),
            names.join("; "),
            shortest
                .map(|length| length.to_string())
                .unwrap_or_default(),
        ]);
    }
    if !options.json {
        let verdict = match is_sound {
            true => "the protocol holds, and every mutant was caught",
            false => "the protocol does not hold, or a mutant was not caught",
        };
        println!("{bounds:?}\n{table}\n{verdict}");
    }
    if is_sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
