//! Whose values a run goes by, if it began as a copy of another one's first records.
//!
//! Much of what code sees follows from its run: random values, ids of children, and the id itself. While code takes in
//! records that another run wrote, it must see what it saw there, or it would ask for something else than they
//! say. What it asks for after them is new, and must be new to the world outside too. So the values are those
//! of the run whose records are being replayed, and the place of the last of them is where the run becomes itself.

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::{
    id::{Position, RunId, WorkflowId},
    record::{Record, RecordKind},
};

/// Who a run is to its own code; also the payload of a [`RecordKind::Forked`] record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) run: RunId,
    pub(crate) workflow_id: WorkflowId,
}

impl Identity {
    /// The identity that a record of a fork names.
    pub(crate) fn read(record: &Record) -> Option<Self> {
        serde_json::from_slice(&record.payload).ok()
    }
}

/// A run, and the runs whose records its journal begins with.
pub(super) struct Lineage {
    own: Identity,
    /// The oldest first, each with how many records are left to be replayed after the last of its own.
    ancestors: Vec<(usize, Identity)>,
    /// The place after the last record that another run wrote.
    inherited: Position,
    /// Whether the run has written no record yet.
    is_newborn: bool,
}

impl Lineage {
    /// Takes the records of forks out of a journal that is to be replayed.
    pub(super) fn take_from(journal: &mut Vec<Record>, own: Identity) -> Result<Self, Fault> {
        let mut lineage = Self {
            own,
            ancestors: Vec::new(),
            inherited: Position(0),
            is_newborn: journal
                .last()
                .is_some_and(|last| last.kind == RecordKind::Forked),
        };
        let mut before = 0;
        let mut damage = None;
        journal.retain(|record| {
            if record.kind != RecordKind::Forked {
                before += 1;
                return true;
            }
            lineage.inherited = record.position;
            match Identity::read(record) {
                Some(identity) => lineage.ancestors.push((before, identity)),
                None => damage = Some(record.position),
            }
            false
        });
        for (records, _) in &mut lineage.ancestors {
            *records = before - *records;
        }
        match damage {
            None => Ok(lineage),
            Some(position) => Err(Fault::Damaged {
                detail: format!("record {position}: a fork of no run"),
            }),
        }
    }

    /// Of a run that began by itself.
    pub(super) const fn of(own: Identity) -> Self {
        Self {
            own,
            ancestors: Vec::new(),
            inherited: Position(0),
            is_newborn: false,
        }
    }

    /// Whose values the code sees while so many records are left to be replayed.
    pub(super) fn with_left(&self, records: usize) -> &Identity {
        let mut ancestors = self.ancestors.iter();
        let ancestor = ancestors.find(|(after, _)| records > *after);
        ancestor.map_or(&self.own, |(_, identity)| identity)
    }

    /// Whether another run wrote the record at this place.
    pub(super) fn is_inherited(&self, position: Position) -> bool {
        position < self.inherited
    }

    /// Whether all that the run shows was shown by others so far: it has written no record of its own.
    pub(super) const fn is_newborn(&self) -> bool {
        self.is_newborn
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;

    fn identity(number: u128) -> Identity {
        Identity {
            run: RunId::from_uuid(Uuid::from_u128(number)),
            workflow_id: WorkflowId::new(number.to_string()).unwrap(),
        }
    }

    fn record(position: u32, kind: RecordKind, payload: Bytes) -> Record {
        Record {
            position: Position(position),
            kind,
            command: Record::RUN,
            name: "".into(),
            fingerprint: 0,
            payload,
        }
    }

    fn fork(position: u32, of: u128) -> Record {
        let payload = serde_json::to_vec(&identity(of)).unwrap();
        record(position, RecordKind::Forked, payload.into())
    }

    fn happened(position: u32) -> Record {
        record(position, RecordKind::ActivityCompleted, Bytes::new())
    }

    #[test]
    fn each_record_is_taken_in_as_the_run_that_wrote_it() {
        let mut journal: Vec<_> = (0..3).map(happened).collect();
        journal.extend([fork(3, 1), happened(4), fork(5, 2), fork(6, 3)]);
        let lineage = Lineage::take_from(&mut journal, identity(9)).unwrap();
        assert!(lineage.is_newborn());
        let seen = |left| lineage.with_left(left).run.as_uuid().as_u128();
        // Four records: three of the first run, one of the second, none of the third.
        assert_eq!([4, 3, 2, 1, 0].map(seen), [1, 1, 1, 2, 9]);
        assert!(lineage.is_inherited(Position(4)) && !lineage.is_inherited(Position(7)));

        journal.insert(3, fork(3, 1));
        journal.push(happened(5));
        let lineage = Lineage::take_from(&mut journal, identity(9)).unwrap();
        assert!(!lineage.is_newborn());
        let seen = |left| lineage.with_left(left).run.as_uuid().as_u128();
        assert_eq!([5, 4, 3, 2, 1, 0].map(seen), [1, 1, 1, 9, 9, 9]);
    }

    #[test]
    fn a_fork_of_no_run_is_damage() {
        let damaged = record(1, RecordKind::Forked, Bytes::from_static(b"{}"));
        let mut journal = vec![happened(0), damaged];
        let refused = Lineage::take_from(&mut journal, identity(9));
        assert!(matches!(refused, Err(Fault::Damaged { .. })));
    }
}
