//! Queues with limits: their settings, and who is admitted.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use sqlx::query_as;

use super::{claim::workflows, connection::Shared, failure::Effect, time::Moment};
use crate::{
    id::NodeId,
    journal::{ClaimRequest, QueueInfo, QueueLimits, Rate, Result},
};

const ADMIT: &str = "SELECT more, next_at FROM sync_workflow.admit($1, $2, $3, $4)";

// A node of a build that is not the current one would not take whom it admits.
const ADMIT_OF_BUILD: &str = "
SELECT more, next_at FROM sync_workflow.admit($1, $2, $3, CASE WHEN EXISTS (
    SELECT FROM sync_workflow.current_builds c WHERE c.queue = $2 AND c.build <> $5) THEN 0 ELSE $4 END)";

// A rate that is new begins with a full bucket.
const LIMIT: &str = "
INSERT INTO sync_workflow.queues AS q
    (queue, max_running, max_running_per_key, max_in_worker, rate_limit, rate_period, tokens)
VALUES ($1, $2, $3, $4, $5, $6 * interval '1 microsecond', coalesce($5, 0))
ON CONFLICT (queue) DO UPDATE SET
    max_running = excluded.max_running, max_running_per_key = excluded.max_running_per_key,
    max_in_worker = excluded.max_in_worker, rate_limit = excluded.rate_limit,
    rate_period = excluded.rate_period,
    tokens = CASE WHEN (q.rate_limit, q.rate_period) IS NOT DISTINCT FROM
                       (excluded.rate_limit, excluded.rate_period)
                  THEN q.tokens ELSE excluded.tokens END
RETURNING true";

const PAUSE: &str = "
INSERT INTO sync_workflow.queues (queue, is_paused) VALUES ($1, $2)
ON CONFLICT (queue) DO UPDATE SET is_paused = excluded.is_paused
RETURNING true";

const QUEUES: &str = "
SELECT q.queue, q.max_running, q.max_running_per_key, q.max_in_worker, q.rate_limit,
       (extract(epoch FROM q.rate_period) * 1000000)::bigint, q.is_paused,
       q.running - (SELECT coalesce(sum(r.turns), 0) FROM sync_workflow.queue_releases r WHERE r.queue = q.queue),
       (SELECT count(*) FROM (
            SELECT FROM sync_workflow.runs r
            WHERE r.status = 0 AND r.admission = 3 AND r.queue = q.queue LIMIT $1
        ) waiting)
FROM sync_workflow.queues q ORDER BY q.queue";

type QueueRow = (
    String,
    Option<i32>,
    Option<i32>,
    Option<i32>,
    Option<i32>,
    Option<i64>,
    bool,
    i64,
    i64,
);

/// The queues that are known to have limits. Such a queue has a row for ever.
#[derive(Debug, Default)]
pub(super) struct ManagedQueues(Mutex<HashSet<Arc<str>>>);

impl ManagedQueues {
    pub(super) fn contains(&self, queue: &str) -> bool {
        self.lock().contains(queue)
    }

    pub(super) fn insert(&self, queue: &Arc<str>) {
        self.lock().insert(Arc::clone(queue));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of admitting.
pub(super) struct Admitted {
    pub(super) more: bool,
    pub(super) next_at: Option<Timestamp>,
}

/// Admits as many runs as the limits of their queue and the room of the node allow.
pub(super) async fn admit(
    shared: &Shared,
    node: NodeId,
    request: &ClaimRequest,
) -> Result<Admitted> {
    let statement = match request.build {
        None => ADMIT,
        Some(_) => ADMIT_OF_BUILD,
    };
    let mut query = query_as::<_, (bool, Option<Moment>)>(statement)
        .bind(node.as_uuid())
        .bind(&*request.queue)
        .bind(workflows(request))
        .bind(i32::try_from(request.limit).unwrap_or(i32::MAX));
    if let Some(build) = &request.build {
        query = query.bind(build.as_str());
    }
    let (more, next_at) = shared
        .row(Effect::Commit, query)
        .await?
        .unwrap_or((false, None));
    Ok(Admitted {
        more,
        next_at: next_at.and_then(Moment::finite),
    })
}

pub(super) async fn limit(shared: &Shared, queue: &str, limits: &QueueLimits) -> Result<()> {
    let count = |count: Option<u32>| count.map(u32::cast_signed);
    let query = query_as::<_, (bool,)>(LIMIT)
        .bind(queue)
        .bind(count(limits.max_running))
        .bind(count(limits.max_running_per_key))
        .bind(count(limits.max_in_worker))
        .bind(limits.rate.map(|rate| rate.limit.cast_signed()))
        .bind(limits.rate.map(|rate| micros(rate.period)));
    shared.row(Effect::Commit, query).await.map(drop)
}

pub(super) async fn pause(shared: &Shared, queue: &str, is_paused: bool) -> Result<()> {
    let query = query_as::<_, (bool,)>(PAUSE).bind(queue).bind(is_paused);
    shared.row(Effect::Commit, query).await.map(drop)
}

pub(super) async fn list(shared: &Shared) -> Result<Vec<QueueInfo>> {
    let query = query_as::<_, QueueRow>(QUEUES).bind(i64::from(QueueInfo::MOST_COUNTED));
    let rows = shared.rows(Effect::None, query).await?;
    Ok(rows.into_iter().map(info).collect())
}

fn info(row: QueueRow) -> QueueInfo {
    let (queue, running, per_key, in_worker, limit, period, is_paused, admitted, waiting) = row;
    let count = |count: Option<i32>| count.map(i32::cast_unsigned);
    let rate = limit.zip(period).map(|(limit, period)| Rate {
        limit: limit.cast_unsigned(),
        period: Duration::from_micros(period.cast_unsigned()),
    });
    QueueInfo {
        queue: queue.into(),
        limits: QueueLimits {
            max_running: count(running),
            max_running_per_key: count(per_key),
            max_in_worker: count(in_worker),
            rate,
        },
        is_paused,
        running: admitted.max(0).cast_unsigned(),
        waiting: waiting.cast_unsigned(),
    }
}

/// Of a period that [`QueueLimits::is_valid`] admits; the longest is some 292,000 years.
fn micros(period: Duration) -> i64 {
    i64::try_from(period.as_micros()).unwrap_or(i64::MAX)
}
