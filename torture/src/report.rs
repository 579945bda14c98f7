//! What is told of the campaigns.

use std::fmt::Write as _;

use comfy_table::{Table, presets};

use crate::{campaign::Outcome, mutant::Verdict};

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

/// Which deliberate bug was caught, and after how many strikes.
pub(crate) fn verdicts(verdicts: &[Verdict]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header(["bug", "fault", "database", "caught after", "rule"]);
    for verdict in verdicts {
        table.add_row([
            format!("{:?}", verdict.mutant),
            verdict.fault.into(),
            verdict.database.to_string(),
            match verdict.caught_after {
                Some(strikes) => format!("{strikes} strikes"),
                None => "NOT CAUGHT".into(),
            },
            verdict.rule.unwrap_or_default().into(),
        ]);
    }
    format!("{table}\n")
}
