//! Starts of runs from outside a worker.

use std::time::Duration;

use sqlx::{
    FromRow, PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};
use uuid::Uuid;

use super::{
    commit::not_before,
    connection::Shared,
    failure::{self, Effect},
    nodes::microseconds,
    pooling::Opening,
};
use crate::{
    id::RunId,
    journal::{Error, IdReuse, NewRun, Result, StartOutcome, seal::seal},
    status::RunStatus,
    trace::TraceContext,
};

/// `latest`: the latest run of the workflow id `$3`, of the snapshot; `same`: whether the run `$1` is there already.
macro_rules! latest_and_same {
    () => {
        "
WITH latest AS MATERIALIZED (
    SELECT run_id, status, sequence FROM sync_workflow.runs
    WHERE workflow_id = $3 ORDER BY sequence DESC LIMIT 1
), same AS MATERIALIZED (
    SELECT FROM sync_workflow.runs WHERE run_id = $1
)"
    };
}

/// `born`: the run, with so many arrivals, if it is not there and the latest one makes room for it, and if there is no row of
/// `unless`; its first record and its tags. The parameters are those of [`bound`].
///
/// Whether the latest run makes room is decided on the snapshot; that nobody was faster is decided by the unique key on
/// (workflow_id, sequence), which admits one run after the latest one.
macro_rules! born {
    (wake_at: $wake_at:literal, inbox: $inbox:literal $(, unless: $unless:literal)?) => {
        concat!(
            ", born AS (
    INSERT INTO sync_workflow.runs
        (run_id, chain_id, parent_run, wake_at, sequence, parent_command, parent_close, status,
         workflow_id, workflow, queue, queue_key, priority, trace, inbox)
    SELECT $1, $2, $7, ",
            $wake_at,
            ",
           coalesce((SELECT sequence + 1 FROM latest), 0),
           $8, $9, 0, $3, $4, $5, $13, $14, $15, ",
            $inbox,
            "
    WHERE NOT EXISTS (SELECT FROM same)",
            $(" AND NOT EXISTS (SELECT FROM ", $unless, ")",)?
            "
      AND NOT EXISTS (
          SELECT FROM latest
          WHERE NOT ($11 = 1 AND status >= 10 OR $11 = 2 AND status > 10))
    ON CONFLICT DO NOTHING
    RETURNING run_id, chain_id
), started AS (
    INSERT INTO sync_workflow.journal
        (run_id, position, kind, command, name, fingerprint, payload)
    SELECT run_id, 0, 0, -1, $4, $12, $6 FROM born
), tagged AS (
    INSERT INTO sync_workflow.tags (run_id, name, value)
    SELECT born.run_id, t.name, t.value
    FROM born CROSS JOIN unnest($16::text[], $17::text[]) AS t(name, value)
)"
        )
    };
}

pub(super) use {born, latest_and_same};

const START: &str = concat!(
    latest_and_same!(),
    born!(
        wake_at: "coalesce(greatest($10, now() + $18 * interval '1 microsecond'), now())",
        inbox: "0"
    ),
    "
SELECT EXISTS (SELECT FROM born) OR EXISTS (SELECT FROM same), latest.run_id, latest.status
FROM (VALUES (1)) AS always LEFT JOIN latest ON true"
);

/// How often a start looks again after another start of the same workflow id was faster.
pub(super) const MAX_ROUNDS: u32 = 16;

type StartRow = (bool, Option<Uuid>, Option<i16>);

/// Whether a run with this status makes room for a new one of its workflow id.
pub(super) const fn makes_room(reuse: IdReuse, latest: RunStatus) -> bool {
    match reuse {
        IdReuse::ReturnExisting => false,
        IdReuse::StartNew => latest.is_closed(),
        IdReuse::StartNewUnlessCompleted => {
            latest.is_closed() && !matches!(latest, RunStatus::Completed)
        }
    }
}

/// Starts a run in a transaction of its own.
pub(super) async fn start(shared: &Shared, new: &NewRun) -> Result<StartOutcome> {
    start_after(shared, new, None).await
}

/// As [`start`]: a run that begins after so long at the earliest.
pub(super) async fn start_after(
    shared: &Shared,
    new: &NewRun,
    delay: Option<Duration>,
) -> Result<StartOutcome> {
    for _ in 0..MAX_ROUNDS {
        let query = bound(START, new).bind(delay.map(microseconds));
        let row = shared.row(Effect::Commit, query).await?;
        if let Some(outcome) = outcome(new, row) {
            return Ok(outcome);
        }
    }
    Err(overtaken())
}

/// Starts a run in the caller's transaction.
pub(super) async fn start_in(
    connection: &mut PgConnection,
    opening: &Opening,
    new: &NewRun,
) -> Result<StartOutcome> {
    for _ in 0..MAX_ROUNDS {
        let row = bound(START, new)
            .bind(None::<i64>)
            .persistent(opening.keeps_statements())
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| failure::of_statement(error, Effect::None))?;
        if let Some(outcome) = outcome(new, row) {
            return Ok(outcome);
        }
    }
    Err(overtaken())
}

/// A statement that may insert a run, with the values of the run in their places: the first seventeen.
pub(super) fn bound<'q, Row>(
    sql: &'static str,
    new: &'q NewRun,
) -> QueryAs<'q, Postgres, Row, PgArguments>
where
    Row: for<'r> FromRow<'r, PgRow>,
{
    let parent = new.parent;
    let (names, values): (Vec<&str>, Vec<&str>) = new
        .tags
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .unzip();
    sqlx::query_as(sql)
        .bind(new.run.as_uuid())
        .bind(new.chain.as_uuid())
        .bind(new.workflow_id.as_str())
        .bind(&*new.workflow)
        .bind(&*new.queue)
        .bind(&new.input[..])
        .bind(parent.map(|parent| parent.run.as_uuid()))
        .bind(parent.map(|parent| parent.command.0.cast_signed()))
        .bind(parent.map(|parent| parent.on_close as i16))
        .bind(not_before(new.placement))
        .bind(i32::from(new.reuse as i16))
        .bind(seal(new.run, &new.first_record()))
        .bind(&*new.ticket.key)
        .bind(new.ticket.priority)
        .bind(new.trace.as_ref().map(TraceContext::as_stored))
        .bind(names)
        .bind(values)
}

/// The outcome, or `None` if another start took the place that this one saw free.
fn outcome(new: &NewRun, row: Option<StartRow>) -> Option<StartOutcome> {
    let (started, latest, status) = row?;
    if started {
        return Some(StartOutcome::Started);
    }
    let status = RunStatus::from_code(status?)?;
    (!makes_room(new.reuse, status)).then(|| {
        latest.map(|run| StartOutcome::Existing {
            run: RunId::from_uuid(run),
            status,
        })
    })?
}

pub(super) fn overtaken() -> Error {
    Error::Contended("other starts of the same workflow id were faster every time".into())
}
