//! Scopes: parts of a workflow that are cancelled, timed or undone as a whole.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use super::Context;
use crate::{
    failure::{Failure, FailureKind},
    replay::{ScopeId, lock},
};

impl Context {
    /// Opens a scope: calls that are made through its context can be cancelled together, while the run goes on.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use sync_workflow::{Context, Failure};
    /// # async fn search(shop: String) -> Result<u64, Failure> { Ok(7) }
    /// /// The first offer counts; the other search is told to stop.
    /// async fn first_offer(ctx: Context, shops: (String, String)) -> Result<u64, Failure> {
    ///     let scope = ctx.scope();
    ///     let mut one = scope.context().activity(search, shops.0);
    ///     let mut other = scope.context().activity(search, shops.1);
    ///     let offer = tokio::select! {
    ///         offer = &mut one => offer,
    ///         offer = &mut other => offer,
    ///     };
    ///     scope.cancel();
    ///     Ok(offer?)
    /// }
    /// ```
    #[must_use]
    pub fn scope(&self) -> Scope {
        let scope = lock(&self.machine).open_scope(self.scope);
        Scope {
            context: self.in_scope(scope),
        }
    }

    /// The same context for clean-up: its calls go on although the run, or the scope around it, is cancelled.
    #[must_use]
    pub fn shield(&self) -> Self {
        self.in_scope(ScopeId::SHIELD)
    }

    fn in_scope(&self, scope: ScopeId) -> Self {
        Self {
            machine: Arc::clone(&self.machine),
            scope,
        }
    }

    /// Awaits something durable for so long at most: a call, or anything that is made of calls. When the time
    /// is over it is dropped, which cancels the activities and timers in it; a child goes on, unless it was
    /// started in a scope that the caller cancels.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use sync_workflow::{Context, Failure};
    /// async fn approval(ctx: Context, (): ()) -> Result<bool, Failure> {
    ///     let day = Duration::from_secs(86_400);
    ///     match ctx.timeout(day, ctx.wait::<bool>("approve")).await {
    ///         Ok(approved) => Ok(approved?),
    ///         Err(_elapsed) => Ok(false),
    ///     }
    /// }
    /// ```
    pub fn timeout<F: Future>(
        &self,
        limit: Duration,
        call: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        let timer = self.sleep(limit);
        async move {
            let (mut call, mut timer) = (pin!(call), pin!(timer));
            let mut may_elapse = true;
            std::future::poll_fn(move |cx| {
                if let Poll::Ready(output) = call.as_mut().poll(cx) {
                    return Poll::Ready(Ok(output));
                }
                if may_elapse && let Poll::Ready(ended) = timer.as_mut().poll(cx) {
                    // A timer that was cancelled has not elapsed: the call hears of it too.
                    may_elapse = false;
                    if ended.is_ok() {
                        return Poll::Ready(Err(Elapsed(limit)));
                    }
                }
                Poll::Pending
            })
            .await
        }
    }

    /// Begins a saga: steps that are undone, the last one first, when a later one fails.
    ///
    /// ```
    /// # use sync_workflow::{Context, Failure};
    /// # async fn book_hotel(trip: u64) -> Result<u64, Failure> { Ok(trip) }
    /// # async fn cancel_hotel(booking: u64) -> Result<(), Failure> { Ok(()) }
    /// # async fn book_flight(trip: u64) -> Result<u64, Failure> { Ok(trip) }
    /// async fn book(ctx: Context, trip: u64) -> Result<u64, Failure> {
    ///     let mut saga = ctx.saga();
    ///     let hotel = ctx.activity(book_hotel, trip).await?;
    ///     saga.on_undo(async move |ctx: Context| ctx.activity(cancel_hotel, hotel).await);
    ///     match ctx.activity(book_flight, trip).await {
    ///         Ok(flight) => Ok(flight),
    ///         Err(error) => Err(saga.undo(error.into()).await),
    ///     }
    /// }
    /// ```
    pub fn saga(&self) -> Saga {
        Saga {
            context: self.shield(),
            undo: Vec::new(),
        }
    }
}

/// Calls that are cancelled together: see [`Context::scope`].
#[derive(Debug)]
pub struct Scope {
    context: Context,
}

impl Scope {
    /// The context whose calls belong to the scope. Scopes that are opened through it lie in this one.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Cancels every open call of the scope, and every later one, as a cancellation of the run does: they end
    /// with [`FailureKind::Cancelled`], activities are told to stop, children are asked to cancel unless they
    /// were started with `abandon_on_close`. Calls of a [shielded](Context::shield) context go on. Cancelling
    /// twice is cancelling once.
    pub fn cancel(&self) {
        lock(&self.context.machine).cancel_scope(self.context.scope);
    }
}

/// The time was over before the call had ended. With `?` it becomes a failure of kind [`FailureKind::TimedOut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed(pub Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it took longer than {:?}", self.0)
    }
}

impl From<Elapsed> for Failure {
    fn from(elapsed: Elapsed) -> Self {
        Self::of_kind(FailureKind::TimedOut, elapsed.to_string())
    }
}

/// What undoes one step.
type Undo =
    Box<dyn FnOnce(Context) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>> + Send>;

/// What has been done and would have to be undone: see [`Context::saga`].
///
/// Dropping it undoes nothing.
#[must_use = "what is not undone stays done"]
pub struct Saga {
    context: Context,
    undo: Vec<Undo>,
}

impl Saga {
    /// Says how to undo a step that has succeeded. The closure is given a context that no cancellation reaches,
    /// and is called when the saga is undone, or never.
    pub fn on_undo<F, Fut, T, E>(&mut self, undo: F)
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<Failure>,
    {
        self.undo.push(Box::new(move |context| {
            let undone = undo(context);
            Box::pin(async move { undone.await.map(drop).map_err(Into::into) })
        }));
    }

    /// Undoes every step, the last one first, and gives back why. A step that cannot be undone does not keep
    /// the earlier ones from it: its failure is told among the causes.
    ///
    /// Each is durable like any other call: after a crash it goes on where it stopped.
    pub async fn undo(self, mut because: Failure) -> Failure {
        for undo in self.undo.into_iter().rev() {
            if let Err(failure) = undo(self.context.clone()).await {
                because.causes.push(format!("not undone: {failure}"));
            }
        }
        because
    }
}

impl fmt::Debug for Saga {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saga")
            .field("steps", &self.undo.len())
            .finish_non_exhaustive()
    }
}
