//! The table of nodes: leases, and what becomes of the runs of a node that ends.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    claim::{self, workflows},
    connection::Shared,
    failure::{self, Effect},
    lane::Lane,
    pooling::Seat,
    time::Moment,
    unit,
};
use crate::{
    id::NodeId,
    journal::{ClaimRequest, Error, Outlook, Renewal, Result},
};

// The time that is returned is the one that the lease begins at.
const ENLIST: &str = "
INSERT INTO sync_workflow.nodes (node_id, expires_at)
VALUES ($1, clock_timestamp() + $2 * interval '1 microsecond')
ON CONFLICT (node_id) DO UPDATE SET expires_at = excluded.expires_at
RETURNING nodes.expires_at - $2 * interval '1 microsecond'";

// The row and not its time decides: a node that renews late, but before anybody deleted the row,
// lives on.
macro_rules! renew {
    () => {
        "
UPDATE sync_workflow.nodes
SET expires_at = clock_timestamp() + $2 * interval '1 microsecond'
WHERE node_id = $1
RETURNING expires_at - $2 * interval '1 microsecond',
          (SELECT min(other.expires_at) FROM sync_workflow.nodes other WHERE other.node_id <> $1)"
    };
}

const RENEW: &str = renew!();

// An idle node alone looks: what slows the look down may cost it the lease, and there is nothing to lose.
macro_rules! renew_and_look {
    ($earliest_wake:expr) => {
        concat!(
            renew!(),
            ",
          (",
            $earliest_wake,
            "),
          EXISTS (SELECT FROM sync_workflow.runs r WHERE r.node_id = $1 AND r.status = 1)"
        )
    };
}

const RENEW_AND_LOOK: &str = renew_and_look!(claim::earliest_wake!("$3", "$4"));
const RENEW_AND_LOOK_OF_BUILD: &str = renew_and_look!(claim::earliest_wake!("$3", "$4", "$5"));

// Waits for commits in flight, which hold the row FOR KEY SHARE. In the order of the ids, so that
// two reapers never wait for each other in a circle. Whoever comes second finds the row gone; a node
// that renewed meanwhile is checked again and spared.
const DELETE_EXPIRED: &str = "
WITH expired AS MATERIALIZED (
    SELECT node_id FROM sync_workflow.nodes
    WHERE expires_at < clock_timestamp()
    ORDER BY node_id
    LIMIT $1
    FOR UPDATE
)
DELETE FROM sync_workflow.nodes n USING expired WHERE n.node_id = expired.node_id
RETURNING n.node_id";

const DELETE_ONE: &str = "
DELETE FROM sync_workflow.nodes WHERE node_id = $1 RETURNING node_id";

// A statement of its own after the delete: its snapshot holds the runs that a commit claimed or
// started while the delete waited for it.
const FREE_RUNS: &str = "
UPDATE sync_workflow.runs
SET status = CASE WHEN pause_requested THEN 3 ELSE 0 END, node_id = NULL, wake_at = now(),
    attempts = greatest(attempts - $2, 0)
WHERE node_id = ANY($1) AND status = 1";

pub(super) async fn enlist(lane: &Lane, node: NodeId, lease: Duration) -> Result<Timestamp> {
    let query = sqlx::query_as::<_, (Moment,)>(ENLIST)
        .bind(node.as_uuid())
        .bind(microseconds(lease));
    let rows = lane
        .rows(Effect::Commit, query)
        .await
        .map_err(|error| error.with(Effect::Commit))?;
    let (now,) = rows.into_iter().next().ok_or(Error::Fenced)?;
    Ok(now.expect_finite())
}

pub(super) async fn renew(lane: &Lane, node: NodeId, lease: Duration) -> Result<Renewal> {
    let query = sqlx::query_as::<_, (Moment, Option<Moment>)>(RENEW)
        .bind(node.as_uuid())
        .bind(microseconds(lease));
    let rows = lane
        .rows(Effect::Commit, query)
        .await
        .map_err(|error| error.with(Effect::Commit))?;
    let (now, next_expiry) = rows.into_iter().next().ok_or(Error::Fenced)?;
    Ok(Renewal {
        now: now.expect_finite(),
        next_expiry: next_expiry.and_then(Moment::finite),
    })
}

/// As [`renew`], with a look at what there is to do.
pub(super) async fn renew_and_look(
    lane: &Lane,
    node: NodeId,
    lease: Duration,
    request: &ClaimRequest,
) -> Result<(Renewal, Outlook)> {
    let statement = match request.build {
        None => RENEW_AND_LOOK,
        Some(_) => RENEW_AND_LOOK_OF_BUILD,
    };
    let mut query = sqlx::query_as::<_, (Moment, Option<Moment>, Option<Moment>, bool)>(statement)
        .bind(node.as_uuid())
        .bind(microseconds(lease))
        .bind(&*request.queue)
        .bind(workflows(request));
    if let Some(build) = &request.build {
        query = query.bind(build.as_str());
    }
    let rows = lane
        .rows(Effect::Commit, query)
        .await
        .map_err(|error| error.with(Effect::Commit))?;
    let (now, next_expiry, next_wake, holds_runs) = rows.into_iter().next().ok_or(Error::Fenced)?;
    let renewal = Renewal {
        now: now.expect_finite(),
        next_expiry: next_expiry.and_then(Moment::finite),
    };
    let outlook = Outlook {
        next_wake: next_wake.and_then(Moment::finite),
        holds_runs,
    };
    Ok((renewal, outlook))
}

/// A duration that is longer than the calendar is cut to a century.
pub(super) fn microseconds(lease: Duration) -> i64 {
    const CENTURY: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);
    i64::try_from(lease.min(CENTURY).as_micros()).expect("a century is a number of microseconds")
}

pub(super) async fn reap(shared: &Shared, limit: u32) -> Result<Vec<NodeId>> {
    unit::run(shared, move |seat| {
        Box::pin(end_nodes(seat, End::Expired(limit)))
    })
    .await
}

pub(super) async fn retire(shared: &Shared, node: NodeId) -> Result<()> {
    unit::run(shared, move |seat| {
        Box::pin(end_nodes(seat, End::Own(node)))
    })
    .await
    .map(drop)
}

/// Which nodes end.
#[derive(Debug, Clone, Copy)]
enum End {
    /// At most so many of those whose lease ran out.
    Expired(u32),
    /// This one, at its own wish: none of its claims counts as an attempt.
    Own(NodeId),
}

async fn end_nodes(seat: &mut Seat, end: End) -> Result<Vec<NodeId>> {
    let mut transaction = unit::begin(seat).await?;
    let ended = delete_nodes(&mut transaction, end)
        .await
        .map_err(|error| failure::of_statement(error, Effect::None))?;
    if ended.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query(FREE_RUNS)
        .bind(&ended)
        .bind(match end {
            End::Expired(_) => 0,
            End::Own(_) => 1,
        })
        .execute(&mut *transaction)
        .await
        .map_err(|error| failure::of_statement(error, Effect::None))?;
    unit::commit(transaction).await?;
    Ok(ended.into_iter().map(NodeId::from_uuid).collect())
}

async fn delete_nodes(connection: &mut PgConnection, end: End) -> sqlx::Result<Vec<Uuid>> {
    match end {
        End::Expired(limit) => {
            sqlx::query_scalar(DELETE_EXPIRED)
                .bind(i64::from(limit))
                .fetch_all(connection)
                .await
        }
        End::Own(node) => {
            sqlx::query_scalar(DELETE_ONE)
                .bind(node.as_uuid())
                .fetch_all(connection)
                .await
        }
    }
}
