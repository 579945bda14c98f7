//! The table of records: a run's journal, read back.

use bytes::Bytes;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    connection::Shared,
    failure::{self, Effect},
    time::Moment,
};
use crate::{
    id::{CommandId, Position, RunId},
    journal::{Attempt, Closed, Error, History, HistoryRecord, Page, Result, seal::unseal},
    record::{Record, RecordKind},
    status::RunStatus,
};

const LOAD: &str = "
SELECT position, kind, command, name, fingerprint, payload
FROM sync_workflow.journal
WHERE run_id = $1 AND position >= $2
ORDER BY position LIMIT $3";

const LOAD_ATTEMPTS: &str = "
SELECT command, failed, next_at, scheduled_at, failure, details
FROM sync_workflow.attempts
WHERE run_id = $1 ORDER BY command";

const HISTORY: &str = "
SELECT position, kind, command, name, fingerprint, payload, recorded_at
FROM sync_workflow.journal
WHERE run_id = $1 AND position >= $2
ORDER BY position LIMIT $3";

type RecordRow = (i32, i16, i32, String, i64, Vec<u8>);
type TimedRow = (i32, i16, i32, String, i64, Vec<u8>, Moment);
type AttemptRow = (i32, i32, Option<Moment>, Moment, Vec<u8>, Vec<u8>);

pub(super) async fn load(
    shared: &Shared,
    run: RunId,
    from: Position,
    limit: u32,
) -> Result<History> {
    let query = sqlx::query_as::<_, RecordRow>(LOAD)
        .bind(run.as_uuid())
        .bind(from.0.cast_signed())
        .bind(i64::from(limit));
    let rows = shared.rows(Effect::None, query).await?;
    let records = rows
        .into_iter()
        .zip(from.0..)
        .map(|(row, expected)| record(run, Position(expected), row))
        .collect::<Result<_>>()?;
    let attempts = if from == Position(0) {
        load_attempts(shared, run).await?
    } else {
        Vec::new()
    };
    Ok(History { records, attempts })
}

async fn load_attempts(shared: &Shared, run: RunId) -> Result<Vec<Attempt>> {
    let query = sqlx::query_as::<_, AttemptRow>(LOAD_ATTEMPTS).bind(run.as_uuid());
    let rows = shared.rows(Effect::None, query).await?;
    Ok(rows
        .into_iter()
        .map(
            |(command, failed, next_at, scheduled_at, failure, details)| Attempt {
                command: CommandId(command.cast_unsigned()),
                failed: failed.cast_unsigned(),
                next_at: next_at.and_then(Moment::finite),
                scheduled_at: scheduled_at.expect_finite(),
                failure: failure.into(),
                details: details.into(),
            },
        )
        .collect())
}

pub(super) async fn history(
    shared: &Shared,
    run: RunId,
    from: Position,
    limit: u32,
) -> Result<Page<HistoryRecord>> {
    let query = sqlx::query_as::<_, TimedRow>(HISTORY)
        .bind(run.as_uuid())
        .bind(from.0.cast_signed())
        .bind(i64::from(limit) + 1);
    let mut rows = shared.rows(Effect::None, query).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let items = rows
        .into_iter()
        .map(|row| timed(run, Position(row.0.cast_unsigned()), row))
        .collect::<Result<_>>()?;
    Ok(Page { items, more })
}

/// The records of a run from a place on, of which there are `limit`, each with its time.
pub(super) async fn page(
    connection: &mut PgConnection,
    run: RunId,
    from: Position,
    limit: u32,
) -> Result<Vec<HistoryRecord>> {
    let rows: Vec<TimedRow> = sqlx::query_as(HISTORY)
        .bind(run.as_uuid())
        .bind(from.0.cast_signed())
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await
        .map_err(|error| failure::of_statement(error, Effect::None))?;
    let items = rows.into_iter().zip(from.0..);
    items
        .map(|(row, expected)| timed(run, Position(expected), row))
        .collect()
}

fn timed(
    run: RunId,
    expected: Position,
    (position, kind, command, name, fingerprint, payload, at): TimedRow,
) -> Result<HistoryRecord> {
    let row = (position, kind, command, name, fingerprint, payload);
    Ok(HistoryRecord {
        record: record(run, expected, row)?,
        recorded_at: at.expect_finite(),
    })
}

/// Reads a record that is expected at a position.
fn record(
    run: RunId,
    expected: Position,
    (position, kind, command, name, fingerprint, payload): RecordRow,
) -> Result<Record> {
    let corrupt = |detail: String| Error::Corrupt {
        run,
        position: expected,
        detail,
    };
    if position.cast_unsigned() != expected.0 {
        return Err(corrupt(format!(
            "it is missing; the next one is {position}"
        )));
    }
    let kind = RecordKind::from_code(kind)
        .ok_or_else(|| corrupt(format!("its kind {kind} is unknown to this version")))?;
    let record = Record {
        position: expected,
        kind,
        command: CommandId(command.cast_unsigned()),
        name: name.into(),
        fingerprint: fingerprint.cast_unsigned(),
        payload: payload.into(),
    };
    unseal(run, record)
}

/// The end of a run, as a row tells it.
pub(super) struct ClosedRow {
    status: i16,
    /// The run in which it goes on.
    next: Option<Uuid>,
    /// Its last record, if it has ended.
    last: Option<RecordRow>,
}

impl sqlx::FromRow<'_, PgRow> for ClosedRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let position: Option<i32> = row.try_get("position")?;
        let last = match position {
            None => None,
            Some(position) => Some((
                position,
                row.try_get("kind")?,
                row.try_get("command")?,
                row.try_get("name")?,
                row.try_get("fingerprint")?,
                row.try_get("payload")?,
            )),
        };
        Ok(Self {
            status: row.try_get("status")?,
            next: row.try_get("next")?,
            last,
        })
    }
}

/// Reads the end of a run, or `None` while it is open.
pub(super) fn closed(run: RunId, row: ClosedRow) -> Result<Option<Closed>> {
    let ClosedRow { status, next, last } = row;
    let status = RunStatus::from_code(status).ok_or_else(|| Error::Corrupt {
        run,
        position: Position(0),
        detail: format!("its status {status} is unknown to this version"),
    })?;
    if !status.is_closed() {
        return Ok(None);
    }
    let payload = match last {
        Some(row) => record(run, Position(row.0.cast_unsigned()), row)?.payload,
        None => Bytes::new(),
    };
    Ok(Some(Closed {
        status,
        payload,
        next: next.map(RunId::from_uuid),
    }))
}
