//! Seals: how damage to a stored record is seen before it has any effect.
//!
//! What is stored beside a record is its fingerprint, combined with a hash of everything else in the row and
//! of its place. Whoever reads the row takes the hash of what is there away again. If any of it has changed,
//! another fingerprint is left: where a record has none, that is found at once, and everywhere else the replay
//! finds that the code asked for something else.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Error, Result};
use crate::{
    id::{Position, RunId},
    record::{Record, RecordKind},
};

/// What is stored in place of the record's fingerprint.
pub(super) fn seal(run: RunId, record: &Record) -> i64 {
    (record.fingerprint ^ mark(run, record)).cast_signed()
}

/// Gives a record that was read its fingerprint back. `record.fingerprint` is what is stored.
///
/// # Errors
///
/// [`Error::Corrupt`] when the record cannot be what was written.
pub(super) fn unseal(run: RunId, mut record: Record) -> Result<Record> {
    record.fingerprint ^= mark(run, &record);
    if !record.kind.has_fingerprint() && record.fingerprint != 0 {
        return Err(Error::Corrupt {
            run,
            position: record.position,
            detail: "it is not what was written: it was changed, or belongs elsewhere".into(),
        });
    }
    Ok(record)
}

fn mark(run: RunId, record: &Record) -> u64 {
    let position = match record.kind {
        // The database finds the place of the last record of a run that an operator ends.
        RecordKind::Terminated => Position(0),
        _ => record.position,
    };
    let mut place = [0_u8; 26];
    place[..16].copy_from_slice(run.as_uuid().as_bytes());
    place[16..20].copy_from_slice(&position.0.to_be_bytes());
    place[20..24].copy_from_slice(&record.command.0.to_be_bytes());
    place[24..].copy_from_slice(&record.kind.code().to_be_bytes());
    let named = xxh3_64_with_seed(record.name.as_bytes(), xxh3_64(&place));
    xxh3_64_with_seed(&record.payload, named)
}
