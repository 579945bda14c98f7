//! Queues with limits: their settings, and who is admitted.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    bulk::Bulk,
    claim::workflows,
    error::failed,
    value::{Micros, column},
};
use crate::journal::{
    Admission, ClaimRequest, Managed, QueueInfo, QueueLimits, Rate, Result,
    queue::{Budget, MOST_FREED, MOST_SORTED},
};

/// What came of admitting.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    pub(super) more: bool,
    pub(super) next_at: Option<Micros>,
    pub(super) managed: Option<Managed>,
}

/// A queue with limits.
#[derive(Debug)]
struct Queue {
    budget: Budget,
    tokens_at: Micros,
    turn: i64,
}

const QUEUE: &str = "SELECT queue, max_running, max_running_per_key, max_in_worker, rate_limit, rate_period, tokens,
    tokens_at, is_paused, running, turn FROM sync_workflow_queues";

/// The answer without admitting anybody, or `None` if somebody may be admitted.
pub(super) async fn look(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    now: Micros,
) -> Result<Option<Admitted>> {
    let Some(queue) = find(connection, &request.queue).await? else {
        return Ok(Some(Admitted::default()));
    };
    let has_due = sqlx::query(
        "SELECT 1 FROM sync_workflow_runs
         WHERE status = 0 AND queue = ? AND wake_at <= ? AND admission IN (0, 3)
           AND workflow IN (SELECT value FROM json_each(?)) LIMIT 1",
    )
    .bind(&*request.queue)
    .bind(now)
    .bind(workflows(request));
    let has_releases =
        sqlx::query("SELECT 1 FROM sync_workflow_queue_releases WHERE queue = ? LIMIT 1")
            .bind(&*request.queue);
    let has_due = is_some(connection, has_due).await?;
    let has_releases = is_some(connection, has_releases).await?;
    let is_idle = !has_due
        && (queue.budget.is_exhausted(request.limit, has_releases)
            || !has_waiting(connection, &request.queue).await?);
    Ok(is_idle.then(|| queue.nothing()))
}

/// Admits as many runs as the limits of their queue and the room of the node allow.
pub(super) async fn admit(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    now: Micros,
) -> Result<Admitted> {
    if let Some(idle) = look(connection, request, now).await? {
        return Ok(idle);
    }
    let Some(mut queue) = find(connection, &request.queue).await? else {
        return Ok(Admitted::default());
    };
    let freed = count_ended(connection, request).await?;
    queue.budget.running -= freed.values().map(|key| key.turns).sum::<i64>();
    let (sorted, exempt) = sort_due(connection, request, queue.turn, now).await?;
    let passed = u64::try_from(now - queue.tokens_at).unwrap_or(0);
    queue.budget.refill(Duration::from_micros(passed));
    let free = queue.budget.free(request.limit);
    let (admitted, served) = begin(connection, request, &queue, free, now).await?;
    let touched = freed.keys().cloned().chain(exempt).chain(served);
    forget_idle(connection, &request.queue, touched.collect()).await?;
    queue.budget.spend(admitted);
    save(connection, &request.queue, &queue, now).await?;
    let ended: usize = freed.values().map(|key| key.count).sum();
    let next = match queue.budget.until_next() {
        Some(wait) if has_waiting(connection, &request.queue).await? => Some(wait),
        _ => None,
    };
    Ok(Admitted {
        more: sorted == MOST_SORTED || ended == MOST_FREED || admitted > 0 && admitted < free,
        next_at: next.map(|wait| now.saturating_add(micros(wait))),
        ..queue.nothing()
    })
}

impl Queue {
    fn nothing(&self) -> Admitted {
        Admitted {
            managed: Some(Managed {
                max_in_worker: self.budget.limits.max_in_worker,
            }),
            ..Admitted::default()
        }
    }
}

/// What has ended of a key.
#[derive(Debug, Default)]
struct Ended {
    turns: i64,
    count: usize,
}

async fn count_ended(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
) -> Result<BTreeMap<String, Ended>> {
    static LOWER: Bulk = Bulk::new(
        "WITH ended (queue, key, turns) AS (VALUES ",
        "(?,?,?)",
        ") UPDATE sync_workflow_queue_keys AS held SET running = held.running - ended.turns
           FROM ended WHERE held.queue = ended.queue AND held.key = ended.key",
    );
    let rows = sqlx::query(
        "DELETE FROM sync_workflow_queue_releases WHERE sequence IN
           (SELECT sequence FROM sync_workflow_queue_releases WHERE queue = ? LIMIT ?)
         RETURNING key, turns",
    )
    .bind(&*request.queue)
    .bind(MOST_FREED as i64)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let mut freed = BTreeMap::<String, Ended>::new();
    for row in &rows {
        let key = freed.entry(column(row, "key")?).or_default();
        key.turns += column::<i64>(row, "turns")?;
        key.count += 1;
    }
    let lowered: Vec<_> = freed
        .iter()
        .map(|(key, ended)| (key.clone(), ended.turns))
        .collect();
    LOWER
        .execute(connection, &lowered, |statement, (key, turns)| {
            statement
                .bind(request.queue.to_string())
                .bind(key.clone())
                .bind(*turns)
        })
        .await?;
    Ok(freed)
}

/// Has the runs that have become due wait, but for those that are to be cancelled. Returns how many there were,
/// and the keys of those that do not wait any more.
async fn sort_due(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    turn: i64,
    now: Micros,
) -> Result<(usize, Vec<String>)> {
    static WAIT: Bulk = Bulk::new(
        "INSERT INTO sync_workflow_queue_keys (queue, key, turn) VALUES ",
        "(?,?,?)",
        " ON CONFLICT (queue, key) DO UPDATE SET is_waiting = 1",
    );
    let rows = sqlx::query(
        "UPDATE sync_workflow_runs
         SET admission = CASE WHEN cancel_requested THEN 2 ELSE 3 END,
             wake_at = CASE WHEN cancel_requested THEN wake_at END
         WHERE run IN (SELECT run FROM sync_workflow_runs
                       WHERE status = 0 AND queue = ? AND wake_at <= ? AND admission IN (0, 3)
                         AND workflow IN (SELECT value FROM json_each(?)) LIMIT ?)
         RETURNING queue_key, admission",
    )
    .bind(&*request.queue)
    .bind(now)
    .bind(workflows(request))
    .bind(MOST_SORTED as i64)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let (mut waiting, mut exempt) = (Vec::new(), Vec::new());
    for row in &rows {
        let key: String = column(row, "queue_key")?;
        match Admission::from_code(column(row, "admission")?) {
            Admission::Waiting => waiting.push(key),
            Admission::None | Admission::Admitted | Admission::Exempt => exempt.push(key),
        }
    }
    waiting.sort_unstable();
    waiting.dedup();
    WAIT.execute(connection, &waiting, |statement, key| {
        statement
            .bind(request.queue.to_string())
            .bind(key.clone())
            .bind(turn)
    })
    .await?;
    Ok((rows.len(), exempt))
}

/// Admits runs: keys take turns, and each takes its share of what is free. Returns how many were admitted, and the
/// keys that were looked at.
async fn begin(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    queue: &Queue,
    free: u32,
    now: Micros,
) -> Result<(u32, Vec<String>)> {
    static BEGIN: Bulk = Bulk::new(
        "WITH begun (run, now) AS (VALUES ",
        "(?,?)",
        ") UPDATE sync_workflow_runs AS held SET admission = 1, wake_at = begun.now
           FROM begun WHERE held.run = begun.run",
    );
    static RAISE: Bulk = Bulk::new(
        "WITH begun (queue, key, count, turn) AS (VALUES ",
        "(?,?,?,?)",
        ") UPDATE sync_workflow_queue_keys AS held SET running = held.running + begun.count, turn = begun.turn
           FROM begun WHERE held.queue = begun.queue AND held.key = begun.key",
    );
    if free == 0 {
        return Ok((0, Vec::new()));
    }
    let keys = eligible(connection, request, queue, free).await?;
    let (mut runs, mut counts) = (Vec::new(), Vec::new());
    for (key, running) in &keys {
        let left = free as usize - runs.len();
        let quota = queue.budget.quota(free, keys.len(), *running).min(left);
        let rows = waiting_of(connection, request, key, quota).await?;
        if !rows.is_empty() {
            counts.push((key.clone(), rows.len()));
        }
        runs.extend(rows);
    }
    BEGIN
        .execute(connection, &runs, |statement, run| {
            statement.bind(*run).bind(now)
        })
        .await?;
    RAISE
        .execute(connection, &counts, |statement, (key, count)| {
            statement
                .bind(request.queue.to_string())
                .bind(key.clone())
                .bind(*count as i64)
                .bind(queue.turn + 1)
        })
        .await?;
    let admitted = u32::try_from(runs.len()).unwrap_or(u32::MAX);
    Ok((admitted, keys.into_iter().map(|(key, _)| key).collect()))
}

/// The keys whose turn it is, with how many run of each.
async fn eligible(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    queue: &Queue,
    free: u32,
) -> Result<Vec<(String, u32)>> {
    let rows = sqlx::query(
        "SELECT key, running FROM sync_workflow_queue_keys AS held
         WHERE queue = ? AND is_waiting AND running < ?
           AND EXISTS (SELECT 1 FROM sync_workflow_runs AS waiting
                       WHERE status = 0 AND admission = 3 AND waiting.queue = held.queue AND queue_key = held.key
                         AND workflow IN (SELECT value FROM json_each(?)))
         ORDER BY turn, key LIMIT ?",
    )
    .bind(&*request.queue)
    .bind(queue.budget.limits.max_running_per_key.unwrap_or(u32::MAX))
    .bind(workflows(request))
    .bind(free)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter()
        .map(|row| Ok((column(row, "key")?, column(row, "running")?)))
        .collect()
}

async fn waiting_of(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    key: &str,
    limit: usize,
) -> Result<Vec<uuid::Uuid>> {
    let rows = sqlx::query(
        "SELECT run FROM sync_workflow_runs
         WHERE status = 0 AND admission = 3 AND queue = ? AND queue_key = ?
           AND workflow IN (SELECT value FROM json_each(?))
         ORDER BY priority DESC, run LIMIT ?",
    )
    .bind(&*request.queue)
    .bind(key)
    .bind(workflows(request))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter().map(|row| column(row, "run")).collect()
}

/// Forgets those of some keys of which none waits and none runs.
async fn forget_idle(
    connection: &mut SqliteConnection,
    queue: &str,
    mut keys: Vec<String>,
) -> Result<()> {
    keys.sort_unstable();
    keys.dedup();
    let keys = serde_json::to_string(&keys).expect("keys are JSON strings");
    sqlx::query(
        "UPDATE sync_workflow_queue_keys AS held SET is_waiting = 0
         WHERE queue = ?1 AND key IN (SELECT value FROM json_each(?2)) AND is_waiting
           AND NOT EXISTS (SELECT 1 FROM sync_workflow_runs AS waiting
                           WHERE status = 0 AND admission = 3 AND waiting.queue = ?1 AND queue_key = held.key)",
    )
    .bind(queue)
    .bind(&keys)
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    sqlx::query(
        "DELETE FROM sync_workflow_queue_keys
         WHERE queue = ?1 AND key IN (SELECT value FROM json_each(?2)) AND NOT is_waiting AND running = 0",
    )
    .bind(queue)
    .bind(&keys)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

async fn save(
    connection: &mut SqliteConnection,
    name: &str,
    queue: &Queue,
    now: Micros,
) -> Result<()> {
    sqlx::query(
        "UPDATE sync_workflow_queues SET running = ?, tokens = ?, tokens_at = ?, turn = turn + 1 WHERE queue = ?",
    )
    .bind(queue.budget.running)
    .bind(queue.budget.tokens)
    .bind(now)
    .bind(name)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

async fn find(connection: &mut SqliteConnection, name: &str) -> Result<Option<Queue>> {
    let mut query = sqlx::QueryBuilder::new(QUEUE);
    query.push(" WHERE queue = ").push_bind(name.to_owned());
    let row = query
        .build()
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.as_ref().map(decode).transpose()
}

fn decode(row: &SqliteRow) -> Result<Queue> {
    let rate = column::<Option<u32>>(row, "rate_limit")?.zip(column(row, "rate_period")?);
    let limits = QueueLimits {
        max_running: column(row, "max_running")?,
        max_running_per_key: column(row, "max_running_per_key")?,
        max_in_worker: column(row, "max_in_worker")?,
        rate: rate.map(|(limit, period): (u32, i64)| Rate {
            limit,
            period: Duration::from_micros(period.unsigned_abs()),
        }),
    };
    Ok(Queue {
        budget: Budget {
            limits,
            is_paused: column(row, "is_paused")?,
            running: column(row, "running")?,
            tokens: column(row, "tokens")?,
        },
        tokens_at: column(row, "tokens_at")?,
        turn: column(row, "turn")?,
    })
}

async fn has_waiting(connection: &mut SqliteConnection, queue: &str) -> Result<bool> {
    let query = sqlx::query(
        "SELECT 1 FROM sync_workflow_runs WHERE status = 0 AND admission = 3 AND queue = ? LIMIT 1",
    );
    is_some(connection, query.bind(queue)).await
}

async fn is_some(
    connection: &mut SqliteConnection,
    query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
) -> Result<bool> {
    let row = query.fetch_optional(connection).await.map_err(failed)?;
    Ok(row.is_some())
}

/// Limits a queue from now on. A rate that is new begins with a full bucket.
pub(super) async fn limit(
    connection: &mut SqliteConnection,
    queue: &str,
    limits: &QueueLimits,
    now: Micros,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO sync_workflow_queues
           (queue, max_running, max_running_per_key, max_in_worker, rate_limit, rate_period, tokens, tokens_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, coalesce(?5, 0), ?7)
         ON CONFLICT (queue) DO UPDATE SET
           max_running = excluded.max_running, max_running_per_key = excluded.max_running_per_key,
           max_in_worker = excluded.max_in_worker, rate_limit = excluded.rate_limit,
           rate_period = excluded.rate_period,
           tokens = CASE WHEN rate_limit IS excluded.rate_limit AND rate_period IS excluded.rate_period
                         THEN tokens ELSE excluded.tokens END",
    )
    .bind(queue)
    .bind(limits.max_running)
    .bind(limits.max_running_per_key)
    .bind(limits.max_in_worker)
    .bind(limits.rate.map(|rate| rate.limit))
    .bind(limits.rate.map(|rate| micros(rate.period)))
    .bind(now)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

pub(super) async fn pause(
    connection: &mut SqliteConnection,
    queue: &str,
    is_paused: bool,
    now: Micros,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO sync_workflow_queues (queue, is_paused, tokens_at) VALUES (?, ?, ?)
         ON CONFLICT (queue) DO UPDATE SET is_paused = excluded.is_paused",
    )
    .bind(queue)
    .bind(is_paused)
    .bind(now)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

pub(super) async fn list(connection: &mut SqliteConnection) -> Result<Vec<QueueInfo>> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{QUEUE} ORDER BY queue")))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let mut queues = Vec::with_capacity(rows.len());
    for row in &rows {
        let name: String = column(row, "queue")?;
        let found = decode(row)?.budget;
        let counts = sqlx::query(
            "SELECT (SELECT coalesce(sum(turns), 0) FROM sync_workflow_queue_releases WHERE queue = ?1) AS ended,
                    (SELECT count(*) FROM (SELECT 1 FROM sync_workflow_runs
                        WHERE status = 0 AND admission = 3 AND queue = ?1 LIMIT ?2)) AS waiting",
        )
        .bind(&name)
        .bind(QueueInfo::MOST_COUNTED)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
        let running = found.running - column::<i64>(&counts, "ended")?;
        queues.push(QueueInfo {
            queue: name.into(),
            limits: found.limits,
            is_paused: found.is_paused,
            running: running.max(0).cast_unsigned(),
            waiting: column::<i64>(&counts, "waiting")?.cast_unsigned(),
        });
    }
    Ok(queues)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
