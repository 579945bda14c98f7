//! The bulletin: hints between the nodes and clients of one process.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use tokio::{sync::Notify, task};

use crate::journal::Hint;

/// The hints that are kept for a reader that is busy. One that falls further behind is told to look
/// again, which costs it one round of queries.
const KEPT_HINTS: usize = 1_024;

/// The readers that are remembered between two of their calls. A forgotten one is told to look
/// again.
const KEPT_READERS: usize = 256;

/// A board on which hints are posted and from which every reader takes each hint once.
///
/// A reader is the task that reads: each node reads in a task of its own, and what is posted
/// between two reads of a task waits for it. What was posted before its first read is gone; it is told to look again.
#[derive(Debug, Default)]
pub(in crate::journal) struct Bulletin {
    board: Mutex<Board>,
    posted: Notify,
}

#[derive(Debug, Default)]
struct Board {
    /// The number of the next hint.
    next: u64,
    hints: VecDeque<Hint>,
    /// The number of the next hint that each reader has not seen.
    readers: HashMap<Option<task::Id>, u64>,
}

impl Bulletin {
    /// Posts hints and wakes every reader.
    pub(in crate::journal) fn post(&self, hints: impl IntoIterator<Item = Hint>) {
        let posted = self.lock().post(hints);
        if posted {
            self.posted.notify_waiters();
        }
    }

    /// Waits until there are hints that the calling task has not read, and takes them.
    ///
    /// Cancel safe: what is not returned waits for the next call.
    pub(in crate::journal) async fn read(&self) -> Vec<Hint> {
        let reader = task::try_id();
        loop {
            let posted = self.posted.notified();
            if let Some(hints) = self.lock().take(reader) {
                return hints;
            }
            posted.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board
            .lock()
            .expect("no code panics while it holds the board")
    }
}

impl Board {
    fn post(&mut self, hints: impl IntoIterator<Item = Hint>) -> bool {
        let before = self.next;
        for hint in hints {
            self.next += 1;
            self.hints.push_back(hint);
            if self.hints.len() > KEPT_HINTS {
                self.hints.pop_front();
            }
        }
        self.next > before
    }

    fn take(&mut self, reader: Option<task::Id>) -> Option<Vec<Hint>> {
        let next = self.next;
        let Some(seen) = self.readers.get_mut(&reader) else {
            self.admit(reader);
            // Whoever sent something after the reader had looked around, and before it came here, has sent it in vain.
            return (next > 0).then(|| vec![Hint::LookAgain]);
        };
        if *seen == next {
            return None;
        }
        let missed = usize::try_from(next - *seen).unwrap_or(usize::MAX);
        *seen = next;
        if missed > self.hints.len() {
            return Some(vec![Hint::LookAgain]);
        }
        let mut hints: Vec<Hint> = Vec::with_capacity(missed);
        for hint in self.hints.range(self.hints.len() - missed..) {
            if !hints.contains(hint) {
                hints.push(hint.clone());
            }
        }
        Some(hints)
    }

    fn admit(&mut self, reader: Option<task::Id>) {
        if self.readers.len() >= KEPT_READERS {
            let idlest = self
                .readers
                .iter()
                .min_by_key(|(_, seen)| **seen)
                .map(|(reader, _)| *reader);
            if let Some(idlest) = idlest {
                self.readers.remove(&idlest);
            }
        }
        self.readers.insert(reader, self.next);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn ready(queue: &str) -> Hint {
        Hint::Ready(queue.into())
    }

    #[test]
    fn a_hint_posted_between_two_reads_waits_for_the_reader() {
        let mut board = Board::default();
        assert_eq!(board.take(None), None);
        board.post([ready("a"), ready("b"), ready("a")]);
        assert_eq!(board.take(None), Some(vec![ready("a"), ready("b")]));
        assert_eq!(board.take(None), None);
    }

    #[test]
    fn a_reader_that_fell_behind_is_told_to_look_again() {
        let mut board = Board::default();
        assert_eq!(board.take(None), None);
        board.post((0..=KEPT_HINTS).map(|number| ready(&number.to_string())));
        assert_eq!(board.take(None), Some(vec![Hint::LookAgain]));
    }

    #[test]
    fn a_reader_that_comes_late_or_was_forgotten_is_told_to_look_again() {
        let mut board = Board::default();
        board.post([ready("a")]);
        assert_eq!(board.take(None), Some(vec![Hint::LookAgain]));
        assert_eq!(board.take(None), None);
        board.readers.clear();
        assert_eq!(board.take(None), Some(vec![Hint::LookAgain]));
    }

    #[tokio::test]
    async fn every_reader_takes_every_hint() {
        let bulletin = Arc::new(Bulletin::default());
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let bulletin = Arc::clone(&bulletin);
                tokio::spawn(async move { bulletin.read().await })
            })
            .collect();
        while bulletin.lock().readers.len() < 3 {
            task::yield_now().await;
        }
        bulletin.post([ready("a")]);
        for reader in readers {
            assert_eq!(reader.await.expect("the reader returns"), [ready("a")]);
        }
    }
}
