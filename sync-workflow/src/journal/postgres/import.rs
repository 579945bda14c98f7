//! Runs from other journals.

use sqlx::{PgConnection, query_as};
use uuid::Uuid;

use super::{
    connection::Shared,
    failure::{self, Effect},
    pooling::Seat,
    time::Moment,
    unit,
};
use crate::{
    id::RunId,
    journal::{Error, HistoryRecord, ImportedRun, Result, StartOutcome, seal::seal},
    status::RunStatus,
};

/// How many records one statement inserts.
const RECORDS_AT_ONCE: usize = 1_000;

// The unique keys decide, should another run of the workflow id be started at this moment.
const INSERT: &str = "
WITH born AS (
    INSERT INTO sync_workflow.runs
        (run_id, chain_id, wake_at, created_at, closed_at, sequence, status, pause_requested,
         workflow_id, workflow, queue)
    SELECT $1, $1, now(), $5, $6, 0, $7, $6 IS NULL, $2, $3, $4
    WHERE NOT EXISTS (SELECT FROM sync_workflow.runs WHERE workflow_id = $2)
    ON CONFLICT DO NOTHING
    RETURNING run_id
), tagged AS (
    INSERT INTO sync_workflow.tags (run_id, name, value)
    SELECT born.run_id, t.name, t.value
    FROM born CROSS JOIN unnest($8::text[], $9::text[]) AS t(name, value)
)
SELECT run_id FROM born";

const RECORDS: &str = "
INSERT INTO sync_workflow.journal
    (run_id, recorded_at, position, kind, command, name, fingerprint, payload)
SELECT $1, e.recorded_at, e.position, e.kind, e.command, e.name, e.fingerprint, e.payload
FROM unnest($2::timestamptz[], $3::integer[], $4::smallint[], $5::integer[], $6::text[],
            $7::bigint[], $8::bytea[])
    AS e(recorded_at, position, kind, command, name, fingerprint, payload)";

const IN_THE_WAY: &str = "
SELECT run_id, status FROM sync_workflow.runs
WHERE run_id = coalesce(
    (SELECT run_id FROM sync_workflow.runs WHERE run_id = $1),
    (SELECT run_id FROM sync_workflow.runs WHERE workflow_id = $2 ORDER BY sequence DESC LIMIT 1))";

pub(super) async fn import(shared: &Shared, imported: &ImportedRun) -> Result<StartOutcome> {
    let run = imported.clone();
    let is_inserted = unit::run(shared, move |seat| Box::pin(insert(seat, run))).await?;
    if is_inserted {
        return Ok(StartOutcome::Started);
    }
    let query = query_as::<_, (Uuid, i16)>(IN_THE_WAY)
        .bind(imported.run.as_uuid())
        .bind(imported.workflow_id.as_str());
    let row = shared.row(Effect::None, query).await?;
    let found = row.and_then(|(run, status)| Some((run, RunStatus::from_code(status)?)));
    let (run, status) =
        found.ok_or_else(|| Error::Contended("what was in the way is gone".into()))?;
    Ok(StartOutcome::Existing {
        run: RunId::from_uuid(run),
        status,
    })
}

async fn insert(seat: &mut Seat, imported: ImportedRun) -> Result<bool> {
    let mut transaction = unit::begin(seat).await?;
    let is_inserted = insert_all(&mut transaction, &imported)
        .await
        .map_err(|error| failure::of_statement(error, Effect::None))?;
    if is_inserted {
        unit::commit(transaction).await?;
    }
    Ok(is_inserted)
}

async fn insert_all(connection: &mut PgConnection, imported: &ImportedRun) -> sqlx::Result<bool> {
    let tags = imported.tags.iter();
    let (names, values): (Vec<&str>, Vec<&str>) =
        tags.map(|(name, value)| (&**name, &**value)).unzip();
    let born: Option<(Uuid,)> = query_as(INSERT)
        .bind(imported.run.as_uuid())
        .bind(imported.workflow_id.as_str())
        .bind(&*imported.workflow)
        .bind(&*imported.queue)
        .bind(Moment::At(imported.created_at()))
        .bind(imported.closed_at().map(Moment::At))
        .bind(imported.status().code())
        .bind(names)
        .bind(values)
        .fetch_optional(&mut *connection)
        .await?;
    if born.is_none() {
        return Ok(false);
    }
    for records in imported.records.chunks(RECORDS_AT_ONCE) {
        insert_records(connection, imported.run, records).await?;
    }
    Ok(true)
}

pub(super) async fn insert_records(
    connection: &mut PgConnection,
    run: RunId,
    items: &[HistoryRecord],
) -> sqlx::Result<()> {
    let records = || items.iter().map(|item| &item.record);
    let recorded_at: Vec<_> = items
        .iter()
        .map(|item| Moment::At(item.recorded_at))
        .collect();
    let positions: Vec<_> = records()
        .map(|record| record.position.0.cast_signed())
        .collect();
    let kinds: Vec<_> = records().map(|record| record.kind.code()).collect();
    let commands: Vec<_> = records()
        .map(|record| record.command.0.cast_signed())
        .collect();
    let names: Vec<&str> = records().map(|record| &*record.name).collect();
    let seals: Vec<_> = records().map(|record| seal(run, record)).collect();
    let payloads: Vec<&[u8]> = records().map(|record| &record.payload[..]).collect();
    sqlx::query(RECORDS)
        .bind(run.as_uuid())
        .bind(recorded_at)
        .bind(positions)
        .bind(kinds)
        .bind(commands)
        .bind(names)
        .bind(seals)
        .bind(payloads)
        .execute(connection)
        .await?;
    Ok(())
}
