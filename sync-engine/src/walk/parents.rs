//! The parents of a nested walk, a batch at a time.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sync_core::ExternalId;

/// The parents that are still to be walked, as far as they are known.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Parents {
    waiting: VecDeque<ExternalId>,
    last: Option<ExternalId>,
}

impl Parents {
    /// The one whose list is walked now.
    pub(super) fn current(&self) -> Option<&ExternalId> {
        self.waiting.front()
    }

    /// Those behind the current one.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &ExternalId> {
        self.waiting.iter().skip(1)
    }

    /// The last one that was ever taken.
    pub(super) fn last(&self) -> Option<&ExternalId> {
        self.last.as_ref()
    }

    pub(super) fn extend(&mut self, next: Vec<ExternalId>) {
        self.last = next.last().cloned().or_else(|| self.last.take());
        self.waiting.extend(next);
    }

    /// Goes on to the next one, and gives the one that is done.
    pub(super) fn advance(&mut self) -> Option<ExternalId> {
        self.waiting.pop_front()
    }
}
