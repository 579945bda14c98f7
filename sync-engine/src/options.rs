//! The limits of a sync, each with a default that suits most.

use std::time::Duration;

use sync_core::DeletionPolicy;
use sync_workflow::RetryPolicy;

/// The limits of a sync.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Pages that are fetched while one step is written.
    pub(crate) pages_ahead: usize,
    /// Records that one step writes at most, give or take a page, in statements of 1,000.
    pub(crate) records_per_step: usize,
    /// Pages that one step writes at most; nested lists have small ones.
    pub(crate) pages_per_step: usize,
    /// Steps after which an entity's workflow goes on with an empty journal.
    pub(crate) steps_per_run: u64,
    /// How failed steps are repeated.
    pub(crate) retry: RetryPolicy,
    /// What it takes to believe that records are gone.
    pub(crate) deletions: DeletionPolicy,
    /// The longest wait for the source's budget that is sat out; a longer one becomes a durable timer.
    pub(crate) longest_wait: Duration,
    /// How often a call of the source is repeated before its step fails.
    pub(crate) call_retries: usize,
    /// The pause before the first repetition of a call.
    pub(crate) call_pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pages_ahead: 16,
            records_per_step: 4_000,
            pages_per_step: 64,
            steps_per_run: 500,
            retry: RetryPolicy {
                initial_interval: Duration::from_millis(500),
                max_interval: Duration::from_secs(30),
                max_attempts: 8,
                ..RetryPolicy::default()
            },
            deletions: DeletionPolicy::default(),
            longest_wait: Duration::from_secs(5),
            call_retries: 4,
            call_pause: Duration::from_millis(200),
        }
    }
}
