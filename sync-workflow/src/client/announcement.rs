//! Telling a receiver about what a transaction of the application's brought it.

use super::Client;
use crate::journal::WokenRun;

/// News for a run, to be told when the transaction that holds them has committed.
///
/// Telling is a hint and may be left out: the receiver then finds out by its own poll.
#[derive(Debug, Clone)]
pub struct Announcement {
    pub(super) client: Client,
    /// Whom the news are for, and who holds it; nobody, if they were told before.
    pub(super) woken: Option<WokenRun>,
}

impl Announcement {
    /// Tells whoever holds the run, or the workers that may take it. Call it after the commit.
    pub async fn announce(self) {
        if let Some(woken) = self.woken {
            self.client.announce(woken).await;
        }
    }
}
