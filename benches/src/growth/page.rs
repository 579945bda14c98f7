//! The page of the documentation: a section for each series, and what people write below.

use std::{
    fmt::{self, Write},
    fs,
    path::Path,
};

use anyhow::Context;
use serde::{Serialize, Serializer, ser::SerializeSeq};

use super::{
    Name,
    machine::{Conditions, Machine},
    plot::Plot,
    series::{Database, Figures, Panel, Series, Spread},
};
use clap::ValueEnum;

/// What begins the part that people write, which stays as it is.
const WRITTEN_BY_HAND: &str = "What bends";

/// What was measured of one series.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub(super) series: &'static Series,
    #[serde(serialize_with = "as_rows")]
    pub(super) figures: Figures,
    pub(super) rounds: u32,
    pub(super) machine: Machine,
    pub(super) conditions: Conditions,
}

/// Writes the sections that were measured into the page, and their plots beside it. Others stay.
pub(super) fn write(measured: &[Section]) -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks");
    fs::create_dir_all(&folder)?;
    let path = folder.join("growth.md");
    let before = fs::read_to_string(&path).unwrap_or_default();
    fs::write(&path, page(&before, measured)).context("cannot write the page")?;
    for section in measured {
        fs::write(folder.join(section.plot_name()), section.plot())
            .context("cannot write a plot")?;
    }
    Ok(())
}

/// The page, with what was measured in place of what was there before.
fn page(before: &str, measured: &[Section]) -> String {
    let mut page = include_str!("page.md").to_owned();
    let names = Name::value_variants().iter();
    let titles = names
        .map(|name| name.series().name)
        .chain([WRITTEN_BY_HAND]);
    for title in titles {
        let new = measured.iter().find(|section| section.series.name == title);
        let text = match new {
            Some(section) => Some(section.to_string()),
            None => section_of(before, title).map(str::to_owned),
        };
        if let Some(text) = text {
            page.push('\n');
            page.push_str(text.trim_end());
            page.push('\n');
        }
    }
    page
}

/// The section of this title, with its title.
fn section_of<'a>(page: &'a str, title: &str) -> Option<&'a str> {
    let begin = page.find(&format!("## {title}\n"))?;
    let rest = &page[begin..];
    let end = rest.find("\n## ").map_or(rest.len(), |end| end + 1);
    Some(&rest[..end])
}

impl Section {
    fn plot_name(&self) -> String {
        format!("growth-{}.svg", self.series.name)
    }

    fn plot(&self) -> String {
        Plot {
            series: self.series,
            figures: &self.figures,
        }
        .to_string()
    }

    fn row(
        &self,
        f: &mut dyn Write,
        of: (Database, &'static str, &Panel),
        sizes: &[u64],
    ) -> fmt::Result {
        let (database, quantity, panel) = of;
        let Some(line) = self.figures.line(database, quantity) else {
            return Ok(());
        };
        let (database, unit) = (database.name(), panel.unit);
        write!(f, "| {database}: {quantity}, {unit} |")?;
        for size in sizes {
            match line.spread(*size) {
                Some(spread) => write!(f, " {spread} |")?,
                None => f.write_str(" – |")?,
            }
        }
        f.write_char('\n')
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            series,
            figures,
            rounds,
            machine,
            conditions,
        } = self;
        let name = series.name;
        writeln!(f, "## {name}\n\n{}\n", series.what)?;
        writeln!(f, "![{name}]({})\n", self.plot_name())?;
        let sizes = figures.sizes();
        write!(f, "| {} |", series.grows.label)?;
        for size in &sizes {
            write!(f, " {} |", grouped(*size))?;
        }
        writeln!(f, "\n|---|{}", "---:|".repeat(sizes.len()))?;
        for database in Database::BOTH {
            for panel in series.panels {
                for quantity in panel.quantities {
                    self.row(f, (database, quantity, panel), &sizes)?;
                }
            }
        }
        let rounds = match rounds {
            1 => "One round".to_owned(),
            rounds => format!("{rounds} rounds"),
        };
        writeln!(f, "\n{rounds}, measured {machine}; {conditions}.")
    }
}

/// A whole number with its thousands set apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One figure, for machines to read.
#[derive(Serialize)]
struct Row {
    database: Database,
    quantity: &'static str,
    size: u64,
    #[serde(flatten)]
    spread: Spread,
}

fn as_rows<S: Serializer>(figures: &Figures, serializer: S) -> Result<S::Ok, S::Error> {
    let mut rows = serializer.serialize_seq(None)?;
    for line in figures.all() {
        for (size, spread) in line.points() {
            rows.serialize_element(&Row {
                database: line.database,
                quantity: line.quantity,
                size,
                spread,
            })?;
        }
    }
    rows.end()
}

#[cfg(test)]
mod tests {
    use super::{grouped, page, section_of};

    #[test]
    fn a_section_ends_where_the_next_one_begins() {
        let text = "# Title\n\n## one\n\nfirst\n\n## two\n\nsecond\n";
        assert_eq!(section_of(text, "one"), Some("## one\n\nfirst\n\n"));
        assert_eq!(section_of(text, "two"), Some("## two\n\nsecond\n"));
        assert_eq!(section_of(text, "three"), None);
    }

    #[test]
    fn what_was_not_measured_stays_as_it_was() {
        let before = "# Old\n\n## waiting\n\nfigures\n\n## What bends\n\nNothing.\n";
        let after = page(before, &[]);
        assert!(after.ends_with("\n## waiting\n\nfigures\n\n## What bends\n\nNothing.\n"));
        assert_eq!(page(&after, &[]), after);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
