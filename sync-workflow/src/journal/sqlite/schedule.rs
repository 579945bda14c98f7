//! The table of schedules.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::{
    SqliteJournal,
    error::failed,
    value::{bytes, column, micros, timestamp},
};
use crate::journal::{DueSchedules, Result, ScheduleRow, ScheduleStore};

const FIND: &str =
    "SELECT id, queue, next_at, revision, payload FROM sync_workflow_schedules WHERE id = ?";
const LIST: &str = "SELECT id, queue, next_at, revision, payload FROM sync_workflow_schedules
     WHERE id > ? ORDER BY id LIMIT ?";
const DUE: &str = "SELECT id, queue, next_at, revision, payload FROM sync_workflow_schedules
     WHERE queue = ? AND next_at <= ? ORDER BY next_at, id LIMIT ?";

#[async_trait]
impl ScheduleStore for SqliteJournal {
    async fn put_schedule(&self, row: &ScheduleRow) -> Result<bool> {
        let row = row.clone();
        let statement = if row.is_new {
            "INSERT INTO sync_workflow_schedules (id, queue, next_at, revision, payload) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO NOTHING"
        } else {
            "UPDATE sync_workflow_schedules SET queue = ?2, next_at = ?3, revision = ?4, payload = ?5
             WHERE id = ?1 AND revision = ?4 - 1"
        };
        self.write(move |connection, _| {
            Box::pin(async move {
                let written = sqlx::query(statement)
                    .bind(row.id.to_string())
                    .bind(row.queue.to_string())
                    .bind(row.next_at.map(micros))
                    .bind(row.revision)
                    .bind(row.payload.to_vec())
                    .execute(connection)
                    .await
                    .map_err(failed)?;
                Ok(written.rows_affected() == 1)
            })
        })
        .await
    }

    async fn delete_schedule(&self, id: &str) -> Result<bool> {
        let id = id.to_owned();
        self.write(move |connection, _| {
            Box::pin(async move {
                let deleted = sqlx::query("DELETE FROM sync_workflow_schedules WHERE id = ?")
                    .bind(id)
                    .execute(connection)
                    .await
                    .map_err(failed)?;
                Ok(deleted.rows_affected() == 1)
            })
        })
        .await
    }

    async fn find_schedule(&self, id: &str) -> Result<Option<ScheduleRow>> {
        let mut reader = self.reader().await?;
        let row = sqlx::query(FIND)
            .bind(id.to_owned())
            .fetch_optional(&mut *reader)
            .await
            .map_err(failed)?;
        row.as_ref().map(stored).transpose()
    }

    async fn list_schedules(&self, after: Option<&str>, limit: u32) -> Result<Vec<ScheduleRow>> {
        let mut reader = self.reader().await?;
        let rows = sqlx::query(LIST)
            .bind(after.unwrap_or_default().to_owned())
            .bind(limit)
            .fetch_all(&mut *reader)
            .await
            .map_err(failed)?;
        rows.iter().map(stored).collect()
    }

    async fn due_schedules(&self, queue: &str, limit: u32) -> Result<DueSchedules> {
        let mut reader = self.reader().await?;
        let now = self.now();
        let rows = sqlx::query(DUE)
            .bind(queue.to_owned())
            .bind(now)
            .bind(limit)
            .fetch_all(&mut *reader)
            .await
            .map_err(failed)?;
        let next_at: Option<i64> = sqlx::query_scalar(
            "SELECT min(next_at) FROM sync_workflow_schedules WHERE queue = ? AND next_at > ?",
        )
        .bind(queue.to_owned())
        .bind(now)
        .fetch_one(&mut *reader)
        .await
        .map_err(failed)?;
        Ok(DueSchedules {
            now: timestamp(now),
            rows: rows.iter().map(stored).collect::<Result<_>>()?,
            next_at: next_at.map(timestamp),
        })
    }
}

fn stored(row: &SqliteRow) -> Result<ScheduleRow> {
    Ok(ScheduleRow {
        id: column::<&str>(row, "id")?.into(),
        queue: column::<&str>(row, "queue")?.into(),
        next_at: column::<Option<i64>>(row, "next_at")?.map(timestamp),
        revision: column(row, "revision")?,
        is_new: false,
        payload: bytes(row, "payload")?,
    })
}
