//! The faults: each says whom it needs, and how it strikes.

mod again;
mod clocks;
mod connections;
mod disk;
mod drops;
mod failover;
mod holding;
mod processes;
mod proxied;
mod servers;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use fastrand::Rng;
use jiff::Timestamp;
use sync_workflow::id::{NodeId, RunId};

use crate::{
    check::Ground,
    fleet::{Environment, Fleet},
    ledger::Entries,
    load::Started,
    proxy::Proxy,
    store::{Kind, Store},
    victim::Settings,
};

/// One way in which things go wrong.
#[async_trait]
pub(crate) trait Fault: Send {
    /// What its victims are started with.
    fn settings(&self) -> Settings {
        Settings::default()
    }

    /// How many workers run.
    fn workers(&self) -> usize {
        3
    }

    /// What the environment of each worker holds.
    fn environment(&self) -> Environment {
        |_| Vec::new()
    }

    /// The database that it needs, where a plain one will not do. `directory` is the campaign's.
    async fn store(&mut self, _directory: &Path) -> anyhow::Result<Option<Store>> {
        Ok(None)
    }

    /// What stands between the workers and the database.
    async fn proxy(&mut self, _store: &Store) -> anyhow::Result<Option<Proxy>> {
        Ok(None)
    }

    /// What the checker may rely on.
    fn ground(&self) -> Ground {
        Ground {
            clocks_are_true: true,
            is_graceful: false,
        }
    }

    /// Waits for its moment, and strikes: one victim, or several at the same time.
    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>>;

    /// Leaves everything whole again, when the last cycle is over.
    async fn heal(&mut self, _field: &mut Field) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Where a fault strikes.
pub(crate) struct Field {
    pub(crate) store: Arc<Store>,
    pub(crate) fleet: Fleet,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) ledger: std::path::PathBuf,
    /// What the fault started itself.
    pub(crate) begun: Vec<Started>,
    pub(crate) rng: Rng,
}

/// A fault that happened.
#[derive(Debug)]
pub(crate) struct Strike {
    /// When, in microseconds.
    pub(crate) at: i64,
    /// How one sees that it met somebody.
    pub(crate) proof: Proof,
    pub(crate) held: Held,
}

/// The runs whose next record shows the recovery from a strike.
#[derive(Debug)]
pub(crate) enum Held {
    /// Any run: the fault meets all.
    Any,
    /// Those of the victim.
    Runs(Vec<RunId>),
    /// Nobody looked.
    Unknown,
}

impl Strike {
    /// Whether it is known at once that it met nobody.
    pub(crate) fn missed(&self) -> bool {
        self.proof == Proof::Missed
    }

    /// Whether whom it met held no run: that leaves nothing to be recovered, and does not count towards the goal. A slow
    /// machine has more of these than a fast one.
    pub(crate) fn met_idle(&self) -> bool {
        matches!(&self.held, Held::Runs(runs) if runs.is_empty())
    }

    /// A strike that meets all.
    const fn at_all(at: i64, proof: Proof) -> Self {
        Self {
            at,
            proof,
            held: Held::Any,
        }
    }
}

/// How one sees that a fault met somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It was seen to.
    Seen,
    /// If this node was declared dead.
    Ended(NodeId),
    /// By what the ledger says at the end: so many calls were dropped.
    Drops,
    /// It met nobody.
    Missed,
}

/// A fault with its name, in the order of the report.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What it does, in a few words.
    pub(crate) what: &'static str,
    /// The cycles of the short form; none, where it takes too long for it.
    pub(crate) short: u64,
    /// The cycles of the long form.
    pub(crate) long: u64,
    make: fn() -> Result<Box<dyn Fault>, Skipped>,
}

/// Why a fault cannot be had on this machine.
#[derive(Debug)]
pub(crate) struct Skipped(pub(crate) String);

impl Entry {
    pub(crate) fn make(&self) -> Result<Box<dyn Fault>, Skipped> {
        (self.make)()
    }
}

macro_rules! entry {
    ($name:literal, $kind:ident, $short:literal, $long:literal, $what:literal, $make:expr) => {
        Entry {
            name: $name,
            kind: Kind::$kind,
            what: $what,
            short: $short,
            long: $long,
            make: || $make,
        }
    };
    ($name:literal, $kind:ident, $short:literal, $long:literal, $what:literal => $fault:expr) => {
        entry!(
            $name,
            $kind,
            $short,
            $long,
            $what,
            Ok(Box::new($fault) as Box<dyn Fault>)
        )
    };
}

/// Every fault on every database that it makes sense for.
pub(crate) const ALL: &[Entry] = &[
    entry!("kill", Postgres, 25, 10_000, "kill -9 of a worker at a random moment" => processes::Kill),
    entry!("kill", Sqlite, 25, 10_000, "kill -9 of a worker at a random moment" => processes::Kill),
    entry!("stop", Postgres, 3, 1000, "SIGSTOP beyond the lease, then SIGCONT" => processes::Pause),
    entry!("stop", Sqlite, 3, 1100, "SIGSTOP beyond the lease, then SIGCONT" => processes::Pause),
    entry!("rolling", Postgres, 5, 200, "a new worker, then SIGTERM to an old one; nothing is tried twice" => processes::Rolling),
    entry!("rolling", Sqlite, 5, 200, "a new worker, then SIGTERM to an old one; nothing is tried twice" => processes::Rolling),
    entry!("hold-runs", Postgres, 6, 1000, "an operator pauses runs and lets them go on, and kill -9 meanwhile" => holding::Holding),
    entry!("hold-runs", Sqlite, 6, 1000, "an operator pauses runs and lets them go on, and kill -9 meanwhile" => holding::Holding),
    entry!("begin-again", Postgres, 6, 1000, "an operator resets runs and forks others, and kill -9 meanwhile" => again::Again::default()),
    entry!("begin-again", Sqlite, 6, 1000, "an operator resets runs and forks others, and kill -9 meanwhile" => again::Again::default()),
    entry!("terminate", Postgres, 40, 10_000, "pg_terminate_backend of a random session of a worker" => connections::Terminate::new(4)),
    entry!("terminate-pool-1", Postgres, 15, 1000, "the same, and each worker has one shared connection" => connections::Terminate::new(1)),
    entry!("terminate-pool-2", Postgres, 15, 1000, "the same, and each worker has two shared connections" => connections::Terminate::new(2)),
    entry!("restart", Postgres, 3, 200, "immediate stop of the server and recovery, under load" => servers::Restart),
    entry!("cut-before-commit", Postgres, 20, 1700, "connection cut instead of a commit" => proxied::Cut::before()),
    entry!("cut-after-commit", Postgres, 20, 1700, "connection cut after a commit was forwarded" => proxied::Cut::after()),
    entry!("cut-in-reply", Postgres, 20, 1700, "connection cut in the middle of the answer to a commit" => proxied::Cut::in_reply()),
    entry!("hold-commit", Postgres, 3, 100, "a commit held back until its lease has ended, then forwarded" => proxied::Hold),
    entry!("black-hole", Postgres, 2, 50, "all connections of all workers swallow everything, and stay open" => proxied::BlackHole),
    entry!("slow", Postgres, 4, 100, "a database 50 ms away, and kill -9" => proxied::Slow),
    entry!("dropped-futures", Postgres, 8, 500, "calls of the journal dropped at a random await" => drops::Drops),
    entry!("dropped-futures", Sqlite, 8, 500, "calls of the journal dropped at a random await" => drops::Drops),
    entry!(
        "disk-full",
        Postgres,
        2,
        50,
        "no space left for the server, its log included",
        disk::server()
    ),
    entry!(
        "disk-full",
        Sqlite,
        2,
        50,
        "no space left for the file",
        disk::file()
    ),
    entry!(
        "failover",
        Postgres,
        2,
        50,
        "the primary stops at once, and its synchronous standby is promoted",
        failover::make()
    ),
    entry!(
        "skewed-clocks",
        Postgres,
        5,
        200,
        "kill -9 of workers whose clocks are up to an hour off",
        clocks::Skewed::make()
    ),
];

impl Field {
    /// Waits a random time, so that faults meet every moment.
    pub(crate) async fn wait_up_to(&mut self, longest: Duration) {
        let wait = longest.mul_f64(self.rng.f64());
        tokio::time::sleep(wait).await;
    }

    /// Some worker.
    pub(crate) fn anyone(&mut self) -> u32 {
        let pids = self.fleet.pids();
        pids[self.rng.usize(..pids.len())]
    }

    /// Some different workers, at most this many.
    pub(crate) fn some(&mut self, most: usize) -> Vec<u32> {
        let mut pids = self.fleet.pids();
        self.rng.shuffle(&mut pids);
        pids.truncate(self.rng.usize(1..=most));
        pids
    }

    pub(crate) fn entries(&self) -> anyhow::Result<Entries> {
        Entries::read(&self.ledger)
    }

    pub(crate) fn proxy(&self) -> anyhow::Result<&Proxy> {
        self.proxy.as_ref().context("this fault needs a proxy")
    }
}

/// The time, in microseconds.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_microsecond()
}
