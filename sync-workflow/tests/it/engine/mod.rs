//! The engine end to end: worker, client and workflow code on a journal.

mod activities;
mod awaiting;
mod batching;
mod births;
mod builds;
mod children;
mod code;
#[cfg(all(feature = "zstd", feature = "encryption"))]
mod codecs;
mod combinators;
mod contention;
mod crash;
mod drain;
mod eviction;
mod evolution;
mod exploring;
mod failing_commits;
mod fan_out;
mod faults;
mod fence;
mod forking;
mod full_disk;
mod kit;
mod large_payloads;
mod limits;
mod messages;
mod operating;
mod own_transactions;
mod parking;
mod pausing;
mod queues;
mod remote;
mod retention;
mod runs;
mod schedules;
mod stopping;
mod structure;
mod tags;
#[cfg(all(
    feature = "metrics",
    feature = "opentelemetry",
    feature = "tracing-subscriber"
))]
mod telemetry;
mod transactions;
mod unread;
mod versions;
mod waiting;

use std::{future::Future, sync::Arc, time::Duration};

use sync_workflow::{
    Worker,
    journal::{Journal, memory::MemoryJournal},
    worker::WorkerBuilder,
};

/// A journal, and what keeps its storage alive.
pub(crate) struct Storage {
    pub(crate) journal: Arc<dyn Journal>,
    _keep: Box<dyn std::any::Any + Send>,
}

impl Storage {
    pub(crate) fn memory() -> Self {
        Self {
            journal: Arc::new(MemoryJournal::new()),
            _keep: Box::new(()),
        }
    }

    #[cfg(feature = "sqlite")]
    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("journal.db").display());
        Self {
            journal: sync_workflow::journal::connect(&url).await.unwrap(),
            _keep: Box::new(directory),
        }
    }

    #[cfg(feature = "postgres")]
    pub(crate) async fn postgres() -> Self {
        let database = throwaway_postgres::Database::create().unwrap();
        let journal = sync_workflow::journal::connect(database.url())
            .await
            .unwrap();
        Self {
            journal,
            _keep: Box::new(database),
        }
    }

    pub(crate) async fn start(&self, builder: WorkerBuilder) -> Worker {
        builder.start_on(Arc::clone(&self.journal)).await.unwrap()
    }
}

/// A worker builder with short intervals.
pub(crate) fn quick() -> WorkerBuilder {
    Worker::builder()
        .lease(Duration::from_secs(2))
        .evict_after(Duration::from_millis(20))
        .poll_interval(Duration::from_millis(100))
}

/// Waits until something holds; fails after a generous deadline.
pub(crate) async fn eventually<F, Fut>(what: &str, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(30), waiting)
            .await
            .is_ok(),
        "never happened: {what}"
    );
}

/// Makes one test per journal out of an async function that takes a [`Storage`].
macro_rules! on_every_journal {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::engine::Storage::memory()).await })*
        }
        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::engine::Storage::sqlite().await).await })*
        }
        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::engine::Storage::postgres().await).await })*
        }
    };
}
pub(crate) use on_every_journal;
