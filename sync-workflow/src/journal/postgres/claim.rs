//! Claims, and the runs that a node holds.

use jiff::Timestamp;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    builds::taken,
    connection::Shared,
    failure::Effect,
    queues::{self, ManagedQueues},
    time::Moment,
};
use crate::{
    id::{CommandId, NodeId, RunId, WorkflowId},
    journal::{
        Admission, Claim, ClaimRequest, ClaimedRun, Error, Managed, ParentCloses, ParentLink,
        Result, Ticket,
    },
    trace::TraceContext,
};

// `$1` node, `$2` queue, `$3` workflows, `$4` room. For each workflow only the partial index of pending runs is read, in
// the order of wake-up times: runs of workflows that this worker does not know, and of builds that it does not take, cost
// nothing, however many they are. More are looked at than are taken, for others may be taking them. The attempt is
// counted here, before anything runs: a run that brings its worker down is known by its number.
macro_rules! claim {
    ($known:expr, $build:literal, $pin:literal) => {
        concat!(
            "
WITH managed AS MATERIALIZED (
    SELECT max_in_worker FROM sync_workflow.queues WHERE queue = $2
), ready AS MATERIALIZED (
    SELECT r.run_id, r.wake_at, r.build
    FROM ",
            $known,
            "
    CROSS JOIN LATERAL (
        SELECT r.run_id, r.wake_at, r.build FROM sync_workflow.runs r
        WHERE r.status = 0 AND r.queue = $2 AND r.workflow = known.workflow AND r.build = ",
            $build,
            " AND r.wake_at <= now()
          -- In a queue with limits only those that it has admitted.
          AND (r.admission IN (1, 2) OR (SELECT count(*) FROM managed) = 0)
        ORDER BY r.wake_at LIMIT $4 * 4
    ) r
), fence AS MATERIALIZED (
    -- Only if there may be something to claim: a claim that finds nothing locks nothing, so it
    -- writes nothing, and its commit does not wait for the disk.
    SELECT node_id FROM sync_workflow.nodes
    WHERE node_id = $1 AND EXISTS (SELECT FROM ready)
    FOR KEY SHARE
), due AS MATERIALIZED (
    -- Who forgets attempts is who gave the run up in good order.
    SELECT r.run_id, r.attempts = 0 AND r.progress > 0 AS rested FROM ready
    -- Not a plain equality, for the primary key and nothing else is to be read: see the statements of a
    -- commit. A plain status would admit the partial index of pending runs, which was small when the plan
    -- was made: all of it for each run.
    JOIN sync_workflow.runs r ON r.run_id = ANY (ARRAY[ready.run_id])
    WHERE r.status + 0 = 0 AND r.wake_at <= now() AND r.build = ready.build AND EXISTS (SELECT FROM fence)
    ORDER BY ready.wake_at
    LIMIT $4
    FOR UPDATE OF r SKIP LOCKED
), measured AS MATERIALIZED (
    SELECT due.run_id, due.rested, coalesce(last.position + 1, 0) AS length
    FROM due
    LEFT JOIN LATERAL (
        SELECT j.position FROM sync_workflow.journal j
        WHERE j.run_id = due.run_id ORDER BY j.position DESC LIMIT 1
    ) last ON true
), claimed AS (
    UPDATE sync_workflow.runs r
    SET status = 1, node_id = $1,
        attempts = CASE WHEN m.length > r.progress THEN 1 ELSE r.attempts + 1 END,
        progress = m.length",
            $pin,
            "
    FROM measured m
    WHERE r.run_id = ANY (ARRAY[m.run_id])
    RETURNING r.run_id, r.chain_id, r.workflow_id, r.workflow, r.queue, r.parent_run,
              r.parent_command, r.parent_close, r.inbox, r.attempts, r.queue_key, r.priority,
              r.admission, r.wake_at, m.rested, r.trace
)
SELECT EXISTS (SELECT FROM sync_workflow.nodes WHERE node_id = $1) AS lives,
       clock_timestamp() AS now,
       (SELECT min(r.wake_at)
        FROM ",
            $known,
            "
        CROSS JOIN LATERAL (
            SELECT r.wake_at FROM sync_workflow.runs r
            WHERE r.status = 0 AND r.queue = $2 AND r.workflow = known.workflow AND r.build = ",
            $build,
            " AND r.wake_at > now()
            ORDER BY r.wake_at LIMIT 1
        ) r) AS next_wake,
       (SELECT count(*) FROM managed) = 1 AS is_managed,
       (SELECT max_in_worker FROM managed) AS max_in_worker,
       c.run_id, c.chain_id, c.workflow_id, c.workflow, c.queue, c.parent_run, c.parent_command,
       c.parent_close, c.inbox, c.attempts, c.queue_key, c.priority, c.admission,
       c.wake_at AS ready_at, c.rested, c.trace
FROM (VALUES (1)) AS always LEFT JOIN claimed c ON true
ORDER BY c.wake_at"
        )
    };
}

const CLAIM: &str = claim!("unnest($3::text[]) AS known(workflow)", "''", "");

// For a node of a build: `$5`. What it takes is a run of this build from now on.
const CLAIM_OF_BUILD: &str = claim!(
    concat!(
        "unnest($3::text[]) AS known(workflow)
    CROSS JOIN ",
        taken!("$2", "$5")
    ),
    "taken.build",
    ",
        build = $5"
);

/// The earliest wake-up time of the pending runs of a queue and of some workflows, which two parameters name; a third
/// names the build of the node that asks, if it has one.
macro_rules! earliest_wake {
    ($queue:literal, $workflows:literal) => {
        crate::journal::postgres::claim::earliest_wake!(@ $queue, $workflows, "", "''")
    };
    ($queue:literal, $workflows:literal, $build:literal) => {
        crate::journal::postgres::claim::earliest_wake!(
            @ $queue,
            $workflows,
            concat!(
                "
           CROSS JOIN ",
                crate::journal::postgres::builds::taken!($queue, $build)
            ),
            "taken.build"
        )
    };
    (@ $queue:literal, $workflows:literal, $taken:expr, $of:literal) => {
        concat!(
            "SELECT min(r.wake_at)
           FROM unnest(",
            $workflows,
            "::text[]) AS known(workflow)",
            $taken,
            "
           CROSS JOIN LATERAL (
               SELECT r.wake_at FROM sync_workflow.runs r
               WHERE r.status = 0 AND r.queue = ",
            $queue,
            " AND r.workflow = known.workflow AND r.build = ",
            $of,
            "
               ORDER BY r.wake_at LIMIT 1
           ) r"
        )
    };
}
pub(super) use earliest_wake;

const NEXT_WAKE: &str = earliest_wake!("$1", "$2");
const NEXT_WAKE_OF_BUILD: &str = earliest_wake!("$1", "$2", "$3");

const OWNED: &str = "
SELECT run_id, chain_id, workflow_id, workflow, queue, parent_run, parent_command, parent_close,
       inbox, attempts, queue_key, priority, admission, NULL::timestamptz AS ready_at,
       false AS rested, trace
FROM sync_workflow.runs
WHERE node_id = $1 AND status = 1";

/// What every row of a claim tells, and the run of the row, unless it is the one row of a claim that took nothing.
struct ClaimRow {
    lives: bool,
    now: Moment,
    next_wake: Option<Moment>,
    is_managed: bool,
    max_in_worker: Option<i32>,
    run: Option<RunRow>,
}

struct RunRow {
    run: Uuid,
    chain: Uuid,
    workflow_id: String,
    workflow: String,
    queue: String,
    parent: Option<Uuid>,
    parent_command: Option<i32>,
    parent_close: Option<i16>,
    inbox: i64,
    attempts: i32,
    queue_key: String,
    priority: i16,
    admission: i16,
    ready_at: Option<Moment>,
    rested: bool,
    trace: Option<String>,
}
impl sqlx::FromRow<'_, PgRow> for ClaimRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let run: Option<Uuid> = row.try_get("run_id")?;
        Ok(Self {
            lives: row.try_get("lives")?,
            now: row.try_get("now")?,
            next_wake: row.try_get("next_wake")?,
            is_managed: row.try_get("is_managed")?,
            max_in_worker: row.try_get("max_in_worker")?,
            run: run.map(|_| RunRow::from_row(row)).transpose()?,
        })
    }
}

impl sqlx::FromRow<'_, PgRow> for RunRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            run: row.try_get("run_id")?,
            chain: row.try_get("chain_id")?,
            workflow_id: row.try_get("workflow_id")?,
            workflow: row.try_get("workflow")?,
            queue: row.try_get("queue")?,
            parent: row.try_get("parent_run")?,
            parent_command: row.try_get("parent_command")?,
            parent_close: row.try_get("parent_close")?,
            inbox: row.try_get("inbox")?,
            attempts: row.try_get("attempts")?,
            queue_key: row.try_get("queue_key")?,
            priority: row.try_get("priority")?,
            admission: row.try_get("admission")?,
            ready_at: row.try_get("ready_at")?,
            rested: row.try_get("rested")?,
            trace: row.try_get("trace")?,
        })
    }
}

pub(super) async fn claim(
    shared: &Shared,
    managed_queues: &ManagedQueues,
    node: NodeId,
    request: &ClaimRequest,
) -> Result<Claim> {
    if managed_queues.contains(&request.queue) {
        return admit_and_take(shared, node, request).await;
    }
    let claim = take(shared, node, request).await?;
    if claim.managed.is_none() {
        return Ok(claim);
    }
    managed_queues.insert(&request.queue);
    // It took nothing that was not admitted before.
    let room = request.limit.saturating_sub(count(&claim.runs));
    let rest = ClaimRequest {
        limit: room,
        ..request.clone()
    };
    let mut more = admit_and_take(shared, node, &rest).await?;
    more.runs.splice(0..0, claim.runs);
    Ok(more)
}

/// Admits what the queue's limits allow, and takes what was admitted.
async fn admit_and_take(shared: &Shared, node: NodeId, request: &ClaimRequest) -> Result<Claim> {
    let admitted = queues::admit(shared, node, request).await?;
    let claim = take(shared, node, request).await?;
    Ok(Claim {
        more: admitted.more,
        next_wake: claim.next_wake.into_iter().chain(admitted.next_at).min(),
        ..claim
    })
}

async fn take(shared: &Shared, node: NodeId, request: &ClaimRequest) -> Result<Claim> {
    let statement = match request.build {
        None => CLAIM,
        Some(_) => CLAIM_OF_BUILD,
    };
    let mut query = sqlx::query_as::<_, ClaimRow>(statement)
        .bind(node.as_uuid())
        .bind(&*request.queue)
        .bind(workflows(request))
        .bind(i64::from(request.limit));
    if let Some(build) = &request.build {
        query = query.bind(build.as_str());
    }
    let rows = shared.rows(Effect::Commit, query).await?;
    let Some(first) = rows.first().filter(|row| row.lives) else {
        return Err(Error::Fenced);
    };
    let max_in_worker = first.max_in_worker.map(i32::cast_unsigned);
    Ok(Claim {
        now: first.now.expect_finite(),
        next_wake: first.next_wake.and_then(Moment::finite),
        more: false,
        managed: first.is_managed.then_some(Managed { max_in_worker }),
        runs: rows
            .into_iter()
            .filter_map(|row| row.run)
            .map(claimed_run)
            .collect::<Result<_>>()?,
    })
}

pub(super) fn workflows(request: &ClaimRequest) -> Vec<&str> {
    request.workflows.iter().map(|name| &**name).collect()
}

fn count(runs: &[ClaimedRun]) -> u32 {
    u32::try_from(runs.len()).unwrap_or(u32::MAX)
}

pub(super) async fn next_wake(
    shared: &Shared,
    request: &ClaimRequest,
) -> Result<Option<Timestamp>> {
    let statement = match request.build {
        None => NEXT_WAKE,
        Some(_) => NEXT_WAKE_OF_BUILD,
    };
    let mut query = sqlx::query_as::<_, (Option<Moment>,)>(statement)
        .bind(&*request.queue)
        .bind(workflows(request));
    if let Some(build) = &request.build {
        query = query.bind(build.as_str());
    }
    let row = shared.row(Effect::None, query).await?;
    Ok(row.and_then(|(wake_at,)| wake_at?.finite()))
}

pub(super) async fn owned(shared: &Shared, node: NodeId) -> Result<Vec<ClaimedRun>> {
    let query = sqlx::query_as::<_, RunRow>(OWNED).bind(node.as_uuid());
    let rows = shared.rows(Effect::None, query).await?;
    rows.into_iter().map(claimed_run).collect()
}

fn claimed_run(row: RunRow) -> Result<ClaimedRun> {
    Ok(ClaimedRun {
        run: RunId::from_uuid(row.run),
        chain: RunId::from_uuid(row.chain),
        workflow_id: stored_id(row.workflow_id)?,
        workflow: row.workflow.into(),
        queue: row.queue.into(),
        parent: parent_link(row.parent, row.parent_command, row.parent_close),
        inbox: row.inbox,
        attempts: row.attempts.max(0).cast_unsigned(),
        ticket: Ticket {
            key: row.queue_key.into(),
            priority: row.priority,
            admission: Admission::from_code(row.admission),
        },
        ready_at: row.ready_at.and_then(Moment::finite),
        rested: row.rested,
        trace: row.trace.as_deref().and_then(TraceContext::from_stored),
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
