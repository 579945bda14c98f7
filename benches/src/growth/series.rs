//! What a series measures, and its figures.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::{number, percentile};

/// One thing that grows, and what is measured meanwhile.
#[derive(Debug, Serialize)]
pub(super) struct Series {
    pub(super) name: &'static str,
    /// What it does, in one sentence.
    pub(super) what: &'static str,
    pub(super) grows: Axis,
    pub(super) panels: &'static [Panel],
}

/// What grows.
#[derive(Debug, Serialize)]
pub(super) struct Axis {
    /// With its unit.
    pub(super) label: &'static str,
    pub(super) scale: Scale,
}

/// Quantities of one unit, which share the axes of a plot.
#[derive(Debug, Serialize)]
pub(super) struct Panel {
    pub(super) unit: &'static str,
    pub(super) scale: Scale,
    pub(super) quantities: &'static [&'static str],
}

/// How values are laid out on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Scale {
    /// From zero, in proportion.
    Linear,
    /// By their logarithm.
    Log,
    /// One step for each value that was measured: for values that grow by factors, from zero.
    Steps,
}

/// What the engine runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Database {
    Postgres,
    Sqlite,
}

impl Database {
    pub(super) const BOTH: [Self; 2] = [Self::Postgres, Self::Sqlite];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "Postgres",
            Self::Sqlite => "SQLite",
        }
    }
}

/// What a series measured: per database and quantity, for each size the values of the rounds.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<(Database, &'static str), BTreeMap<u64, Vec<f64>>>);

impl Figures {
    /// Adds the value of one round.
    pub(super) fn add(&mut self, at: (Database, u64), quantity: &'static str, value: f64) {
        let (database, size) = at;
        let sizes = self.0.entry((database, quantity)).or_default();
        sizes.entry(size).or_default().push(value);
    }

    /// Every size that was measured.
    pub(super) fn sizes(&self) -> Vec<u64> {
        let mut sizes: Vec<_> = self.0.values().flat_map(BTreeMap::keys).copied().collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// A quantity over the sizes, if it was measured on this database.
    pub(super) fn line(&self, database: Database, quantity: &'static str) -> Option<Line<'_>> {
        let sizes = self.0.get(&(database, quantity))?;
        Some(Line {
            database,
            quantity,
            sizes,
        })
    }

    /// Everything that was measured.
    pub(super) fn all(&self) -> impl Iterator<Item = Line<'_>> {
        let lines = self.0.keys();
        lines.filter_map(|(database, quantity)| self.line(*database, quantity))
    }

    /// The lines of a panel.
    pub(super) fn lines(&self, panel: &Panel) -> Vec<Line<'_>> {
        let pairs = panel
            .quantities
            .iter()
            .flat_map(|quantity| Database::BOTH.map(|database| (database, *quantity)));
        pairs
            .filter_map(|(database, quantity)| self.line(database, quantity))
            .collect()
    }
}

/// One quantity on one database.
pub(super) struct Line<'a> {
    pub(super) database: Database,
    pub(super) quantity: &'static str,
    sizes: &'a BTreeMap<u64, Vec<f64>>,
}

impl Line<'_> {
    pub(super) fn spread(&self, size: u64) -> Option<Spread> {
        self.sizes.get(&size).map(|rounds| Spread::of(rounds))
    }

    pub(super) fn points(&self) -> Vec<(u64, Spread)> {
        let points = self.sizes.iter();
        points
            .map(|(size, rounds)| (*size, Spread::of(rounds)))
            .collect()
    }
}

/// The values of the rounds: the middle one, and what they lie between.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) lowest: f64,
    pub(super) highest: f64,
    #[serde(skip)]
    rounds: usize,
}

impl Spread {
    fn of(rounds: &[f64]) -> Self {
        Self {
            median: percentile(rounds, 0.5),
            lowest: percentile(rounds, 0.0),
            highest: percentile(rounds, 1.0),
            rounds: rounds.len(),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [median, lowest, highest] = [self.median, self.lowest, self.highest].map(number);
        if self.rounds == 1 {
            return f.write_str(&median);
        }
        write!(f, "{median} ({lowest} to {highest})")
    }
}
