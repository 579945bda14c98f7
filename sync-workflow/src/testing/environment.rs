//! Workflows in memory, on a clock that skips whatever nobody waits for.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::stage::{Plan, play, test_time};
use crate::{client::Client, journal::memory::MemoryJournal, worker::WorkerBuilder};

/// A journal in memory and a worker on it, for tests of workflows.
///
/// Time is the test's own. It stands still while anything can run, and moves to the next timer when everything
/// waits: a sleep of thirty days takes microseconds, and the same test gives the same result however busy the
/// machine is, with the same names of runs, random numbers and jitter. It begins on 2026-01-01.
///
/// The worker serves every queue: activities and children that are sent to another one run here too, by the mock or
/// the real code that the worker knows.
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
    begun: Instant,
}

impl TestEnvironment {
    pub(super) const fn new(client: Client, journal: MemoryJournal, begun: Instant) -> Self {
        Self {
            client,
            journal,
            begun,
        }
    }

    /// Runs a test on a runtime of its own, with this worker. Blocks the calling thread, which must not be one of
    /// an async runtime: call it from a plain `#[test]`.
    ///
    /// # Panics
    ///
    /// When the worker cannot be started: a name is registered twice, or missing. When the test waits although nothing
    /// happens any more (150 years of its time pass), with the runs that are open.
    pub fn run<T>(worker: WorkerBuilder, test: impl AsyncFnOnce(&Self) -> T) -> T {
        let mut worker = Some(worker);
        let once = || worker.take().expect("no worker dies here, so none follows");
        play(Plan::default(), once, test).outcome
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
