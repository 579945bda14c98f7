//! Commits in doubt: what became of a batch whose acknowledgement was lost.

use sqlx::query_as;
use uuid::Uuid;

use super::sql;
use crate::{
    id::{NodeId, RunId},
    journal::{
        Batch, Error, Result,
        postgres::{connection::Shared, failure::Effect},
        seal::seal,
    },
    record::Record,
};

type FirstRecord = (Uuid, i16, i32, i64, String, Vec<u8>);

/// Whether a batch has happened. A statement happens as a whole, so one of its records, or one of
/// the runs it was to start, answers for all.
pub(in crate::journal::postgres) async fn was_committed(
    shared: &Shared,
    node: NodeId,
    batch: &Batch,
) -> Result<Option<bool>> {
    let firsts: Vec<(RunId, &Record)> = batch
        .runs
        .iter()
        .filter_map(|commit| Some((commit.run, commit.records.first()?)))
        .collect();
    let starts: Vec<Uuid> = batch.starts.iter().map(|new| new.run.as_uuid()).collect();
    // The statement in doubt holds this row FOR KEY SHARE until it has ended.
    let settle = query_as::<_, (Uuid,)>(sql::SETTLE).bind(node.as_uuid());
    if shared.rows(Effect::None, settle).await?.is_empty() {
        // Its runs may have gone on elsewhere, with records that look the same.
        return Err(Error::Fenced);
    }
    if firsts.is_empty() && starts.is_empty() {
        return Ok(None);
    }
    let committed = holds_record(shared, &firsts).await? || exists(shared, &starts).await?;
    Ok(Some(committed))
}

async fn holds_record(shared: &Shared, firsts: &[(RunId, &Record)]) -> Result<bool> {
    if firsts.is_empty() {
        return Ok(false);
    }
    let (runs, positions): (Vec<Uuid>, Vec<i32>) = firsts
        .iter()
        .map(|(run, record)| (run.as_uuid(), record.position.0.cast_signed()))
        .unzip();
    let query = query_as::<_, FirstRecord>(sql::FIRST_RECORDS)
        .bind(&runs)
        .bind(&positions);
    let found = shared.rows(Effect::None, query).await?;
    Ok(found.iter().any(|row| {
        firsts
            .iter()
            .any(|(run, record)| run.as_uuid() == row.0 && is_same(*run, record, row))
    }))
}

fn is_same(
    run: RunId,
    record: &Record,
    (_, kind, command, stored, name, payload): &FirstRecord,
) -> bool {
    record.kind.code() == *kind
        && record.command.0.cast_signed() == *command
        && seal(run, record) == *stored
        && *record.name == **name
        && record.payload == payload.as_slice()
}

async fn exists(shared: &Shared, starts: &[Uuid]) -> Result<bool> {
    if starts.is_empty() {
        return Ok(false);
    }
    let query = query_as::<_, (Uuid,)>(sql::EXISTING).bind(starts);
    Ok(!shared.rows(Effect::None, query).await?.is_empty())
}
