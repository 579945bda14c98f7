//! The tables, as text, as JSON and as a page.

use std::{
    fmt::{self, Write},
    fs,
    path::Path,
};

use anyhow::Context;
use serde::Serialize;

use crate::{
    engines::EngineName,
    machine::{Machine, packages},
    quantity::{Better, Quantity, median, number},
    rounds::{Plan, Remark, Results},
};

/// All that was measured, and where.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(skip)]
    pub(crate) plan: Plan,
    pub(crate) machine: Machine,
    /// The load of the last minute when the rounds were over.
    pub(crate) load_after: String,
    pub(crate) minutes: f64,
    pub(crate) rounds: u32,
    pub(crate) limit_seconds: u64,
    pub(crate) results: Results,
}

const OURS: EngineName = EngineName::SyncWorkflow;

impl Report {
    /// Writes the page of the documentation.
    pub(crate) fn write(&self, command: &str) -> anyhow::Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("peers.md"), self.page(command)).context("cannot write the page")
    }

    fn page(&self, command: &str) -> String {
        format!(
            include_str!("page.md"),
            command = command,
            rounds = self.rounds,
            limit = self.limit_seconds,
            versions = self.versions(),
            machine = self.machine(),
            tables = self,
        )
    }

    fn versions(&self) -> String {
        let packages = self.plan.engines.iter().map(|engine| packages(*engine));
        packages.collect::<Vec<_>>().join("; ")
    }

    fn machine(&self) -> String {
        let Machine {
            processor,
            processors,
            memory_gigabytes,
            postgres,
            date,
            commit,
            load_before,
        } = &self.machine;
        let commit = commit.as_deref().unwrap_or("unknown");
        format!(
            "{processor}, {processors} processors, {memory_gigabytes:.1} GB of memory; PostgreSQL \
             {postgres}. Measured on {date} at commit {commit}, in {:.0} minutes; the load of the \
             last minute was {load_before} before and {} afterwards.",
            self.minutes, self.load_after,
        )
    }

    fn figures(&self, engine: EngineName, quantity: Quantity) -> &[Option<f64>] {
        let figures = self.results.figures.get(&engine);
        let rounds = figures.and_then(|figures| figures.get(&quantity));
        rounds.map_or(&[], Vec::as_slice)
    }

    /// The median of the rounds, and what they lie between.
    fn figure(&self, engine: EngineName, quantity: Quantity) -> Option<String> {
        let rounds: Vec<_> = self
            .figures(engine, quantity)
            .iter()
            .flatten()
            .copied()
            .collect();
        let lowest = rounds.iter().copied().reduce(f64::min)?;
        let highest = rounds.iter().copied().reduce(f64::max)?;
        let middle = number(median(&rounds));
        Some(if rounds.len() == 1 {
            middle
        } else {
            format!("{middle} ({} to {})", number(lowest), number(highest))
        })
    }

    /// How many times better ours is: the median of the rounds' ratios.
    fn advantage(&self, peer: EngineName, quantity: Quantity) -> Option<String> {
        let rounds = self
            .figures(OURS, quantity)
            .iter()
            .zip(self.figures(peer, quantity));
        let ratios: Vec<_> = rounds
            .filter_map(|(ours, theirs)| {
                let (ours, theirs) = ((*ours)?, (*theirs)?);
                let ratio = match quantity.better() {
                    Better::More => ours / theirs,
                    Better::Less => theirs / ours,
                    Better::Neither => return None,
                };
                (ours > 0.0 && theirs > 0.0).then_some(ratio)
            })
            .collect();
        (!ratios.is_empty()).then(|| number(median(&ratios)))
    }

    fn table(
        &self,
        f: &mut fmt::Formatter<'_>,
        engines: &[EngineName],
        cell: impl Fn(EngineName, Quantity) -> Option<String>,
    ) -> fmt::Result {
        let names: Vec<_> = engines.iter().map(|engine| engine.name()).collect();
        writeln!(f, "| | {} |", names.join(" | "))?;
        writeln!(f, "|---|{}", "---:|".repeat(engines.len()))?;
        for quantity in Quantity::ALL {
            let cells: Vec<_> = engines
                .iter()
                .map(|engine| cell(*engine, quantity))
                .collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            write!(f, "| {} |", quantity.label())?;
            for cell in cells {
                write!(f, " {} |", cell.as_deref().unwrap_or("–"))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engines = &self.plan.engines;
        self.table(f, engines, |engine, quantity| self.figure(engine, quantity))?;
        let others: Vec<_> = engines
            .iter()
            .copied()
            .filter(|engine| *engine != OURS)
            .collect();
        if engines.contains(&OURS) && !others.is_empty() {
            writeln!(f, "\nHow many times better {} is:\n", OURS.name())?;
            self.table(f, &others, |peer, quantity| self.advantage(peer, quantity))?;
        }
        if !self.results.remarks.is_empty() {
            writeln!(f, "\nRemarks:\n")?;
        }
        for remark in &self.results.remarks {
            writeln!(f, "- {remark}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = format!("{}, {}", self.engine.name(), self.job.name());
        if self.round > 0 {
            write!(place, ", round {}", self.round)?;
        }
        write!(f, "{place}: {}", self.text)
    }
}
