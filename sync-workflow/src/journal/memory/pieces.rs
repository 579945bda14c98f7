//! Payloads that are offloaded from their records.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::state::State;
use crate::{
    id::RunId,
    journal::{Piece, PiecePlace},
};

/// What is offloaded.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    of_runs: BTreeMap<RunId, BTreeMap<PiecePlace, Bytes>>,
    /// Runs that were about to be started, and since when.
    births: BTreeMap<RunId, Timestamp>,
}

impl Pieces {
    pub(super) fn forget(&mut self, run: RunId) {
        self.of_runs.remove(&run);
        self.births.remove(&run);
    }
}

impl State {
    pub(super) fn keep_piece(&mut self, piece: &Piece, now: Timestamp) {
        let day = SignedDuration::from_hours(24);
        let is_stale = |since: &Timestamp| now.duration_since(*since) > day;
        let births = self.pieces.births.iter();
        let stale: Vec<_> = births
            .filter(|(_, since)| is_stale(since))
            .map(|(run, _)| *run)
            .collect();
        self.settle_pieces(&stale);
        if piece.is_before_birth {
            self.pieces.births.entry(piece.run).or_insert(now);
        } else if !self.runs.contains_key(&piece.run) {
            return;
        }
        let pieces = self.pieces.of_runs.entry(piece.run).or_default();
        pieces.insert(piece.place, piece.bytes.clone());
    }

    pub(super) fn piece(&self, run: RunId, place: PiecePlace) -> Option<Bytes> {
        self.pieces.of_runs.get(&run)?.get(&place).cloned()
    }

    pub(super) fn settle_pieces(&mut self, runs: &[RunId]) {
        for run in runs {
            match self.runs.contains_key(run) {
                true => drop(self.pieces.births.remove(run)),
                false => self.pieces.forget(*run),
            }
        }
    }
}
