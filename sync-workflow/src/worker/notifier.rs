//! Hints for other processes, gathered and sent after the commits that caused them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::journal::{Hint, Journal};

/// How long hints gather before they are sent together.
const GATHER: Duration = Duration::from_millis(10);
/// How many hints may wait. More are dropped: a hint is never the only way to find out.
const QUEUE: usize = 4_096;

/// Where hints are handed in. Never waits.
#[derive(Clone, Debug)]
pub(crate) struct Notifier(mpsc::Sender<Hint>);

impl Notifier {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Hint>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    pub(crate) fn hint(&self, hint: Hint) {
        let _full = self.0.try_send(hint);
    }
}

/// Sends what gathers until nobody can hand in more.
pub(crate) async fn run(journal: Arc<dyn Journal>, mut hints: mpsc::Receiver<Hint>) {
    while let Some(first) = hints.recv().await {
        tokio::time::sleep(GATHER).await;
        let mut gathered = HashSet::from([first]);
        while let Ok(hint) = hints.try_recv() {
            gathered.insert(hint);
        }
        let gathered: Vec<_> = gathered.into_iter().collect();
        if let Err(error) = journal.notify(&gathered).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "hints_not_sent");
        }
    }
}
