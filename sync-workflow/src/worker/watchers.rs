//! Who awaits the end of a run in this process.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::mpsc;

use crate::{id::RunId, journal::Closed};

/// What a watcher is told.
#[derive(Debug, Clone)]
pub(crate) enum Ended {
    /// The run has closed.
    Closed(Closed),
    /// The run is parked.
    Parked(String),
    /// Something may have changed: look it up.
    LookAgain,
}

/// The awaited runs of this process.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watched: Mutex<HashMap<RunId, Vec<mpsc::UnboundedSender<Ended>>>>,
}

impl Watchers {
    /// Watches a run until the receiver is dropped.
    pub(crate) fn watch(&self, run: RunId) -> mpsc::UnboundedReceiver<Ended> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let watchers = watched.entry(run).or_default();
        watchers.retain(|watcher| !watcher.is_closed());
        watchers.push(sender);
        receiver
    }

    pub(crate) fn closed(&self, run: RunId, closed: Closed) {
        self.tell(run, Ended::Closed(closed));
    }

    pub(crate) fn parked(&self, run: RunId, reason: String) {
        self.tell(run, Ended::Parked(reason));
    }

    /// A run has changed elsewhere.
    pub(crate) fn changed(&self, run: RunId) {
        self.tell(run, Ended::LookAgain);
    }

    /// Hints may have been lost.
    pub(crate) fn look_again(&self) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|_, watchers| {
            watchers.retain(|watcher| watcher.send(Ended::LookAgain).is_ok());
            !watchers.is_empty()
        });
    }

    fn tell(&self, run: RunId, ended: Ended) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watchers) = watched.get_mut(&run) else {
            return;
        };
        watchers.retain(|watcher| watcher.send(ended.clone()).is_ok());
        if watchers.is_empty() {
            watched.remove(&run);
        }
    }
}
