//! What runs show: read and watched from any process, without waking the run.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::{Client, Error};
use crate::{
    id::RunId,
    journal::{Closed, Published, RunSelector},
    payload,
    status::RunStatus,
    worker::{Ended, Watch},
};

impl Client {
    /// What the latest run of a workflow id shows under a name, as it was last committed by
    /// [`Context::publish`](crate::Context::publish). `None` if it has not published the name. The type is the
    /// caller's claim. It stays when the run has ended.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the workflow id was never used, [`Error::Undecodable`] when the value is of
    /// another type.
    pub async fn published<T: DeserializeOwned>(
        &self,
        workflow_id: &str,
        name: &str,
    ) -> Result<Option<T>, Error> {
        let run = self.describe(workflow_id).await?.run;
        let shown = self.journal.published(&RunSelector::Run(run), name).await?;
        shown.map(|shown| decode(&shown)).transpose()
    }

    /// Watches what the latest run of a workflow id shows under a name, and the runs that continue it.
    ///
    /// ```no_run
    /// # async fn example(client: sync_workflow::Client) -> Result<(), sync_workflow::client::Error> {
    /// let mut progress = client.watch::<u64>("import-7", "progress").await?;
    /// while let Some(percent) = progress.next().await? {
    ///     println!("{percent}%");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the workflow id was never used.
    pub async fn watch<T: DeserializeOwned>(
        &self,
        workflow_id: &str,
        name: &str,
    ) -> Result<PublishedWatch<T>, Error> {
        let run = self.describe(workflow_id).await?.run;
        Ok(PublishedWatch {
            news: ChainWatch::new(self.clone(), run, name),
            revision: 0,
            types: PhantomData,
        })
    }
}

fn decode<T: DeserializeOwned>(shown: &Published) -> Result<T, Error> {
    payload::decode(&shown.payload).map_err(Error::Undecodable)
}

/// Watches what a run shows: see [`Client::watch`].
#[must_use = "nothing is read until `next` is awaited"]
pub struct PublishedWatch<T> {
    news: ChainWatch,
    revision: u64,
    types: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> PublishedWatch<T> {
    /// The next value that is newer than the last one; values that were replaced meanwhile are passed over.
    /// `None` when the run has ended and its last value was told. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`Error::Undecodable`] when the value is of another type, [`Error::Journal`] when the journal cannot be
    /// read for good.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        let revision = self.revision;
        let newer = |shown: &Published| shown.revision > revision;
        match self.news.published(newer).await? {
            Shown::Value(shown) => {
                self.revision = shown.revision;
                decode(&shown).map(Some)
            }
            Shown::Ended => Ok(None),
        }
    }
}

impl<T> std::fmt::Debug for PublishedWatch<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublishedWatch")
            .field("run", &self.news.run)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// A chain of runs, watched for one name.
pub(super) struct ChainWatch {
    client: Client,
    /// The run that the chain is in, as far as it is known.
    run: RunId,
    name: String,
    watch: Watch,
    /// Nothing is known yet, so nothing is waited for.
    looks_now: bool,
}

/// What came of watching.
pub(super) enum Shown {
    /// The value that was waited for.
    Value(Published),
    /// The chain has ended without it.
    Ended,
}

impl ChainWatch {
    pub(super) fn new(client: Client, run: RunId, name: &str) -> Self {
        let watch = client.watchers.watch(run);
        Self {
            client,
            run,
            name: name.into(),
            watch,
            looks_now: true,
        }
    }

    /// Waits for a value that is the right one, or for the end of the chain. Cancel safe.
    pub(super) async fn published(
        &mut self,
        is_right: impl Fn(&Published) -> bool,
    ) -> Result<Shown, Error> {
        loop {
            if !self.looks_now {
                let patience = self.client.patience();
                // Whatever the news is, it is looked up.
                let _news: Result<Ended, _> =
                    tokio::time::timeout(patience, self.watch.news()).await;
            }
            self.looks_now = true;
            let looked = self.look(&is_right).await;
            match looked {
                Ok(Some(shown)) => return Ok(shown),
                Ok(None) => self.looks_now = false,
                Err(error) if error.is_transient() => self.looks_now = false,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn look(
        &mut self,
        is_right: impl Fn(&Published) -> bool,
    ) -> crate::journal::Result<Option<Shown>> {
        loop {
            let run = RunSelector::Run(self.run);
            // First the end: asking for it lets the node that holds the run tell what it publishes from then
            // on, and what was published with the end is found after it.
            let closed = self.client.journal.outcome(self.run).await?;
            let shown = self.client.journal.published(&run, &self.name).await?;
            if let Some(shown) = shown.filter(|shown| is_right(shown)) {
                return Ok(Some(Shown::Value(shown)));
            }
            match closed {
                Some(Closed {
                    status: RunStatus::ContinuedAsNew,
                    next: Some(next),
                    ..
                }) => {
                    self.run = next;
                    self.watch = self.client.watchers.watch(next);
                }
                Some(_) => return Ok(Some(Shown::Ended)),
                None => return Ok(None),
            }
        }
    }
}
