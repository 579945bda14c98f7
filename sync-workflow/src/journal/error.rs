//! What can go wrong between the engine and its storage.

use crate::{
    id::{Position, RunId},
    payload::CodecError,
};

/// The error of a journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The node's lease row is gone: it was declared dead. Nothing was written. The node must stop;
    /// its runs go on elsewhere.
    #[error("this node was declared dead")]
    Fenced,
    /// The run no longer names this node, or a position of its journal was taken. Nothing was
    /// written.
    #[error("run {run} is no longer held by this node")]
    RunLost {
        /// The run.
        run: RunId,
    },
    /// Nothing was written: the database cannot be reached, or its disk is full. Trying again may
    /// help.
    #[error("the journal is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection was lost while the commit was on its way: it happened or it did not.
    #[error("the outcome of a commit is unknown")]
    Unknown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Two transactions stood in each other's way and this one was rolled back: serialization
    /// failure, deadlock, busy file. Trying again helps.
    #[error("a transaction was rolled back in favour of another")]
    Contended(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The journal refuses the operation for good: a permission, a constraint of the caller's own
    /// SQL. Trying again does not help.
    #[error("the journal refused an operation")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A payload is larger than [`super::MAX_PAYLOAD_BYTES`].
    #[error("payload of {bytes} bytes exceeds the limit of {limit} bytes")]
    PayloadTooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A payload cannot be decoded, or encoded: with codecs only.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A row of the journal makes no sense to this version: it was damaged, or a newer version
    /// wrote it.
    #[error("record {position} of run {run} is corrupt: {detail}")]
    Corrupt {
        /// The run.
        run: RunId,
        /// The record.
        position: Position,
        /// What is wrong with it.
        detail: String,
    },
    /// The schema was migrated by a newer version of this crate. Update this process.
    #[error("the journal's schema has version {found}, this process knows versions up to {known}")]
    NewerSchema {
        /// The version found.
        found: i64,
        /// The newest version that this process knows.
        known: i64,
    },
    /// The journal does not offer this.
    #[error("the journal does not support {what}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// A key of a queue is longer than [`super::MAX_QUEUE_KEY_BYTES`], or holds a NUL.
    #[error("the queue key {key:?} is too long or holds a NUL")]
    InvalidQueueKey {
        /// The beginning of the key.
        key: String,
    },
    /// A limit of a queue is zero, or beyond what can be counted. A queue that is to run nothing is paused.
    #[error("the limits of the queue {queue:?} admit nothing, or cannot be counted")]
    InvalidLimits {
        /// The queue.
        queue: String,
    },
    /// The URL names no journal.
    #[error("cannot open a journal at this url: {detail}")]
    InvalidUrl {
        /// What is wrong with it; never holds the password.
        detail: String,
    },
}

impl Error {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Unknown(_) | Self::Contended(_)
        )
    }
}
