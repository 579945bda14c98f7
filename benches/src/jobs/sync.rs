//! A full sync of 410,000 records of five entities, beside the same fetching and writing without
//! durability. Source, engine and bare loop are processes of their own, so that each has its own memory.

use std::{io::Write, time::Instant};

use anyhow::Context as _;
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use mock_api::MockApi;
use serde::{Deserialize, Serialize};
use sync_adapters::{
    ApiClient, Credentials, Destination, ListRequest, client::Next, destination::Table,
    planning_center,
};
use sync_core::{EntityName, Manifest, OrgId, Record, SyncStatus, SyncType};
use sync_engine::SyncEngine;

use super::Plan;
use crate::{
    process::{Memory, Process, megabytes},
    report::{Figure, Goal, Report, Target, ratios},
};

const ENTITIES: [&str; 5] = ["Campus", "Household", "Person", "Email", "Address"];
/// How many pages of an entity are fetched while others are written, and how many records are written
/// at once: the engine's own defaults, for both.
const PAGES_AHEAD: usize = 4;
const RECORDS_PER_WRITE: usize = 1_000;

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let people = plan.scaled(100_000, 100).to_string();
    let mut source = Process::start(&["source", "--people", &people])?;
    let source_line = source.line().await?;
    let (mut engine, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        bare.push(measured(plan, "copies", &source_line).await?);
        engine.push(measured(plan, "synced", &source_line).await?);
    }
    for round in bare.iter().chain(&engine) {
        let (records, expected) = (round.records, bare[0].records);
        anyhow::ensure!(
            records == expected,
            "one run wrote {records} records, another {expected}"
        );
    }
    let rates = |of: &[Measured]| {
        of.iter()
            .map(|one| one.records as f64 / one.seconds)
            .collect::<Vec<_>>()
    };
    let peaks = |of: &[Measured]| of.iter().map(|one| one.peak).collect::<Vec<_>>();
    let shares = Figure::of("engine / bare", "", &ratios(&rates(&engine), &rates(&bare)));
    let peak = Figure::of("engine, peak memory", "MB", &peaks(&engine));
    let goals = vec![
        Goal::new("engine / bare", Target::AtLeast(0.85), shares.median()),
        Goal::new(
            "engine, peak memory, MB",
            Target::AtMost(60.0),
            peak.median(),
        ),
    ];
    let figures = vec![
        Figure::of("records", "", &[engine[0].records as f64]),
        Figure::of("engine", "records/s", &rates(&engine)),
        Figure::of("bare fetch and upsert", "records/s", &rates(&bare)),
        shares,
        peak,
        Figure::of("bare, peak memory", "MB", &peaks(&bare)),
    ];
    Ok(Report {
        job: "sync: a full sync of 410,000 records of five entities",
        database: plan.server.name(),
        rounds: plan.rounds,
        figures,
        goals,
    })
}

/// Lets a process of its own fill an empty database.
async fn measured(plan: &Plan, command: &str, source: &str) -> anyhow::Result<Measured> {
    let storage = plan.server.database()?;
    let arguments = [command, "--source", source, "--database", storage.url()];
    let mut process = Process::start(&arguments)?;
    let line = process.line().await?;
    process.end().await?;
    serde_json::from_str(&line).context("the other process measured nothing")
}

/// What a process measured of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    records: u64,
    seconds: f64,
    /// In megabytes.
    peak: f64,
}

impl Measured {
    fn print(records: u64, since: Instant) -> anyhow::Result<()> {
        let seconds = since.elapsed().as_secs_f64();
        let peak = megabytes(Memory::now()?.peak);
        let line = serde_json::to_string(&Self {
            records,
            seconds,
            peak,
        })?;
        writeln!(std::io::stdout().lock(), "{line}")?;
        Ok(())
    }
}

/// Where the source is, as its process prints it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Address {
    url: String,
    token: String,
}

impl std::str::FromStr for Address {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

impl Address {
    /// The manifest of the five entities; the source has no limit, so the client gets none.
    fn manifest(&self) -> anyhow::Result<Manifest> {
        let mut spec = planning_center::manifest().spec().clone();
        spec.base_url.clone_from(&self.url);
        spec.rate_limit.requests = 1_000_000;
        let names = ENTITIES
            .map(EntityName::new)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Manifest::new(spec)?.with_only(&names)?)
    }

    fn credentials(&self) -> Credentials {
        Credentials::bearer(&self.token)
    }
}

/// The process that serves the records.
#[derive(Debug, Args)]
pub(crate) struct Source {
    #[arg(long)]
    people: usize,
}

impl Source {
    /// Serves until it is killed.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let api = MockApi::builder()
            .people(self.people)
            .rate_limit(None)
            .start()
            .await?;
        let address = Address {
            url: api.base_url(),
            token: api.token(),
        };
        writeln!(
            std::io::stdout().lock(),
            "{}",
            serde_json::to_string(&address)?
        )?;
        std::future::pending().await
    }
}

/// A process that fills a database from the source.
#[derive(Debug, Args)]
pub(crate) struct Filler {
    #[arg(long)]
    source: Address,
    #[arg(long)]
    database: String,
}

impl Filler {
    /// By the engine, with journal and destination in one database.
    pub(crate) async fn sync(self) -> anyhow::Result<()> {
        let manifest = self.source.manifest()?;
        let (org, adapter) = (OrgId::new("bench")?, manifest.adapter().clone());
        let engine = SyncEngine::builder()
            .journal_url(&self.database)
            .destination_url(&self.database)
            .adapter(manifest)
            .account(org.clone(), adapter.clone(), self.source.credentials())
            .pages_ahead(PAGES_AHEAD)
            .records_per_step(RECORDS_PER_WRITE)
            .start()
            .await?;
        let started = Instant::now();
        let report = engine.run(&org, &adapter, SyncType::Full).await?;
        anyhow::ensure!(
            report.status == SyncStatus::Succeeded,
            "the sync ended as {:?}",
            report.status
        );
        Measured::print(report.totals().changes.inserted, started)?;
        engine.shutdown().await;
        Ok(())
    }

    /// By a loop: the same client, mapping and statements; nothing is journaled, nothing could go on
    /// after a crash.
    pub(crate) async fn copy(self) -> anyhow::Result<()> {
        let manifest = self.source.manifest()?;
        let destination = Destination::connect(&self.database).await?;
        let tables = destination.prepare(&manifest).await?;
        let client = ApiClient::builder(manifest.clone(), self.source.credentials()).build()?;
        let started = Instant::now();
        let records = stream::iter(tables)
            .map(|table| copy_entity(&client, &destination, &manifest, table))
            .buffer_unordered(ENTITIES.len())
            .try_fold(0, async |sum, records| Ok(sum + records))
            .await?;
        Measured::print(records, started)
    }
}

async fn copy_entity(
    client: &ApiClient,
    destination: &Destination,
    manifest: &Manifest,
    table: Table,
) -> anyhow::Result<u64> {
    let entity = manifest
        .entity(table.entity())
        .context("an entity that is not in the manifest")?;
    let mapper = manifest
        .mapper(table.entity())
        .context("an entity without a mapping")?;
    let rows = table.rows_of(OrgId::new("bench")?);
    let is_windowed = entity.pagination.max_window.is_some();
    let mut waiting: Vec<Record> = Vec::with_capacity(RECORDS_PER_WRITE + 100);
    let mut copied = 0;
    let mut since = None;
    loop {
        let mut request = ListRequest::new(table.entity().clone());
        if is_windowed {
            request = request.sorted();
        }
        if let Some(since) = since {
            request = request.changed_since(since);
        }
        let mut pages = std::pin::pin!(client.stream_pages(request, None, PAGES_AHEAD));
        let mut reached = since;
        let mut next = Next::End;
        while let Some(page) = pages.try_next().await? {
            for document in &page.records {
                let record = mapper.map(document, None);
                let record =
                    record.map_err(|aside| anyhow::anyhow!("set aside: {:?}", aside.reason))?;
                reached = record.source_updated_at.or(reached);
                waiting.push(record);
            }
            next = page.next;
            if waiting.len() >= RECORDS_PER_WRITE || !matches!(next, Next::Page(_)) {
                let mut transaction = destination.begin().await?;
                let written = transaction
                    .connection()
                    .write_page(&rows, None, &waiting)
                    .await?;
                transaction.commit().await?;
                copied += written.counts.inserted;
                waiting.clear();
            }
        }
        // A list shows so many rows of one question; the next one asks from the last row on.
        match next {
            Next::End => return Ok(copied),
            Next::Incomplete(_) if is_windowed && reached > since => since = reached,
            other => anyhow::bail!("the list of {} ended early: {other:?}", table.entity()),
        }
    }
}
