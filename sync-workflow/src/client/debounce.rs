//! Starting a run once nobody asks for it again.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
};

use serde::de::DeserializeOwned;

use super::{Error, RunHandle, Start};
use crate::{
    failure::ErrorValue,
    journal::{Debounce, DebounceOutcome, IdReuse},
};

/// A start that waits until nobody asks again: see [`Start::debounce`]. Awaiting it tells what became of it.
///
/// Cancel safe; repeating it is asking again.
#[must_use = "awaiting it starts the run"]
pub struct DebouncedStart<'a, T, E> {
    start: Start<'a, T, E>,
    debounce: Debounce,
}

/// What came of a debounced start, with a handle to the run.
#[derive(Debug)]
pub enum Debounced<T, E> {
    /// The run was started, and begins once it has been quiet for long enough.
    Started(RunHandle<T, E>),
    /// The run was started before and had not begun: it has this input now.
    Replaced(RunHandle<T, E>),
    /// The run goes on with the input that it has: it has begun, is about to cancel, is of another workflow, or has ended
    /// and [`Start::reuse`] keeps it. Nothing was changed.
    Existing(RunHandle<T, E>),
}

impl<T, E> Debounced<T, E> {
    /// The run.
    #[must_use]
    pub fn into_handle(self) -> RunHandle<T, E> {
        match self {
            Self::Started(handle) | Self::Replaced(handle) | Self::Existing(handle) => handle,
        }
    }
}

impl<'a, T, E> DebouncedStart<'a, T, E>
where
    T: DeserializeOwned + 'static,
    E: ErrorValue,
{
    pub(super) const fn new(start: Start<'a, T, E>, debounce: Debounce) -> Self {
        Self { start, debounce }
    }

    async fn ask(self) -> Result<Debounced<T, E>, Error> {
        let client = self.start.client().clone();
        let new = self.start.into_new_run(IdReuse::StartNew)?;
        let outcome = client.journal.debounce(&new, self.debounce).await?;
        let handle =
            |run, is_new| RunHandle::new(client.clone(), run, new.workflow_id.clone(), is_new);
        let debounced = match outcome {
            DebounceOutcome::Started => Debounced::Started(handle(new.run, true)),
            DebounceOutcome::Replaced { run } => Debounced::Replaced(handle(run, false)),
            DebounceOutcome::Existing { run, .. } => {
                return Ok(Debounced::Existing(handle(run, false)));
            }
        };
        // Whoever would sleep for longer than until it begins looks at its time.
        client.wake_up(&Arc::clone(&new.queue)).await;
        Ok(debounced)
    }
}

impl<'a, T, E> IntoFuture for DebouncedStart<'a, T, E>
where
    T: DeserializeOwned + 'static,
    E: ErrorValue,
{
    type Output = Result<Debounced<T, E>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask())
    }
}
