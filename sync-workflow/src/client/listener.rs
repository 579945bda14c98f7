//! Listening to the hints of other processes.

use std::sync::Arc;

use crate::{
    journal::{Hint, Journal},
    worker::Watchers,
};

/// The task that listens to hints for a client without a worker.
pub(super) struct Listener(tokio::task::JoinHandle<()>);

impl Listener {
    pub(super) fn start(journal: Arc<dyn Journal>, watchers: Arc<Watchers>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                for hint in journal.hints().await {
                    match hint {
                        Hint::Closed(run) => watchers.changed(run),
                        Hint::Published(run) => watchers.published(run),
                        Hint::LookAgain => watchers.look_again(),
                        Hint::Ready(_) | Hint::Schedules(_) | Hint::Arrived { .. } => {}
                    }
                }
            }
        }))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}
