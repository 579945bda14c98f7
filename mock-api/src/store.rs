//! The records of one kind, in the order of their ids, with what lists need to be fast.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};

use crate::entity::Entity;
use crate::record::Record;

/// How many sorted or filtered selections are kept between two changes. A walk uses one; tests and
/// benchmarks a few at a time. At 100,000 records one selection takes 400 kB.
const MAX_SELECTIONS: usize = 32;

/// The records of one kind.
pub(crate) struct Store {
    pub(crate) entity: Entity,
    records: Vec<Record>,
    next_id: u64,
    /// Position lists by the text of the question they answer; forgotten at every change.
    selections: Mutex<HashMap<String, Arc<[u32]>>>,
    /// For each slot, (referred id, position), sorted.
    referrers: [OnceLock<Vec<(u64, u32)>>; 2],
}

impl Store {
    pub(crate) fn new(entity: Entity) -> Self {
        Self {
            entity,
            records: Vec::new(),
            next_id: 1,
            selections: Mutex::default(),
            referrers: [OnceLock::new(), OnceLock::new()],
        }
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The id that the next new record takes.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id
    }

    pub(crate) fn position(&self, id: u64) -> Option<usize> {
        self.records
            .binary_search_by_key(&id, |record| record.id)
            .ok()
    }

    pub(crate) fn find(&self, id: u64) -> Option<&Record> {
        self.position(id).map(|position| &self.records[position])
    }

    /// Appends a record with a new id, or puts it in the place of the one with the same id.
    pub(crate) fn put(&mut self, record: Record) {
        self.next_id = self.next_id.max(record.id + 1);
        match self.records.binary_search_by_key(&record.id, |old| old.id) {
            Ok(position) => self.records[position] = record,
            Err(position) => self.records.insert(position, record),
        }
        self.forget();
    }

    /// Removes the named records and returns the ids of those that were there.
    pub(crate) fn remove(&mut self, ids: &HashSet<u64>) -> HashSet<u64> {
        let mut gone = HashSet::new();
        self.records.retain(|record| {
            let keep = !ids.contains(&record.id);
            if !keep {
                gone.insert(record.id);
            }
            keep
        });
        self.forget();
        gone
    }

    pub(crate) fn reserve(&mut self, records: usize) {
        self.records.reserve_exact(records);
    }

    /// The positions of the records whose slot refers to `id`, in the order of their own ids.
    pub(crate) fn referring(&self, slot: usize, id: u64) -> impl Iterator<Item = u32> + '_ {
        let referrers = self.referrers[slot].get_or_init(|| {
            let positions = 0_u32..;
            let mut pairs: Vec<(u64, u32)> = self
                .records
                .iter()
                .zip(positions)
                .filter(|(record, _)| record.slots[slot] != 0)
                .map(|(record, position)| (record.slots[slot], position))
                .collect();
            pairs.sort_unstable();
            pairs
        });
        let start = referrers.partition_point(|(target, _)| *target < id);
        let from = referrers[start..].iter();
        from.take_while(move |(target, _)| *target == id)
            .map(|(_, position)| *position)
    }

    /// The kept answer to `question`, or the one that `answer` computes.
    pub(crate) fn selection(
        &self,
        question: &str,
        answer: impl FnOnce() -> Vec<u32>,
    ) -> Arc<[u32]> {
        let kept = self.kept().get(question).cloned();
        kept.unwrap_or_else(|| {
            let computed: Arc<[u32]> = answer().into();
            let mut kept = self.kept();
            if kept.len() >= MAX_SELECTIONS {
                kept.clear();
            }
            kept.insert(question.to_owned(), Arc::clone(&computed));
            computed
        })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<[u32]>>> {
        self.selections
            .lock()
            .expect("nothing panics while it holds the selections")
    }

    fn forget(&mut self) {
        self.kept().clear();
        self.referrers = [OnceLock::new(), OnceLock::new()];
    }
}
