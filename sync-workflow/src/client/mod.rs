//! The client: start, signal, cancel, await, list, from any process.

mod announcement;
mod builds;
mod bulk;
mod debounce;
mod error;
mod export;
mod fork;
mod handle;
mod hints;
mod import;
mod listener;
mod published;
mod queue;
mod signal_with_start;
mod start;
mod update;

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::sync::watch;
use uuid::Uuid;

pub use announcement::Announcement;
pub use builds::Builds;
pub use bulk::{BulkAction, BulkReport};
pub use debounce::{Debounced, DebouncedStart};
pub use error::{Error, RunError};
pub use export::{ExportedPayload, ExportedRecord, InvalidPayload, RunHistory};
pub(crate) use fork::RESET;
pub use fork::{ForkError, ForkPoint};
pub use handle::RunHandle;
use hints::Hints;
pub use import::ImportError;
use listener::Listener;
pub use published::PublishedWatch;
pub use queue::{Limit, Queue};
pub use signal_with_start::SignalWithStart;
pub use start::Start;
pub use update::UpdateError;

use crate::{
    context::WorkflowCallee,
    failure::{Failure, FailureKind},
    id::{Position, RunId, WorkflowId},
    journal::{
        self, Hint, HistoryRecord, Journal, NewSignal, Page, RunFilter, RunInfo, RunSelector,
        SignalOutcome, StepTransaction, WokenRun,
    },
    payload::{self, Codecs},
    record::{Record, RecordKind},
    worker::{Node, RunIds, Watchers},
};

pub use crate::journal::IdReuse;

/// How often the journal is asked for what somebody waits for, should a hint be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Starts, signals, cancels, awaits and lists runs, from any process that reaches the journal.
///
/// Cloning is cheap.
#[derive(Clone)]
pub struct Client {
    journal: Arc<dyn Journal>,
    /// The worker of this process, if the client belongs to one.
    node: Option<watch::Receiver<Option<Arc<Node>>>>,
    watchers: Arc<Watchers>,
    hints: Arc<Hints>,
    run_ids: RunIds,
    /// How often the journal is asked, should a hint be lost.
    look_again: Duration,
    /// Listens to hints for a client without a worker; ends with the last clone.
    _listener: Option<Arc<Listener>>,
}

impl Client {
    /// A client for processes without a worker. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        let watchers = Arc::new(Watchers::default());
        let listener = Listener::start(Arc::clone(&journal), Arc::clone(&watchers));
        Self {
            journal,
            node: None,
            watchers,
            hints: Arc::default(),
            run_ids: RunIds::default(),
            look_again: LOOK_AGAIN,
            _listener: Some(Arc::new(listener)),
        }
    }

    /// Opens the journal at a URL; see [`journal::connect`].
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] when it cannot be opened.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Ok(Self::new(journal::connect(url).await?))
    }

    /// The same client with these codecs: those of the workers, and once. A worker's own client stays as it is, for it
    /// has those of its worker.
    ///
    /// Without them, what is encoded cannot be read, and what is started is stored as it is.
    #[must_use]
    pub fn codecs(self, codecs: &Codecs) -> Self {
        if self.node.is_some() {
            return self;
        }
        Self {
            journal: codecs.on(self.journal),
            ..self
        }
    }

    pub(crate) fn of_worker(
        journal: Arc<dyn Journal>,
        node: watch::Receiver<Option<Arc<Node>>>,
        watchers: Arc<Watchers>,
        run_ids: RunIds,
    ) -> Self {
        Self {
            journal,
            node: Some(node),
            watchers,
            hints: Arc::default(),
            run_ids,
            look_again: LOOK_AGAIN,
            _listener: None,
        }
    }

    /// Starts a workflow. Idempotent by workflow id: awaiting the returned builder gives a handle to
    /// the run of that id, new or not, as [`Start::reuse`] says.
    ///
    /// ```no_run
    /// # use sync_workflow::{Client, Context, Failure};
    /// # async fn hello(ctx: Context, name: String) -> Result<String, Failure> { Ok(name) }
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let handle = client.start(hello, "hello-1", "world".into()).await?;
    /// println!("{}", handle.result().await?);
    /// # Ok(()) }
    /// ```
    pub fn start<M, W>(
        &self,
        workflow: W,
        workflow_id: &str,
        input: W::Input,
    ) -> Start<'_, W::Output, W::Error>
    where
        W: WorkflowCallee<M>,
    {
        Start::new(self, workflow.name(), workflow_id, payload::encode(&input))
    }

    /// A handle to the latest run of a workflow id. The types are the caller's claim.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the workflow id was never used.
    pub async fn handle<M, W>(
        &self,
        _workflow: W,
        workflow_id: &str,
    ) -> Result<RunHandle<W::Output, W::Error>, Error>
    where
        W: WorkflowCallee<M>,
    {
        let info = self.describe(workflow_id).await?;
        Ok(RunHandle::new(
            self.clone(),
            info.run,
            info.workflow_id,
            false,
        ))
    }

    /// Sends a signal to the open run of a workflow id.
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when no run of it is open.
    pub async fn signal<T: Serialize + ?Sized>(
        &self,
        workflow_id: &str,
        name: &str,
        value: &T,
    ) -> Result<(), Error> {
        self.signal_once(workflow_id, name, &Uuid::new_v4().to_string(), value)
            .await
    }

    /// Sends a signal that is received once, however often it is sent with this signal id.
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when no run of the workflow id is open.
    pub async fn signal_once<T: Serialize + ?Sized>(
        &self,
        workflow_id: &str,
        name: &str,
        signal_id: &str,
        value: &T,
    ) -> Result<(), Error> {
        let signal = new_signal(workflow_id, name, signal_id, value)?;
        let outcome = self.journal.signal(&signal).await?;
        self.signalled(outcome).await
    }

    /// Sends a signal inside the caller's own transaction: it is sent if the transaction commits,
    /// and received once, however often it is sent with this signal id. The receiver finds out by
    /// its own poll, or at once with [`Announcement::announce`] after the commit.
    ///
    /// ```no_run
    /// # async fn example(client: sync_workflow::Client, pool: sqlx::PgPool) -> anyhow::Result<()> {
    /// let mut transaction = pool.begin().await?;
    /// // … the application's own writes …
    /// let news = client.signal_in(&mut *transaction, "order-7", "paid", "payment-9", &100).await?;
    /// transaction.commit().await?;
    /// news.announce().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when no run of the workflow id is open.
    pub async fn signal_in<T: Serialize + ?Sized>(
        &self,
        transaction: impl Into<StepTransaction<'_>>,
        workflow_id: &str,
        name: &str,
        signal_id: &str,
        value: &T,
    ) -> Result<Announcement, Error> {
        let signal = new_signal(workflow_id, name, signal_id, value)?;
        let woken = match self.journal.signal_in(transaction.into(), &signal).await? {
            SignalOutcome::NotOpen => return Err(Error::NotOpen),
            SignalOutcome::Delivered(woken) => Some(woken),
            SignalOutcome::Duplicate => None,
        };
        Ok(Announcement {
            client: self.clone(),
            woken,
        })
    }

    /// Tells the workers of a queue to look for runs now, for instance after a transaction with
    /// [`Start::start_in`] has committed. A hint: without it they look by themselves.
    pub async fn wake_up(&self, queue: &str) {
        if let Some(node) = self.local_node() {
            node.dispatch.notify_one();
        }
        self.hint(Hint::Ready(queue.into())).await;
    }

    /// Asks the open run of a workflow id to cancel. The workflow decides what to do about it.
    /// Idempotent.
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when no run of it is open.
    pub async fn cancel(&self, workflow_id: &str) -> Result<(), Error> {
        self.cancel_run(&RunSelector::Latest(WorkflowId::new(workflow_id)?))
            .await
    }

    /// Ends the open run of a workflow id at once, without asking it.
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when no run of it is open.
    pub async fn terminate(&self, workflow_id: &str, reason: &str) -> Result<(), Error> {
        self.terminate_run(&RunSelector::Latest(WorkflowId::new(workflow_id)?), reason)
            .await
    }

    /// Lets a parked run go on.
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when the latest run of the workflow id is not parked.
    pub async fn unpark(&self, workflow_id: &str) -> Result<(), Error> {
        self.unpark_run(&RunSelector::Latest(WorkflowId::new(workflow_id)?))
            .await
    }

    /// Holds the open run of a workflow id back: it takes no step until it is resumed. Idempotent.
    ///
    /// What is under way ends and is recorded: attempts of activities, transactional steps. A long activity learns nothing
    /// of the pause, and the run shows as running, with [`RunInfo::pause_requested`], until it has ended. Timers that come due,
    /// signals and the ends of children wait and nothing of them is lost. A parked run that is unparked stays paused.
    /// A request of [`Self::cancel`] resumes the run, for its code to clean up; [`Self::terminate`] ends it as it
    /// is. Children go on.
    ///
    /// ```no_run
    /// # async fn example(client: sync_workflow::Client) -> Result<(), sync_workflow::client::Error> {
    /// client.pause("order-7").await?;
    /// // … the payment provider is back …
    /// client.resume("order-7").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when no run of it is open.
    pub async fn pause(&self, workflow_id: &str) -> Result<(), Error> {
        self.pause_run(&RunSelector::Latest(WorkflowId::new(workflow_id)?))
            .await
    }

    /// Lets a run go on that was asked to pause.
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when the latest run of the workflow id was not asked to pause, or has ended.
    pub async fn resume(&self, workflow_id: &str) -> Result<(), Error> {
        self.resume_run(&RunSelector::Latest(WorkflowId::new(workflow_id)?))
            .await
    }

    /// Describes the latest run of a workflow id.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the workflow id was never used.
    pub async fn describe(&self, workflow_id: &str) -> Result<RunInfo, Error> {
        let selector = RunSelector::Latest(WorkflowId::new(workflow_id)?);
        self.journal
            .describe(&selector)
            .await?
            .ok_or(Error::NotFound)
    }

    /// Describes one run.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such run.
    pub async fn describe_run(&self, run: RunId) -> Result<RunInfo, Error> {
        self.journal
            .describe(&RunSelector::Run(run))
            .await?
            .ok_or(Error::NotFound)
    }

    /// Lists runs, newest first. For the next page, set [`RunFilter::before`] to the last run.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] when the journal cannot be read.
    pub async fn list(&self, filter: &RunFilter) -> Result<Page<RunInfo>, Error> {
        Ok(self.journal.list(filter).await?)
    }

    /// Reads the records of a run, at most `limit` from position `from` on.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] when the journal cannot be read.
    pub async fn history(
        &self,
        run: RunId,
        from: u32,
        limit: u32,
    ) -> Result<Page<HistoryRecord>, Error> {
        Ok(self.journal.history(run, Position(from), limit).await?)
    }

    /// The journal that the client uses.
    #[must_use]
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    pub(crate) async fn cancel_run(&self, selector: &RunSelector) -> Result<(), Error> {
        let woken = self
            .journal
            .request_cancel(selector)
            .await?
            .ok_or(Error::NotOpen)?;
        self.announce(woken).await;
        Ok(())
    }

    pub(crate) async fn pause_run(&self, selector: &RunSelector) -> Result<(), Error> {
        let woken = self.journal.pause(selector).await?.ok_or(Error::NotOpen)?;
        // Nobody has anything to do for a run that is not held.
        if woken.node.is_some() {
            self.announce(woken).await;
        }
        Ok(())
    }

    pub(crate) async fn resume_run(&self, selector: &RunSelector) -> Result<(), Error> {
        let woken = self.journal.resume(selector).await?.ok_or(Error::NotOpen)?;
        self.announce(woken).await;
        Ok(())
    }

    async fn unpark_run(&self, selector: &RunSelector) -> Result<(), Error> {
        let woken = self.journal.unpark(selector).await?.ok_or(Error::NotOpen)?;
        self.announce(woken).await;
        Ok(())
    }

    pub(crate) async fn terminate_run(
        &self,
        selector: &RunSelector,
        reason: &str,
    ) -> Result<(), Error> {
        let failure = Failure::of_kind(FailureKind::Terminated, reason).into_final();
        let record = Record {
            position: Position(0),
            kind: RecordKind::Terminated,
            command: Record::RUN,
            name: "".into(),
            fingerprint: 0,
            payload: failure.encode(),
        };
        let woken = self
            .journal
            .terminate(selector, &record)
            .await?
            .ok_or(Error::NotOpen)?;
        self.watchers.changed(woken.run);
        self.hint(Hint::Closed(woken.run)).await;
        self.announce(woken).await;
        Ok(())
    }

    #[cfg(feature = "testing")]
    pub(crate) fn looking_again_every(self, look_again: Duration) -> Self {
        Self { look_again, ..self }
    }

    /// The same client, whose runs are named by somebody else.
    #[cfg(feature = "testing")]
    pub(crate) fn naming_runs(self, run_ids: RunIds) -> Self {
        Self { run_ids, ..self }
    }

    /// How long to wait for a hint before the journal is asked.
    fn patience(&self) -> Duration {
        self.look_again.mul_f64(0.8 + 0.4 * fastrand::f64())
    }

    async fn signalled(&self, outcome: SignalOutcome) -> Result<(), Error> {
        match outcome {
            SignalOutcome::Delivered(woken) => {
                self.announce(woken).await;
                Ok(())
            }
            SignalOutcome::Duplicate => Ok(()),
            SignalOutcome::NotOpen => Err(Error::NotOpen),
        }
    }

    /// Tells whoever holds a run, or may take it, that something arrived for it.
    async fn announce(&self, woken: WokenRun) {
        match (self.local_node(), woken.node) {
            (Some(local), Some(holder)) if holder == local.id => local.tell_arrived(woken.run),
            (_, Some(node)) => {
                let run = woken.run;
                self.hint(Hint::Arrived { node, run }).await;
            }
            (Some(local), None) => local.woken(&[woken]),
            // Any queue: a hint wakes whoever hears it.
            (None, None) => self.hint(Hint::Ready("".into())).await,
        }
    }

    pub(crate) async fn hint(&self, hint: Hint) {
        self.hints.tell(&*self.journal, hint).await;
    }

    /// Whether the worker of this process has the run in memory, and so will tell its end.
    pub(crate) fn holds(&self, run: RunId) -> bool {
        self.local_node()
            .is_some_and(|node| node.is_resident(run) || node.has_place_kept(run))
    }

    pub(crate) fn local_node(&self) -> Option<Arc<Node>> {
        self.node.as_ref().and_then(|node| node.borrow().clone())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("has_worker", &self.node.is_some())
            .finish_non_exhaustive()
    }
}

fn new_signal<T: Serialize + ?Sized>(
    workflow_id: &str,
    name: &str,
    signal_id: &str,
    value: &T,
) -> Result<NewSignal, Error> {
    Ok(NewSignal {
        to: RunSelector::Latest(WorkflowId::new(workflow_id)?),
        id: signal_id.into(),
        name: name.into(),
        payload: payload::encode(value).map_err(Error::Unencodable)?,
    })
}
