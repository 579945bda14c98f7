//! What growth costs: each series lets one thing grow and measures what it does to the rest.
//!
//! | module | holds |
//! |---|---|
//! | `waiting`, `workers`, `distance`, `history`, `payload`, `sleepers`, `fan_out` | a series each |
//! | `series` | what a series measures, and its figures |
//! | `proxy` | a distance between the engine and its database |
//! | `machine` | where the figures were measured |
//! | `plot`, `page` | the figures as SVG and as a page of the documentation |

mod distance;
mod fan_out;
mod history;
mod machine;
mod page;
mod payload;
mod plot;
mod proxy;
mod series;
mod sleepers;
mod waiting;
mod workers;

use std::io::Write;

use clap::{Args, Subcommand, ValueEnum};
use sync_workflow::{Worker, worker::WorkerBuilder};

use self::{
    machine::{Conditions, Machine},
    series::{Database, Figures, Series},
};
use crate::{
    jobs::{trivial, w1, w2, w3},
    server::{Server, Storage},
};

/// What becomes of the figures when something grows.
#[derive(Debug, Args)]
pub(crate) struct Growth {
    /// Only these series; all if not given.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SERIES")]
    only: Vec<Name>,
    /// How often everything is repeated; medians are printed.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Prints JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Writes what was measured into `docs/benchmarks/growth.md`, with a plot for each series.
    #[arg(long)]
    write: bool,
    /// How large everything is.
    #[arg(long, hide = true, value_enum, default_value_t = Sizes::Full)]
    sizes: Sizes,
}

/// The series by their names, in the order of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    Waiting,
    Workers,
    Distance,
    History,
    Payload,
    Sleepers,
    FanOut,
}

impl Name {
    const fn series(self) -> &'static Series {
        match self {
            Self::Waiting => &waiting::SERIES,
            Self::Workers => &workers::SERIES,
            Self::Distance => &distance::SERIES,
            Self::History => &history::SERIES,
            Self::Payload => &payload::SERIES,
            Self::Sleepers => &sleepers::SERIES,
            Self::FanOut => &fan_out::SERIES,
        }
    }

    async fn round(self, ground: &Ground, figures: &mut Figures) -> anyhow::Result<()> {
        match self {
            Self::Waiting => waiting::round(ground, figures).await,
            Self::Workers => workers::round(ground, figures).await,
            Self::Distance => distance::round(ground, figures).await,
            Self::History => history::round(ground, figures).await,
            Self::Payload => payload::round(ground, figures).await,
            Self::Sleepers => sleepers::round(ground, figures).await,
            Self::FanOut => fan_out::round(ground, figures).await,
        }
    }
}

/// How large everything is.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sizes {
    /// What the page shows.
    Full,
    /// A few seconds for everything: it shows only that the series run.
    Tiny,
}

/// Where the databases come from, and how large everything is.
struct Ground {
    postgres: Server,
    sqlite: Server,
    sizes: Sizes,
}

impl Ground {
    fn open(sizes: Sizes) -> anyhow::Result<Self> {
        Ok(Self {
            postgres: Server::open(None)?,
            sqlite: Server::open(Some("sqlite:"))?,
            sizes,
        })
    }

    /// An empty database of this kind.
    fn database(&self, kind: Database) -> anyhow::Result<Storage> {
        match kind {
            Database::Postgres => self.postgres.database(),
            Database::Sqlite => self.sqlite.database(),
        }
    }

    const fn pick<T: Copy>(&self, full: T, tiny: T) -> T {
        match self.sizes {
            Sizes::Full => full,
            Sizes::Tiny => tiny,
        }
    }
}

impl Growth {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let names = if self.only.is_empty() {
            Name::value_variants()
        } else {
            &self.only
        };
        let ground = Ground::open(self.sizes)?;
        let machine = Machine::now(&ground).await?;
        let mut measured = Vec::new();
        for name in names {
            let conditions = Conditions::now()?;
            let mut figures = Figures::default();
            for round in 1..=self.rounds {
                eprintln!("{}: round {round} of {}", name.series().name, self.rounds);
                name.round(&ground, &mut figures).await?;
            }
            measured.push(page::Section {
                series: name.series(),
                figures,
                rounds: self.rounds,
                machine: machine.clone(),
                conditions: conditions.are_over()?,
            });
        }
        let mut output = std::io::stdout().lock();
        if self.json {
            writeln!(output, "{}", serde_json::to_string_pretty(&measured)?)?;
        } else {
            for section in &measured {
                writeln!(output, "{section}")?;
            }
        }
        if self.write {
            page::write(&measured)?;
        }
        Ok(())
    }
}

/// A process that a series measures.
#[derive(Debug, Subcommand)]
pub(crate) enum Grown {
    /// Runs jobs when it is told to.
    Worker(workers::Told),
    /// Takes up runs with journals of several lengths.
    Resume(history::Resume),
    /// Starts workflows that sleep, and wakes them up all at once.
    Sleepers(sleepers::Sleepers),
    /// Fans out over many inputs.
    FanOut(fan_out::FanOut),
}

impl Grown {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Worker(process) => process.run().await,
            Self::Resume(process) => process.run().await,
            Self::Sleepers(process) => process.run().await,
            Self::FanOut(process) => process.run().await,
        }
    }
}

/// A worker that knows the workflows of the jobs w1, w2 and w3.
fn worker() -> WorkerBuilder {
    Worker::builder()
        .workflow(w1::ten_steps)
        .workflow(w2::one_step)
        .workflow(w3::parent)
        .workflow(w3::child)
        .activity(trivial)
}
