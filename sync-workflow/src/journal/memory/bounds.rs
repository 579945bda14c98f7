//! The bounds of payloads, checked before storage is touched.

use bytes::Bytes;

use crate::{
    journal::{
        Attempt, Batch, Error, MAX_PAYLOAD_BYTES, NewRun, NewSignal, Result, RunCommit, Transition,
    },
    record::Record,
};

/// Refuses a batch that carries a payload over the bound.
pub(in crate::journal) fn check_batch(batch: &Batch) -> Result<()> {
    batch.runs.iter().try_for_each(check_commit)?;
    batch.starts.iter().try_for_each(check_new_run)
}

/// Refuses a run whose input is over the bound.
pub(in crate::journal) fn check_new_run(run: &NewRun) -> Result<()> {
    check(&run.input)
}

/// Refuses a record whose payload is over the bound.
pub(in crate::journal) fn check_record(record: &Record) -> Result<()> {
    check(&record.payload)
}

/// Refuses a signal whose payload is over the bound.
pub(in crate::journal) fn check_signal(signal: &NewSignal) -> Result<()> {
    check(&signal.payload)
}

fn check_commit(commit: &RunCommit) -> Result<()> {
    commit.records.iter().try_for_each(check_record)?;
    commit.children.iter().try_for_each(check_new_run)?;
    commit.attempts.iter().try_for_each(check_attempt)?;
    let mut published = commit.published.iter();
    published.try_for_each(|publication| check(&publication.payload))?;
    match &commit.transition {
        Transition::Close(close) => close.next.iter().try_for_each(check_new_run),
        Transition::Continue
        | Transition::Suspend { .. }
        | Transition::Release
        | Transition::Park { .. } => Ok(()),
    }
}

fn check_attempt(attempt: &Attempt) -> Result<()> {
    check(&attempt.failure)?;
    check(&attempt.details)
}

fn check(payload: &Bytes) -> Result<()> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(Error::PayloadTooLarge {
            bytes: payload.len(),
            limit: MAX_PAYLOAD_BYTES,
        });
    }
    Ok(())
}
