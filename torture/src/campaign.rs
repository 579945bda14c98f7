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
    sync::{OnceCell, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    check::{Evidence, Violation},
    fault::{Entry, Fault, Field, Proof, Strike},
    fleet::{Fleet, Serves},
    lanes::Course,
    load::{self, OPEN_STATUSES, Started, again},
    mutant::Mutant,
    store::{Kind, Store},
    victim,
};

/// How long a campaign lasts: the first of the two ends it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) cycles: u64,
    pub(crate) time: Duration,
}

/// Where the rounds of one lane take place.
pub(crate) struct Arena {
    program: PathBuf,
    directory: PathBuf,
    patience: Duration,
    /// The deliberate bug of its workers.
    mutant: Option<Mutant>,
    /// Started for the first round that needs it.
    server: OnceCell<Arc<Cluster>>,
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
    /// From the first worker to the last record that was read, for all rounds together.
    pub(crate) seconds: f64,
    pub(crate) phases: Phases,
    pub(crate) violations: Vec<Violation>,
    /// From a fault to the next record, in milliseconds.
    pub(crate) recovery_p50: Option<f64>,
    pub(crate) recovery_p99: Option<f64>,
    pub(crate) recoveries: usize,
    /// Each of them, in microseconds.
    #[serde(skip)]
    pub(crate) samples: Vec<i64>,
    /// How many strikes count towards the goal: those that met somebody who is not known to have been idle.
    #[serde(skip)]
    pub(crate) fulfilled: u64,
    /// How often everything began anew.
    pub(crate) rounds: u32,
    pub(crate) seed: u64,
    /// Where the evidence is.
    pub(crate) kept: Option<PathBuf>,
}

/// Where the time of a campaign went, in seconds.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(crate) struct Phases {
    /// Until the workers worked.
    pub(crate) start: f64,
    /// While the fault struck.
    pub(crate) fire: f64,
    /// Until everything had ended, and the workers had stopped.
    pub(crate) settle: f64,
    /// Until all was read and checked.
    pub(crate) check: f64,
}

/// How many runs must have ended before the first strike.
const WARM: usize = 3;
/// A campaign with fewer ended runs proves nothing.
const LEAST_RUNS: u64 = 20;

impl Arena {
    pub(crate) fn new(course: &Course) -> Self {
        Self {
            program: course.program.clone(),
            directory: course.directory.clone(),
            patience: course.patience,
            mutant: None,
            server: OnceCell::new(),
        }
    }

    /// One whose workers have this bug.
    pub(crate) fn of_mutant(course: &Course, mutant: Mutant) -> Self {
        Self {
            mutant: Some(mutant),
            ..Self::new(course)
        }
    }

    async fn server(&self) -> anyhow::Result<Arc<Cluster>> {
        let start = || async {
            // No fault here takes the machine down with its disk cache, so nothing waits for the disk.
            let start = || Cluster::builder().fsync(false).start();
            let server = tokio::task::spawn_blocking(start).await?;
            anyhow::Ok(Arc::new(server.context("a server for the journals")?))
        };
        self.server.get_or_try_init(start).await.cloned()
    }
}

impl Entry {
    /// Runs one round of this fault, from the first worker to the verdict.
    pub(crate) async fn campaign(
        &self,
        arena: &Arena,
        number: u32,
        seed: u64,
        length: Length,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::of(self, seed);
        let mut fault = match self.make() {
            Ok(fault) => fault,
            Err(skipped) => {
                outcome.skipped = Some(skipped.0);
                return Ok(outcome);
            }
        };
        let name = format!("{}-{}-{number}", self.name, self.kind);
        let directory = arena.directory.join(name);
        std::fs::create_dir_all(directory.join("logs"))?;
        let store = match fault.store(&directory).await? {
            Some(store) => Arc::new(store),
            None => Arc::new(open(self.kind, arena, &directory).await?),
        };
        let begun = Instant::now();
        let mut field = field(&mut *fault, &store, arena, seed, &directory).await?;
        let phases = &mut outcome.phases;
        let battle = battle(
            &mut *fault,
            &mut field,
            length,
            arena.patience,
            seed,
            phases,
        )
        .await;
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
        outcome.workers = field.fleet.started();
        outcome.violations = tokio::task::block_in_place(|| evidence.violations(ground));
        outcome.seconds = begun.elapsed().as_secs_f64();
        let Phases {
            start,
            fire,
            settle,
            ..
        } = outcome.phases;
        outcome.phases.check = outcome.seconds - start - fire - settle;
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

async fn open(kind: Kind, arena: &Arena, directory: &Path) -> anyhow::Result<Store> {
    match kind {
        Kind::Postgres => Store::postgres(arena.server().await?).await,
        Kind::Sqlite => Store::sqlite_in_memory(directory).await,
    }
}

async fn field(
    fault: &mut dyn Fault,
    store: &Arc<Store>,
    arena: &Arena,
    seed: u64,
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
        side: false,
        mutant: arena.mutant,
    };
    let logs = directory.join("logs");
    let fleet = Fleet::new(arena.program.clone(), arguments, fault.environment(), logs);
    Ok(Field {
        store: Arc::clone(store),
        fleet,
        proxy,
        ledger,
        begun: Vec::new(),
        rng: Rng::with_seed(seed),
    })
}

/// Lets the fault strike under load, and waits until everything has ended.
async fn battle(
    fault: &mut dyn Fault,
    field: &mut Field,
    length: Length,
    patience: Duration,
    seed: u64,
    phases: &mut Phases,
) -> anyhow::Result<(Vec<Strike>, Vec<Started>)> {
    let mut watch = Stopwatch::start();
    field.fleet.start(Serves::Side)?;
    for _ in 1..fault.workers() {
        field.fleet.start(Serves::Programs)?;
    }
    let (stop, stopped) = watch::channel(false);
    let load = tokio::spawn(load::run(Arc::clone(&field.store), seed, stopped));
    settle(field, patience, |counts| counts.ended >= WARM).await?;
    phases.start = watch.lap();
    let mut strikes = Vec::new();
    let until = Instant::now() + length.time;
    let mut met = 0;
    while strikes.is_empty() || (met < length.cycles && Instant::now() < until) {
        let mut struck = fault.strike(field).await?;
        met += struck
            .iter()
            .filter(|strike| !strike.missed() && !strike.met_idle())
            .count() as u64;
        strikes.append(&mut struck);
        field.fleet.look_after()?;
        ensure!(
            !load.is_finished(),
            "the load ended too early: {:?}",
            load.await
        );
    }
    fault.heal(field).await?;
    phases.fire = watch.lap();
    stop.send_replace(true);
    let mut started = timeout(patience, load)
        .await
        .context("the load does not end")???;
    started.append(&mut field.begun);
    let is_over = |counts: &Counts| counts.open == 0 || counts.is_stuck;
    settle(field, patience, is_over).await?;
    field.fleet.stop_all().await?;
    phases.settle = watch.lap();
    Ok((strikes, started))
}

/// Tells how long each phase took.
struct Stopwatch(Instant);

impl Stopwatch {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        (now - std::mem::replace(&mut self.0, now)).as_secs_f64()
    }
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
    pub(crate) fn aborted(entry: &Entry, seed: u64, error: &anyhow::Error) -> Self {
        Self {
            violations: vec![Violation::new("the referee", format!("{error:#}"))],
            ..Self::of(entry, seed)
        }
    }

    pub(crate) fn of(entry: &Entry, seed: u64) -> Self {
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
            // Not one that had ended before, and was about to enlist anew.
            Proof::Ended(node) => {
                (evidence.node_ends.get(&node)).is_some_and(|end| *end >= strike.at)
            }
            Proof::Drops | Proof::Missed => false,
        };
        self.cycles = strikes.len() as u64;
        self.struck = strikes.iter().filter(met).count() as u64;
        self.fulfilled = strikes
            .iter()
            .filter(met)
            .filter(|strike| !strike.met_idle())
            .count() as u64;
        if strikes.iter().any(|strike| strike.proof == Proof::Drops) {
            // One cycle is a while in which the workers strike by themselves.
            self.fulfilled = self.cycles;
            self.cycles = entries.drops;
            self.struck = entries.drops;
        }
        self.recover(strikes.iter().filter(met), evidence);
        if self.struck == 0 || self.struck * 2 < self.cycles {
            let detail = format!("{} of {} faults struck", self.struck, self.cycles);
            self.violations
                .push(Violation::new("something happened", detail));
        }
        if self.fulfilled == 0 {
            let detail = format!("none of {} victims held a run", self.struck);
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
            .filter_map(|strike| evidence.recovery(strike.at, &strike.held))
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

    /// The first rule that was broken, of those that the promise is made of.
    pub(crate) fn broken_promise(&self) -> Option<&'static str> {
        let of_the_campaign = ["something happened", "the referee", "workers live"];
        let mut rules = self.violations.iter().map(|violation| violation.rule);
        rules.find(|rule| !of_the_campaign.contains(rule))
    }

    /// Whether another round may follow.
    pub(crate) const fn may_go_on(&self) -> bool {
        self.violations.is_empty() && self.skipped.is_none()
    }

    /// Adds another round.
    pub(crate) fn absorb(&mut self, mut round: Self) {
        let was_broken = !self.violations.is_empty();
        self.skipped = round.skipped;
        self.fulfilled += round.fulfilled;
        self.phases.start += round.phases.start;
        self.phases.fire += round.phases.fire;
        self.phases.settle += round.phases.settle;
        self.phases.check += round.phases.check;
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
        // Of the first round that broke a promise.
        if !was_broken && !self.violations.is_empty() {
            self.seed = round.seed;
            self.kept = round.kept;
        }
        self.summarize();
    }

    pub(crate) fn tell_progress(&self, goal: u64) {
        let Self {
            fault, database, ..
        } = self;
        if let Some(reason) = &self.skipped {
            eprintln!("{fault} on {database}: skipped: {reason}");
            return;
        }
        let Phases {
            start,
            fire,
            settle,
            check,
        } = self.phases;
        eprintln!(
            "{fault} on {database}: {} of {goal}, {} runs, {} violations, {:.0} s: \
             start {start:.0}, under fire {fire:.0}, settle {settle:.0}, check {check:.0}",
            self.fulfilled,
            self.runs,
            self.violations.len(),
            self.seconds,
        );
        if let Some(first) = self.violations.first() {
            eprintln!("  {}: {}", first.rule, first.detail);
        }
    }
}
