//! Queues with limits.

use std::{sync::Arc, time::Duration};

use super::{Client, Error};
use crate::journal::{Hint, QueueInfo, QueueLimits, Rate};

/// One queue, to limit, pause and look at.
///
/// ```
/// use std::time::Duration;
/// use sync_workflow::client::{Client, Error};
///
/// # async fn example(client: Client) -> Result<(), Error> {
/// // At most 50 mails are under way, at most 2 of each customer, and 600 begin in a minute.
/// let mails = client.queue("mails");
/// mails
///     .limit()
///     .max_running(50)
///     .max_running_per_key(2)
///     .rate(600, Duration::from_secs(60))
///     .await?;
/// mails.pause().await?;
/// println!("{} wait", mails.describe().await?.waiting);
/// mails.resume().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    name: Arc<str>,
}

impl Client {
    /// A queue, whether or not it has limits.
    #[must_use]
    pub fn queue(&self, name: &str) -> Queue {
        Queue {
            client: self.clone(),
            name: name.into(),
        }
    }

    /// The queues that were ever limited or paused, by name.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] when the journal cannot be read.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>, Error> {
        Ok(self.journal.queues().await?)
    }
}

impl Queue {
    /// Its limits from now on. Awaiting the value sets all of them together: what is not named is unlimited.
    ///
    /// Limits hold for the runs that begin from now on. Workers of the queue learn of its first limits with their
    /// next look for work, at most a poll interval later; what they started themselves until then is not counted. A
    /// queue keeps what it counts when its limits change.
    pub fn limit(&self) -> Limit<'_> {
        Limit {
            queue: self,
            limits: QueueLimits::default(),
        }
    }

    /// Lets no further run of the queue begin. Those that have begun go on.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] when the journal cannot be written.
    pub async fn pause(&self) -> Result<(), Error> {
        Ok(self.client.journal.pause_queue(&self.name, true).await?)
    }

    /// Ends a pause.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] when the journal cannot be written.
    pub async fn resume(&self) -> Result<(), Error> {
        self.client.journal.pause_queue(&self.name, false).await?;
        self.tell().await;
        Ok(())
    }

    /// Its limits, and how many runs are under way and wait.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a queue that was never limited or paused; [`Error::Journal`] when the journal cannot be
    /// read.
    pub async fn describe(&self) -> Result<QueueInfo, Error> {
        let queues = self.client.queues().await?;
        let found = queues.into_iter().find(|info| info.queue == self.name);
        found.ok_or(Error::NotFound)
    }

    /// Has every worker of the queue look for work.
    async fn tell(&self) {
        if let Some(node) = self.client.local_node() {
            node.dispatch.notify_one();
        }
        self.client.hint(Hint::Ready(Arc::clone(&self.name))).await;
    }
}

/// Limits that are not set yet: awaiting them sets them.
#[must_use = "awaiting them sets the limits"]
#[derive(Debug)]
pub struct Limit<'q> {
    queue: &'q Queue,
    limits: QueueLimits,
}

impl Limit<'_> {
    /// How many runs of the queue are under way at most, in all workers together.
    ///
    /// A run counts from the moment in which it is admitted until it ends, also while it sleeps or is parked.
    pub const fn max_running(mut self, runs: u32) -> Self {
        self.limits.max_running = Some(runs);
        self
    }

    /// How many runs of each [key](super::Start::key) are under way at most. With one, the runs of a key go one after
    /// the other.
    pub const fn max_running_per_key(mut self, runs: u32) -> Self {
        self.limits.max_running_per_key = Some(runs);
        self
    }

    /// How many runs of the queue are in the memory of each worker at most: those that sleep or wait leave it.
    pub const fn max_in_worker(mut self, runs: u32) -> Self {
        self.limits.max_in_worker = Some(runs);
        self
    }

    /// How many runs begin in each period. What was not used before may be used at once, up to `runs`.
    pub const fn rate(mut self, runs: u32, period: Duration) -> Self {
        self.limits.rate = Some(Rate {
            limit: runs,
            period,
        });
        self
    }

    async fn set(self) -> Result<(), Error> {
        let Self { queue, limits } = self;
        let journal = &queue.client.journal;
        journal.limit_queue(&queue.name, &limits).await?;
        queue.tell().await;
        Ok(())
    }
}

impl<'q> IntoFuture for Limit<'q> {
    /// Fails with [`journal::Error::InvalidLimits`](crate::journal::Error::InvalidLimits) where a limit is zero.
    type Output = Result<(), Error>;
    type IntoFuture = std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'q>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.set())
    }
}
