//! A handle to one run.

use std::{marker::PhantomData, time::Duration};

use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::{Client, Error, RunError};
use crate::{
    failure::{ErrorValue, Failure},
    id::{RunId, WorkflowId},
    journal::{Closed, RunInfo, RunSelector},
    payload,
    status::RunStatus,
    worker::{Ended, Watch},
};

/// How often to look whether a run is still in memory here, whose end is then told directly.
const WHILE_HELD: Duration = Duration::from_millis(100);

/// One run, and the types of its result.
pub struct RunHandle<T, E> {
    client: Client,
    run: RunId,
    workflow_id: WorkflowId,
    is_new: bool,
    /// Watches from before the start, so that no end is missed.
    ends: Mutex<Watch>,
    types: PhantomData<fn() -> (T, E)>,
}

impl<T, E> RunHandle<T, E>
where
    T: DeserializeOwned,
    E: ErrorValue,
{
    pub(super) fn new(client: Client, run: RunId, workflow_id: WorkflowId, is_new: bool) -> Self {
        let ends = Mutex::new(client.watchers.watch(run));
        Self {
            client,
            run,
            workflow_id,
            is_new,
            ends,
            types: PhantomData,
        }
    }

    /// The run.
    #[must_use]
    pub const fn run_id(&self) -> RunId {
        self.run
    }

    /// Its workflow id.
    #[must_use]
    pub const fn workflow_id(&self) -> &WorkflowId {
        &self.workflow_id
    }

    /// Whether this call started the run; `false` when it existed before.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Awaits the run's result, following it when it continues as new.
    ///
    /// The end is pushed: by the worker of this process directly, from others by a hint; a slow poll
    /// stands behind both. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`RunError`] when the run failed, was cancelled or terminated, is parked, or when the
    /// journal cannot be read.
    pub async fn result(&self) -> Result<T, RunError<E>> {
        let mut closed = self.closed(self.run, &mut *self.ends.lock().await).await?;
        while let (RunStatus::ContinuedAsNew, Some(next)) = (closed.status, closed.next) {
            let mut ends = self.client.watchers.watch(next);
            closed = self.closed(next, &mut ends).await?;
        }
        match closed.status {
            RunStatus::Completed => payload::decode(&closed.payload).map_err(RunError::Ended),
            _ => Err(RunError::from_failure(Failure::decode(&closed.payload))),
        }
    }

    async fn closed(&self, run: RunId, ends: &mut Watch) -> Result<Closed, RunError<E>> {
        let mut patience = if self.client.holds(run) {
            WHILE_HELD
        } else {
            Duration::ZERO
        };
        loop {
            match tokio::time::timeout(patience, end_of(ends)).await {
                Ok(Ended::Closed(closed)) => return Ok(closed),
                // Its end will be told; a hint, or the absence of a driver, means: look it up.
                Err(_elapsed) if self.client.holds(run) => {
                    patience = WHILE_HELD;
                    continue;
                }
                Ok(Ended::LookAgain | Ended::Published) | Err(_) => {}
            }
            // The end of a run that is in memory here will be told, so the journal need not note that somebody awaits it.
            if self.client.holds(run) && self.is_open(run).await? {
                patience = WHILE_HELD;
                continue;
            }
            match self.client.journal.outcome(run).await {
                Ok(Some(closed)) => return Ok(closed),
                Ok(None) => drop(self.is_open(run).await?),
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error.into()),
            }
            patience = self.client.patience();
        }
    }

    /// Whether the run has not closed, as far as can be told: it counts as open while the journal cannot answer, for who
    /// awaits it asks again. A run that is parked is an error.
    async fn is_open(&self, run: RunId) -> Result<bool, RunError<E>> {
        match self.client.journal.describe(&RunSelector::Run(run)).await {
            Ok(Some(info)) if info.status == RunStatus::Parked => Err(RunError::Parked {
                reason: info.parked_reason.unwrap_or_default(),
            }),
            Ok(Some(info)) => Ok(!info.status.is_closed()),
            Ok(None) => Err(RunError::Client(Error::NotFound)),
            Err(error) if error.is_transient() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Describes the run.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such run.
    pub async fn describe(&self) -> Result<RunInfo, Error> {
        self.client.describe_run(self.run).await
    }

    /// Asks the run to cancel. Idempotent.
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when it has ended.
    pub async fn cancel(&self) -> Result<(), Error> {
        self.client.cancel_run(&RunSelector::Run(self.run)).await
    }

    /// Ends the run at once, without asking it.
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when it has ended.
    pub async fn terminate(&self, reason: &str) -> Result<(), Error> {
        self.client
            .terminate_run(&RunSelector::Run(self.run), reason)
            .await
    }

    /// Holds the run back, as [`Client::pause`]. Idempotent.
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when it has ended.
    pub async fn pause(&self) -> Result<(), Error> {
        self.client.pause_run(&RunSelector::Run(self.run)).await
    }

    /// Lets the run go on, as [`Client::resume`].
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when it was not asked to pause, or has ended.
    pub async fn resume(&self) -> Result<(), Error> {
        self.client.resume_run(&RunSelector::Run(self.run)).await
    }

    /// Sends a signal to the workflow id's open run.
    ///
    /// # Errors
    ///
    /// [`Error::NotOpen`] when it has ended.
    pub async fn signal<V: serde::Serialize + ?Sized>(
        &self,
        name: &str,
        value: &V,
    ) -> Result<(), Error> {
        self.client
            .signal(self.workflow_id.as_str(), name, value)
            .await
    }
}

/// News that may be of the end.
async fn end_of(ends: &mut Watch) -> Ended {
    loop {
        match ends.news().await {
            Ended::Published => {}
            ended @ (Ended::Closed(_) | Ended::LookAgain) => return ended,
        }
    }
}

impl<T, E> std::fmt::Debug for RunHandle<T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunHandle")
            .field("run", &self.run)
            .field("workflow_id", &self.workflow_id)
            .finish_non_exhaustive()
    }
}
