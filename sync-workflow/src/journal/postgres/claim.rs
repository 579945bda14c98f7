//! Claims, and the runs that a node holds.

use uuid::Uuid;

use super::{connection::Shared, failure::Effect, time::Moment};
use crate::{
    id::{CommandId, NodeId, RunId, WorkflowId},
    journal::{Claim, ClaimRequest, ClaimedRun, Error, ParentCloses, ParentLink, Result},
};

// For each workflow only the partial index of pending runs is read, in the order of wake-up times: runs of
// workflows that this worker does not know cost nothing, however many they are. More are looked at than are
// taken, for others may be taking them. The attempt is counted here, before anything runs: a run that brings
// its worker down is known by its number.
const CLAIM: &str = "
WITH ready AS MATERIALIZED (
    SELECT r.run_id, r.wake_at
    FROM unnest($3::text[]) AS known(workflow)
    CROSS JOIN LATERAL (
        SELECT r.run_id, r.wake_at FROM sync_workflow.runs r
        WHERE r.status = 0 AND r.queue = $2 AND r.workflow = known.workflow AND r.wake_at <= now()
        ORDER BY r.wake_at LIMIT $4 * 4
    ) r
), fence AS MATERIALIZED (
    -- Only if there may be something to claim: a claim that finds nothing locks nothing, so it
    -- writes nothing, and its commit does not wait for the disk.
    SELECT node_id FROM sync_workflow.nodes
    WHERE node_id = $1 AND EXISTS (SELECT FROM ready)
    FOR KEY SHARE
), due AS MATERIALIZED (
    SELECT r.run_id FROM ready
    -- Not a plain equality, for the primary key and nothing else is to be read: see the statements of a
    -- commit. A plain status would admit the partial index of pending runs, which was small when the plan
    -- was made: all of it for each run.
    JOIN sync_workflow.runs r ON r.run_id = ANY (ARRAY[ready.run_id])
    WHERE r.status + 0 = 0 AND r.wake_at <= now() AND EXISTS (SELECT FROM fence)
    ORDER BY ready.wake_at
    LIMIT $4
    FOR UPDATE OF r SKIP LOCKED
), measured AS MATERIALIZED (
    SELECT due.run_id, coalesce(last.position + 1, 0) AS length
    FROM due
    LEFT JOIN LATERAL (
        SELECT j.position FROM sync_workflow.journal j
        WHERE j.run_id = due.run_id ORDER BY j.position DESC LIMIT 1
    ) last ON true
), claimed AS (
    UPDATE sync_workflow.runs r
    SET status = 1, node_id = $1,
        attempts = CASE WHEN m.length > r.progress THEN 1 ELSE r.attempts + 1 END,
        progress = m.length
    FROM measured m
    WHERE r.run_id = ANY (ARRAY[m.run_id])
    RETURNING r.run_id, r.chain_id, r.workflow_id, r.workflow, r.queue, r.parent_run,
              r.parent_command, r.parent_close, r.inbox, r.attempts, r.wake_at
)
SELECT EXISTS (SELECT FROM sync_workflow.nodes WHERE node_id = $1),
       clock_timestamp(),
       (SELECT min(r.wake_at)
        FROM unnest($3::text[]) AS known(workflow)
        CROSS JOIN LATERAL (
            SELECT r.wake_at FROM sync_workflow.runs r
            WHERE r.status = 0 AND r.queue = $2 AND r.workflow = known.workflow AND r.wake_at > now()
            ORDER BY r.wake_at LIMIT 1
        ) r),
       c.run_id, c.chain_id, c.workflow_id, c.workflow, c.queue, c.parent_run, c.parent_command,
       c.parent_close, c.inbox, c.attempts
FROM (VALUES (1)) AS always LEFT JOIN claimed c ON true
ORDER BY c.wake_at";

const OWNED: &str = "
SELECT run_id, chain_id, workflow_id, workflow, queue, parent_run, parent_command, parent_close,
       inbox, attempts
FROM sync_workflow.runs
WHERE node_id = $1 AND status = 1";

type ClaimRow = (
    bool,
    Moment,
    Option<Moment>,
    Option<Uuid>,
    Option<Uuid>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<Uuid>,
    Option<i32>,
    Option<i16>,
    Option<i64>,
    Option<i32>,
);

type RunRow = (
    Uuid,
    Uuid,
    String,
    String,
    String,
    Option<Uuid>,
    Option<i32>,
    Option<i16>,
    i64,
    i32,
);

pub(super) async fn claim(shared: &Shared, node: NodeId, request: &ClaimRequest) -> Result<Claim> {
    let workflows: Vec<&str> = request.workflows.iter().map(|name| &**name).collect();
    let query = sqlx::query_as::<_, ClaimRow>(CLAIM)
        .bind(node.as_uuid())
        .bind(&*request.queue)
        .bind(&workflows)
        .bind(i64::from(request.limit));
    let rows = shared.rows(Effect::Commit, query).await?;
    let (lives, now, next_wake) = match rows.first() {
        Some(row) => (row.0, row.1.expect_finite(), row.2.and_then(Moment::finite)),
        None => (false, jiff::Timestamp::UNIX_EPOCH, None),
    };
    if !lives {
        return Err(Error::Fenced);
    }
    let runs = rows
        .into_iter()
        .filter_map(present)
        .map(claimed_run)
        .collect::<Result<_>>()?;
    Ok(Claim {
        now,
        runs,
        next_wake,
    })
}

pub(super) async fn owned(shared: &Shared, node: NodeId) -> Result<Vec<ClaimedRun>> {
    let query = sqlx::query_as::<_, RunRow>(OWNED).bind(node.as_uuid());
    let rows = shared.rows(Effect::None, query).await?;
    rows.into_iter().map(claimed_run).collect()
}

/// The run of a row, unless it is the one row of a claim that took nothing.
fn present(row: ClaimRow) -> Option<RunRow> {
    Some((
        row.3?, row.4?, row.5?, row.6?, row.7?, row.8, row.9, row.10, row.11?, row.12?,
    ))
}

fn claimed_run(row: RunRow) -> Result<ClaimedRun> {
    let (run, chain, workflow_id, workflow, queue, parent, command, on_close, inbox, attempts) =
        row;
    Ok(ClaimedRun {
        run: RunId::from_uuid(run),
        chain: RunId::from_uuid(chain),
        workflow_id: stored_id(workflow_id)?,
        workflow: workflow.into(),
        queue: queue.into(),
        parent: parent_link(parent, command, on_close),
        inbox,
        attempts: attempts.max(0).cast_unsigned(),
    })
}

/// A workflow id that a column holds.
pub(super) fn stored_id(workflow_id: String) -> Result<WorkflowId> {
    WorkflowId::try_from(workflow_id).map_err(|invalid| Error::Refused(invalid.into()))
}

fn parent_link(
    run: Option<Uuid>,
    command: Option<i32>,
    on_close: Option<i16>,
) -> Option<ParentLink> {
    Some(ParentLink {
        run: RunId::from_uuid(run?),
        command: CommandId(command?.cast_unsigned()),
        on_close: match on_close? {
            code if code == ParentCloses::Abandon as i16 => ParentCloses::Abandon,
            _ => ParentCloses::Cancel,
        },
    })
}
