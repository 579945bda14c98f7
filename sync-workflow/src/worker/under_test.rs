//! What tests do to a worker.

use std::{future::Future, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    ActivityContext, IntoActivity, Worker, WorkerBuilder,
    mailbox::Message,
    registry::{ActivityFactory, Factory},
};
use crate::{context::ActivityCallee, testing::Tap};

impl WorkerBuilder {
    /// Puts a closure in the place of an activity, with its name and its types, whether the activity is registered
    /// already or not. For tests.
    ///
    /// What the closure returns is handled as the activity's own: a failure is retried by the policy of the call.
    #[must_use]
    pub fn mock<M, A, F, Fut>(self, activity: A, mock: F) -> Self
    where
        A: ActivityCallee<M>,
        A::Input: DeserializeOwned + Send + 'static,
        A::Output: Serialize + Send + 'static,
        F: Fn(A::Input) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A::Output, A::Error>> + Send + 'static,
    {
        self.mocked(&activity.name(), mock)
    }

    /// Puts a closure in the place of an activity, as [`mock`](Self::mock) does, that is also given what the real
    /// activity would see: the number of the attempt, the idempotency key, the details of an earlier heartbeat,
    /// whether anybody still waits.
    ///
    /// ```
    /// use sync_workflow::{Context, Failure, Worker, testing::TestEnvironment};
    ///
    /// async fn charge(cents: u64) -> Result<u64, Failure> {
    ///     Err(Failure::new("calls a bank"))
    /// }
    ///
    /// async fn pay(ctx: Context, cents: u64) -> Result<u64, Failure> {
    ///     Ok(ctx.activity(charge, cents).await?)
    /// }
    ///
    /// let worker = Worker::builder().workflow(pay).mock_with_context(charge, async |ctx, cents| {
    ///     match ctx.attempt() {
    ///         1 | 2 => Err(Failure::new("the bank is closed")),
    ///         _ => Ok(cents),
    ///     }
    /// });
    /// TestEnvironment::run(worker, async |env| {
    ///     let handle = env.client().start(pay, "a", 7).await.unwrap();
    ///     assert_eq!(handle.result().await.unwrap(), 7);
    /// });
    /// ```
    #[must_use]
    pub fn mock_with_context<M, A, F, Fut>(self, activity: A, mock: F) -> Self
    where
        A: ActivityCallee<M>,
        A::Input: DeserializeOwned + Send + 'static,
        A::Output: Serialize + Send + 'static,
        F: Fn(ActivityContext, A::Input) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A::Output, A::Error>> + Send + 'static,
    {
        self.mocked(&activity.name(), mock)
    }

    fn mocked<M>(mut self, name: &str, mock: impl IntoActivity<M>) -> Self {
        let Factory(factory) = mock.into_factory();
        let replaced = self.registry.replace_activity(name, factory);
        self.note(replaced);
        self
    }

    /// Has the worker run activities that are sent to any queue, under the hands of a test.
    pub(crate) fn under_test(mut self, tap: &Arc<Tap>) -> Self {
        let served = self.registry.serve_every_activity();
        self.note(served);
        if tap.holds_up() {
            self.registry
                .wrap_activities(|activity| held_up(activity, tap));
        }
        self
    }
}

/// An activity whose attempts begin and end when their turn comes.
fn held_up(activity: ActivityFactory, tap: &Arc<Tap>) -> ActivityFactory {
    let tap = Arc::clone(tap);
    Arc::new(move |context, input| {
        let tap = Arc::clone(&tap);
        let attempt = activity(context, input);
        Box::pin(async move {
            tap.call().await;
            let result = attempt.await;
            tap.call().await;
            result
        })
    })
}

impl Worker {
    /// Asks every run that only waits to leave memory.
    pub(crate) fn evict_waiting(&self) {
        if let Some(node) = &*self.current.borrow() {
            node.tell_all(|| Message::Evict);
        }
    }
}
