//! A full sync of 410,000 records of five entities, beside the same fetching and writing without
//! durability. Source, engine and bare loop are processes of their own, so that each has its own memory.

use std::{io::Write, time::Instant};

use anyhow::Context as _;
use clap::Args;
use futures::{TryStreamExt, stream::FuturesUnordered};
use mock_api::MockApi;
use serde::{Deserialize, Serialize};
use sync_adapters::{
    ApiClient, Credentials, Destination, ListRequest,
    client::Next,
    destination::{Rows, Table, Transaction},
    planning_center,
};
use sync_core::{
    DependencyGraph, EntityName, Manifest, OrgId, Record, SyncStatus, SyncType, schedule::Schedule,
};
use sync_engine::SyncEngine;

use super::Plan;
use crate::{
    process::{Memory, Process, megabytes},
    report::{Figure, Goal, Report, Target, ratios},
};

const ENTITIES: [&str; 5] = ["Campus", "Household", "Person", "Email", "Address"];
/// How many pages of an entity are fetched while others are written, how many records one statement writes,
/// and how many statements a transaction has: the engine's own defaults, for both.
const PAGES_AHEAD: usize = 16;
const RECORDS_PER_WRITE: usize = 1_000;
const WRITES_PER_TRANSACTION: usize = 4;

pub(super) async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let people = plan.scaled(100_000, 100).to_string();
    let mut source = Process::start(&["source", "--people", &people])?;
    let source_line = source.line().await?;
    let (mut engine, mut bare, mut ordered) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        bare.push(measured(plan, &["copies"], &source_line).await?);
        engine.push(measured(plan, &["synced"], &source_line).await?);
        ordered.push(measured(plan, &["copies", "--in-order"], &source_line).await?);
    }
    for round in bare.iter().chain(&engine).chain(&ordered) {
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
    let shares_in_order = ratios(&rates(&engine), &rates(&ordered));
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
        Figure::of(
            "bare fetch and upsert, all entities at once",
            "records/s",
            &rates(&bare),
        ),
        shares,
        Figure::of(
            "bare, each entity after those it needs",
            "records/s",
            &rates(&ordered),
        ),
        Figure::of("engine / bare in that order", "", &shares_in_order),
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
async fn measured(plan: &Plan, command: &[&str], source: &str) -> anyhow::Result<Measured> {
    let storage = plan.server.database()?;
    let where_to = ["--source", source, "--database", storage.url()];
    let arguments: Vec<&str> = command.iter().chain(&where_to).copied().collect();
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
    /// Begins each entity after those that it depends on, as the engine does; a loop only.
    #[arg(long)]
    in_order: bool,
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
            .records_per_step(RECORDS_PER_WRITE * WRITES_PER_TRANSACTION)
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
        let mut graph = DependencyGraph::new(&manifest)?;
        if !self.in_order {
            graph = DependencyGraph::from_edges(graph.order().to_vec(), [])?;
        }
        let started = Instant::now();
        let mut schedule = Schedule::new(&graph);
        let (mut running, mut records) = (FuturesUnordered::new(), 0);
        loop {
            let ready = schedule.start_ready();
            let ready = tables.iter().filter(|table| ready.contains(table.entity()));
            running.extend(ready.map(|table| copy_entity(&client, &destination, &manifest, table)));
            let Some((entity, copied)) = running.try_next().await? else {
                return Measured::print(records, started);
            };
            schedule.finish(entity, SyncStatus::Succeeded);
            records += copied;
        }
    }
}

async fn copy_entity<'t>(
    client: &ApiClient,
    destination: &Destination,
    manifest: &Manifest,
    table: &'t Table,
) -> anyhow::Result<(&'t EntityName, u64)> {
    let entity = manifest
        .entity(table.entity())
        .context("an entity that is not in the manifest")?;
    let mapper = manifest
        .mapper(table.entity())
        .context("an entity without a mapping")?;
    let is_windowed = entity.pagination.max_window.is_some();
    let mut copy = Copy::of(destination, table.rows_of(OrgId::new("bench")?));
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
            for document in page.records {
                let record = mapper.map_owned(document, None);
                let record =
                    record.map_err(|aside| anyhow::anyhow!("set aside: {:?}", aside.reason))?;
                reached = record.source_updated_at.or(reached);
                copy.waiting.push(record);
            }
            next = page.next;
            if copy.waiting.len() >= RECORDS_PER_WRITE || !matches!(next, Next::Page(_)) {
                copy.write().await?;
            }
        }
        // A list shows so many rows of one question; the next one asks from the last row on.
        match next {
            Next::End => return Ok((table.entity(), copy.end().await?)),
            Next::Incomplete(_) if is_windowed && reached > since => since = reached,
            other => anyhow::bail!("the list of {} ended early: {other:?}", table.entity()),
        }
    }
}

/// The copy of one entity.
struct Copy<'d> {
    destination: &'d Destination,
    rows: Rows,
    waiting: Vec<Record>,
    /// The open transaction, and how many statements it has had.
    transaction: Option<(Transaction, usize)>,
    copied: u64,
}

impl<'d> Copy<'d> {
    fn of(destination: &'d Destination, rows: Rows) -> Self {
        Self {
            destination,
            rows,
            waiting: Vec::with_capacity(RECORDS_PER_WRITE + 100),
            transaction: None,
            copied: 0,
        }
    }

    /// Writes the records that wait.
    async fn write(&mut self) -> anyhow::Result<()> {
        let (mut transaction, writes) = match self.transaction.take() {
            Some(open) => open,
            None => (self.destination.begin().await?, 0),
        };
        let written = transaction
            .connection()
            .write_page(&self.rows, None, &self.waiting)
            .await?;
        self.copied += written.counts.inserted;
        self.waiting.clear();
        if writes + 1 < WRITES_PER_TRANSACTION {
            self.transaction = Some((transaction, writes + 1));
        } else {
            transaction.commit().await?;
        }
        Ok(())
    }

    async fn end(mut self) -> anyhow::Result<u64> {
        if let Some((transaction, _)) = self.transaction.take() {
            transaction.commit().await?;
        }
        Ok(self.copied)
    }
}
