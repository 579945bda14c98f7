//! What tests do to a worker.

use std::{future::Future, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use super::{Worker, WorkerBuilder, mailbox::Message, registry::ActivityFactory};
use crate::{context::ActivityCallee, testing::Tap};

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

    /// Puts the worker into the hands of a test.
    pub(crate) fn under_test(mut self, tap: &Arc<Tap>) -> Self {
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
