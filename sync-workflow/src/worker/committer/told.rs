//! Who was told that a commit has happened, and may have the next one ready in a moment.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Counts those who were told something and have not come to rest yet.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    unanswered: AtomicUsize,
    /// At so many the committer looks again.
    enough: AtomicUsize,
    looks: Notify,
}

/// One who was told something, until it has handed over what came of it, or waits for something else.
#[derive(Debug)]
pub(crate) struct Told(Arc<Tally>);

impl Tally {
    pub(crate) fn tell(self: &Arc<Self>) -> Told {
        self.unanswered.fetch_add(1, Ordering::SeqCst);
        Told(Arc::clone(self))
    }

    pub(super) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::SeqCst)
    }

    /// Completes when no more than `enough` have yet to answer. For one caller at a time. Cancel safe.
    pub(super) async fn falls_to(&self, enough: usize) {
        // Said before it is counted: whoever answers in between finds it.
        self.enough.store(enough, Ordering::SeqCst);
        while self.unanswered() > enough {
            self.looks.notified().await;
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let left = self.0.unanswered.fetch_sub(1, Ordering::SeqCst) - 1;
        if left == self.0.enough.load(Ordering::SeqCst) {
            self.0.looks.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_wait_ends_when_enough_have_answered() {
        let tally = Arc::new(Tally::default());
        let mut told: Vec<_> = (0..3).map(|_| tally.tell()).collect();
        let mut wait = Box::pin(tally.falls_to(1));
        assert!(wait.as_mut().now_or_never().is_none());
        told.pop();
        assert!(wait.as_mut().now_or_never().is_none());
        told.pop();
        assert!(wait.as_mut().now_or_never().is_some());
        assert_eq!(tally.unanswered(), 1);
    }
}
