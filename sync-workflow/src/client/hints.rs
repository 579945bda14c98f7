//! Hints for other processes, told one after the other and as many at once as have gathered.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crate::journal::{Hint, Journal};

/// What the clones of a client have to tell.
///
/// A thousand starts at once are a thousand hints of one kind: telling each would take a connection and a
/// transaction each.
#[derive(Debug, Default)]
pub(super) struct Hints {
    waiting: Mutex<HashSet<Hint>>,
    turn: tokio::sync::Mutex<()>,
}

impl Hints {
    /// Tells a hint, perhaps with others, and returns when it was told or could not be.
    pub(super) async fn tell(&self, journal: &dyn Journal, hint: Hint) {
        self.waiting().insert(hint);
        let _turn = self.turn.lock().await;
        let hints: Vec<Hint> = self.waiting().drain().collect();
        if hints.is_empty() {
            // Whoever had the turn before has told it.
            return;
        }
        if let Err(error) = journal.notify(&hints).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "hints_not_sent");
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashSet<Hint>> {
        // The set is whole at every instant, whoever panicked.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
