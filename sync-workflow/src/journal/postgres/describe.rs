//! Runs as descriptions show them.

use std::sync::Arc;

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    claim::stored_id, connection::Shared, failure::Effect, selector::columns, time::Moment,
};
use crate::{
    id::{BuildId, NodeId, Position, RunId},
    journal::{Admission, Error, Result, RunInfo, RunSelector, Ticket, stored_tags},
    status::RunStatus,
    trace::TraceContext,
};

/// What is told of a run, as a text that other statements begin with too.
macro_rules! described {
    () => {
        "
SELECT r.run_id, r.workflow_id, r.workflow, r.queue, r.status, r.node_id, r.parent_run,
       r.created_at, r.closed_at, r.wake_at, r.attempts, r.cancel_requested, r.pause_requested,
       r.queue_key, r.priority, r.admission, r.trace, r.build,
       CASE WHEN r.status = 2 THEN (
            SELECT p.reason FROM sync_workflow.parked p WHERE p.run_id = r.run_id
        ) END AS reason,
        CASE WHEN r.status = 2 THEN (
            SELECT p.parked_at FROM sync_workflow.parked p WHERE p.run_id = r.run_id
        ) END AS parked_at,
        CASE WHEN r.status = 2 THEN (
            SELECT max(j.position) FROM sync_workflow.journal j WHERE j.run_id = r.run_id
        ) END AS parked_after,
       (SELECT json_object_agg(g.name, g.value)::text FROM sync_workflow.tags g
        WHERE g.run_id = r.run_id) AS tags
FROM sync_workflow.runs r"
    };
}
pub(super) use described;

const DESCRIBE: &str = concat!(
    described!(),
    "
WHERE r.run_id = coalesce($1, (
    SELECT run_id FROM sync_workflow.runs
    WHERE workflow_id = $2 ORDER BY sequence DESC LIMIT 1))"
);

pub(super) async fn describe(shared: &Shared, selector: &RunSelector) -> Result<Option<RunInfo>> {
    let (run, workflow_id) = columns(selector);
    let query = sqlx::query_as::<_, InfoRow>(DESCRIBE)
        .bind(run)
        .bind(workflow_id);
    let row = shared.row(Effect::None, query).await?;
    row.map(InfoRow::into_info).transpose()
}

/// A row of `described`.
pub(super) struct InfoRow {
    run: Uuid,
    workflow_id: String,
    workflow: String,
    queue: String,
    build: String,
    status: i16,
    node: Option<Uuid>,
    parent: Option<Uuid>,
    created_at: Moment,
    closed_at: Option<Moment>,
    wake_at: Moment,
    attempts: i32,
    cancel_requested: bool,
    queue_key: String,
    priority: i16,
    admission: i16,
    pause_requested: bool,
    reason: Option<String>,
    trace: Option<String>,
    parked_at: Option<Moment>,
    /// The place of the last record of a run that is parked.
    parked_after: Option<i32>,
    tags: Option<String>,
}

impl sqlx::FromRow<'_, PgRow> for InfoRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            run: row.try_get("run_id")?,
            workflow_id: row.try_get("workflow_id")?,
            workflow: row.try_get("workflow")?,
            queue: row.try_get("queue")?,
            build: row.try_get("build")?,
            status: row.try_get("status")?,
            node: row.try_get("node_id")?,
            parent: row.try_get("parent_run")?,
            created_at: row.try_get("created_at")?,
            closed_at: row.try_get("closed_at")?,
            wake_at: row.try_get("wake_at")?,
            attempts: row.try_get("attempts")?,
            cancel_requested: row.try_get("cancel_requested")?,
            queue_key: row.try_get("queue_key")?,
            priority: row.try_get("priority")?,
            admission: row.try_get("admission")?,
            pause_requested: row.try_get("pause_requested")?,
            reason: row.try_get("reason")?,
            trace: row.try_get("trace")?,
            parked_at: row.try_get("parked_at")?,
            parked_after: row.try_get("parked_after")?,
            tags: row.try_get("tags")?,
        })
    }
}

impl InfoRow {
    pub(super) fn into_info(self) -> Result<RunInfo> {
        let run = RunId::from_uuid(self.run);
        let status = RunStatus::from_code(self.status).ok_or_else(|| Error::Corrupt {
            run,
            position: Position(0),
            detail: format!("its status {} is unknown to this version", self.status),
        })?;
        Ok(RunInfo {
            run,
            workflow_id: stored_id(self.workflow_id)?,
            workflow: Arc::from(self.workflow),
            queue: Arc::from(self.queue),
            // The empty text is none.
            build: BuildId::new(self.build).ok(),
            status,
            node: self.node.map(NodeId::from_uuid),
            parent: self.parent.map(RunId::from_uuid),
            created_at: self.created_at.expect_finite(),
            closed_at: self.closed_at.and_then(Moment::finite),
            wake_at: (status == RunStatus::Pending)
                .then(|| self.wake_at.finite())
                .flatten(),
            ticket: Ticket {
                key: Arc::from(self.queue_key),
                priority: self.priority,
                admission: Admission::from_code(self.admission),
            },
            attempts: self.attempts.max(0).cast_unsigned(),
            cancel_requested: self.cancel_requested,
            pause_requested: self.pause_requested,
            parked_reason: self.reason,
            parked_at: self.parked_at.and_then(Moment::finite),
            parked_position: self
                .parked_after
                .map(|last| Position(last.cast_unsigned()).next()),
            trace: self.trace.as_deref().and_then(TraceContext::from_stored),
            tags: stored_tags(run, self.tags.as_deref())?,
        })
    }
}
