//! Signals that the run has received, and that its code has not read.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::{
    id::Position,
    record::{Record, RecordKind},
};

/// What a wait left behind that was dropped after its signal had come: the next wait of the name takes the oldest.
#[derive(Default)]
pub(super) struct Unread {
    /// By their places among all signals that the run received.
    left: BTreeMap<u64, (Arc<str>, Bytes)>,
    received: u64,
}

impl Unread {
    /// Takes those out of a journal that the run was born with.
    pub(super) fn take_from(journal: &mut Vec<Record>) -> Self {
        let mut unread = Self::default();
        for record in journal.extract_if(.., |record| record.is_carried_over()) {
            let place = unread.next_place();
            unread.give_back(place, record.name, record.payload);
        }
        unread
    }

    /// The place of a signal that is received now.
    pub(super) const fn next_place(&mut self) -> u64 {
        let place = self.received;
        self.received += 1;
        place
    }

    pub(super) fn give_back(&mut self, place: u64, name: Arc<str>, payload: Bytes) {
        self.left.insert(place, (name, payload));
    }

    /// Takes the oldest of a name.
    pub(super) fn take(&mut self, name: &str) -> Option<(u64, Bytes)> {
        let (place, _) = self.left.iter().find(|(_, (left, _))| **left == *name)?;
        let place = *place;
        let (_, payload) = self.left.remove(&place)?;
        Some((place, payload))
    }

    /// The records with which they go along to the run in which this one goes on.
    pub(super) fn carry_over(self) -> Vec<Record> {
        let carried = self.left.into_values().zip(1..);
        carried
            .map(|((name, payload), place)| Record {
                position: Position(place),
                kind: RecordKind::SignalReceived,
                command: Record::RUN,
                name,
                fingerprint: 0,
                payload,
            })
            .collect()
    }
}
