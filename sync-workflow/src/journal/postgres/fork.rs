//! Runs that begin as copies of other runs' first records.

use sqlx::{PgConnection, query_as};
use uuid::Uuid;

use super::{
    connection::Shared,
    control::{self, Terminated},
    failure::{self, Effect},
    import, records,
    time::Moment,
    unit,
};
use crate::{
    id::{Position, RunId},
    journal::{Error, Fork, ForkOutcome, ForkTarget, Hint, HistoryRecord, Result},
    record::{Record, RecordKind},
    status::RunStatus,
};

/// How many records are copied at once.
const RECORDS_AT_ONCE: u32 = 250;

/// How often a fork looks again after the origin moved on, or another run was started, in that very moment.
const MAX_ROUNDS: u32 = 64;

// The lock keeps the origin from being deleted, and nobody who drives it waiting.
const LOOK: &str = "
SELECT o.chain_id, o.status, o.workflow_id, latest.run_id, latest.status, now(),
       EXISTS (SELECT FROM sync_workflow.runs r WHERE r.run_id = $2),
       (SELECT coalesce(max(j.position) + 1, 0) FROM sync_workflow.journal j WHERE j.run_id = $1)
FROM sync_workflow.runs o
LEFT JOIN LATERAL (
    SELECT r.run_id, r.status FROM sync_workflow.runs r
    WHERE r.workflow_id = coalesce($3, o.workflow_id) ORDER BY r.sequence DESC LIMIT 1
) latest ON true
WHERE o.run_id = $1
FOR KEY SHARE OF o";

// A child may be in another run than the one in which it was started.
const ADOPT: &str = "
WITH adopted AS MATERIALIZED (
    SELECT run_id FROM sync_workflow.runs
    WHERE parent_run = $1 AND chain_id = ANY ($3::uuid[])
    ORDER BY run_id FOR NO KEY UPDATE
)
UPDATE sync_workflow.runs r SET parent_run = $2
FROM adopted a WHERE r.run_id = ANY (ARRAY[a.run_id])";

// With `$4` the new run is of the origin's chain and goes on in its place: it takes its turn and its parent.
// The unique key decides, should another run of the workflow id be started at this moment.
const INSERT: &str = "
WITH born AS (
    INSERT INTO sync_workflow.runs
        (run_id, chain_id, parent_run, parent_command, parent_close, wake_at, inbox, sequence, status,
         pause_requested, workflow_id, workflow, queue, queue_key, priority, admission, trace)
    SELECT $1, CASE WHEN $4 THEN o.chain_id ELSE $1 END, CASE WHEN $4 THEN o.parent_run END,
           CASE WHEN $4 THEN o.parent_command END, CASE WHEN $4 THEN o.parent_close END, now(), 1,
           CASE WHEN o.workflow_id = $3 THEN o.sequence + 1 ELSE 0 END,
           CASE WHEN $4 AND o.pause_requested THEN 3 ELSE 0 END, $4 AND o.pause_requested,
           $3, o.workflow, o.queue, o.queue_key, o.priority,
           CASE WHEN o.admission = 2 OR o.admission = 1 AND $4 THEN o.admission ELSE 0 END, o.trace
    FROM sync_workflow.runs o
    WHERE o.run_id = $2
      AND (o.workflow_id = $3
           OR NOT EXISTS (SELECT FROM sync_workflow.runs r WHERE r.workflow_id = $3))
    ON CONFLICT DO NOTHING
    RETURNING run_id
), tagged AS (
    INSERT INTO sync_workflow.tags (run_id, name, value)
    SELECT born.run_id, t.name, t.value
    FROM born CROSS JOIN sync_workflow.tags t WHERE t.run_id = $2
)
SELECT run_id FROM born";

/// `later`: how many signals of each name the origin `$1` received from position `$2` on, as records of kind `$3`. They
/// are the last of their chain that were received, for signals are received in order.
macro_rules! later {
    () => {
        "
WITH later AS MATERIALIZED (
    SELECT j.name, count(*) AS count FROM sync_workflow.journal j
    WHERE j.run_id = $1 AND j.position >= $2 AND j.kind = $3
    GROUP BY j.name
)"
    };
}

const GIVE_SIGNALS_BACK: &str = concat!(
    later!(),
    ", again AS MATERIALIZED (
    SELECT r.signal_id
    FROM (
        SELECT s.signal_id, l.count,
               row_number() OVER (PARTITION BY s.name ORDER BY s.sequence DESC) AS place
        FROM sync_workflow.signals s JOIN later l ON l.name = s.name
        WHERE s.chain_id = $4 AND s.consumed
    ) r
    WHERE r.place <= r.count
)
UPDATE sync_workflow.signals s SET consumed = false
FROM again a WHERE s.chain_id = $4 AND s.signal_id = a.signal_id"
);

// One snapshot: the origin may go on meanwhile. Those that were received go along, for the id of each counts once.
const COPY_SIGNALS: &str = concat!(
    later!(),
    "
INSERT INTO sync_workflow.signals (chain_id, arrived_at, consumed, signal_id, name, payload)
SELECT $5, s.arrived_at, s.consumed AND s.place > coalesce(l.count, 0), s.signal_id, s.name, s.payload
FROM (
    SELECT s.*, row_number() OVER (PARTITION BY s.name, s.consumed ORDER BY s.sequence DESC) AS place
    FROM sync_workflow.signals s WHERE s.chain_id = $4
) s
-- What a run received in which the origin went on came after all of this.
LEFT JOIN later l ON l.name = s.name
    AND (SELECT o.status FROM sync_workflow.runs o WHERE o.run_id = $1) <> 14
ORDER BY s.sequence"
);

// What the runs showed that the origin continues, or is a copy of, and answered: its own code shows again what it
// showed.
const COPY_PUBLISHED: &str = "
INSERT INTO sync_workflow.published (chain_id, revision, published_at, name, payload)
SELECT $3, p.revision, p.published_at, p.name, p.payload
FROM sync_workflow.published p JOIN sync_workflow.runs o ON o.run_id = $1
WHERE p.chain_id = $2 AND p.published_at <= o.created_at
  AND (o.run_id <> $2 OR EXISTS (SELECT 1 FROM sync_workflow.journal r WHERE r.run_id = $1 AND r.kind = $4))";

type LookRow = (
    Uuid,
    i16,
    String,
    Option<Uuid>,
    Option<i16>,
    Moment,
    bool,
    i32,
);

/// What there was before the fork.
struct Found {
    chain: RunId,
    is_open: bool,
    workflow_id: String,
    /// The place after the origin's last record.
    end: Position,
    now: Moment,
}

/// What one try came to.
enum Tried {
    /// The fork, and whom to tell.
    Settled(ForkOutcome, Vec<Hint>),
    /// Somebody else was faster, and nothing was written.
    Overtaken,
}

/// Starts a fork, and says whom to tell.
pub(super) async fn fork(shared: &Shared, fork: &Fork) -> Result<(ForkOutcome, Vec<Hint>)> {
    for _ in 0..MAX_ROUNDS {
        let fork = fork.clone();
        let tried = unit::run(shared, move |seat| {
            Box::pin(async move {
                let mut transaction = unit::begin(seat).await?;
                let tried = write(&mut transaction, &fork).await?;
                if let Tried::Settled(ForkOutcome::Forked { .. }, _) = &tried {
                    unit::commit(transaction).await?;
                }
                Ok(tried)
            })
        });
        if let Tried::Settled(outcome, hints) = tried.await? {
            return Ok((outcome, hints));
        }
    }
    Err(Error::Contended("the origin moved on every time".into()))
}

async fn write(connection: &mut PgConnection, fork: &Fork) -> Result<Tried> {
    let found = match look(connection, fork).await? {
        Ok(found) => found,
        Err(outcome) => return Ok(Tried::Settled(outcome, Vec::new())),
    };
    let mut ended = None;
    if let ForkTarget::Same { last, children } = &fork.target {
        if found.is_open {
            // The record goes first, as in every commit.
            match append_last(connection, fork.origin, &found, last).await {
                Err(error) if failure::is_taken_position(&error) => return Ok(Tried::Overtaken),
                appended => appended.map_err(refused)?,
            }
        }
        adopt(connection, fork, children).await.map_err(refused)?;
        if found.is_open {
            let status = RunStatus::ContinuedAsNew;
            let closed = control::close(connection, fork.origin, status).await;
            let Some(terminated) = closed.map_err(refused)? else {
                return Ok(Tried::Overtaken);
            };
            ended = Some(terminated);
        }
    }
    let goes_on = ended.is_some();
    if !insert(connection, fork, &found, goes_on)
        .await
        .map_err(refused)?
    {
        return Ok(Tried::Overtaken);
    }
    copy_records(connection, fork, found.now).await?;
    hand_signals_on(connection, fork, &found, goes_on)
        .await
        .map_err(refused)?;
    if !goes_on {
        copy_published(connection, fork, found.chain)
            .await
            .map_err(refused)?;
    }
    let (ended, hints) = match ended {
        Some(Terminated { run, hints }) => (Some(run), hints),
        None => (None, Vec::new()),
    };
    Ok(Tried::Settled(ForkOutcome::Forked { ended }, hints))
}

/// What there is, or the outcome if there is nothing to do.
async fn look(connection: &mut PgConnection, fork: &Fork) -> Result<Result<Found, ForkOutcome>> {
    let new = match &fork.target {
        ForkTarget::New(workflow_id) => Some(workflow_id.as_str()),
        ForkTarget::Same { .. } => None,
    };
    let row: Option<LookRow> = query_as(LOOK)
        .bind(fork.origin.as_uuid())
        .bind(fork.run.as_uuid())
        .bind(new)
        .fetch_optional(connection)
        .await
        .map_err(refused)?;
    let Some((chain, status, workflow_id, latest, latest_status, now, is_done, length)) = row
    else {
        return Ok(Err(ForkOutcome::NoOrigin));
    };
    if is_done {
        return Ok(Err(ForkOutcome::Forked { ended: None }));
    }
    let end = Position(length.cast_unsigned());
    if end < fork.forked.position {
        return Ok(Err(ForkOutcome::NoOrigin));
    }
    let in_the_way = latest
        .map(RunId::from_uuid)
        .zip(latest_status.and_then(RunStatus::from_code))
        .filter(|(run, _)| new.is_some() || *run != fork.origin);
    if let Some((run, status)) = in_the_way {
        return Ok(Err(ForkOutcome::Existing { run, status }));
    }
    Ok(Ok(Found {
        chain: RunId::from_uuid(chain),
        is_open: RunStatus::from_code(status).is_some_and(|status| !status.is_closed()),
        workflow_id: new.map_or(workflow_id, str::to_owned),
        end,
        now,
    }))
}

/// Ends the origin's journal. The seal holds the place, so the place is given and not found.
async fn append_last(
    connection: &mut PgConnection,
    origin: RunId,
    found: &Found,
    last: &Record,
) -> sqlx::Result<()> {
    let record = Record {
        position: found.end,
        ..last.clone()
    };
    let last = HistoryRecord {
        record,
        recorded_at: found.now.expect_finite(),
    };
    import::insert_records(connection, origin, &[last]).await
}

async fn adopt(connection: &mut PgConnection, fork: &Fork, children: &[RunId]) -> sqlx::Result<()> {
    let children: Vec<Uuid> = children.iter().map(RunId::as_uuid).collect();
    // The second time finds the run in which a child went on while the first one waited for it.
    for _ in 0..2 {
        sqlx::query(ADOPT)
            .bind(fork.origin.as_uuid())
            .bind(fork.run.as_uuid())
            .bind(&children)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn insert(
    connection: &mut PgConnection,
    fork: &Fork,
    found: &Found,
    goes_on: bool,
) -> sqlx::Result<bool> {
    let born: Option<(Uuid,)> = query_as(INSERT)
        .bind(fork.run.as_uuid())
        .bind(fork.origin.as_uuid())
        .bind(&found.workflow_id)
        .bind(goes_on)
        .fetch_optional(connection)
        .await?;
    Ok(born.is_some())
}

async fn copy_records(connection: &mut PgConnection, fork: &Fork, now: Moment) -> Result<()> {
    let end = fork.forked.position.0;
    let mut from = 0;
    while from < end {
        let limit = RECORDS_AT_ONCE.min(end - from);
        let page = records::page(connection, fork.origin, Position(from), limit).await?;
        import::insert_records(connection, fork.run, &page)
            .await
            .map_err(refused)?;
        from += limit;
    }
    let forked = HistoryRecord {
        record: fork.forked.clone(),
        recorded_at: now.expect_finite(),
    };
    import::insert_records(connection, fork.run, &[forked])
        .await
        .map_err(refused)
}

async fn hand_signals_on(
    connection: &mut PgConnection,
    fork: &Fork,
    found: &Found,
    goes_on: bool,
) -> sqlx::Result<()> {
    let query = match goes_on {
        true => sqlx::query(GIVE_SIGNALS_BACK),
        false => sqlx::query(COPY_SIGNALS),
    };
    let query = query
        .bind(fork.origin.as_uuid())
        .bind(fork.forked.position.0.cast_signed())
        .bind(RecordKind::SignalReceived.code())
        .bind(found.chain.as_uuid());
    let query = match goes_on {
        true => query,
        false => query.bind(fork.run.as_uuid()),
    };
    query.execute(connection).await.map(drop)
}

async fn copy_published(
    connection: &mut PgConnection,
    fork: &Fork,
    chain: RunId,
) -> sqlx::Result<()> {
    let query = sqlx::query(COPY_PUBLISHED)
        .bind(fork.origin.as_uuid())
        .bind(chain.as_uuid())
        .bind(fork.run.as_uuid())
        .bind(RecordKind::Forked.code());
    query.execute(connection).await.map(drop)
}

fn refused(error: sqlx::Error) -> Error {
    failure::of_statement(error, Effect::None)
}
