//! What a test is played on: a runtime whose time skips, a journal in memory, and a worker that may die.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{runtime::Builder, time::Instant};

use super::{
    TestEnvironment,
    tap::{Crash, Tap},
};
use crate::{
    client::Client,
    id::RunId,
    journal::{Hint, Journal, RunFilter, memory::MemoryJournal},
    worker::{RunIds, Simulation, Worker, WorkerBuilder},
};

/// When every test begins: 2026-01-01, midnight in Greenwich.
const BEGINNING: i64 = 1_767_225_600;
/// Longer than any test's time: nothing but the test's own timers moves the clock.
const AGES: Duration = Duration::from_secs(500 * 365 * 86_400);
/// When a test that still waits waits for nothing: less than a third of `AGES`, after which leases are renewed.
const NOTHING_HAPPENS: Duration = Duration::from_secs(150 * 365 * 86_400);
/// How many open runs a test that waits for nothing names.
const NAMED_RUNS: usize = 16;

/// What happens while a test is played.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Plan {
    /// The worker dies there, and another takes over.
    pub(super) crash: Option<Crash>,
    /// The order in which things happen is drawn from it.
    pub(super) seed: Option<u64>,
}

/// What came of it.
pub(super) struct Played<T> {
    pub(super) outcome: T,
    pub(super) commits: u64,
    /// What the runs have recorded, hashed.
    pub(super) journal: u64,
}

/// Plays a scenario on a runtime of its own.
///
/// # Panics
///
/// When the worker cannot be started, when the scenario panics, and when it waits although nothing happens any more.
pub(super) fn play<T>(
    plan: Plan,
    mut worker: impl FnMut() -> WorkerBuilder,
    scenario: impl AsyncFnOnce(&TestEnvironment) -> T,
) -> Played<T> {
    // The jitter of retries is of this thread, on which everything runs.
    fastrand::seed(plan.seed.unwrap_or_default());
    on_test_time(async {
        let begun = Instant::now();
        let tap = Arc::new(Tap::new(plan.crash, plan.seed));
        let journal = MemoryJournal::with_clock(move || test_time(begun))
            .with_one_queue()
            .tapped(Arc::clone(&tap));
        let run_ids = RunIds::of_test(begun);
        let mut start = async || start(&plan, worker(), &journal, &run_ids, &tap).await;
        let mut running = start().await;
        let environment =
            TestEnvironment::new(Client::of_test(&journal, &run_ids), journal.clone(), begun);
        let mut scenario = std::pin::pin!(scenario(&environment));
        let mut nothing = std::pin::pin!(tokio::time::sleep(NOTHING_HAPPENS));
        let outcome = loop {
            tokio::select! {
                biased;
                // First, for a client may know already what the worker died of: a commit that is never answered.
                () = tap.crashed() => {
                    running.abandon().await;
                    journal.end_all_leases();
                    running = start().await;
                    look_again(&journal).await;
                }
                outcome = &mut scenario => break outcome,
                () = tap.evicts() => running.evict_waiting(),
                () = &mut nothing => panic!(
                    "nothing happens any more, and the test still waits; open are {}",
                    open_runs(&journal).await
                ),
            }
        };
        running.shutdown().await;
        Played {
            outcome,
            commits: tap.commits(),
            journal: journal.digest(),
        }
    })
}

/// Runs a future on a runtime whose time stands still while anything can run.
fn on_test_time<T>(test: impl Future<Output = T>) -> T {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread needs nothing of the system that could be missing")
        .block_on(test)
}

/// The time of a test that began then.
pub(super) fn test_time(begun: Instant) -> Timestamp {
    let beginning = Timestamp::from_second(BEGINNING).unwrap_or(Timestamp::UNIX_EPOCH);
    beginning
        .checked_add(begun.elapsed())
        .unwrap_or(Timestamp::MAX)
}

/// Starts a worker whose intervals move no clock.
async fn start(
    plan: &Plan,
    worker: WorkerBuilder,
    journal: &MemoryJournal,
    run_ids: &RunIds,
    tap: &Arc<Tap>,
) -> Worker {
    let names = run_ids.clone();
    let mut worker = worker
        .simulated(Simulation::new().run_ids(move || names.next()))
        .lease(AGES)
        .poll_interval(AGES)
        .under_test(tap);
    // Some runs leave memory as soon as they wait.
    if plan.seed.is_some_and(|seed| seed % 3 == 0) {
        worker = worker.evict_after(Duration::ZERO);
    }
    let started = worker.start_on(Arc::new(journal.clone())).await;
    started.unwrap_or_else(|error| panic!("the worker cannot be started: {error}"))
}

/// Tells clients to ask the journal: the hints of a worker that died are lost.
async fn look_again(journal: &MemoryJournal) {
    let told = journal.notify(&[Hint::LookAgain]).await;
    told.unwrap_or_else(|error| panic!("hints get lost in no test: {error}"));
}

/// The open runs by workflow id, with their status.
async fn open_runs(journal: &MemoryJournal) -> String {
    let runs = journal.list(&RunFilter::default()).await;
    let open: Vec<_> = runs
        .into_iter()
        .flat_map(|page| page.items)
        .filter(|run| !run.status.is_closed())
        .map(|run| {
            let reason = run
                .parked_reason
                .map_or_else(String::new, |why| format!(": {why}"));
            format!(
                "{} ({:?}, {}{reason})",
                run.workflow_id, run.workflow, run.status
            )
        })
        .take(NAMED_RUNS)
        .collect();
    match open.is_empty() {
        true => "no runs".into(),
        false => open.join(", "),
    }
}

impl RunIds {
    /// The same names in every play of a test.
    fn of_test(begun: Instant) -> Self {
        let count = AtomicU64::new(0);
        Self::by(move || {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let hash = xxhash_rust::xxh3::xxh3_128(&number.to_be_bytes()).to_be_bytes();
            let mut random = [0; 10];
            random.copy_from_slice(&hash[..10]);
            let millis = u64::try_from(test_time(begun).as_millisecond()).unwrap_or_default();
            let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
            RunId::from_uuid(id)
        })
    }
}

impl Client {
    /// A client that relies on hints, which get lost in no test.
    fn of_test(journal: &MemoryJournal, run_ids: &RunIds) -> Self {
        let client = Self::new(Arc::new(journal.clone()));
        client
            .looking_again_every(AGES)
            .naming_runs(run_ids.clone())
    }
}
