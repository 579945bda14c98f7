//! The worker: claims runs, drives them, runs their activities.
//!
//! ```text
//!   dispatcher ──claims──▶ driver (one task per run) ──records──▶ committer ──one commit──▶ journal
//!                            │      ▲
//!                            ▼      │ results
//!                          activities (a task each)          heartbeat (a thread of its own)
//! ```

mod activity;
mod backoff;
mod builds;
mod clock;
mod committer;
mod dispatcher;
mod driver;
mod error;
mod lease;
mod mailbox;
mod node;
mod notifier;
pub(crate) mod registry;
mod replay_check;
mod retention;
mod scheduler;
mod settings;
mod simulation;
mod termination;
#[cfg(feature = "testing")]
mod under_test;
mod watchers;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use uuid::Uuid;

pub use activity::ActivityContext;
pub(crate) use committer::Work;
pub use error::Error;
pub(crate) use node::Node;
pub use registry::{Activities, IntoActivity, IntoWorkflow};
pub use replay_check::{
    OfOthers, Outcome, ReplayCheckCommand, ReplayReport, ReplayScope, Replayed, RunDifference,
    Verdict,
};
pub(crate) use simulation::RunIds;
pub use simulation::Simulation;
pub use termination::Termination;
pub(crate) use watchers::{Ended, Watch, Watchers};

use self::{
    backoff::Backoff,
    clock::DatabaseClock,
    committer::CommitQueue,
    lease::Heartbeat,
    mailbox::Message,
    node::NodeParts,
    notifier::Notifier,
    registry::{Factory, Registry},
    settings::Settings,
};
use crate::{
    client::Client,
    id::{BuildId, NodeId},
    journal::{self, Journal},
    payload::Codecs,
};

/// Runs workflows and activities for a journal, until it is shut down.
///
/// A worker that is fenced (it could not renew its lease in time, or was declared dead) starts
/// again by itself as a new node.
///
/// # Example
///
/// ```
/// use sync_workflow::{Context, Failure, Worker};
///
/// async fn greet(name: String) -> Result<String, Failure> {
///     Ok(format!("hello, {name}"))
/// }
///
/// async fn hello(ctx: Context, name: String) -> Result<String, Failure> {
///     Ok(ctx.activity(greet, name).await?)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::builder().workflow(hello).activity(greet).start("memory:").await?;
/// let greeting = worker.client().start(hello, "hello-1", "world".into()).await?.result().await?;
/// assert_eq!(greeting, "hello, world");
/// worker.shutdown().await;
/// # Ok(()) }
/// ```
pub struct Worker {
    client: Client,
    current: watch::Receiver<Option<Arc<Node>>>,
    stop: mpsc::Sender<()>,
    supervisor: JoinHandle<()>,
}

/// Builds a [`Worker`].
#[derive(Default)]
pub struct WorkerBuilder {
    registry: Registry,
    settings: Settings,
    codecs: Option<Codecs>,
    error: Option<Error>,
}

impl Worker {
    /// Begins to build a worker.
    #[must_use]
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder::default()
    }

    /// A client whose starts go through this worker's committer, and whose runs begin here at once.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// How many runs are in memory.
    #[must_use]
    pub fn resident_runs(&self) -> usize {
        self.current
            .borrow()
            .as_ref()
            .map_or(0, |node| node.resident_count())
    }

    /// Stops: claims nothing more, lets running activities end for a while, gives every run back
    /// without counting an attempt, and ends the lease.
    ///
    /// Dropping a worker instead leaves its runs to the end of its lease.
    pub async fn shutdown(self) {
        let _already_stopped = self.stop.send(()).await;
        if let Err(error) = self.supervisor.await {
            tracing::error!(error = &error as &dyn std::error::Error, "worker_panicked");
        }
    }

    /// Stops at once and gives nothing back, as a crash would: the lease runs out by itself. For
    /// tests of what comes after.
    pub async fn abandon(self) {
        if let Some(node) = self.current.borrow().clone() {
            node.fence();
        }
        self.supervisor.abort();
        let _aborted = self.supervisor.await;
    }

    /// Runs until `stop` is ready, then shuts down. With a [`Termination`] the process drains when it
    /// is told to stop.
    ///
    /// Dropping this future before it is done is dropping the worker.
    pub async fn run_until(self, stop: impl Future<Output = ()>) {
        stop.await;
        self.shutdown().await;
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("resident_runs", &self.resident_runs())
            .finish_non_exhaustive()
    }
}

impl WorkerBuilder {
    /// Registers a workflow under its own name.
    #[must_use]
    pub fn workflow<M, W: IntoWorkflow<M>>(self, workflow: W) -> Self {
        let name = workflow.default_name();
        self.workflow_named(name, workflow)
    }

    /// Registers a workflow under another name.
    #[must_use]
    pub fn workflow_named<M, W: IntoWorkflow<M>>(mut self, name: &str, workflow: W) -> Self {
        let Factory(factory) = workflow.into_factory();
        let added = self.registry.add_workflow(name, factory);
        self.note(added);
        self
    }

    /// Registers an activity under its own name.
    #[must_use]
    pub fn activity<M, A: IntoActivity<M>>(self, activity: A) -> Self {
        let name = activity.default_name();
        self.activity_named(name, activity)
    }

    /// Registers the activities of a type, which share the value.
    #[must_use]
    pub fn activities<A: Activities>(self, activities: A) -> Self {
        Arc::new(activities).register(self)
    }

    /// Registers an activity under another name.
    #[must_use]
    pub fn activity_named<M, A: IntoActivity<M>>(mut self, name: &str, activity: A) -> Self {
        let Factory(factory) = activity.into_factory();
        let added = self.registry.add_activity(name, factory);
        self.note(added);
        self
    }

    /// Registers an activity under its own name, also for workflows of other queues that send it to the queue of
    /// this worker: see [`ActivityCall::queue`](crate::context::ActivityCall::queue). So a pool of workers with what
    /// an activity needs takes it from workflows that run elsewhere.
    #[must_use]
    pub fn remote_activity<M, A: IntoActivity<M>>(mut self, activity: A) -> Self {
        let served = self.registry.serve_activity(activity.default_name());
        self.note(served);
        self.activity(activity)
    }

    /// Serves another queue than `default`.
    #[must_use]
    pub fn queue(mut self, queue: &str) -> Self {
        self.settings.queue = queue.into();
        self
    }

    /// Says of which build the worker's code is: a version, a commit, a date. A run that a worker of a build begins stays with
    /// workers of this build until it ends, so that code may change as it likes; a run that continues it as new,
    /// and its children, are new runs. Which build's workers take new runs is told with [`Client::builds`]; until
    /// it is, those of every build do.
    ///
    /// Workers without a build take the runs of no build. 1 to [`BuildId::MAX_BYTES`] bytes.
    ///
    /// A worker with a build claims every run, also those that its own client starts, which others drive at once:
    /// that is one more round trip to the journal for each.
    ///
    /// ```no_run
    /// # use sync_workflow::{Context, Failure, Worker};
    /// # async fn order(ctx: Context, cents: u64) -> Result<(), Failure> { Ok(()) }
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let worker = Worker::builder()
    ///     .workflow(order)
    ///     .build_id(concat!(env!("CARGO_PKG_VERSION"), "+2026-11-22.1"))
    ///     .start("postgres://localhost/app")
    ///     .await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn build_id(mut self, build: &str) -> Self {
        let built = BuildId::new(build).map_err(|_| Error::InvalidSetting {
            setting: "build_id",
            expected: "a text of 1 to 128 bytes without a NUL",
        });
        match built {
            Ok(build) => self.settings.build = Some(build),
            Err(error) => self.note(Err(error)),
        }
        self
    }

    /// How long the worker may be silent before its runs go to others; 15 s if not set. Shorter
    /// takes over sooner and tolerates shorter pauses.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How many runs are in memory at most; 1,024 if not set.
    #[must_use]
    pub fn max_resident_runs(mut self, runs: usize) -> Self {
        self.settings.max_resident_runs = runs;
        self
    }

    /// How many activities run at once at most; 256 if not set.
    #[must_use]
    pub fn activity_slots(mut self, slots: usize) -> Self {
        self.settings.activity_slots = slots;
        self
    }

    /// How long a run that only waits stays in memory; 1 s if not set.
    #[must_use]
    pub fn evict_after(mut self, idle: Duration) -> Self {
        self.settings.evict_after = idle;
        self
    }

    /// How often to look for work that no hint announced; 5 s if not set. While the worker is idle, its heartbeats look
    /// as well, and where they come about as often (every third of `lease`) nothing else asks.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = interval;
        self
    }

    /// How many claims in a row without progress park a run; 10 if not set.
    #[must_use]
    pub fn max_claims(mut self, claims: u32) -> Self {
        self.settings.max_claims = claims;
        self
    }

    /// How long running activities may take to end at a shutdown; 10 s if not set.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }

    /// How long an activity that nobody waits for any more may go on after it was told to stop, before it is
    /// dropped at its next await; 10 s if not set.
    #[must_use]
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.settings.cancel_grace = grace;
        self
    }

    /// Deletes runs of a workflow so long after they ended, with their journals, signals and tags, and what they show. Without
    /// it they stay for ever. The name is the one that the workflow is registered under, here or elsewhere.
    ///
    /// A workflow id whose runs are gone is unknown: its result cannot be read, and it may be started again. So keep runs
    /// for longer than anybody repeats a start, asks for a result, or sends a signal again. A child stays while its
    /// parent is open.
    ///
    /// Workers look once a minute. Each deletion is a short transaction of 100 runs at most; one process of all
    /// deletes at a time, and the others find nothing to do.
    ///
    /// ```no_run
    /// # use sync_workflow::{Context, Failure, Worker};
    /// # async fn order(ctx: Context, cents: u64) -> Result<(), Failure> { Ok(()) }
    /// use std::time::Duration;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    /// let worker = Worker::builder()
    ///     .workflow(order)
    ///     .retention("order", 90 * DAY)
    ///     .start("postgres://localhost/app")
    ///     .await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn retention(mut self, workflow: &str, closed_for: Duration) -> Self {
        self.settings.retention.insert(workflow.into(), closed_for);
        self
    }

    /// What is done with payloads before they are stored; nothing if not set. The worker's own client does the same.
    #[must_use]
    pub fn codecs(mut self, codecs: Codecs) -> Self {
        self.codecs = Some(codecs);
        self
    }

    /// Opens the journal at a URL (see [`journal::connect`]) and starts the worker.
    ///
    /// # Errors
    ///
    /// [`Error`] for a name that is registered twice or missing, a setting that makes no sense, or
    /// a journal that cannot be opened.
    pub async fn start(self, url: &str) -> Result<Worker, Error> {
        let journal = journal::connect(url).await?;
        self.start_on(journal).await
    }

    /// Starts the worker on an open journal.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub async fn start_on(mut self, journal: Arc<dyn Journal>) -> Result<Worker, Error> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.settings.check()?;
        let journal = match self.codecs {
            Some(codecs) => codecs.on(journal),
            None => journal,
        };
        let shared = Shared {
            journal: Arc::clone(&journal),
            registry: Arc::new(self.registry),
            settings: Arc::new(self.settings),
            watchers: Arc::default(),
        };
        let (publish, current) = watch::channel(None);
        let incarnation = Incarnation::start(&shared).await?;
        publish.send_replace(Some(Arc::clone(&incarnation.node)));
        let client = Client::of_worker(
            journal,
            current.clone(),
            Arc::clone(&shared.watchers),
            shared.settings.run_ids(),
        );
        let (stop, stopped) = mpsc::channel(1);
        let supervisor = tokio::spawn(supervise(shared, incarnation, publish, stopped));
        Ok(Worker {
            client,
            current,
            stop,
            supervisor,
        })
    }

    fn note(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
    }
}

impl std::fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What outlives an incarnation.
struct Shared {
    journal: Arc<dyn Journal>,
    registry: Arc<Registry>,
    settings: Arc<Settings>,
    watchers: Arc<Watchers>,
}

/// A node with its tasks.
struct Incarnation {
    node: Arc<Node>,
    heartbeat: Heartbeat,
    tasks: JoinSet<()>,
}

impl Incarnation {
    async fn start(shared: &Shared) -> Result<Self, Error> {
        let id = NodeId::from_uuid(Uuid::new_v4());
        let monotonic = shared.settings.monotonic();
        let enlisted = monotonic.now();
        let now = shared.journal.enlist(id, shared.settings.lease).await?;
        if let Some(build) = &shared.settings.build {
            let builds = shared.journal.builds();
            builds
                .declare_build(id, &shared.settings.queue, build)
                .await?;
        }
        let (commits, to_commit) = CommitQueue::new(shared.settings.commits);
        let (notifier, hints) = Notifier::new();
        let node = Node::new(NodeParts {
            id,
            journal: Arc::clone(&shared.journal),
            clock: DatabaseClock::new(monotonic, now),
            registry: Arc::clone(&shared.registry),
            settings: Arc::clone(&shared.settings),
            commits,
            watchers: Arc::clone(&shared.watchers),
            notifier,
        });
        let heartbeat = Heartbeat::start(Arc::clone(&node), enlisted).map_err(Error::Heartbeat)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(committer::run(Arc::clone(&node), to_commit));
        tasks.spawn(notifier::run(Arc::clone(&shared.journal), hints));
        tasks.spawn(dispatcher::run(Arc::clone(&node)));
        tasks.spawn(dispatcher::listen(Arc::clone(&node)));
        tasks.spawn(scheduler::run(Arc::clone(&node)));
        if shared.settings.build.is_some() {
            tasks.spawn(builds::run(Arc::clone(&node)));
        }
        if !shared.settings.retention.is_empty() {
            tasks.spawn(retention::run(Arc::clone(&node)));
        }
        tracing::info!(node = %id, queue = %shared.settings.queue, "node_enlisted");
        Ok(Self {
            node,
            heartbeat,
            tasks,
        })
    }

    /// Gives every run back and ends the lease.
    async fn drain(mut self) {
        self.node.start_draining();
        let drained =
            tokio::time::timeout(self.node.settings.drain_timeout, empty(&self.node)).await;
        if drained.is_err() {
            self.node.tell_all(|| Message::DrainNow);
            let _in_time = tokio::time::timeout(self.node.settings.lease, empty(&self.node)).await;
        }
        if let Err(error) = self.node.journal.retire(self.node.id).await {
            tracing::warn!(error = &error as &dyn std::error::Error, node = %self.node.id, "retire_failed");
        }
        self.node.fence();
        self.tasks.shutdown().await;
        self.heartbeat.stop().await;
    }

    /// Ends the tasks of a fenced node.
    async fn bury(mut self) {
        self.tasks.shutdown().await;
        self.heartbeat.stop().await;
        // Nothing is born here any more, whatever a place was kept for.
        let gone = once(&self.node, |node| node.resident_count() == 0);
        let _in_time = tokio::time::timeout(Duration::from_secs(5), gone).await;
    }
}

/// Completes when no run is in memory, and none is about to be born here.
async fn empty(node: &Node) {
    once(node, Node::is_empty).await;
}

/// Completes when this holds, which the departure of a run may bring about.
async fn once(node: &Node, holds: impl Fn(&Node) -> bool) {
    loop {
        let departed = node.departed.notified();
        if holds(node) {
            return;
        }
        // A departure between the count and the wait is not missed: the wait was registered first.
        let _look_again = tokio::time::timeout(Duration::from_millis(100), departed).await;
    }
}

/// Starts a new incarnation whenever one is fenced, until told to stop.
async fn supervise(
    shared: Shared,
    mut incarnation: Incarnation,
    publish: watch::Sender<Option<Arc<Node>>>,
    mut stopped: mpsc::Receiver<()>,
) {
    loop {
        tokio::select! {
            biased;
            _ = stopped.recv() => {
                incarnation.drain().await;
                publish.send_replace(None);
                return;
            }
            () = incarnation.node.fenced() => {}
        }
        publish.send_replace(None);
        incarnation.bury().await;
        let mut pause = Backoff::new(Duration::from_millis(100));
        incarnation = loop {
            match Incarnation::start(&shared).await {
                Ok(incarnation) => break incarnation,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "enlisting_failed")
                }
            }
            tokio::select! {
                biased;
                _ = stopped.recv() => return,
                () = tokio::time::sleep(pause.next()) => {}
            }
        };
        publish.send_replace(Some(Arc::clone(&incarnation.node)));
    }
}
