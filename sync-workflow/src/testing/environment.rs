//! Workflows in memory, on a clock that skips whatever nobody waits for.

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{runtime::Builder, time::Instant};

use crate::{
    client::Client,
    context::ActivityCallee,
    journal::memory::MemoryJournal,
    worker::{Simulation, Worker, WorkerBuilder},
};

/// When every test begins: 2026-01-01, midnight in Greenwich.
const BEGINNING: i64 = 1_767_225_600;
/// Longer than any test's time: nothing but the test's own timers moves the clock.
const AGES: Duration = Duration::from_secs(500 * 365 * 86_400);

/// A journal in memory and a worker on it, for tests of workflows.
///
/// Time is the test's own. It stands still while anything can run, and moves to the next timer when everything
/// waits: a sleep of thirty days takes microseconds, and the same test gives the same result however busy the
/// machine is. It begins on 2026-01-01.
///
/// ```
/// use std::time::Duration;
/// use sync_workflow::{Context, Failure, Worker, testing::TestEnvironment};
///
/// async fn remind(name: String) -> Result<String, Failure> {
///     Err(Failure::new("sends a real letter"))
/// }
///
/// async fn reminder(ctx: Context, name: String) -> Result<String, Failure> {
///     ctx.sleep(Duration::from_secs(30 * 86_400)).await?;
///     Ok(ctx.activity(remind, name).await?)
/// }
///
/// let worker = Worker::builder().workflow(reminder).mock(remind, async |name| Ok(format!("Dear {name}")));
/// TestEnvironment::run(worker, async |env| {
///     let handle = env.client().start(reminder, "a", "Ada".into()).await.unwrap();
///     assert_eq!(handle.result().await.unwrap(), "Dear Ada");
///     assert!(env.now().to_string().starts_with("2026-01-31"));
/// });
/// ```
#[derive(Debug)]
pub struct TestEnvironment {
    client: Client,
    journal: MemoryJournal,
    worker: Worker,
    begun: Instant,
}

impl TestEnvironment {
    /// Runs a test on a runtime of its own, with this worker. Blocks the calling thread, which must not be one of
    /// an async runtime: call it from a plain `#[test]`.
    ///
    /// # Panics
    ///
    /// When the worker cannot be started: a name is registered twice, or missing.
    pub fn run<T>(worker: WorkerBuilder, test: impl AsyncFnOnce(&Self) -> T) -> T {
        on_test_time(async {
            let begun = Instant::now();
            let journal = MemoryJournal::with_clock(move || test_time(begun));
            let worker = start(worker, &journal).await;
            let client = Client::of_test(&journal);
            let environment = Self {
                client,
                journal,
                worker,
                begun,
            };
            let outcome = test(&environment).await;
            environment.worker.shutdown().await;
            outcome
        })
    }

    /// A client, as another process would have it.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The journal, to look at records with.
    #[must_use]
    pub const fn journal(&self) -> &MemoryJournal {
        &self.journal
    }

    /// The time of the test.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        test_time(self.begun)
    }

    /// Lets time pass, and everything happen that is due meanwhile.
    pub async fn skip(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// Runs a future on a runtime whose time stands still while anything can run.
pub(super) fn on_test_time<T>(test: impl Future<Output = T>) -> T {
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
pub(super) async fn start(worker: WorkerBuilder, journal: &MemoryJournal) -> Worker {
    let worker = worker
        .simulated(Simulation::new())
        .lease(AGES)
        .poll_interval(AGES);
    let started = worker.start_on(std::sync::Arc::new(journal.clone())).await;
    started.unwrap_or_else(|error| panic!("the worker cannot be started: {error}"))
}

impl Client {
    /// A client that relies on hints, which get lost in no test.
    pub(super) fn of_test(journal: &MemoryJournal) -> Self {
        let client = Self::new(std::sync::Arc::new(journal.clone()));
        client.looking_again_every(AGES)
    }
}

impl WorkerBuilder {
    /// Registers a closure in the place of an activity, with its name and its types: for tests.
    #[must_use]
    pub fn mock<M, A, F, Fut>(self, activity: A, mock: F) -> Self
    where
        A: ActivityCallee<M>,
        A::Input: DeserializeOwned + Send + 'static,
        A::Output: Serialize + Send + 'static,
        F: Fn(A::Input) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A::Output, A::Error>> + Send + 'static,
    {
        self.activity_named(&activity.name(), mock)
    }
}
