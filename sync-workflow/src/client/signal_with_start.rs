//! Starting a run with a signal to it.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{Announcement, Client, Error, RunHandle, Start};
use crate::{
    failure::{ErrorValue, Failure},
    id::WorkflowId,
    journal::{
        IdReuse, NewRun, NewSignal, RunSelector, SignalOutcome, SignalledStart, StartOutcome,
        StepTransaction,
    },
};

/// A start and a signal that have not happened yet: awaiting it starts the run, unless one of the workflow id is open,
/// and sends the signal to the one that is open then. It gives a handle to that run.
///
/// Cancel safe; with [`Start::signal_once`] it may be repeated.
///
/// # Errors
///
/// [`Error::NotOpen`] when [`Start::reuse`] keeps a closed run.
#[must_use = "awaiting it starts the run and sends the signal"]
pub struct SignalWithStart<'a, T, E> {
    start: Start<'a, T, E>,
    name: Arc<str>,
    signal_id: Arc<str>,
    value: Result<Bytes, Failure>,
}

impl<'a, T, E> SignalWithStart<'a, T, E>
where
    T: DeserializeOwned + 'static,
    E: ErrorValue,
{
    pub(super) fn new(
        start: Start<'a, T, E>,
        name: &str,
        signal_id: &str,
        value: Result<Bytes, Failure>,
    ) -> Self {
        Self {
            start,
            name: name.into(),
            signal_id: signal_id.into(),
            value,
        }
    }

    /// Starts and signals inside the caller's own transaction on the journal's database: both happen if and only if the
    /// transaction commits. Workers find out by their poll, or at once with [`Announcement::announce`] after the
    /// commit.
    ///
    /// # Errors
    ///
    /// As awaiting it.
    pub async fn start_in(
        self,
        transaction: impl Into<StepTransaction<'_>>,
    ) -> Result<(RunHandle<T, E>, Announcement), Error> {
        let client = self.start.client().clone();
        let (run, signal) = self.into_parts()?;
        let journal = &client.journal;
        let outcome = journal
            .signal_with_start_in(transaction.into(), &run, &signal)
            .await?;
        signalled(client.clone(), run, outcome)
    }

    fn into_parts(self) -> Result<(NewRun, NewSignal), Error> {
        let run = self.start.into_new_run(IdReuse::StartNew)?;
        let signal = NewSignal {
            to: RunSelector::Latest(run.workflow_id.clone()),
            id: self.signal_id,
            name: self.name,
            payload: self.value.map_err(Error::Unencodable)?,
        };
        Ok((run, signal))
    }

    async fn send(self) -> Result<RunHandle<T, E>, Error> {
        let client = self.start.client().clone();
        let (run, signal) = self.into_parts()?;
        let outcome = client.journal.signal_with_start(&run, &signal).await?;
        let (handle, announcement) = signalled(client, run, outcome)?;
        announcement.announce().await;
        Ok(handle)
    }
}

/// The run that has the signal, and whom to tell.
fn signalled<T, E>(
    client: Client,
    run: NewRun,
    outcome: SignalledStart,
) -> Result<(RunHandle<T, E>, Announcement), Error>
where
    T: DeserializeOwned,
    E: ErrorValue,
{
    let (known, is_new) = match outcome.start {
        StartOutcome::Started => (run.run, true),
        StartOutcome::Existing { run, .. } => (run, false),
    };
    let woken = match outcome.signal {
        SignalOutcome::Delivered(woken) => Some(woken),
        SignalOutcome::Duplicate => None,
        SignalOutcome::NotOpen => return Err(Error::NotOpen),
    };
    let receiver = woken.map_or(known, |woken| woken.run);
    let workflow_id: WorkflowId = run.workflow_id;
    let handle = RunHandle::new(client.clone(), receiver, workflow_id, is_new);
    Ok((handle, Announcement { client, woken }))
}

impl<'a, T, E> IntoFuture for SignalWithStart<'a, T, E>
where
    T: DeserializeOwned + 'static,
    E: ErrorValue,
{
    type Output = Result<RunHandle<T, E>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
