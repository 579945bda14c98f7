//! Starting a run.

use std::{
    future::{Future, IntoFuture},
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Client, DebouncedStart, Error, RunHandle, SignalWithStart};
use crate::{
    failure::{ErrorValue, Failure},
    id::{RunId, WorkflowId},
    journal::{
        self, Debounce, Hint, IdReuse, NewRun, Placement, StartOutcome, StepTransaction, Ticket,
    },
    payload,
    tag::{InvalidTag, Tags},
    trace::TraceContext,
    worker::Work,
};

/// A start that has not happened yet: awaiting it starts the run. With [`Self::signal`] it sends a signal too, with
/// [`Self::debounce`] it waits until nobody asks again.
///
/// Cancel safe: the run of a caller who goes away is started or is not, and asking again under its workflow id gives that run
/// or starts one, as [`IdReuse`] says.
#[must_use = "awaiting it starts the run"]
pub struct Start<'a, T, E> {
    client: &'a Client,
    workflow: Arc<str>,
    workflow_id: String,
    input: Result<Bytes, Failure>,
    queue: Arc<str>,
    reuse: Option<IdReuse>,
    at: Option<Timestamp>,
    ticket: Ticket,
    trace: Option<TraceContext>,
    tags: Result<Tags, InvalidTag>,
    types: PhantomData<fn() -> (T, E)>,
}

impl<'a, T, E> Start<'a, T, E>
where
    T: DeserializeOwned + 'static,
    E: ErrorValue,
{
    pub(super) fn new(
        client: &'a Client,
        workflow: Arc<str>,
        workflow_id: &str,
        input: Result<Bytes, Failure>,
    ) -> Self {
        Self {
            client,
            workflow,
            workflow_id: workflow_id.into(),
            input,
            queue: "default".into(),
            reuse: None,
            at: None,
            ticket: Ticket::default(),
            trace: None,
            tags: Ok(Tags::new()),
            types: PhantomData,
        }
    }

    /// Sends the run to the workers of another queue than `default`.
    pub fn queue(mut self, queue: &str) -> Self {
        self.queue = queue.into();
        self
    }

    /// The key of the run in its queue: a customer, a tenant, an account. Where the [queue has limits](Client::queue),
    /// runs of one key are limited together, and keys take turns, so that nobody waits for all of
    /// somebody else's runs.
    pub fn key(mut self, key: &str) -> Self {
        self.ticket.key = key.into();
        self
    }

    /// The priority of the run where its [queue has limits](Client::queue): of the runs of its key, a greater one goes
    /// first. Zero if none is set.
    pub fn priority(mut self, priority: i16) -> Self {
        self.ticket.priority = priority;
        self
    }

    /// What to do when a run of this workflow id exists. If nothing is said, the workflow id runs once, ever; with
    /// [`Self::signal`] and [`Self::debounce`] a closed run makes room for a new one.
    pub fn reuse(mut self, reuse: IdReuse) -> Self {
        self.reuse = Some(reuse);
        self
    }

    /// Starts the workflow not before this time of the database's clock.
    pub fn not_before(mut self, at: Timestamp) -> Self {
        self.at = Some(at);
        self
    }

    /// The distributed trace that the run belongs to, with everything that it does and starts. If none is given, it is
    /// the trace of the caller's current span: [`TraceContext::current`].
    ///
    /// ```no_run
    /// # use sync_workflow::{Client, Context, Failure, TraceContext};
    /// # async fn hello(ctx: Context, name: String) -> Result<String, Failure> { Ok(name) }
    /// # async fn example(client: Client, traceparent: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// let trace = TraceContext::new(traceparent)?;
    /// client.start(hello, "hello-1", "world".into()).trace(trace).await?;
    /// # Ok(()) }
    /// ```
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Starts the run with a tag, by which [`RunFilter::tags`](crate::journal::RunFilter::tags) finds it. Runs that
    /// continue it as new have the tag too. Where a run of the workflow id exists, that one's tags stay as they are.
    ///
    /// ```no_run
    /// use sync_workflow::{journal::RunFilter, tag::Tags};
    /// # use sync_workflow::{Client, Context, Failure};
    /// # async fn order(ctx: Context, cents: u64) -> Result<(), Failure> { Ok(()) }
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// client.start(order, "order-7", 100).tag("tenant", "42").await?;
    /// let tags = Tags::new().with("tenant", "42")?;
    /// let found = client.list(&RunFilter { tags, ..RunFilter::default() }).await?;
    /// # Ok(()) }
    /// ```
    pub fn tag(mut self, name: &str, value: &str) -> Self {
        self.tags = self.tags.and_then(|tags| tags.with(name, value));
        self
    }

    /// Sends a signal with the start, in one transaction: to the open run of the workflow id, and if there is none to
    /// the run that is started for it. Options of the start are set before.
    ///
    /// ```no_run
    /// # use sync_workflow::{Client, Context, Failure};
    /// # async fn cart(ctx: Context, customer: u64) -> Result<(), Failure> { Ok(()) }
    /// # async fn example(client: Client) -> Result<(), sync_workflow::client::Error> {
    /// client.start(cart, "cart-7", 7).signal("add", "three apples").await?;
    /// # Ok(()) }
    /// ```
    pub fn signal<V: Serialize + ?Sized>(self, name: &str, value: &V) -> SignalWithStart<'a, T, E> {
        self.signal_once(name, &Uuid::new_v4().to_string(), value)
    }

    /// As [`Self::signal`], once: when a run of the workflow id was sent this signal id before, nothing is sent and
    /// nothing is started, however that run ended. So a caller that lost the answer asks again. Of the runs of the
    /// workflow id the latest [`SENT_SIGNAL_RUNS`](journal::SENT_SIGNAL_RUNS) are looked through.
    pub fn signal_once<V: Serialize + ?Sized>(
        self,
        name: &str,
        signal_id: &str,
        value: &V,
    ) -> SignalWithStart<'a, T, E> {
        SignalWithStart::new(self, name, signal_id, payload::encode(value))
    }

    /// Starts the run once nobody has asked for it again for `quiet_for`, and `longest_wait` after it was first asked
    /// for at the latest. Who asks again before it has begun replaces its input and begins the wait anew; all else
    /// stays as it was first asked for. Options of the start are set before.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use sync_workflow::{Client, Context, Failure};
    /// # async fn reindex(ctx: Context, revision: u64) -> Result<(), Failure> { Ok(()) }
    /// # async fn example(client: Client) -> Result<(), sync_workflow::client::Error> {
    /// use sync_workflow::client::Debounced;
    ///
    /// let (quiet_for, longest_wait) = (Duration::from_secs(5), Duration::from_secs(60));
    /// let start = client.start(reindex, "reindex-7", 41).debounce(quiet_for, longest_wait);
    /// match start.await? {
    ///     Debounced::Started(_) | Debounced::Replaced(_) => {}
    ///     // It works on what it was given before: ask again when it is done.
    ///     Debounced::Existing(running) => { let _ = running.result().await; }
    /// }
    /// # Ok(()) }
    /// ```
    pub const fn debounce(
        self,
        quiet_for: Duration,
        longest_wait: Duration,
    ) -> DebouncedStart<'a, T, E> {
        DebouncedStart::new(
            self,
            Debounce {
                quiet_for,
                longest_wait,
            },
        )
    }

    /// Starts the run inside the caller's own transaction on the journal's database: it exists if
    /// and only if the transaction commits. Workers find it by their poll, or sooner with
    /// [`Client::wake_up`] after the commit.
    ///
    /// # Errors
    ///
    /// As awaiting it.
    pub async fn start_in(
        self,
        transaction: impl Into<StepTransaction<'_>>,
    ) -> Result<RunHandle<T, E>, Error> {
        let client = self.client.clone();
        let run = self.into_new_run(IdReuse::default())?;
        let outcome = client.journal.start_in(transaction.into(), &run).await?;
        Ok(handle(client, run.run, run.workflow_id, outcome))
    }

    pub(super) const fn client(&self) -> &'a Client {
        self.client
    }

    pub(super) fn into_new_run(self, default: IdReuse) -> Result<NewRun, Error> {
        let run = self.client.run_ids.next();
        let input = self.input.map_err(Error::Unencodable)?;
        let limit = self.client.journal.max_payload_bytes();
        if input.len() > limit {
            return Err(journal::Error::PayloadTooLarge {
                bytes: input.len(),
                limit,
            }
            .into());
        }
        Ok(NewRun {
            run,
            chain: run,
            workflow_id: WorkflowId::new(self.workflow_id)?,
            workflow: self.workflow,
            queue: self.queue,
            input,
            reuse: self.reuse.unwrap_or(default),
            parent: None,
            trace: self.trace.or_else(TraceContext::current),
            placement: self.at.map_or(Placement::Anywhere, Placement::NotBefore),
            ticket: self.ticket,
            tags: self.tags?,
            carried_over: Vec::new(),
        })
    }

    async fn start(self) -> Result<RunHandle<T, E>, Error> {
        let client = self.client.clone();
        let run = self.into_new_run(IdReuse::default())?;
        let (id, workflow_id) = (run.run, run.workflow_id.clone());
        // A worker of this process takes starts into its group commit.
        if let Some(node) = client.local_node()
            && let Some(room) = node.commits.room().await
        {
            let mut run = run.clone();
            // From here on the committer frees the place again: a caller who gives up earlier had none.
            node.place(&mut run);
            let handle_before = RunHandle::new(client.clone(), id, workflow_id.clone(), true);
            let (reply, outcome) = oneshot::channel();
            room.submit(Work::Start { run, reply });
            match outcome.await {
                Ok(Ok(StartOutcome::Started)) => return Ok(handle_before),
                Ok(Ok(outcome)) => return Ok(handle(client, id, workflow_id, outcome)),
                Ok(Err(journal::Error::Fenced)) | Err(_) => {}
                Ok(Err(error)) => return Err(error.into()),
            }
        }
        let queue = Arc::clone(&run.queue);
        let outcome = client.journal.start(&run).await?;
        if matches!(outcome, StartOutcome::Started) {
            client.hint(Hint::Ready(queue)).await;
        }
        Ok(handle(client, id, workflow_id, outcome))
    }
}

fn handle<T, E>(
    client: Client,
    proposed: RunId,
    workflow_id: WorkflowId,
    outcome: StartOutcome,
) -> RunHandle<T, E>
where
    T: DeserializeOwned,
    E: ErrorValue,
{
    match outcome {
        StartOutcome::Started => RunHandle::new(client, proposed, workflow_id, true),
        StartOutcome::Existing { run, .. } => RunHandle::new(client, run, workflow_id, false),
    }
}

impl<'a, T, E> IntoFuture for Start<'a, T, E>
where
    T: DeserializeOwned + 'static,
    E: ErrorValue,
{
    type Output = Result<RunHandle<T, E>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}
