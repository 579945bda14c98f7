//! What waits for the next batch.

use tokio::sync::mpsc;

use super::{Limits, Work};

/// The most bytes of payload in one batch; a single commit may be larger.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Works that were taken from the queue, in the order of their arrival, and the queue.
pub(super) struct Gathered {
    queue: mpsc::Receiver<Work>,
    limits: Limits,
    arriving: Vec<Work>,
    /// Records and nothing else.
    records: Vec<Work>,
    others: Vec<Work>,
}

/// What is committed together.
pub(super) struct Share {
    pub(super) works: Vec<Work>,
    /// Whether it touches more than records.
    pub(super) occupies: bool,
}

impl Gathered {
    pub(super) fn new(queue: mpsc::Receiver<Work>, limits: Limits) -> Self {
        Self {
            queue,
            limits,
            arriving: Vec::new(),
            records: Vec::new(),
            others: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len() + self.others.len()
    }

    const fn room(&self) -> usize {
        self.limits
            .batch
            .saturating_sub(self.records.len() + self.others.len())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.records.is_empty() && self.others.is_empty()
    }

    /// Whether there is room for more, and more may come.
    pub(super) fn takes_more(&self) -> bool {
        self.room() > 0 && !(self.queue.is_closed() && self.queue.is_empty())
    }

    /// Waits for more. `false` when no more will come.
    ///
    /// Nothing is lost when the caller goes away meanwhile.
    pub(super) async fn gather(&mut self) -> bool {
        let room = self.room();
        let count = self.queue.recv_many(&mut self.arriving, room).await;
        self.sort_in();
        count > 0
    }

    fn sort_in(&mut self) {
        for work in self.arriving.drain(..) {
            match work.is_plain() {
                true => self.records.push(work),
                false => self.others.push(work),
            }
        }
    }

    /// Lets those whom the last commit told something come in as long as more of them come: they are
    /// ready to run now, and a commit for a few of them costs as much as one for all.
    pub(super) async fn settle(&mut self, told: usize) {
        loop {
            let before = self.len();
            while self.len() + self.arriving.len() < self.limits.batch {
                match self.queue.try_recv() {
                    Ok(work) => self.arriving.push(work),
                    Err(_) => break,
                }
            }
            self.sort_in();
            if self.len() >= told.min(self.limits.batch) {
                return;
            }
            tokio::task::yield_now().await;
            if self.len() == before && self.queue.is_empty() {
                return;
            }
        }
    }

    /// Takes the next batch: everything, or records alone while a batch that touches more is under way.
    ///
    /// Of many that are records alone `leaves_some` takes half: the workflows work on the answers to one
    /// half while the journal works on the other.
    pub(super) fn next_share(&mut self, is_occupied: bool, leaves_some: bool) -> Option<Share> {
        let mut works = Vec::new();
        if !is_occupied {
            fill(&mut works, &mut self.others, self.limits.batch);
        }
        let occupies = !works.is_empty();
        let is_halved = leaves_some && !occupies && self.records.len() >= self.limits.worth_halving;
        let most = match is_halved {
            true => self.records.len().div_ceil(2),
            false => self.limits.batch,
        };
        fill(&mut works, &mut self.records, most);
        (!works.is_empty()).then_some(Share { works, occupies })
    }
}

/// Moves works from the front as long as the batch has room for them; it always has for one.
fn fill(batch: &mut Vec<Work>, from: &mut Vec<Work>, most: usize) {
    let mut bytes: usize = batch.iter().map(Work::payload_bytes).sum();
    let mut count = 0;
    for work in from.iter() {
        let length = batch.len() + count;
        bytes += work.payload_bytes();
        if length >= most || (bytes > MAX_BATCH_BYTES && length > 0) {
            break;
        }
        count += 1;
    }
    batch.extend(from.drain(..count));
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        id::{CommandId, Position, RunId},
        journal::{RunCommit, Transition},
        record::{Record, RecordKind},
        worker::mailbox::Mailbox,
    };

    const MAX_BATCH: usize = Limits::DEFAULT.batch;
    const WORTH_HALVING: usize = Limits::DEFAULT.worth_halving;

    fn work(bytes: usize, transition: Transition) -> Work {
        let record = Record {
            position: Position(1),
            kind: RecordKind::ActivityCompleted,
            command: CommandId(0),
            name: "a".into(),
            fingerprint: 0,
            payload: Bytes::from(vec![0; bytes]),
        };
        Work::Run {
            commit: RunCommit {
                run: RunId::from_uuid(uuid::Uuid::from_u128(bytes as u128)),
                records: vec![record],
                children: Vec::new(),
                consumed_signals: Vec::new(),
                attempts: Vec::new(),
                settled_attempts: Vec::new(),
                published: Vec::new(),
                tags: Vec::new(),
                transition,
            },
            reply: Mailbox::new().0,
        }
    }

    /// Gathered works of these sizes: records alone, and others.
    async fn many_gathered(records: &[usize], others: &[usize]) -> Gathered {
        let (sender, queue) = mpsc::channel(MAX_BATCH * 2);
        for bytes in records {
            sender.try_send(work(*bytes, Transition::Continue)).unwrap();
        }
        for bytes in others {
            sender.try_send(work(*bytes, Transition::Release)).unwrap();
        }
        let mut gathered = Gathered::new(queue, Limits::DEFAULT);
        gathered.gather().await;
        gathered
    }

    fn sizes(share: Option<Share>) -> (Vec<usize>, bool) {
        let share = share.unwrap();
        let sizes = share.works.iter().map(Work::payload_bytes).collect();
        (sizes, share.occupies)
    }

    #[tokio::test]
    async fn everything_goes_at_once_unless_a_batch_that_touches_more_is_under_way() {
        let mut gathered = many_gathered(&[1, 2], &[3, 4]).await;
        assert_eq!(sizes(gathered.next_share(true, false)), (vec![1, 2], false));
        assert!(gathered.next_share(true, false).is_none());
        assert_eq!(sizes(gathered.next_share(false, true)), (vec![3, 4], true));
        assert_eq!(gathered.len(), 0);
    }

    #[tokio::test]
    async fn a_batch_is_bounded_and_takes_one_that_is_larger() {
        const MIB: usize = 1024 * 1024;
        let mut gathered = many_gathered(&[3 * MIB, 4 * MIB, 2 * MIB], &[9 * MIB, 1]).await;
        assert_eq!(
            sizes(gathered.next_share(false, false)),
            (vec![9 * MIB], true)
        );
        assert_eq!(
            sizes(gathered.next_share(false, false)),
            (vec![1, 3 * MIB, 4 * MIB], true)
        );
        assert_eq!(
            sizes(gathered.next_share(false, false)),
            (vec![2 * MIB], false)
        );
        let mut many = many_gathered(&[1; MAX_BATCH + 7], &[]).await;
        assert!(!many.takes_more());
        assert_eq!(sizes(many.next_share(false, false)).0.len(), MAX_BATCH);
    }

    #[tokio::test]
    async fn of_many_records_half_is_left_for_another_batch() {
        let mut many = many_gathered(&[1; 101], &[]).await;
        assert_eq!(sizes(many.next_share(false, true)).0.len(), 51);
        assert_eq!(sizes(many.next_share(false, false)).0.len(), 50);
        let mut few = many_gathered(&[1; WORTH_HALVING - 1], &[]).await;
        assert_eq!(
            sizes(few.next_share(false, true)).0.len(),
            WORTH_HALVING - 1
        );
    }
}
