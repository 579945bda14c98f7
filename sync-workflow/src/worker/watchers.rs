//! Who awaits the end of a run in this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{id::RunId, journal::Closed};

/// What a watcher is told.
#[derive(Debug, Clone)]
pub(crate) enum Ended {
    /// The run has closed.
    Closed(Closed),
    /// Something may have changed, or the run is parked, which may be over by now: look it up.
    LookAgain,
    /// The run has published something.
    Published,
}

/// The awaited runs of this process.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watched: Mutex<HashMap<RunId, Vec<Arc<News>>>>,
}

/// What a watcher has not heard yet: only the latest matters.
#[derive(Debug, Default)]
struct News {
    latest: Mutex<Option<Ended>>,
    arrived: Notify,
}

impl News {
    fn tell(&self, ended: Ended) {
        let mut latest = lock(&self.latest);
        // Nothing is newer than the end, and whoever looks again finds what was published.
        let is_known = match (&*latest, &ended) {
            (None, _) | (Some(_), Ended::Closed(_)) => false,
            (Some(Ended::Published), Ended::LookAgain) => false,
            (Some(_), Ended::LookAgain | Ended::Published) => true,
        };
        if !is_known {
            *latest = Some(ended);
        }
        drop(latest);
        self.arrived.notify_one();
    }
}

/// One who watches a run, until dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    watchers: Arc<Watchers>,
    run: RunId,
    news: Arc<News>,
}

impl Watch {
    /// Waits for news of the run. Cancel safe.
    pub(crate) async fn news(&mut self) -> Ended {
        loop {
            if let Some(ended) = lock(&self.news.latest).take() {
                return ended;
            }
            self.news.arrived.notified().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = lock(&self.watchers.watched);
        if let Some(watchers) = watched.get_mut(&self.run) {
            watchers.retain(|news| !Arc::ptr_eq(news, &self.news));
            if watchers.is_empty() {
                watched.remove(&self.run);
            }
        }
    }
}

impl Watchers {
    /// Watches a run until the watch is dropped.
    pub(crate) fn watch(self: &Arc<Self>, run: RunId) -> Watch {
        let news = Arc::<News>::default();
        lock(&self.watched)
            .entry(run)
            .or_default()
            .push(Arc::clone(&news));
        Watch {
            watchers: Arc::clone(self),
            run,
            news,
        }
    }

    pub(crate) fn closed(&self, run: RunId, closed: Closed) {
        self.tell(run, Ended::Closed(closed));
    }

    /// A run has changed elsewhere, or is parked.
    pub(crate) fn changed(&self, run: RunId) {
        self.tell(run, Ended::LookAgain);
    }

    /// A run has published something.
    pub(crate) fn published(&self, run: RunId) {
        self.tell(run, Ended::Published);
    }

    /// Hints may have been lost.
    pub(crate) fn look_again(&self) {
        for news in lock(&self.watched).values().flatten() {
            news.tell(Ended::LookAgain);
        }
    }

    fn tell(&self, run: RunId, ended: Ended) {
        if let Some(watchers) = lock(&self.watched).get(&run) {
            for news in watchers {
                news.tell(ended.clone());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
