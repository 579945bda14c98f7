//! Builds of a queue's workers.

use std::sync::Arc;

use super::{Client, Error};
use crate::{id::BuildId, journal::BuildInfo};

/// The builds of the workers of a queue: see [`WorkerBuilder::build_id`](crate::WorkerBuilder::build_id).
///
/// ```
/// use sync_workflow::client::{Client, Error};
///
/// # async fn example(client: Client) -> Result<(), Error> {
/// let builds = client.builds("default");
/// // New runs go to the new code; what is open stays where it began.
/// builds.set_current("2026-11-22.1").await?;
/// for info in builds.list().await? {
///     if info.is_drained() {
///         println!("the {} workers of {} may go", info.workers, info.build);
///     } else if info.is_stranded() {
///         println!("{} runs wait for a worker of {}", info.open_runs, info.build);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Builds {
    client: Client,
    queue: Arc<str>,
}

impl Client {
    /// The builds of a queue.
    #[must_use]
    pub fn builds(&self, queue: &str) -> Builds {
        Builds {
            client: self.clone(),
            queue: queue.into(),
        }
    }
}

impl Builds {
    /// The builds that are current, have a live worker or have open runs, by name. One that is none of these
    /// is gone; nothing needs to be retired.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] when the journal cannot be read.
    pub async fn list(&self) -> Result<Vec<BuildInfo>, Error> {
        let journal = &self.client.journal;
        Ok(journal.builds().list_builds(&self.queue).await?)
    }

    /// From now on only workers of this build, of those with a build, take runs that are of none: new ones. A build
    /// that has no worker yet may be named; new runs wait for one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidBuildId`]; [`Error::Journal`] when the journal cannot be written.
    pub async fn set_current(&self, build: &str) -> Result<(), Error> {
        self.set(Some(&BuildId::new(build)?)).await
    }

    /// Lets workers of every build take new runs, as before one was current.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] when the journal cannot be written.
    pub async fn clear_current(&self) -> Result<(), Error> {
        self.set(None).await
    }

    async fn set(&self, build: Option<&BuildId>) -> Result<(), Error> {
        let builds = self.client.journal.builds();
        builds.set_current_build(&self.queue, build).await?;
        // What waits is for others now.
        self.client.wake_up(&self.queue).await;
        Ok(())
    }
}
