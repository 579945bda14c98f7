//! The bounds of payloads, checked before storage is touched.

use bytes::Bytes;

use crate::{
    journal::{
        Attempt, Batch, Error, Fork, ForkTarget, ImportedRun, MAX_PAYLOAD_BYTES,
        MAX_QUEUE_KEY_BYTES, NewRun, NewSignal, QueueLimits, Result, RunCommit, Transition,
    },
    payload::envelope::{MAX_ENVELOPE_BYTES, is_enveloped},
    record::{Record, RecordKind},
};

/// Refuses a batch that carries a payload over the bound.
pub(in crate::journal) fn check_batch(batch: &Batch) -> Result<()> {
    batch.runs.iter().try_for_each(check_commit)?;
    batch.starts.iter().try_for_each(check_new_run)
}

/// Refuses a run whose input or key is over the bound.
pub(in crate::journal) fn check_new_run(run: &NewRun) -> Result<()> {
    let key = &run.ticket.key;
    if key.len() > MAX_QUEUE_KEY_BYTES || key.contains('\0') {
        return Err(Error::InvalidQueueKey {
            key: key.chars().take(64).collect(),
        });
    }
    run.carried_over.iter().try_for_each(check_record)?;
    check(&run.input)
}

/// Refuses limits under which nothing could run.
pub(in crate::journal) fn check_limits(queue: &str, limits: &QueueLimits) -> Result<()> {
    match limits.is_valid() {
        true => Ok(()),
        false => Err(Error::InvalidLimits {
            queue: queue.into(),
        }),
    }
}

/// Refuses a run from elsewhere one of whose records is over the bound.
pub(in crate::journal) fn check_imported(run: &ImportedRun) -> Result<()> {
    let mut records = run.records.iter();
    records.try_for_each(|item| check_record(&item.record))
}

/// Refuses a fork that would not begin with a start.
pub(in crate::journal) fn check_fork(fork: &Fork) -> Result<()> {
    if fork.forked.position.0 == 0 || fork.forked.kind != RecordKind::Forked {
        return Err(Error::Unsupported {
            what: "a fork without the start of its origin",
        });
    }
    check_record(&fork.forked)?;
    match &fork.target {
        ForkTarget::Same { last, .. } => check_record(last),
        ForkTarget::New(_) => Ok(()),
    }
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

/// Refuses a value that is over the bound, before it is encoded.
pub(in crate::journal) fn check_value(value: &Bytes) -> Result<()> {
    within(value.len(), MAX_PAYLOAD_BYTES)
}

/// Refuses a payload that is over the bound as it is stored. An envelope comes on top of the value.
fn check(payload: &Bytes) -> Result<()> {
    let limit = match is_enveloped(payload) {
        true => MAX_PAYLOAD_BYTES + MAX_ENVELOPE_BYTES,
        false => MAX_PAYLOAD_BYTES,
    };
    within(payload.len(), limit)
}

/// Refuses what is larger than a limit, in bytes.
pub(in crate::journal) const fn within(bytes: usize, limit: usize) -> Result<()> {
    if bytes > limit {
        return Err(Error::PayloadTooLarge { bytes, limit });
    }
    Ok(())
}
