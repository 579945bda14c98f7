//! The table of schedules.

use async_trait::async_trait;

use super::{PostgresJournal, failure::Effect, time::Moment};
use crate::journal::{DueSchedules, Error, Result, ScheduleRow, ScheduleStore};

const CREATE: &str = "
INSERT INTO sync_workflow.schedules (schedule_id, queue, next_at, revision, payload)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING revision";

const UPDATE: &str = "
UPDATE sync_workflow.schedules
SET queue = $2, next_at = $3, revision = $4, payload = $5
WHERE schedule_id = $1 AND revision = $4 - 1
RETURNING revision";

const DELETE: &str = "
DELETE FROM sync_workflow.schedules WHERE schedule_id = $1 RETURNING revision";

const FIND: &str = "
SELECT schedule_id, queue, next_at, revision, payload
FROM sync_workflow.schedules WHERE schedule_id = $1";

const LIST: &str = "
SELECT schedule_id, queue, next_at, revision, payload
FROM sync_workflow.schedules WHERE schedule_id > $1 ORDER BY schedule_id LIMIT $2";

const DUE: &str = "
SELECT schedule_id, queue, next_at, revision, payload
FROM sync_workflow.schedules WHERE queue = $1 AND next_at <= now()
ORDER BY next_at, schedule_id LIMIT $2";

const NOW_AND_NEXT: &str = "
SELECT clock_timestamp(), (
    SELECT min(next_at) FROM sync_workflow.schedules
    WHERE queue = $1 AND next_at > now() AND next_at < 'infinity')";

type Row = (String, String, Moment, i64, Vec<u8>);

#[async_trait]
impl ScheduleStore for PostgresJournal {
    async fn put_schedule(&self, row: &ScheduleRow) -> Result<bool> {
        let statement = if row.is_new { CREATE } else { UPDATE };
        let query = sqlx::query_as::<_, (i64,)>(statement)
            .bind(&*row.id)
            .bind(&*row.queue)
            .bind(row.next_at.map_or(Moment::Never, Moment::At))
            .bind(row.revision)
            .bind(&row.payload[..]);
        Ok(self.shared.row(Effect::Commit, query).await?.is_some())
    }

    async fn delete_schedule(&self, id: &str) -> Result<bool> {
        let query = sqlx::query_as::<_, (i64,)>(DELETE).bind(id);
        Ok(self.shared.row(Effect::Commit, query).await?.is_some())
    }

    async fn find_schedule(&self, id: &str) -> Result<Option<ScheduleRow>> {
        let query = sqlx::query_as::<_, Row>(FIND).bind(id);
        Ok(self.shared.row(Effect::None, query).await?.map(stored))
    }

    async fn list_schedules(&self, after: Option<&str>, limit: u32) -> Result<Vec<ScheduleRow>> {
        let query = sqlx::query_as::<_, Row>(LIST)
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit));
        let rows = self.shared.rows(Effect::None, query).await?;
        Ok(rows.into_iter().map(stored).collect())
    }

    async fn due_schedules(&self, queue: &str, limit: u32) -> Result<DueSchedules> {
        let query = sqlx::query_as::<_, (Moment, Option<Moment>)>(NOW_AND_NEXT).bind(queue);
        let row = self.shared.row(Effect::None, query).await?;
        let (now, next_at) = row.ok_or_else(|| Error::Unavailable("no time was told".into()))?;
        let query = sqlx::query_as::<_, Row>(DUE)
            .bind(queue)
            .bind(i64::from(limit));
        let rows = self.shared.rows(Effect::None, query).await?;
        Ok(DueSchedules {
            now: now.expect_finite(),
            rows: rows.into_iter().map(stored).collect(),
            next_at: next_at.and_then(Moment::finite),
        })
    }
}

fn stored((id, queue, next_at, revision, payload): Row) -> ScheduleRow {
    ScheduleRow {
        id: id.into(),
        queue: queue.into(),
        next_at: next_at.finite(),
        revision,
        is_new: false,
        payload: payload.into(),
    }
}
