//! An engine between a source and a database, for the time of an example.

use std::{io::IsTerminal as _, time::Duration};

use anyhow::Context as _;
use sync_core::{AdapterName, OrgId, SyncType};
use sync_engine::{RunReport, SyncEngine, SyncHandle};

use crate::{Arguments, Source, bars::Bars};

/// How often the bars move.
const REDRAW: Duration = Duration::from_millis(100);

/// An engine for one organisation.
pub struct Session {
    engine: SyncEngine,
    org: OrgId,
    adapter: AdapterName,
    shows_bars: bool,
}

impl Session {
    /// Starts an engine. `name` names the SQLite file and the organisation when none are given.
    ///
    /// # Errors
    ///
    /// A database cannot be opened or written.
    pub async fn start(arguments: &Arguments, source: &Source, name: &str) -> anyhow::Result<Self> {
        Self::start_with(arguments, source, name, None).await
    }

    /// As [`Self::start`]; a short lease lets a successor take over soon.
    ///
    /// # Errors
    ///
    /// A database cannot be opened or written.
    pub async fn start_with(
        arguments: &Arguments,
        source: &Source,
        name: &str,
        lease: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let (journal, destination) = arguments.databases(&format!("{name}.db"))?;
        let org = arguments.org(&name.replace('_', "-"))?;
        let adapter = source.manifest.adapter().clone();
        let mut builder = SyncEngine::builder()
            .journal_url(&journal)
            .destination_url(&destination)
            .adapter(source.manifest.clone())
            .account(org.clone(), adapter.clone(), arguments.credentials());
        if let Some(lease) = lease {
            builder = builder.lease(lease);
        }
        let engine = builder.start().await?;
        Ok(Self {
            engine,
            org,
            adapter,
            shows_bars: std::io::stderr().is_terminal(),
        })
    }

    /// Runs a sync to its report, with bars on a terminal.
    ///
    /// # Errors
    ///
    /// The sync has no report.
    pub async fn run(&self, sync_type: SyncType) -> anyhow::Result<RunReport> {
        let handle = self.start_sync(sync_type).await?;
        self.report(&handle).await
    }

    /// Starts a sync, or goes on with the one that is under way.
    ///
    /// # Errors
    ///
    /// The journal fails.
    pub async fn start_sync(&self, sync_type: SyncType) -> anyhow::Result<SyncHandle> {
        let handle = self.engine.start(&self.org, &self.adapter, sync_type);
        let handle = handle.await?;
        if !handle.is_new() && self.shows_bars {
            eprintln!("goes on with the {sync_type} sync that was under way");
        }
        Ok(handle)
    }

    /// The latest sync of this type, open or over.
    ///
    /// # Errors
    ///
    /// The journal fails.
    pub async fn latest(&self, sync_type: SyncType) -> anyhow::Result<Option<SyncHandle>> {
        let latest = self.engine.latest(&self.org, &self.adapter, sync_type);
        Ok(latest.await?)
    }

    /// Awaits the report of a sync, with bars on a terminal.
    ///
    /// # Errors
    ///
    /// The sync has no report.
    pub async fn report(&self, handle: &SyncHandle) -> anyhow::Result<RunReport> {
        if !self.shows_bars {
            return handle.report().await.context("the sync has no report");
        }
        let mut bars = Bars::default();
        let mut report = std::pin::pin!(handle.report());
        loop {
            tokio::select! {
                report = &mut report => {
                    bars.clear();
                    return report.context("the sync has no report");
                }
                () = tokio::time::sleep(REDRAW) => {
                    bars.show(&self.engine.progress(&self.org, &self.adapter).await?);
                }
            }
        }
    }

    /// Stops the engine.
    pub async fn end(self) {
        self.engine.shutdown().await;
    }
}
