//! A campaign: one fault on one database, from the first worker to the verdict.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use serde::Serialize;
use sync_workflow::journal::RunFilter;
use throwaway_postgres::Cluster;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    check::{Evidence, Violation},
    fault::{Entry, Fault, Field, Proof, Strike},
    fleet::Fleet,
    load::{self, OPEN_STATUSES, Started, again},
    store::{Kind, Store},
    victim,
};

/// How long a campaign lasts: the first of the two ends it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) cycles: u64,
    pub(crate) time: Duration,
}

/// What all campaigns share.
pub(crate) struct Arena<'a> {
    /// This program, which workers are started from.
    pub(crate) program: &'a Path,
    /// Where each campaign has a directory.
    pub(crate) directory: &'a Path,
    pub(crate) seed: u64,
    pub(crate) server: Option<Arc<Cluster>>,
    /// How long the workers have to show that they work at all, and to end what is open at the end.
    pub(crate) patience: Duration,
}

/// What came of a campaign.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) fault: String,
    pub(crate) database: String,
    pub(crate) what: String,
    /// Why it did not take place.
    pub(crate) skipped: Option<String>,
    pub(crate) cycles: u64,
    /// How many of the cycles are known to have met somebody.
    pub(crate) struck: u64,
    /// How many runs there were, all of them checked.
    pub(crate) runs: usize,
    pub(crate) records: usize,
    /// How many activities were tried.
    pub(crate) activities: usize,
    /// How many transactional steps wrote.
    pub(crate) transactions: usize,
    /// How many worker processes there were.
    pub(crate) workers: u32,
    pub(crate) seconds: f64,
    pub(crate) violations: Vec<Violation>,
    /// From a fault to the next record, in milliseconds.
    pub(crate) recovery_p50: Option<f64>,
    pub(crate) recovery_p99: Option<f64>,
    pub(crate) recoveries: usize,
    /// Each of them, in microseconds.
    #[serde(skip)]
    samples: Vec<i64>,
    /// How often everything began anew: a journal of a day takes longer to check than to write.
    pub(crate) rounds: u32,
    pub(crate) seed: u64,
    /// Where the evidence is.
    pub(crate) kept: Option<PathBuf>,
}

/// The most cycles of one campaign.
const ROUND: u64 = 200;
/// How many runs must have ended before the first strike.
const WARM: usize = 3;
/// A campaign with fewer ended runs proves nothing.
const LEAST_RUNS: u64 = 20;

impl Entry {
    /// Runs campaigns with this fault until it has struck often enough, or the time is over.
    pub(crate) async fn campaigns(&self, arena: &Arena<'_>, length: Length) -> Outcome {
        let until = Instant::now() + length.time;
        let mut all = Outcome::of(self, arena.seed);
        let mut left = length.cycles;
        while left > 0 && all.may_go_on() {
            let round = Length {
                cycles: left.min(ROUND),
                time: until.saturating_duration_since(Instant::now()),
            };
            let is_late = round.time.is_zero() && all.rounds > 0;
            if is_late {
                break;
            }
            let arena = Arena {
                seed: arena.seed.wrapping_add(all.rounds.into()),
                server: arena.server.clone(),
                ..*arena
            };
            let outcome = self.campaign(&arena, round).await;
            all.absorb(outcome.unwrap_or_else(|error| Outcome::aborted(self, arena.seed, &error)));
            left -= round.cycles;
        }
        all
    }

    async fn campaign(&self, arena: &Arena<'_>, length: Length) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::of(self, arena.seed);
        let mut fault = match self.make() {
            Ok(fault) => fault,
            Err(skipped) => {
                outcome.skipped = Some(skipped.0);
                return Ok(outcome);
            }
        };
        let directory = arena.directory.join(format!("{}-{}", self.name, self.kind));
        std::fs::create_dir_all(directory.join("logs"))?;
        let store = match fault.store(&directory).await? {
            Some(store) => Arc::new(store),
            None => Arc::new(open(self.kind, arena, &directory).await?),
        };
        let begun = Instant::now();
        let mut field = field(&mut *fault, &store, arena, &directory).await?;
        let battle = battle(&mut *fault, &mut field, length, arena).await;
        let (strikes, started) = match battle {
            Ok(fought) => fought,
            Err(error) => {
                store.keep(&directory).await?;
                return Err(error.context(format!("evidence in {}", directory.display())));
            }
        };
        let ground = fault.ground();
        let entries = field.entries()?;
        let open = store.open_transactions().await?;
        let evidence = Evidence::gather(&store, started, entries).await?;
        outcome.seconds = begun.elapsed().as_secs_f64();
        outcome.workers = field.fleet.started();
        outcome.violations = evidence.violations(ground);
        for misdeed in std::mem::take(&mut field.fleet.misdeeds) {
            outcome
                .violations
                .push(Violation::new("workers live", misdeed));
        }
        if open > 0 {
            let detail = format!("{open} sessions are left inside a transaction");
            outcome
                .violations
                .push(Violation::new("nothing is left", detail));
        }
        outcome.count(&strikes, &evidence);
        if outcome.violations.is_empty() {
            store.close().await;
        } else {
            store.keep(&directory).await?;
        }
        // Takes away what it put there, such as a disk.
        drop(fault);
        if outcome.violations.is_empty() {
            std::fs::remove_dir_all(&directory)?;
        } else {
            outcome.kept = Some(directory);
        }
        Ok(outcome)
    }
}

async fn open(kind: Kind, arena: &Arena<'_>, directory: &Path) -> anyhow::Result<Store> {
    match kind {
        Kind::Postgres => {
            let server = arena.server.as_ref().context("there is no server")?;
            Store::postgres(Arc::clone(server)).await
        }
        Kind::Sqlite => Store::sqlite(directory).await,
    }
}

async fn field(
    fault: &mut dyn Fault,
    store: &Arc<Store>,
    arena: &Arena<'_>,
    directory: &Path,
) -> anyhow::Result<Field> {
    let proxy = fault.proxy(store).await?;
    let journal = match &proxy {
        Some(proxy) => proxy.url(store.url())?,
        None => store.url().to_owned(),
    };
    let ledger = directory.join("ledger");
    let arguments = victim::Arguments {
        journal,
        ledger: ledger.clone(),
        settings: fault.settings(),
    };
    let logs = directory.join("logs");
    let fleet = Fleet::new(
        arena.program.to_owned(),
        arguments,
        fault.environment(),
        logs,
    );
    Ok(Field {
        store: Arc::clone(store),
        fleet,
        proxy,
        ledger,
        rng: Rng::with_seed(arena.seed),
    })
}

/// Lets the fault strike under load, and waits until everything has ended.
async fn battle(
    fault: &mut dyn Fault,
    field: &mut Field,
    length: Length,
    arena: &Arena<'_>,
) -> anyhow::Result<(Vec<Strike>, Vec<Started>)> {
    for _ in 0..fault.workers() {
        field.fleet.start()?;
    }
    let (stop, stopped) = watch::channel(false);
    let load = tokio::spawn(load::run(Arc::clone(&field.store), arena.seed, stopped));
    settle(field, arena.patience, |counts| counts.ended >= WARM).await?;
    let mut strikes = Vec::new();
    let until = Instant::now() + length.time;
    while (strikes.len() as u64) < length.cycles && Instant::now() < until {
        strikes.push(fault.strike(field).await?);
        field.fleet.look_after()?;
        ensure!(
            !load.is_finished(),
            "the load ended too early: {:?}",
            load.await
        );
    }
    fault.heal(field).await?;
    stop.send_replace(true);
    let started = timeout(arena.patience, load)
        .await
        .context("the load does not end")???;
    let is_over = |counts: &Counts| counts.open == 0 || counts.is_stuck;
    settle(field, arena.patience, is_over).await?;
    field.fleet.stop_all().await?;
    Ok((strikes, started))
}

/// How many runs there are.
struct Counts {
    open: usize,
    ended: usize,
    /// A run was parked, and will not go on by itself.
    is_stuck: bool,
}

/// Waits until the runs are as they should be. What is not so in time, the checker tells.
async fn settle(
    field: &mut Field,
    patience: Duration,
    is_settled: fn(&Counts) -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        field.fleet.look_after()?;
        if is_settled(&count(&field.store).await?) {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn count(store: &Store) -> anyhow::Result<Counts> {
    let filter = |statuses: &[_]| RunFilter {
        statuses: statuses.to_vec(),
        limit: 10,
        ..RunFilter::default()
    };
    let client = store.client();
    let open = filter(&OPEN_STATUSES);
    let open = again(|| client.list(&open)).await?;
    let ended = filter(&[sync_workflow::status::RunStatus::Completed]);
    let ended = again(|| client.list(&ended)).await?;
    let parked = filter(&[sync_workflow::status::RunStatus::Parked]);
    let parked = again(|| client.list(&parked)).await?;
    Ok(Counts {
        open: open.items.len(),
        ended: ended.items.len(),
        is_stuck: !parked.items.is_empty() && open.items.len() == parked.items.len(),
    })
}

impl Outcome {
    /// A campaign that did not come to its end.
    fn aborted(entry: &Entry, seed: u64, error: &anyhow::Error) -> Self {
        Self {
            violations: vec![Violation::new("the referee", format!("{error:#}"))],
            ..Self::of(entry, seed)
        }
    }

    fn of(entry: &Entry, seed: u64) -> Self {
        Self {
            fault: entry.name.into(),
            database: entry.kind.to_string(),
            what: entry.what.into(),
            seed,
            ..Self::default()
        }
    }

    /// Counts what happened; too little of it is a violation as well.
    fn count(&mut self, strikes: &[Strike], evidence: &Evidence) {
        let entries = &evidence.entries;
        self.runs = evidence.histories.runs();
        self.records = evidence.histories.records();
        self.activities = entries.begun.values().map(Vec::len).sum();
        self.transactions = evidence.effects.len();
        let met = |strike: &&Strike| match strike.proof {
            Proof::Seen => true,
            Proof::Enlisted(pid) => entries.node_of(pid).is_some(),
            Proof::Ended(node) => evidence.node_ends.contains_key(&node),
            Proof::Drops | Proof::Missed => false,
        };
        self.cycles = strikes.len() as u64;
        self.struck = strikes.iter().filter(met).count() as u64;
        if strikes.iter().any(|strike| strike.proof == Proof::Drops) {
            self.cycles = entries.drops;
            self.struck = entries.drops;
        }
        self.recover(strikes.iter().filter(met), evidence);
        if self.struck == 0 || self.struck * 2 < self.cycles {
            let detail = format!("{} of {} faults struck", self.struck, self.cycles);
            self.violations
                .push(Violation::new("something happened", detail));
        }
        let least = LEAST_RUNS.max(self.cycles / 10);
        if (self.runs as u64) < least {
            let detail = format!("{} runs, and not {least}", self.runs);
            self.violations
                .push(Violation::new("something happened", detail));
        }
    }

    fn recover<'a>(&mut self, strikes: impl Iterator<Item = &'a Strike>, evidence: &Evidence) {
        self.samples = strikes
            .filter_map(|strike| evidence.recovery(strike.at, strike.held.as_deref()))
            .collect();
        self.summarize();
    }

    fn summarize(&mut self) {
        self.samples.sort_unstable();
        let quantile = |share: f64| {
            let last = self.samples.len().checked_sub(1)?;
            let index = (last as f64 * share).round() as usize;
            Some(self.samples[index] as f64 / 1_000.0)
        };
        (self.recovery_p50, self.recovery_p99) = (quantile(0.5), quantile(0.99));
        self.recoveries = self.samples.len();
    }

    /// Whether another round may follow.
    pub(crate) const fn may_go_on(&self) -> bool {
        self.violations.is_empty() && self.skipped.is_none()
    }

    /// Adds another round.
    pub(crate) fn absorb(&mut self, mut round: Self) {
        self.skipped = round.skipped;
        self.cycles += round.cycles;
        self.struck += round.struck;
        self.runs += round.runs;
        self.records += round.records;
        self.activities += round.activities;
        self.transactions += round.transactions;
        self.workers += round.workers;
        self.seconds += round.seconds;
        self.violations.append(&mut round.violations);
        self.samples.append(&mut round.samples);
        self.rounds += 1;
        // Of the round that broke a promise.
        self.seed = round.seed;
        self.kept = round.kept;
        self.summarize();
    }
}
