//! Pieces of payloads that are offloaded from their records.

use bytes::Bytes;

use crate::id::RunId;

/// Which piece of which payload of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PiecePlace {
    /// The hash of the whole payload, as it is stored.
    pub digest: u128,
    /// The number of the piece, from zero on.
    pub number: u32,
}

/// A piece of a large payload.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The run whose payload it is.
    pub run: RunId,
    /// Which piece.
    pub place: PiecePlace,
    /// The bytes of the piece.
    pub bytes: Bytes,
    /// Whether the run is about to be started.
    pub is_before_birth: bool,
}

impl Piece {
    /// The bytes of every piece but the last: what one statement carries, and one answer.
    pub const BYTES: usize = 1024 * 1024;
}
