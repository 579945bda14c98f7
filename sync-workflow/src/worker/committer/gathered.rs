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
    /// Those that change nothing that is there.
    adding: Vec<Work>,
    changing: Vec<Work>,
}

/// What is committed together.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) works: Vec<Work>,
    /// Whether it changes what is there.
    pub(super) occupies: bool,
    pub(super) weight: usize,
}

/// What there is beside what was gathered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    /// How many parts much is divided into.
    pub(super) parts: usize,
    /// The weight of the batches that are under way.
    pub(super) in_flight: usize,
    /// How many runs were told something that they have not answered yet.
    pub(super) told: usize,
    /// Whether they were waited for long enough.
    pub(super) has_waited: bool,
}

/// What to commit next.
#[derive(Debug)]
pub(super) enum Next {
    Share(Share),
    /// What is there, and more, once so many at most have yet to answer.
    Wait(usize),
    Nothing,
}

impl Gathered {
    pub(super) fn new(queue: mpsc::Receiver<Work>, limits: Limits) -> Self {
        Self {
            queue,
            limits,
            arriving: Vec::new(),
            adding: Vec::new(),
            changing: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.adding.len() + self.changing.len()
    }

    const fn room(&self) -> usize {
        self.limits
            .batch
            .saturating_sub(self.adding.len() + self.changing.len())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.adding.is_empty() && self.changing.is_empty()
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

    /// Takes in what waits in the queue, as far as there is room.
    pub(super) fn take_arrived(&mut self) {
        while self.len() + self.arriving.len() < self.limits.batch {
            match self.queue.try_recv() {
                Ok(work) => self.arriving.push(work),
                Err(_) => break,
            }
        }
        self.sort_in();
    }

    fn sort_in(&mut self) {
        for work in self.arriving.drain(..) {
            match work.only_adds() {
                true => self.adding.push(work),
                false => self.changing.push(work),
            }
        }
    }

    /// Lets those whom the last commit told something come in as long as more of them come: they are
    /// ready to run now, and a commit for a few of them costs as much as one for all.
    pub(super) async fn settle(&mut self, told: usize) {
        loop {
            let before = self.len();
            self.take_arrived();
            if self.len() >= told.min(self.limits.batch) {
                return;
            }
            tokio::task::yield_now().await;
            if self.len() == before && self.queue.is_empty() {
                return;
            }
        }
    }

    /// The next batch: everything, or what changes nothing while a batch that does is under way.
    ///
    /// Where there is much, here, under way or about to come, a batch has an equal part of it: there is one part for
    /// each batch that the journal writes at the same time, and one for the runs to work on meanwhile. A batch waits for
    /// its part as long as those who were told something may bring it.
    pub(super) fn next_share(&mut self, is_occupied: bool, around: Around) -> Next {
        let here = match is_occupied {
            true => weight(&self.adding),
            false => weight(&self.adding) + weight(&self.changing),
        };
        if here == 0 {
            return Next::Nothing;
        }
        let all = here + around.in_flight + around.told;
        let mut most = self.limits.batch;
        if all >= self.limits.worth_dividing {
            most = most.min(all.div_ceil(around.parts));
            if here < most && around.told > 0 && !around.has_waited {
                return Next::Wait(around.told.saturating_sub(most - here));
            }
        }
        let mut works = Vec::new();
        if !is_occupied {
            fill(&mut works, &mut self.changing, self.limits.batch);
        }
        let occupies = !works.is_empty();
        fill(&mut works, &mut self.adding, most);
        Next::Share(Share {
            weight: weight(&works),
            works,
            occupies,
        })
    }
}

fn weight(works: &[Work]) -> usize {
    works.iter().map(Work::weight).sum()
}

/// Moves works from the front as long as the batch has room for them; it always has for one.
fn fill(batch: &mut Vec<Work>, from: &mut Vec<Work>, most: usize) {
    let mut bytes: usize = batch.iter().map(Work::payload_bytes).sum();
    let mut weight = weight(batch);
    let mut count = 0;
    for work in from.iter() {
        let is_first = batch.is_empty() && count == 0;
        bytes += work.payload_bytes();
        weight += work.weight();
        if !is_first && (weight > most || bytes > MAX_BATCH_BYTES) {
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
    const WORTH_DIVIDING: usize = Limits::DEFAULT.worth_dividing;

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

    /// Nothing under way, nobody told.
    const QUIET: Around = Around {
        parts: 3,
        in_flight: 0,
        told: 0,
        has_waited: false,
    };

    fn sizes(next: Next) -> (Vec<usize>, bool) {
        let Next::Share(share) = next else {
            panic!("{next:?}");
        };
        let sizes = share.works.iter().map(Work::payload_bytes).collect();
        (sizes, share.occupies)
    }

    fn count(next: Next) -> usize {
        sizes(next).0.len()
    }

    #[tokio::test]
    async fn everything_goes_at_once_unless_a_batch_that_touches_more_is_under_way() {
        let mut gathered = many_gathered(&[1, 2], &[3, 4]).await;
        assert_eq!(sizes(gathered.next_share(true, QUIET)), (vec![1, 2], false));
        assert!(matches!(gathered.next_share(true, QUIET), Next::Nothing));
        assert_eq!(sizes(gathered.next_share(false, QUIET)), (vec![3, 4], true));
        assert_eq!(gathered.len(), 0);
    }

    #[tokio::test]
    async fn a_batch_is_bounded_and_takes_one_that_is_larger() {
        const MIB: usize = 1024 * 1024;
        let mut gathered = many_gathered(&[3 * MIB, 4 * MIB, 2 * MIB], &[9 * MIB, 1]).await;
        assert_eq!(
            sizes(gathered.next_share(false, QUIET)),
            (vec![9 * MIB], true)
        );
        assert_eq!(
            sizes(gathered.next_share(false, QUIET)),
            (vec![1, 3 * MIB, 4 * MIB], true)
        );
        assert_eq!(
            sizes(gathered.next_share(false, QUIET)),
            (vec![2 * MIB], false)
        );
        let mut many = many_gathered(&[1; MAX_BATCH + 7], &[]).await;
        assert!(!many.takes_more());
        let busy = Around {
            in_flight: 3 * MAX_BATCH,
            ..QUIET
        };
        assert_eq!(count(many.next_share(false, busy)), MAX_BATCH);
    }

    #[tokio::test]
    async fn of_much_a_batch_has_its_part_and_the_runs_have_theirs() {
        let mut many = many_gathered(&[1; 300], &[]).await;
        assert_eq!(count(many.next_share(false, QUIET)), 100);
        let one_under_way = Around {
            in_flight: 100,
            ..QUIET
        };
        assert_eq!(count(many.next_share(false, one_under_way)), 100);
        let all_together = Around {
            parts: 1,
            told: 100,
            ..QUIET
        };
        assert!(matches!(
            many.next_share(false, all_together),
            Next::Wait(0)
        ));
        let mut few = many_gathered(&[1; WORTH_DIVIDING - 1], &[]).await;
        assert_eq!(count(few.next_share(false, QUIET)), WORTH_DIVIDING - 1);
    }

    #[tokio::test]
    async fn a_batch_waits_for_its_part_while_those_who_were_told_may_bring_it() {
        let mut few = many_gathered(&[1; 20], &[]).await;
        let busy = Around {
            parts: 3,
            in_flight: 100,
            told: 180,
            has_waited: false,
        };
        // Its part is a hundred of three hundred: eighty are missing.
        assert!(matches!(few.next_share(false, busy), Next::Wait(100)));
        let has_waited = Around {
            has_waited: true,
            ..busy
        };
        assert_eq!(count(few.next_share(false, has_waited)), 20);
        let mut few = many_gathered(&[1; 20], &[]).await;
        let nobody_told = Around { told: 0, ..busy };
        assert_eq!(count(few.next_share(false, nobody_told)), 20);
        let mut few = many_gathered(&[1; 20], &[]).await;
        let not_much = Around {
            in_flight: 20,
            told: 20,
            ..busy
        };
        assert_eq!(count(few.next_share(false, not_much)), 20);
    }
}
