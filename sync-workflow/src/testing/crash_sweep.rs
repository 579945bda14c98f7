//! A worker that dies at every commit in turn.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

use super::environment::{on_test_time, start, test_time};
use crate::{client::Client, journal::memory::MemoryJournal, worker::WorkerBuilder};

/// What a sweep went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// How many commits the scenario takes when nothing happens.
    pub commits: u64,
    /// How many crashes were injected: two for each commit, before and after it, each in a scenario of its own.
    pub crashes: u64,
}

/// Plays a scenario once as it is, and then again and again with a worker that dies at a commit: at the first one,
/// before it has happened and after it has happened but before anybody heard of it, at the second one, and so on. After each
/// death another worker takes over. The outcome must be the same every time, and `check` looks at the effects.
///
/// `worker` makes a worker, whose activities keep their effects in an `E`: a new one for each scenario, shared by the
/// worker that dies and the one that takes over. `scenario` starts workflows, sends signals, and returns what came of it. Time is
/// that of [`TestEnvironment`](super::TestEnvironment), and the journal is in memory.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use sync_workflow::{
///     Activity, ActivityContext, Client, Context, Failure, Worker, testing::crash_sweep,
/// };
///
/// /// Cents by the idempotency key of the charge.
/// type Ledger = Mutex<std::collections::BTreeMap<String, u64>>;
///
/// struct Charge(Arc<Ledger>);
///
/// impl Activity for Charge {
///     const NAME: &'static str = "charge";
///     type Input = u64;
///     type Output = u64;
///     type Error = Failure;
///
///     async fn run(&self, ctx: ActivityContext, cents: u64) -> Result<u64, Failure> {
///         self.0.lock().unwrap().insert(ctx.idempotency_key(), cents);
///         Ok(cents)
///     }
/// }
///
/// async fn order(ctx: Context, cents: u64) -> Result<u64, Failure> {
///     let charged = ctx.activity(Charge::activity(), cents).await?;
///     Ok(charged + ctx.activity(Charge::activity(), 5).await?)
/// }
///
/// let sweep = crash_sweep(
///     |ledger: &Arc<Ledger>| Worker::builder().workflow(order).activity(Charge(Arc::clone(ledger))),
///     async |client: &Client| client.start(order, "order-1", 100).await.unwrap().result().await.unwrap(),
///     |ledger| assert_eq!(ledger.lock().unwrap().values().sum::<u64>(), 105),
/// );
/// assert_eq!(sweep.crashes, 2 * sweep.commits);
/// ```
///
/// # Panics
///
/// When an outcome differs, and when `scenario` or `check` panics; the crash is told on standard error. Also within an async runtime:
/// call it from a plain `#[test]`.
pub fn crash_sweep<E, T>(
    worker: impl Fn(&Arc<E>) -> WorkerBuilder,
    scenario: impl AsyncFn(&Client) -> T,
    check: impl Fn(&E),
) -> Sweep
where
    E: Default,
    T: PartialEq + Debug,
{
    let play = |crash: Option<Crash>| {
        let effects = Arc::new(E::default());
        let played = on_test_time(played(|| worker(&effects), &scenario, crash));
        check(&effects);
        played
    };
    let (expected, commits) = play(None);
    let mut sweep = Sweep {
        commits,
        crashes: 0,
    };
    for commit in 1..=commits {
        for side in [Side::Before, Side::After] {
            let _told = TellOnPanic(commit, side);
            let (outcome, _) = play(Some(Crash { commit, side }));
            assert_eq!(outcome, expected, "with a crash {side:?} commit {commit}");
            sweep.crashes += 1;
        }
    }
    sweep
}

/// When the worker dies.
#[derive(Debug, Clone, Copy)]
struct Crash {
    commit: u64,
    side: Side,
}

/// On which side of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// It never happens.
    Before,
    /// It has happened, and nobody hears of it.
    After,
}

/// Says which crash a panic belongs to.
struct TellOnPanic(u64, Side);

impl Drop for TellOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was with a crash {:?} commit {}", self.1, self.0);
        }
    }
}

/// Plays a scenario, with a crash or without, and counts its commits.
async fn played<T>(
    worker: impl Fn() -> WorkerBuilder,
    scenario: &impl AsyncFn(&Client) -> T,
    crash: Option<Crash>,
) -> (T, u64) {
    let begun = Instant::now();
    let commits = Arc::new(Commits {
        count: AtomicU64::new(0),
        crash,
        reached: Notify::new(),
    });
    let journal = MemoryJournal::with_clock(move || test_time(begun)).tapped(Arc::clone(&commits));
    let client = Client::of_test(&journal);
    let mut running = start(worker(), &journal).await;
    let mut outcome = std::pin::pin!(scenario(&client));
    let outcome = tokio::select! {
        outcome = &mut outcome => outcome,
        () = commits.reached.notified() => {
            running.abandon().await;
            journal.end_all_leases();
            running = start(worker(), &journal).await;
            outcome.await
        }
    };
    running.shutdown().await;
    (outcome, commits.count.load(Ordering::SeqCst))
}

/// The commits of a journal, counted, with a crash at one of them.
#[derive(Debug)]
pub(crate) struct Commits {
    count: AtomicU64,
    crash: Option<Crash>,
    reached: Notify,
}

impl Commits {
    /// A commit is about to happen. Never returns where the worker dies before it.
    pub(crate) async fn before(&self) -> u64 {
        let commit = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.perhaps(commit, Side::Before).await;
        commit
    }

    /// It has happened. Never returns where the worker dies then.
    pub(crate) async fn after(&self, commit: u64) {
        self.perhaps(commit, Side::After).await;
    }

    async fn perhaps(&self, commit: u64, side: Side) {
        let dies = self
            .crash
            .is_some_and(|crash| crash.commit == commit && crash.side == side);
        if dies {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }
}
