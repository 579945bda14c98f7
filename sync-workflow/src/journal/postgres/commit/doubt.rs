//! Commits in doubt: what became of a batch whose acknowledgement was lost.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sqlx::query_as;
use uuid::Uuid;

use super::{columns::Sender, sql};
use crate::{
    id::{NodeId, RunId},
    journal::{
        Batch, Error, Result,
        postgres::{connection::Shared, failure::Effect},
        seal::seal,
    },
    record::Record,
};

/// How often the commits of each node were in doubt and looked for, as far as this journal knows.
///
/// A commit says the number that it knows, and happens only while it is the last one. So a commit that was not there when
/// it was looked for never happens, however late it arrives: not even the part of it that no record guards.
#[derive(Debug, Default)]
pub(in crate::journal::postgres) struct Doubts(Mutex<HashMap<NodeId, i32>>);

impl Doubts {
    pub(super) fn sender(&self, node: NodeId) -> Sender {
        let doubts = self.known().get(&node).copied().unwrap_or_default();
        Sender { node, doubts }
    }

    /// Reads the number of a node, of which a commit knew another one.
    pub(super) async fn learn(&self, shared: &Shared, node: NodeId) -> Result<()> {
        let query = query_as::<_, (i32,)>(sql::DOUBTS).bind(node.as_uuid());
        self.remember(node, &shared.rows(Effect::None, query).await?)
    }

    /// Waits until no commit of a node is in flight, and voids those that arrive later.
    async fn settle(&self, shared: &Shared, node: NodeId) -> Result<()> {
        let query = query_as::<_, (i32,)>(sql::SETTLE).bind(node.as_uuid());
        self.remember(node, &shared.rows(Effect::None, query).await?)
    }

    fn remember(&self, node: NodeId, found: &[(i32,)]) -> Result<()> {
        let Some((doubts,)) = found.first() else {
            self.known().remove(&node);
            return Err(Error::Fenced);
        };
        self.known().insert(node, *doubts);
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<NodeId, i32>> {
        // A number is whole at every instant, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type FirstRecord = (Uuid, i16, i32, i64, String, Vec<u8>);

/// Whether a batch has happened. A statement happens as a whole, so one of its records, or one of
/// the runs it was to start, answers for all.
pub(in crate::journal::postgres) async fn was_committed(
    shared: &Shared,
    doubts: &Doubts,
    node: NodeId,
    batch: &Batch,
) -> Result<Option<bool>> {
    let firsts: Vec<(RunId, &Record)> = batch
        .runs
        .iter()
        .filter_map(|commit| Some((commit.run, commit.records.first()?)))
        .collect();
    let starts: Vec<Uuid> = batch.starts.iter().map(|new| new.run.as_uuid()).collect();
    // Fenced, its runs may have gone on elsewhere, with records that look the same.
    doubts.settle(shared, node).await?;
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
