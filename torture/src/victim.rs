//! The victim: a worker process, as `torture worker` starts it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};
use sync_workflow::{
    Termination, Worker,
    journal::{Journal, postgres::PostgresJournal, sqlite::SqliteJournal},
};
use tokio::time::{Instant, sleep};
use tracing_subscriber::EnvFilter;

use crate::{ledger::Ledger, mutant::Mutant, tapped::Tapped, workflow};

/// The command line of a worker process.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Arguments {
    /// The journal's URL.
    #[arg(long)]
    pub(crate) journal: String,
    /// The ledger of effects.
    #[arg(long)]
    pub(crate) ledger: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) settings: Settings,
    /// Runs activities for the workflows of others, and nothing else.
    #[arg(long)]
    pub(crate) side: bool,
    /// A deliberate bug, which the referee must catch.
    #[arg(long)]
    pub(crate) mutant: Option<Mutant>,
}

/// What a fault chooses about its victims.
#[derive(Debug, Clone, Copy, Args, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The lease, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) lease: u64,
    /// The connections that statements share.
    #[arg(long, default_value_t = 4)]
    pub(crate) pool: u32,
    /// How long a statement may take, in milliseconds.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) deadline: u64,
    /// How many of a thousand calls of the journal are dropped in the middle.
    #[arg(long, default_value_t = 0)]
    pub(crate) drops: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: 1_000,
            pool: 4,
            deadline: 5_000,
            drops: 0,
        }
    }
}

/// How long the first connection may take to come: a server that was restarted is slow.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
/// The claims without progress after which a run would be parked: more than any fault causes.
const CLAIMS: u32 = 100_000;

/// Works until it is told to stop, or killed.
pub(crate) async fn work(arguments: Arguments) -> anyhow::Result<()> {
    let termination = Termination::listen().context("signals")?;
    let ledger = Ledger::open(&arguments.ledger)?;
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::new("warn,sync_workflow=info"))
        .init();
    let deadline = Instant::now() + STARTS_WITHIN;
    let worker = loop {
        match start(&arguments, &ledger).await {
            Ok(worker) => break worker,
            Err(error) if Instant::now() < deadline => {
                tracing::warn!(error = &*error as &dyn std::error::Error, "not_started");
                sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error),
        }
    };
    worker.run_until(termination.received()).await;
    Ok(())
}

async fn start(arguments: &Arguments, ledger: &Ledger) -> anyhow::Result<Worker> {
    let settings = arguments.settings;
    let journal: Arc<dyn Journal> = if arguments.journal.starts_with("sqlite") {
        Arc::new(SqliteJournal::connect(&arguments.journal).await?)
    } else {
        let builder = PostgresJournal::builder(&arguments.journal)
            .max_connections(settings.pool)
            .deadline(Duration::from_millis(settings.deadline));
        Arc::new(builder.open().await?)
    };
    let journal = Tapped::new(journal, ledger.clone(), settings.drops, arguments.mutant);
    let worker = match arguments.side {
        true => workflow::side_builder(ledger.clone()),
        false => workflow::builder(ledger.clone()),
    };
    let worker = worker
        .lease(Duration::from_millis(settings.lease))
        .evict_after(Duration::from_millis(60))
        .poll_interval(Duration::from_millis(250))
        .max_claims(CLAIMS)
        .drain_timeout(Duration::from_secs(20))
        .start_on(Arc::new(journal))
        .await?;
    Ok(worker)
}
