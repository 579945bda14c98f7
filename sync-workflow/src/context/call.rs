//! Durable calls: futures that the journal completes.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Context, remote};
use crate::{
    failure::{CallError, Cancelled, ErrorValue, Failure},
    id::{CommandId, WorkflowId},
    payload, record,
    replay::{
        ActivityOptions, ChildRequest, Command, Fault, Request, RetryPolicy, SharedMachine,
        TimerDue, lock, timer_fingerprint,
    },
    tag::Tags,
};

/// The part that all durable calls share: a numbered command of the machine.
pub(super) struct Call {
    machine: SharedMachine,
    pub(super) id: CommandId,
    is_done: bool,
}

impl Call {
    pub(super) fn new(
        context: &Context,
        request: Request,
        name: Arc<str>,
        fingerprint: u64,
    ) -> Self {
        let command = Command::new(request, name, fingerprint, context.scope);
        let id = lock(&context.machine).build(command);
        Self {
            machine: Arc::clone(&context.machine),
            id,
            is_done: false,
        }
    }

    pub(super) fn configure(&self, change: impl FnOnce(&mut Command)) {
        lock(&self.machine).configure(self.id, change);
    }

    pub(super) fn poll(&mut self, cx: &TaskContext<'_>) -> Poll<Result<Bytes, Failure>> {
        let resolution = ready!(lock(&self.machine).poll(self.id, cx.waker()));
        self.is_done = true;
        Poll::Ready(resolution.into_result())
    }

    /// As [`Self::poll`], but the machine keeps the value until it is [consumed](Self::consume).
    fn poll_kept(&mut self, cx: &TaskContext<'_>) -> Poll<Result<Bytes, Failure>> {
        let resolution = ready!(lock(&self.machine).poll_kept(self.id, cx.waker()));
        Poll::Ready(resolution.into_result())
    }

    fn consume(mut self) {
        self.is_done = true;
        lock(&self.machine).consume(self.id);
    }
}

impl Call {
    /// The value is there and this code cannot read it: code that can is what the run waits for.
    pub(super) fn park<T>(&self, message: String) -> Poll<T> {
        park_undecodable(&self.machine, self.id, message);
        Poll::Pending
    }
}

pub(super) fn park_undecodable(machine: &SharedMachine, command: CommandId, message: String) {
    lock(machine).fail_with(Fault::UndecodableValue { command, message });
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_done {
            lock(&self.machine).drop_command(self.id);
        }
    }
}

/// A call whose value has a type, or whose input could not be encoded.
pub(super) struct TypedCall<T, E> {
    call: Call,
    unencodable: Option<Failure>,
    types: PhantomData<fn() -> (T, E)>,
}

impl<T: DeserializeOwned, E: ErrorValue> TypedCall<T, E> {
    pub(super) fn new(
        context: &Context,
        name: Arc<str>,
        input: Result<Bytes, Failure>,
        request: impl FnOnce(Bytes) -> Request,
    ) -> Self {
        let (input, unencodable) = match input {
            Ok(input) => (input, None),
            Err(failure) => (Bytes::new(), Some(failure)),
        };
        let fingerprint = payload::fingerprint(&input);
        Self {
            call: Call::new(context, request(input), name, fingerprint),
            unencodable,
            types: PhantomData,
        }
    }

    pub(super) fn poll(&mut self, cx: &TaskContext<'_>) -> Poll<Result<T, CallError<E>>> {
        if let Some(failure) = self.unencodable.take() {
            return Poll::Ready(Err(CallError::Other(failure)));
        }
        match ready!(self.call.poll(cx)) {
            Ok(payload) => match payload::decode(&payload) {
                Ok(value) => Poll::Ready(Ok(value)),
                Err(failure) => self.call.park(failure.message),
            },
            Err(failure) => Poll::Ready(Err(CallError::from_failure(failure))),
        }
    }
}

/// A call of an activity. Awaiting it gives the activity's value, or its last error.
#[must_use = "an activity runs when it is awaited"]
pub struct ActivityCall<T, E>(TypedCall<T, E>);

impl<T: DeserializeOwned, E: ErrorValue> ActivityCall<T, E> {
    pub(super) fn new<I: Serialize>(
        context: &Context,
        name: Arc<str>,
        options: ActivityOptions,
        input: &I,
    ) -> Self {
        Self(TypedCall::new(
            context,
            name,
            payload::encode(input),
            |input| Request::Activity {
                input,
                options: Arc::new(options),
            },
        ))
    }

    /// Sets how failed attempts are repeated.
    pub fn retry(self, retry: RetryPolicy) -> Self {
        self.with(|options| options.retry = retry)
    }

    /// Limits one attempt.
    pub fn timeout(self, start_to_close: Duration) -> Self {
        self.with(|options| options.timeouts.start_to_close = Some(start_to_close))
    }

    /// Limits all attempts and the waits between them together.
    pub fn deadline(self, schedule_to_close: Duration) -> Self {
        self.with(|options| options.timeouts.schedule_to_close = Some(schedule_to_close))
    }

    /// Ends an attempt that does not report progress for this long.
    pub fn heartbeat_timeout(self, heartbeat: Duration) -> Self {
        self.with(|options| options.timeouts.heartbeat = Some(heartbeat))
    }

    /// Journals the attempt before it starts, and never repeats it: an attempt that was interrupted
    /// fails with [`crate::FailureKind::Interrupted`].
    pub fn at_most_once(self) -> Self {
        self.with(|options| options.at_most_once = true)
    }

    /// Sends the activity to the workers of another queue, which know it by
    /// [`remote_activity`](crate::WorkerBuilder::remote_activity): it runs there as a child of this run, with the same
    /// retries and timeouts, counted from when a worker takes it. Around both put a
    /// [`timeout`](Context::timeout), if the queue may be long.
    ///
    /// ```
    /// # use sync_workflow::{Context, Failure};
    /// # async fn render(scene: u64) -> Result<String, Failure> { Ok(scene.to_string()) }
    /// async fn film(ctx: Context, scene: u64) -> Result<String, Failure> {
    ///     Ok(ctx.activity(render, scene).queue("gpu").await?)
    /// }
    /// ```
    pub fn queue(self, queue: &str) -> Self {
        self.with(|options| options.queue = Some(queue.into()))
    }

    /// Parks the run for a person when the attempts are used up, instead of giving the error to the
    /// workflow. An unparked run tries again.
    pub fn park_when_exhausted(self) -> Self {
        self.with(|options| options.park_when_exhausted = true)
    }

    fn with(self, change: impl FnOnce(&mut ActivityOptions)) -> Self {
        self.0.call.configure(|command| {
            if let Request::Activity { options, .. } = &mut command.request {
                change(Arc::make_mut(options));
            }
        });
        self
    }
}

impl<T: DeserializeOwned, E: ErrorValue> Future for ActivityCall<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.call.configure(remote::send_to_queue);
        self.0.poll(cx)
    }
}

/// A durable timer. Ends early with [`Cancelled`] when the run is cancelled.
#[must_use = "a timer starts when it is awaited"]
pub struct Sleep(Call);

impl Sleep {
    pub(super) fn new(context: &Context, due: TimerDue) -> Self {
        Self(Call::new(
            context,
            Request::Timer { due },
            "".into(),
            timer_fingerprint(due),
        ))
    }
}

impl Future for Sleep {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let result = ready!(self.0.poll(cx));
        // Nothing but cancellation fails a timer.
        Poll::Ready(result.map(drop).map_err(|_failure| Cancelled))
    }
}

/// A wait for a signal.
#[must_use = "a signal is received when it is awaited"]
pub struct Wait<T>(Call, PhantomData<fn() -> T>);

impl<T: DeserializeOwned> Wait<T> {
    pub(super) fn new(context: &Context, name: &str) -> Self {
        Self(
            Call::new(context, Request::Signal { received: None }, name.into(), 0),
            PhantomData,
        )
    }
}

impl<T: DeserializeOwned> Wait<T> {
    /// As polling it, but the signal counts as unread until it is [consumed](Self::consume), and one that this code
    /// cannot read parks the run.
    pub(super) fn poll_kept(&mut self, cx: &TaskContext<'_>) -> Poll<Result<T, CallError>> {
        match ready!(self.0.poll_kept(cx)) {
            Ok(payload) => match payload::decode(&payload) {
                Ok(value) => Poll::Ready(Ok(value)),
                Err(failure) => self.0.park(failure.message),
            },
            Err(failure) => Poll::Ready(Err(CallError::from_failure(failure))),
        }
    }

    pub(super) fn consume(self) {
        self.0.consume();
    }
}

impl<T: DeserializeOwned> Future for Wait<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let result = ready!(self.0.poll(cx));
        Poll::Ready(match result {
            Ok(payload) => payload::decode(&payload).map_err(CallError::Other),
            Err(failure) => Err(CallError::from_failure(failure)),
        })
    }
}

/// A signal to another workflow. Awaiting it gives nothing, or why it could not be delivered.
#[must_use = "a signal is sent when it is awaited"]
pub struct SignalCall {
    call: Call,
    unencodable: Option<Failure>,
}

impl SignalCall {
    pub(super) fn new<V: Serialize + ?Sized>(
        context: &Context,
        to: &WorkflowId,
        name: &str,
        value: &V,
    ) -> Self {
        let (payload, unencodable) = match payload::encode(value) {
            Ok(payload) => (payload, None),
            Err(failure) => (Bytes::new(), Some(failure)),
        };
        let fingerprint = record::fingerprint(to.as_str().as_bytes()).rotate_left(1)
            ^ payload::fingerprint(&payload);
        let request = Request::Send {
            to: to.clone(),
            payload,
        };
        Self {
            call: Call::new(context, request, name.into(), fingerprint),
            unencodable,
        }
    }
}

impl Future for SignalCall {
    type Output = Result<(), CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if let Some(failure) = self.unencodable.take() {
            return Poll::Ready(Err(CallError::Other(failure)));
        }
        let result = ready!(self.call.poll(cx));
        Poll::Ready(result.map(drop).map_err(CallError::from_failure))
    }
}

/// Completes when the run is asked to cancel.
#[must_use = "futures do nothing unless awaited"]
pub struct Cancellation(Call);

impl Cancellation {
    pub(super) fn new(context: &Context) -> Self {
        let scope = lock(&context.machine).cancellation_scope(context.scope);
        let context = Context {
            machine: Arc::clone(&context.machine),
            scope,
        };
        Self(Call::new(
            &context,
            Request::Cancellation,
            "cancelled".into(),
            0,
        ))
    }
}

impl Future for Cancellation {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        self.0.poll(cx).map(drop)
    }
}

/// A child workflow. Awaiting it gives the child's value; [`Self::start`] starts it without waiting.
#[must_use = "a child starts when it is awaited, or with `start`"]
pub struct ChildCall<T, E>(TypedCall<T, E>);

impl<T: DeserializeOwned, E: ErrorValue> ChildCall<T, E> {
    pub(super) fn new<I: Serialize>(context: &Context, name: Arc<str>, input: &I) -> Self {
        Self(TypedCall::new(
            context,
            name,
            payload::encode(input),
            |input| Request::Child(ChildRequest::new(input)),
        ))
    }

    /// Sets the child's workflow id. Without one, it follows from the parent's run. If a run of the
    /// id exists, the call fails with [`crate::FailureKind::Rejected`].
    pub fn id(self, workflow_id: WorkflowId) -> Self {
        self.with(|child| child.workflow_id = Some(workflow_id))
    }

    /// The child's workflow id: what signals to it are addressed to.
    #[must_use]
    pub fn workflow_id(&self) -> WorkflowId {
        lock(&self.0.call.machine).child_workflow_id(self.0.call.id)
    }

    /// Sends the child to the workers of another queue.
    pub fn queue(self, queue: &str) -> Self {
        self.with(|child| child.queue = Some(queue.into()))
    }

    /// The key of the child in its queue, as [`Start::key`](crate::client::Start::key).
    pub fn key(self, key: &str) -> Self {
        self.with(|child| child.key = key.into())
    }

    /// The priority of the child among the runs of its key, as
    /// [`Start::priority`](crate::client::Start::priority).
    pub fn priority(self, priority: i16) -> Self {
        self.with(|child| child.priority = priority)
    }

    /// Starts the child with these tags. It has none of its parent's by itself.
    pub fn tags(self, tags: Tags) -> Self {
        self.with(|child| child.tags = tags)
    }

    /// Lets the child go on when this run closes; otherwise it is asked to cancel.
    pub fn abandon_on_close(self) -> Self {
        self.with(|child| child.abandon_on_close = true)
    }

    /// Starts the child with this turn. The returned call awaits its result; dropping it leaves
    /// the child running.
    pub fn start(self) -> Self {
        lock(&self.0.call.machine).ask_eagerly(self.0.call.id);
        self
    }

    /// Starts the child and lets it go on by itself, even when this run closes.
    pub fn detach(self) {
        drop(self.abandon_on_close().start());
    }

    fn with(self, change: impl FnOnce(&mut ChildRequest)) -> Self {
        self.0.call.configure(|command| {
            if let Request::Child(child) = &mut command.request {
                change(child);
            }
        });
        self
    }
}

impl<T: DeserializeOwned, E: ErrorValue> Future for ChildCall<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}
