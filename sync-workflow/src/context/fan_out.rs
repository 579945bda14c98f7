//! Fan-out: one workflow for each of many inputs, however many they are.
//!
//! A run's journal must stay short, so many inputs are cut into slices: each slice is the input of one child, a
//! branch, which starts the workflows of its slice and returns how they ended. A million inputs are two thousand
//! branches, and two records for each in the journal of the run that fans out.

use std::{
    collections::VecDeque,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{
    Context, Scope, WorkflowCallee,
    call::{Call, park_undecodable},
};
use crate::{
    failure::{CallError, ErrorValue, Failure},
    id::CommandId,
    payload,
    replay::{ChildRequest, Request},
};

/// The registered name of the workflow that runs a slice. Every worker knows it.
pub(crate) const BRANCH: &str = "fan-out/branch";

/// How many inputs a branch has at most, unless the caller says otherwise.
const SLICE: usize = 500;
/// How many bytes of inputs a branch is given, unless one input alone is longer.
const MAX_SLICE_BYTES: usize = 1024 * 1024;
/// How many workflows run at once, unless the caller says otherwise.
const AT_ONCE: usize = 1_000;
/// Into how many branches that number is cut at least: so that the end of one leaves little idle.
const BRANCHES_AT_ONCE: usize = 10;

impl Context {
    /// Runs a workflow for each of many inputs, from a few to millions, and gives the results as they come.
    ///
    /// Up to [`FanOut::slice`] inputs are children of this run. More are cut into slices, each the work of a child of its own
    /// that any worker of this run's queue may take, so that the journal of this run stays short. Its inputs
    /// are asked for again at every replay and must be the same: take them from the run's input, from an activity, or count.
    ///
    /// ```
    /// use sync_workflow::{Context, Failure};
    ///
    /// async fn resize(_ctx: Context, image: u64) -> Result<u64, Failure> { Ok(image) }
    ///
    /// /// Resizes a million images, two hundred at a time; gives up after the hundredth that fails.
    /// async fn resize_all(ctx: Context, images: u64) -> Result<u64, Failure> {
    ///     let mut results = ctx.fan_out(resize, 0..images).at_once(200).stop_after(100);
    ///     let mut bytes = 0;
    ///     while let Some((_index, result)) = results.next().await {
    ///         bytes += result.unwrap_or(0);
    ///     }
    ///     Ok(bytes)
    /// }
    /// ```
    pub fn fan_out<M, W, I>(&self, workflow: W, inputs: I) -> FanOut<W::Output, W::Error>
    where
        W: WorkflowCallee<M>,
        I: IntoIterator<Item = W::Input>,
        I::IntoIter: Send + 'static,
    {
        let inputs = inputs.into_iter().map(|input| payload::encode(&input));
        FanOut {
            scope: self.scope(),
            inputs: Box::new(inputs.enumerate()),
            plan: Plan {
                workflow: workflow.name().as_ref().into(),
                queue: None,
                key: String::new(),
                priority: 0,
                at_once: AT_ONCE,
                stop_after: None,
            },
            slice: SLICE,
            progress: None,
            ready: VecDeque::new(),
            failed: 0,
            types: PhantomData,
        }
    }
}

/// One workflow for each of many inputs: see [`Context::fan_out`].
///
/// Nothing begins before the first [`Self::next`]. When it is dropped, what still runs is asked to cancel.
#[must_use = "nothing begins before the first result is asked for"]
pub struct FanOut<T, E> {
    scope: Scope,
    inputs: Box<dyn Iterator<Item = (usize, Result<Bytes, Failure>)> + Send>,
    plan: Plan,
    slice: usize,
    progress: Option<Progress>,
    /// Results that were not given yet.
    ready: VecDeque<Ended>,
    failed: usize,
    types: PhantomData<fn() -> (T, E)>,
}

/// What runs.
enum Progress {
    /// Few inputs: the workflows themselves.
    Few(Window),
    /// Slices.
    Many {
        branches: FuturesUnordered<BranchCall>,
        /// A slice that was cut and not started.
        next: Option<Vec<Input>>,
    },
    Over,
}

/// An input and its number.
type Input = (usize, Bytes);

/// How the workflow of an input ended.
type Ended = (usize, Result<Value, Failure>);

/// The encoded value of a workflow, and the call that brought it.
struct Value {
    payload: Bytes,
    call: CommandId,
}

/// What holds for every workflow of a fan-out.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    workflow: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    key: String,
    #[serde(default)]
    priority: i16,
    at_once: usize,
    /// How many may fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop_after: Option<usize>,
}

impl Plan {
    fn is_enough(&self, failed: usize) -> bool {
        self.stop_after.is_some_and(|most| failed >= most)
    }
}

impl<T: DeserializeOwned, E: ErrorValue> FanOut<T, E> {
    /// How many workflows run at once at most; 1,000 if nothing is said, at least one. The limits of a
    /// [queue](crate::client::Client::queue) hold besides.
    pub fn at_once(mut self, count: usize) -> Self {
        self.plan.at_once = count.max(1);
        self
    }

    /// Stops when so many have failed: nothing further begins, and what runs is asked to cancel. Without it every
    /// input has its turn.
    pub const fn stop_after(mut self, failures: usize) -> Self {
        self.plan.stop_after = Some(failures);
        self
    }

    /// The queue of the workflows; this run's if none is named.
    pub fn queue(mut self, queue: &str) -> Self {
        self.plan.queue = Some(queue.into());
        self
    }

    /// The key of the workflows in their queue, as [`Start::key`](crate::client::Start::key).
    pub fn key(mut self, key: &str) -> Self {
        self.plan.key = key.into();
        self
    }

    /// The priority of the workflows, as [`Start::priority`](crate::client::Start::priority).
    pub const fn priority(mut self, priority: i16) -> Self {
        self.plan.priority = priority;
        self
    }

    /// How many inputs a slice has at most; 500 if nothing is said, at least one. The results of a slice are one payload, so
    /// take less where a result has more than a few kilobytes. Changing it is a change of the workflow's code.
    pub fn slice(mut self, inputs: usize) -> Self {
        self.slice = inputs.max(1);
        self
    }

    /// The next result, in the order in which they come, with the number of its input; of a slice all come together. `None` when there are no more:
    /// every input has one, unless [`Self::is_stopped`].
    pub async fn next(&mut self) -> Option<(usize, Result<T, CallError<E>>)> {
        loop {
            if let Some((index, result)) = self.ready.pop_front() {
                let result = match result {
                    Ok(value) => match self.decode(index, &value) {
                        Some(value) => Ok(value),
                        None => std::future::pending().await,
                    },
                    Err(failure) => Err(CallError::from_failure(failure)),
                };
                return Some((index, result));
            }
            match self.advance().await {
                Some(mut ended) => {
                    ended.sort_unstable_by_key(|(index, _)| *index);
                    self.failed += ended.iter().filter(|(_, result)| result.is_err()).count();
                    self.ready.extend(ended);
                }
                // An input that could not be encoded may have been the last.
                None if self.ready.is_empty() => return None,
                None => {}
            }
            if self.is_stopped() {
                self.stop();
            }
        }
    }

    /// All values in the order of the inputs, or the first failure, upon which the others are asked to cancel.
    ///
    /// # Errors
    ///
    /// The failure that came first.
    pub async fn all(self) -> Result<Vec<T>, CallError<E>> {
        let mut results = self.stop_after(1);
        let mut values = Vec::new();
        while let Some((index, result)) = results.next().await {
            values.push((index, result?));
        }
        values.sort_unstable_by_key(|(index, _)| *index);
        Ok(values.into_iter().map(|(_, value)| value).collect())
    }

    /// How many have failed so far.
    #[must_use]
    pub const fn failed(&self) -> usize {
        self.failed
    }

    /// Whether so many have failed that the others have no turn.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.plan.is_enough(self.failed)
    }

    /// A value that this code cannot read parks the run, as that of any call does.
    fn decode(&self, index: usize, value: &Value) -> Option<T> {
        match payload::decode(&value.payload) {
            Ok(decoded) => Some(decoded),
            Err(failure) => {
                let message = format!("input {index}: {}", failure.message);
                park_undecodable(&self.scope.context().machine, value.call, message);
                None
            }
        }
    }

    /// Waits for results; `None` when there are none to come.
    async fn advance(&mut self) -> Option<Vec<Ended>> {
        if self.progress.is_none() {
            self.progress = Some(self.begin());
        }
        match self.progress.as_mut()? {
            Progress::Over => None,
            Progress::Few(window) => window.next().await.map(|ended| vec![ended]),
            Progress::Many { .. } => self.next_slice().await,
        }
    }

    fn begin(&mut self) -> Progress {
        let first = self.cut();
        let second = self.cut();
        match second.is_empty() {
            true => Progress::Few(Window::new(self.scope.context(), &self.plan, first)),
            false => {
                let branches = FuturesUnordered::new();
                branches.push(self.branch(first));
                Progress::Many {
                    branches,
                    next: Some(second),
                }
            }
        }
    }

    async fn next_slice(&mut self) -> Option<Vec<Ended>> {
        let most = self.plan.at_once.div_ceil(self.at_once_in_branch());
        loop {
            let room = match &mut self.progress {
                Some(Progress::Many { branches, next }) if branches.len() < most => next.take(),
                _ => None,
            };
            let Some(slice) = room else {
                break;
            };
            let call = self.branch(slice);
            let following = self.cut();
            if let Some(Progress::Many { branches, next }) = &mut self.progress {
                branches.push(call);
                *next = (!following.is_empty()).then_some(following);
            }
        }
        match &mut self.progress {
            Some(Progress::Many { branches, .. }) => branches.next().await,
            _ => None,
        }
    }

    fn at_once_in_branch(&self) -> usize {
        let share = self.plan.at_once.div_ceil(BRANCHES_AT_ONCE);
        share.clamp(1, self.slice)
    }

    /// The inputs of the next slice. One that cannot be encoded has failed.
    fn cut(&mut self) -> Vec<Input> {
        let mut slice = Vec::new();
        let mut bytes = 0;
        while slice.len() < self.slice && bytes < MAX_SLICE_BYTES {
            match self.inputs.next() {
                Some((index, Ok(input))) => {
                    bytes += input.len();
                    slice.push((index, input));
                }
                Some((index, Err(failure))) => {
                    self.failed += 1;
                    self.ready.push_back((index, Err(failure)));
                }
                None => break,
            }
        }
        slice
    }

    fn branch(&self, inputs: Vec<Input>) -> BranchCall {
        let plan = Plan {
            at_once: self.at_once_in_branch(),
            stop_after: self
                .plan
                .stop_after
                .map(|most| most.saturating_sub(self.failed).max(1)),
            ..self.plan.clone()
        };
        BranchCall::new(self.scope.context(), &plan, inputs)
    }

    fn stop(&mut self) {
        self.scope.cancel();
        self.progress = Some(Progress::Over);
    }
}

impl<T, E> Drop for FanOut<T, E> {
    fn drop(&mut self) {
        if matches!(
            self.progress,
            Some(Progress::Few(_) | Progress::Many { .. })
        ) {
            self.scope.cancel();
        }
    }
}

impl<T, E> std::fmt::Debug for FanOut<T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FanOut")
            .field("plan", &self.plan)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// Workflows of some inputs, so many at once.
struct Window {
    context: Context,
    plan: Plan,
    inputs: VecDeque<Input>,
    running: FuturesUnordered<ChildOfInput>,
}

impl Window {
    fn new(context: &Context, plan: &Plan, inputs: Vec<Input>) -> Self {
        Self {
            context: context.clone(),
            plan: plan.clone(),
            inputs: inputs.into(),
            running: FuturesUnordered::new(),
        }
    }

    async fn next(&mut self) -> Option<Ended> {
        while self.running.len() < self.plan.at_once {
            let Some((index, input)) = self.inputs.pop_front() else {
                break;
            };
            let call = ChildOfInput::new(&self.context, &self.plan, index, input);
            self.running.push(call);
        }
        self.running.next().await
    }
}

/// The workflow of one input.
struct ChildOfInput {
    index: usize,
    call: Call,
}

impl ChildOfInput {
    fn new(context: &Context, plan: &Plan, index: usize, input: Bytes) -> Self {
        let fingerprint = payload::fingerprint(&input);
        let request = Request::Child(ChildRequest {
            queue: plan.queue.as_deref().map(Arc::from),
            key: plan.key.as_str().into(),
            priority: plan.priority,
            ..ChildRequest::new(input)
        });
        let name = plan.workflow.as_str().into();
        Self {
            index,
            call: Call::new(context, request, name, fingerprint),
        }
    }
}

impl Future for ChildOfInput {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let (index, call) = (self.index, self.call.id);
        let polled = self.call.poll(cx);
        polled.map(|result| (index, result.map(|payload| Value { payload, call })))
    }
}

/// The child that runs a slice.
struct BranchCall {
    call: Call,
    /// The numbers of its inputs.
    indexes: Vec<usize>,
    unencodable: Option<Failure>,
}

impl BranchCall {
    fn new(context: &Context, plan: &Plan, inputs: Vec<Input>) -> Self {
        let (indexes, inputs): (Vec<_>, Vec<_>) = inputs.into_iter().unzip();
        let branch = Branch::new(plan, &inputs).and_then(|branch| payload::encode(&branch));
        let (input, unencodable) = match branch {
            Ok(input) => (input, None),
            Err(failure) => (Bytes::new(), Some(failure)),
        };
        let fingerprint = payload::fingerprint(&input);
        let request = Request::Child(ChildRequest {
            // It only waits for others: where the queue has limits, they are for these.
            is_exempt: true,
            ..ChildRequest::new(input)
        });
        Self {
            call: Call::new(context, request, BRANCH.into(), fingerprint),
            indexes,
            unencodable,
        }
    }

    /// What became of its inputs.
    fn ended(&self, results: Vec<BranchResult>) -> Vec<Ended> {
        let call = self.call.id;
        let numbered = |result: BranchResult| {
            let index = self.indexes.get(result.place).copied()?;
            let result = result.into_result();
            Some((index, result.map(|payload| Value { payload, call })))
        };
        results.into_iter().filter_map(numbered).collect()
    }

    /// The same for all inputs: the branch itself failed.
    fn failed(&self, failure: &Failure) -> Vec<Ended> {
        let same = |index: &usize| (*index, Err(failure.clone()));
        self.indexes.iter().map(same).collect()
    }
}

impl Future for BranchCall {
    type Output = Vec<Ended>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if let Some(failure) = self.unencodable.take() {
            return Poll::Ready(self.failed(&failure));
        }
        match ready!(self.call.poll(cx)) {
            Ok(payload) => match payload::decode(&payload) {
                Ok(results) => Poll::Ready(self.ended(results)),
                Err(failure) => self.call.park(failure.message),
            },
            Err(failure) => Poll::Ready(self.failed(&failure)),
        }
    }
}

/// The input of a branch.
#[derive(Serialize, Deserialize)]
pub(crate) struct Branch {
    plan: Plan,
    inputs: Vec<Box<RawValue>>,
}

/// How the workflow of one input of a branch ended.
#[derive(Serialize, Deserialize)]
struct BranchResult {
    /// The place of the input in the slice.
    place: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

impl BranchResult {
    fn new(place: usize, result: Result<Bytes, Failure>) -> Self {
        let value = result.and_then(|payload| raw(&payload));
        let (value, failure) = match value {
            Ok(value) => (Some(value), None),
            Err(failure) => (None, Some(failure)),
        };
        Self {
            place,
            value,
            failure,
        }
    }

    fn into_result(self) -> Result<Bytes, Failure> {
        match (self.value, self.failure) {
            (Some(value), _) => Ok(bytes(&value)),
            (None, Some(failure)) => Err(failure),
            // A value of null reads back as none.
            (None, None) => Ok(Bytes::from_static(b"null")),
        }
    }
}

impl Branch {
    fn new(plan: &Plan, inputs: &[Bytes]) -> Result<Self, Failure> {
        Ok(Self {
            plan: plan.clone(),
            inputs: inputs
                .iter()
                .map(|input| raw(input))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Runs the workflows of the slice.
    pub(crate) async fn run(self, context: Context) -> Result<Bytes, Failure> {
        let scope = context.scope();
        let inputs = self.inputs.iter().map(|input| bytes(input)).enumerate();
        let mut window = Window::new(scope.context(), &self.plan, inputs.collect());
        let mut results = Vec::new();
        let mut failed = 0;
        while let Some((place, result)) = window.next().await {
            failed += usize::from(result.is_err());
            results.push(BranchResult::new(place, result.map(|value| value.payload)));
            if self.plan.is_enough(failed) {
                scope.cancel();
                break;
            }
        }
        if context.is_cancelled() {
            return Err(Failure::cancelled());
        }
        payload::encode(&results)
    }
}

/// An encoded value within another one.
fn raw(payload: &[u8]) -> Result<Box<RawValue>, Failure> {
    payload::decode(payload)
}

fn bytes(value: &RawValue) -> Bytes {
    Bytes::copy_from_slice(value.get().as_bytes())
}
