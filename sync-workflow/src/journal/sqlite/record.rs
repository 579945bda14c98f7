//! The records of runs.

use std::{collections::HashSet, sync::Arc};

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    bulk::{self, Bound, Bulk},
    error::failed,
    value::{Micros, bytes, column, corrupt, micros, number, run_id, timestamp},
};
use crate::{
    id::{CommandId, NodeId, Position, RunId},
    journal::{
        HistoryRecord, Result, RunCommit,
        seal::{seal, unseal},
    },
    record::{Record, RecordKind},
};

/// The runs of a batch that their node may not write for, or whose records do not continue the
/// journal. Nothing can come between this and the append: the transaction is the only one that writes.
pub(super) async fn refused(
    connection: &mut SqliteConnection,
    node: NodeId,
    commits: &[RunCommit],
) -> Result<HashSet<RunId>> {
    static REFUSED: Bulk = Bulk::padded(
        "WITH new (run, first) AS (VALUES ",
        "(?,?)",
        ") SELECT new.run AS run FROM new LEFT JOIN sync_workflow_runs AS held ON held.run = new.run
           WHERE new.run IS NOT NULL
             AND (held.node IS NOT ?
                  OR new.first <> (SELECT coalesce(max(position), -1) + 1 FROM sync_workflow_records AS record
                                   WHERE record.run = new.run))",
    );
    let rows = REFUSED
        .fetch_with(
            connection,
            commits,
            |statement, commit| {
                statement
                    .bind(commit.run.as_uuid())
                    .bind(commit.records.first().map(|record| record.position.0))
            },
            |statement| statement.bind(node.as_uuid()),
        )
        .await?;
    rows.iter().map(|row| run_id(row, "run")).collect()
}

/// Appends records. A position that is taken is an error, never overwritten.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    records: &[(RunId, &Record)],
    now: Micros,
) -> Result<()> {
    bulk::execute(connection, inserts(records, now)).await
}

/// The statements that append records.
pub(super) fn inserts(records: &[(RunId, &Record)], now: Micros) -> impl Iterator<Item = Bound> {
    bound(records, move |(run, record)| (*run, record, now))
}

/// Inserts the records of a run from another journal, each with its own time.
pub(super) async fn import(
    connection: &mut SqliteConnection,
    run: RunId,
    records: &[HistoryRecord],
) -> Result<()> {
    let inserts = bound(records, move |item| {
        (run, &item.record, micros(item.recorded_at))
    });
    bulk::execute(connection, inserts).await
}

/// The statements that insert rows.
fn bound<T>(
    items: &[T],
    row: impl Fn(&T) -> (RunId, &Record, Micros),
) -> impl Iterator<Item = Bound> {
    static INSERT: Bulk = Bulk::padded(
        "WITH new (run, position, kind, command, name, fingerprint, payload, recorded_at) AS (VALUES ",
        "(?,?,?,?,?,?,?,?)",
        ") INSERT INTO sync_workflow_records
             (run, position, kind, command, name, fingerprint, payload, recorded_at)
           SELECT * FROM new WHERE run IS NOT NULL",
    );
    INSERT.bind(items, move |statement, item| {
        let (run, record, at) = row(item);
        statement
            .bind(run.as_uuid())
            .bind(record.position.0)
            .bind(record.kind.code())
            .bind(record.command.0)
            .bind(Arc::clone(&record.name))
            .bind(seal(run, record))
            .bind(record.payload.to_vec())
            .bind(at)
    })
}

/// The position after the last one of a run.
pub(super) async fn next_position(
    connection: &mut SqliteConnection,
    run: RunId,
) -> Result<Position> {
    sqlx::query_scalar(
        "SELECT coalesce(max(position), -1) + 1 FROM sync_workflow_records WHERE run = ?",
    )
    .bind(run.as_uuid())
    .fetch_one(connection)
    .await
    .map(Position)
    .map_err(failed)
}

/// A page of a run's journal with the time of each record.
pub(super) async fn page(
    connection: &mut SqliteConnection,
    run: RunId,
    from: Position,
    limit: u32,
) -> Result<Vec<HistoryRecord>> {
    let rows = sqlx::query(
        "SELECT position, kind, command, name, fingerprint, payload, recorded_at
         FROM sync_workflow_records WHERE run = ? AND position >= ? ORDER BY position LIMIT ?",
    )
    .bind(run.as_uuid())
    .bind(from.0)
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter()
        .zip(from.0..)
        .map(|(row, position)| decode(row, run, Position(position)))
        .collect()
}

pub(super) fn decode(row: &SqliteRow, run: RunId, expected: Position) -> Result<HistoryRecord> {
    let position = Position(number(row, "position")?);
    if position != expected {
        return Err(corrupt(
            run,
            expected,
            format!("it is missing, the next record is {position}"),
        ));
    }
    let code: i64 = column(row, "kind")?;
    let kind = i16::try_from(code)
        .ok()
        .and_then(RecordKind::from_code)
        .ok_or_else(|| corrupt(run, position, format!("unknown kind {code}")))?;
    let record = Record {
        position,
        kind,
        command: CommandId(number(row, "command")?),
        name: column::<String>(row, "name")?.into(),
        fingerprint: column::<i64>(row, "fingerprint")?.cast_unsigned(),
        payload: bytes(row, "payload")?,
    };
    Ok(HistoryRecord {
        record: unseal(run, record)?,
        recorded_at: timestamp(column(row, "recorded_at")?),
    })
}
