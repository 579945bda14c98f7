//! What workflow code sees: durable calls.

mod call;
mod callee;
mod collect;
#[cfg(feature = "runtime")]
pub(crate) mod fan_out;
pub(crate) mod remote;
mod scope;
#[cfg(feature = "runtime")]
mod transaction;
mod update;

use std::{ops::RangeInclusive, time::Duration};

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

pub use call::{ActivityCall, Cancellation, ChildCall, SignalCall, Sleep, Wait};
#[cfg(feature = "runtime")]
pub use callee::{Activity, ActivityType};
pub use callee::{ActivityCallee, Outcome, Workflow, WorkflowCallee, WorkflowType, function_name};
#[cfg(feature = "runtime")]
pub use fan_out::FanOut;
pub use scope::{Elapsed, Saga, Scope};
#[cfg(feature = "runtime")]
pub(crate) use transaction::{BoxedBody, ReturnSlot};
#[cfg(feature = "runtime")]
pub use transaction::{TransactionCall, Tx, WrongDatabase};
pub use update::{Update, UpdateCall};

use crate::{
    id::{RunId, WorkflowId},
    payload,
    replay::{Fault, ScopeId, SharedMachine, TimerDue, is_replaying, lock},
};

/// The workflow's side of the engine: every durable call starts here.
///
/// A call is numbered when it is built and asked for when it is first polled, like any future. A
/// workflow may use plain Rust to combine calls: `join!`, `select!`, `FuturesUnordered`. It may
/// await nothing else: clocks, IO and channels belong in activities.
///
/// Cloning is cheap; a clone is the same context.
#[derive(Clone)]
pub struct Context {
    machine: SharedMachine,
    scope: ScopeId,
}

impl Context {
    pub(crate) const fn new(machine: SharedMachine) -> Self {
        Self {
            machine,
            scope: ScopeId::RUN,
        }
    }

    /// The run that this code drives; or, in a [fork](crate::client::Client::fork), the run that was here first.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        lock(&self.machine).identity().run
    }

    /// The workflow id that the run was started with; in a [fork](crate::client::Client::fork), that of the run that was
    /// here first.
    #[must_use]
    pub fn workflow_id(&self) -> WorkflowId {
        lock(&self.machine).identity().workflow_id.clone()
    }

    /// Runs an activity: code with effects, in a task of its own, retried by its policy.
    ///
    /// It runs at least once; once its result is in the journal, never again.
    ///
    /// ```
    /// use sync_workflow::{Context, Failure};
    ///
    /// async fn greet(name: String) -> Result<String, Failure> {
    ///     Ok(format!("hello, {name}"))
    /// }
    ///
    /// async fn hello(ctx: Context, name: String) -> Result<String, Failure> {
    ///     Ok(ctx.activity(greet, name).await?)
    /// }
    /// ```
    pub fn activity<M, A>(&self, activity: A, input: A::Input) -> ActivityCall<A::Output, A::Error>
    where
        A: ActivityCallee<M>,
    {
        ActivityCall::new(self, activity.name(), activity.options(), &input)
    }

    /// Sleeps. A sleep of a month costs a row, not memory. The length is part of what replay compares: code that
    /// sleeps for another time needs a [version](Self::version).
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(self, TimerDue::After(duration))
    }

    /// Sleeps until a time of the database's clock.
    pub fn sleep_until(&self, at: Timestamp) -> Sleep {
        Sleep::new(self, TimerDue::At(at))
    }

    /// Waits for the next signal of this name. Signals are received in the order in which they
    /// arrived; those that arrive before anybody waits are kept.
    pub fn wait<T: DeserializeOwned>(&self, signal: &str) -> Wait<T> {
        Wait::new(self, signal)
    }

    /// Sends a signal to the open run of a workflow id, once: whatever crashes or is repeated in
    /// between, the receiver gets it once. It is kept until the receiver waits for it.
    ///
    /// Fails with [`crate::FailureKind::NotOpen`] when no run of the id is open.
    ///
    /// ```
    /// use sync_workflow::{Context, Failure, id::WorkflowId};
    ///
    /// /// Asks another workflow for something, and waits for its answer.
    /// async fn ask(ctx: Context, desk: String) -> Result<bool, Failure> {
    ///     ctx.signal(&WorkflowId::new(desk)?, "question", &ctx.workflow_id()).await?;
    ///     Ok(ctx.wait::<bool>("answer").await?)
    /// }
    ///
    /// async fn desk(ctx: Context, (): ()) -> Result<(), Failure> {
    ///     let asker = ctx.wait::<WorkflowId>("question").await?;
    ///     Ok(ctx.signal(&asker, "answer", &true).await?)
    /// }
    /// ```
    pub fn signal<T: Serialize + ?Sized>(
        &self,
        to: &WorkflowId,
        name: &str,
        value: &T,
    ) -> SignalCall {
        SignalCall::new(self, to, name, value)
    }

    /// Starts a child workflow and awaits its result.
    pub fn child<M, W>(&self, workflow: W, input: W::Input) -> ChildCall<W::Output, W::Error>
    where
        W: WorkflowCallee<M>,
    {
        ChildCall::new(self, workflow.name(), &input)
    }

    /// The time: the same in every replay, and the same for all code between two completions.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        lock(&self.machine).now()
    }

    /// A random number: the same in every replay. Not for secrets.
    #[must_use]
    pub fn random(&self) -> u64 {
        let entropy = lock(&self.machine).entropy().to_be_bytes();
        u64::from_be_bytes([
            entropy[0], entropy[1], entropy[2], entropy[3], entropy[4], entropy[5], entropy[6],
            entropy[7],
        ])
    }

    /// A random uuid (version 4): the same in every replay. Not for secrets.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        let entropy = lock(&self.machine).entropy();
        uuid::Builder::from_random_bytes(entropy.to_be_bytes()).into_uuid()
    }

    /// A value that a quick, harmless computation gives once; every replay reads it from the
    /// journal. For anything that can fail, wait or be seen from outside, use an activity.
    ///
    /// # Panics
    ///
    /// When the value has no JSON form, or no longer fits its type. The run is parked then.
    pub fn side_effect<T, F>(&self, name: &str, draw: F) -> T
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> T,
    {
        let drawn = lock(&self.machine).recorded_side_effect(name);
        let encoded = drawn.unwrap_or_else(|command| {
            // Drawn outside of the lock: the computation may use the context.
            let value = draw();
            let encoded = payload::encode(&value).unwrap_or_else(|failure| panic!("{failure}"));
            lock(&self.machine).record_side_effect(command, name, encoded.clone());
            encoded
        });
        payload::decode(&encoded)
            .unwrap_or_else(|failure| panic!("side effect {name:?}: {failure}"))
    }

    /// The version of a change that this run goes by, so that open runs live through a change of their code.
    ///
    /// A run that gets here for the first time chooses the end of `supported`, and keeps it, wherever it is
    /// driven from then on. One that passed here with code that knew nothing of the change gets the start:
    /// begin with 0 for the code before the change. All calls with the same name agree. When no open run goes
    /// by an old version any more, raise the start, and at last remove the call: what was chosen is not asked
    /// for again. A run whose version is not in the range is parked until it meets code that has it.
    ///
    /// What nothing is known of cannot tell that a run passed here: code that waits for a signal, or for the first attempt of
    /// an activity, has written nothing, and a run that stops there chooses again. What it asks for then may have the
    /// idempotency key of that attempt.
    ///
    /// ```
    /// # use sync_workflow::{Context, Failure};
    /// # async fn charge(cents: u64) -> Result<u64, Failure> { Ok(cents) }
    /// # async fn reserve(cents: u64) -> Result<u64, Failure> { Ok(cents) }
    /// async fn pay(ctx: Context, cents: u64) -> Result<u64, Failure> {
    ///     if ctx.version("reserve-first", 0..=1) >= 1 {
    ///         ctx.activity(reserve, cents).await?;
    ///     }
    ///     Ok(ctx.activity(charge, cents).await?)
    /// }
    /// ```
    #[must_use]
    pub fn version(&self, change: &str, supported: RangeInclusive<u32>) -> u32 {
        lock(&self.machine).version(change, &supported)
    }

    /// Ends this run and goes on as a new one with an empty journal: what keeps the journal of an
    /// endless workflow short. Never returns.
    ///
    /// Signals and updates that the code has not read go along, in their order: those that nobody has waited for, and
    /// those whose wait was dropped, or is still there, without having given its value.
    ///
    /// ```
    /// use sync_workflow::{Context, Failure};
    ///
    /// async fn count(ctx: Context, n: u64) -> Result<u64, Failure> {
    ///     if n == 1_000_000 {
    ///         return Ok(n);
    ///     }
    ///     ctx.continue_as_new(count, n + 1).await
    /// }
    /// ```
    pub async fn continue_as_new<M, W, Never>(&self, workflow: W, input: W::Input) -> Never
    where
        W: WorkflowCallee<M>,
    {
        match payload::encode(&input) {
            Ok(input) => lock(&self.machine).continue_as_new(workflow.name(), input),
            Err(failure) => lock(&self.machine).fail_with(Fault::Panicked {
                message: failure.to_string(),
            }),
        }
        std::future::pending().await
    }

    /// Whether somebody asked the run to cancel, or the scope of this context was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let machine = lock(&self.machine);
        machine.is_cancelled() || machine.is_scope_cancelled(self.scope)
    }

    /// Completes when somebody asks the run to cancel, or the scope of this context is cancelled.
    pub fn cancelled(&self) -> Cancellation {
        Cancellation::new(self)
    }

    /// Whether the code runs to catch up with its journal, as [`crate::replay::is_replaying`] says. For quiet logs, never
    /// for decisions.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        is_replaying()
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("run", &self.run_id())
            .field("scope", &self.scope)
            .finish()
    }
}
