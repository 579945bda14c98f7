//! What the journal tells people and clients of runs.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    bulk::Bulk,
    error::failed,
    record, run,
    value::{column, node_id, number, optional_run_id, run_id, timestamp},
};
use crate::{
    id::{Position, RunId},
    journal::{ChildOutcome, Closed, Page, Result, RunFilter, RunInfo, stored_tags},
    status::RunStatus,
};

const INFO: &str = "SELECT held.run AS run, workflow_id, workflow, queue, status, node, parent_run, created_at, closed_at, wake_at,
    claims, cancel_requested, pause_requested, queue_key, priority, admission, trace, build,
    CASE status WHEN 2 THEN parked_reason END AS parked_reason, CASE status WHEN 2 THEN parked_at END AS parked_at,
    CASE status WHEN 2 THEN (SELECT max(position) + 1 FROM sync_workflow_records AS record WHERE record.run = held.run)
    END AS parked_position,
    (SELECT json_group_object(name, value) FROM sync_workflow_tags AS tag WHERE tag.run = held.run) AS tags
    FROM sync_workflow_runs AS held";

/// The end of a run, if it has ended.
pub(super) async fn end(connection: &mut SqliteConnection, run: RunId) -> Result<Option<Closed>> {
    let outcomes = outcomes(connection, &[run]).await?;
    Ok(outcomes.into_iter().find_map(|outcome| outcome.closed))
}

pub(super) async fn info(connection: &mut SqliteConnection, run: RunId) -> Result<Option<RunInfo>> {
    let mut query = QueryBuilder::<Sqlite>::new(INFO);
    query.push(" WHERE held.run = ").push_bind(run.as_uuid());
    let row = query
        .build()
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.as_ref().map(decode).transpose()
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    filter: &RunFilter,
) -> Result<Page<RunInfo>> {
    let limit = filter.effective_limit();
    let rows = list_query(filter, limit + 1)
        .build()
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    let items = rows
        .iter()
        .take(limit as usize)
        .map(decode)
        .collect::<Result<_>>()?;
    Ok(Page {
        items,
        more: rows.len() > limit as usize,
    })
}

fn list_query(filter: &RunFilter, limit: u32) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::<Sqlite>::new(INFO);
    push_tags(&mut query, filter);
    if !filter.statuses.is_empty() {
        let mut statuses = query.push(" AND status IN (").separated(", ");
        for status in &filter.statuses {
            statuses.push_bind(status.code());
        }
        query.push(")");
    }
    if let Some(workflow) = &filter.workflow {
        query
            .push(" AND workflow = ")
            .push_bind(workflow.to_string());
    }
    if let Some(queue) = &filter.queue {
        query.push(" AND queue = ").push_bind(queue.to_string());
    }
    if let Some(build) = &filter.build {
        query.push(" AND build = ").push_bind(build.to_string());
    }
    if let Some(prefix) = &filter.workflow_id_prefix {
        // Text compares byte by byte, so the index finds where the prefix begins.
        query.push(" AND workflow_id >= ").push_bind(prefix.clone());
        query
            .push(" AND substr(workflow_id, 1, length(")
            .push_bind(prefix.clone());
        query.push(")) = ").push_bind(prefix.clone());
    }
    if let Some(text) = &filter.parked_for {
        query
            .push(" AND status = 2 AND instr(parked_reason, ")
            .push_bind(text.clone())
            .push(") > 0");
    }
    if let Some(parent) = filter.parent {
        query.push(" AND parent_run = ").push_bind(parent.as_uuid());
    }
    if let Some(before) = filter.before {
        query.push(" AND held.run < ").push_bind(before.as_uuid());
    }
    query
        .push(" ORDER BY held.run DESC LIMIT ")
        .push_bind(limit);
    query
}

/// The runs that have the first tag, in the order of its index; of the others each run is asked.
fn push_tags(query: &mut QueryBuilder<Sqlite>, filter: &RunFilter) {
    let mut tags = filter.tags.iter();
    let Some((name, value)) = tags.next() else {
        query.push(" WHERE true");
        return;
    };
    query
        .push(" JOIN sync_workflow_tags AS found ON found.run = held.run WHERE found.name = ")
        .push_bind(name.to_string())
        .push(" AND found.value = ")
        .push_bind(value.to_string());
    for (name, value) in tags {
        query
            .push(" AND (SELECT value FROM sync_workflow_tags AS other WHERE other.run = held.run AND other.name = ")
            .push_bind(name.to_string())
            .push(") = ")
            .push_bind(value.to_string());
    }
}

fn decode(row: &SqliteRow) -> Result<RunInfo> {
    let status = run::status(row)?;
    let wake_at = column::<Option<i64>>(row, "wake_at")?.filter(|_| status == RunStatus::Pending);
    let run = run_id(row, "run")?;
    Ok(RunInfo {
        run,
        workflow_id: run::workflow_id(row)?,
        workflow: column::<&str>(row, "workflow")?.into(),
        queue: column::<&str>(row, "queue")?.into(),
        build: run::build(row)?,
        status,
        node: node_id(row, "node")?,
        parent: optional_run_id(row, "parent_run")?,
        created_at: timestamp(column(row, "created_at")?),
        closed_at: column::<Option<i64>>(row, "closed_at")?.map(timestamp),
        wake_at: wake_at.map(timestamp),
        ticket: run::ticket(row)?,
        attempts: number(row, "claims")?,
        cancel_requested: column(row, "cancel_requested")?,
        pause_requested: column(row, "pause_requested")?,
        parked_reason: column(row, "parked_reason")?,
        trace: run::trace(row)?,
        parked_at: column::<Option<i64>>(row, "parked_at")?.map(timestamp),
        parked_position: column::<Option<u32>>(row, "parked_position")?.map(Position),
        tags: stored_tags(run, Some(column(row, "tags")?))?,
    })
}

/// The outcomes of those runs that are closed or were never started, in the order of the runs.
pub(super) async fn outcomes(
    connection: &mut SqliteConnection,
    runs: &[RunId],
) -> Result<Vec<ChildOutcome>> {
    static OUTCOMES: Bulk = Bulk::new(
        "SELECT child.run AS run, status,
                position, kind, command, name, fingerprint, payload, recorded_at,
                CASE WHEN status = 14 THEN
                    (SELECT run FROM sync_workflow_runs AS next
                     WHERE next.workflow_id = child.workflow_id AND next.sequence = child.sequence + 1)
                END AS next
         FROM sync_workflow_runs AS child
         LEFT JOIN sync_workflow_records AS last
                ON child.status >= 10 AND last.run = child.run
               AND last.position = (SELECT max(position) FROM sync_workflow_records AS record
                                    WHERE record.run = child.run)
         WHERE child.run IN (",
        "?",
        ")",
    );
    let rows = OUTCOMES
        .fetch(connection, runs, |statement, run| {
            statement.bind(run.as_uuid())
        })
        .await?;
    let mut started = std::collections::HashMap::with_capacity(rows.len());
    for row in &rows {
        let run = run_id(row, "run")?;
        started.insert(run, closed(row, run)?);
    }
    let outcome = |run: &RunId| match started.get(run) {
        None => Some(ChildOutcome {
            child: *run,
            closed: None,
        }),
        Some(None) => None,
        Some(Some(closed)) => Some(ChildOutcome {
            child: *run,
            closed: Some(closed.clone()),
        }),
    };
    Ok(runs.iter().filter_map(outcome).collect())
}

fn closed(row: &SqliteRow, run: RunId) -> Result<Option<Closed>> {
    let status = run::status(row)?;
    if !status.is_closed() {
        return Ok(None);
    }
    let last = record::decode(row, run, Position(number(row, "position")?))?;
    Ok(Some(Closed {
        status,
        payload: last.record.payload,
        next: optional_run_id(row, "next")?,
    }))
}
