//! Figures and goals, and how they are printed.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// What one job measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) job: &'static str,
    pub(crate) database: &'static str,
    pub(crate) rounds: u32,
    pub(crate) figures: Vec<Figure>,
    pub(crate) goals: Vec<Goal>,
}

/// One quantity, over all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    what: &'static str,
    unit: &'static str,
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Figure {
    /// The figure of one or more values.
    pub(crate) fn of(what: &'static str, unit: &'static str, values: &[f64]) -> Self {
        let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self {
            what,
            unit,
            median: percentile(values, 0.5),
            lowest,
            highest,
        }
    }

    pub(crate) const fn median(&self) -> f64 {
        self.median
    }
}

/// A figure that was promised.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    what: &'static str,
    target: Target,
    measured: f64,
    reached: bool,
}

/// What a goal asks for.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub(crate) fn new(what: &'static str, target: Target, measured: f64) -> Self {
        let reached = match target {
            Target::AtLeast(bound) => measured >= bound,
            Target::AtMost(bound) => measured <= bound,
        };
        Self {
            what,
            target,
            measured,
            reached,
        }
    }
}

/// The ratios of two figures, round by round.
pub(crate) fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(of, to)| of / to).collect()
}

/// The value below which this share of the values lies; not a number if there are none.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let rank = share * last as f64;
    let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    below + (above - below) * rank.fract()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} on {}, medians of {}",
            self.job, self.database, self.rounds
        )?;
        let mut figures = table(&["figure", "median", "lowest", "highest", "unit"]);
        for figure in &self.figures {
            figures.add_row([
                figure.what.to_owned(),
                number(figure.median),
                number(figure.lowest),
                number(figure.highest),
                figure.unit.to_owned(),
            ]);
        }
        let mut goals = table(&["goal", "measured", "target", "reached"]);
        for goal in &self.goals {
            let target = match goal.target {
                Target::AtLeast(bound) => format!(">= {}", number(bound)),
                Target::AtMost(bound) => format!("<= {}", number(bound)),
            };
            let reached = if goal.reached { "yes" } else { "no" };
            goals.add_row([
                goal.what.to_owned(),
                number(goal.measured),
                target,
                reached.to_owned(),
            ]);
        }
        for table in [&mut figures, &mut goals] {
            for column in table.column_iter_mut().skip(1) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        write!(f, "{figures}\n{goals}")
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_header(header);
    table
}

/// Three digits that count, and never an exponent.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => grouped(value),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{number, percentile};

    #[test]
    fn a_percentile_lies_between_its_neighbours() {
        assert_eq!(percentile(&[4.0, 1.0, 3.0, 2.0], 0.5), 2.5);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn numbers_are_short() {
        let shown = [1_234_567.0, 123.4, 12.34, 1.234, 0.1234].map(number);
        assert_eq!(shown, ["1,234,567", "123", "12.3", "1.23", "0.123"]);
    }
}
