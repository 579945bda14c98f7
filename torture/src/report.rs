//! What is told of the campaigns: a table, JSON, a page.

use std::{fmt::Write as _, path::Path};

use anyhow::Context as _;
use comfy_table::{Table, presets};

use crate::campaign::Outcome;

/// The most violations of one campaign that are printed; the JSON has all of them.
const PRINTED: usize = 12;

const COLUMNS: [&str; 9] = [
    "fault",
    "database",
    "cycles",
    "struck",
    "runs",
    "records",
    "violations",
    "p50",
    "p99",
];

fn cells(outcome: &Outcome) -> [String; 9] {
    let milliseconds = |value: Option<f64>| match value {
        Some(value) => format!("{value:.0} ms"),
        None => "-".into(),
    };
    [
        outcome.fault.clone(),
        outcome.database.clone(),
        outcome.cycles.to_string(),
        outcome.struck.to_string(),
        outcome.runs.to_string(),
        outcome.records.to_string(),
        outcome.violations.len().to_string(),
        milliseconds(outcome.recovery_p50),
        milliseconds(outcome.recovery_p99),
    ]
}

/// A table for people, and the evidence of what went wrong.
pub(crate) fn table(outcomes: &[Outcome], seed: u64) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header(COLUMNS);
    for outcome in outcomes.iter().filter(|outcome| outcome.skipped.is_none()) {
        table.add_row(cells(outcome));
    }
    let mut text = format!("{table}\nseed {seed}\n");
    for outcome in outcomes {
        let name = format!("{} on {}", outcome.fault, outcome.database);
        if let Some(reason) = &outcome.skipped {
            let _ = writeln!(text, "SKIPPED {name}: {reason}");
        }
        for violation in outcome.violations.iter().take(PRINTED) {
            let _ = writeln!(
                text,
                "VIOLATION {name}: {}: {}",
                violation.rule, violation.detail
            );
        }
        if let Some(kept) = &outcome.kept {
            let kept = kept.display();
            let seed = outcome.seed;
            let _ = writeln!(text, "EVIDENCE {name}: seed {seed}, {kept}");
        }
    }
    text
}

/// Writes the page.
pub(crate) fn write(
    path: &Path,
    outcomes: &[Outcome],
    command: &str,
    seed: u64,
) -> anyhow::Result<()> {
    let text = page(outcomes, command, seed);
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

const INTRODUCTION: &str = "\
Worker processes run workflows of random steps (activities, transactional steps, timers, signals, children, races, cancellation, runs that \
continue as new) while something is broken. A referee outside of them keeps the load up, and at the end reads the whole journal through the \
public port, a ledger that activities write to a file beside the database, and a table that transactional steps write. It asserts:

- positions without holes; each command completed once; every run ended, with the result that a pure oracle computes from its input;
- the SQL of a transactional step exists exactly once, and not at all if the step failed;
- no result without its effect; an activity is not tried again after its result was journaled, except by a node that was declared dead and \
does not know it yet; nobody takes an activity over from a node that is alive; at most once is at most once;
- signals, timers and the results of children are delivered once; no timer fires before its time; nothing is left open, no session inside a \
transaction, no attempt of a closed run;
- at least half of the faults struck, and the runs that were checked are no fewer than 20 and a tenth of the cycles.

*Recovery* is the time from the fault to the next committed record: of the runs that the victim held where the victim is one process, of any run \
where the fault meets all.
";

fn page(outcomes: &[Outcome], command: &str, seed: u64) -> String {
    let mut text = format!("# Torture\n\n`{command}`, seed {seed}.\n\n{INTRODUCTION}\n");
    let _ = writeln!(text, "| {} | what it is |", COLUMNS.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(COLUMNS.len() + 1));
    for outcome in outcomes.iter().filter(|outcome| outcome.skipped.is_none()) {
        let _ = writeln!(
            text,
            "| {} | {} |",
            cells(outcome).join(" | "),
            outcome.what
        );
    }
    let sum = |count: fn(&Outcome) -> usize| outcomes.iter().map(count).sum::<usize>();
    let _ = writeln!(
        text,
        "\nIn all {} faults struck; {} runs with {} records, {} tries of activities and {} transactional steps were checked, \
         of {} worker processes, in {:.0} s.",
        outcomes.iter().map(|outcome| outcome.struck).sum::<u64>(),
        sum(|outcome| outcome.runs),
        sum(|outcome| outcome.records),
        sum(|outcome| outcome.activities),
        sum(|outcome| outcome.transactions),
        sum(|outcome| outcome.workers as usize),
        outcomes.iter().map(|outcome| outcome.seconds).sum::<f64>(),
    );
    for outcome in outcomes {
        if let Some(reason) = &outcome.skipped {
            let _ = writeln!(
                text,
                "\nNot tested: {} on {}: {reason}.",
                outcome.fault, outcome.database
            );
        }
        for violation in &outcome.violations {
            let _ = writeln!(
                text,
                "\n- {} on {}: {}: {}",
                outcome.fault, outcome.database, violation.rule, violation.detail
            );
        }
    }
    text
}
