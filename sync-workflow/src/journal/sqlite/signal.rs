//! Signals.

use std::sync::Arc;

use sqlx::SqliteConnection;

use super::{
    bulk::Bulk,
    error::failed,
    node as lease, run,
    start::start_one,
    value::{Micros, bytes, column},
};
use crate::{
    id::{NodeId, RunId},
    journal::{
        NewRun, NewSignal, Result, SENT_SIGNAL_RUNS, SignalMessage, SignalOutcome, SignalledStart,
        StartOutcome,
    },
};

/// Stores a signal for an open run, once.
pub(super) async fn deliver(
    connection: &mut SqliteConnection,
    signal: &NewSignal,
    now: Micros,
) -> Result<SignalOutcome> {
    let Some(found) = run::select(connection, &signal.to).await? else {
        return Ok(SignalOutcome::NotOpen);
    };
    store(connection, &found, signal, now).await
}

/// As [`deliver`], for a run of a node: once among all runs of the workflow id.
pub(super) async fn send(
    connection: &mut SqliteConnection,
    node: NodeId,
    signal: &NewSignal,
    now: Micros,
) -> Result<SignalOutcome> {
    lease::check(connection, node).await?;
    let Some(found) = run::select(connection, &signal.to).await? else {
        return Ok(SignalOutcome::NotOpen);
    };
    if was_sent(connection, found.run, &signal.id).await? {
        return Ok(SignalOutcome::Duplicate);
    }
    store(connection, &found, signal, now).await
}

async fn store(
    connection: &mut SqliteConnection,
    found: &run::Found,
    signal: &NewSignal,
    now: Micros,
) -> Result<SignalOutcome> {
    if is_known(connection, found.chain, &signal.id).await? {
        return Ok(SignalOutcome::Duplicate);
    }
    if found.status.is_closed() {
        return Ok(SignalOutcome::NotOpen);
    }
    sqlx::query("INSERT INTO sync_workflow_signals (chain, id, name, payload) VALUES (?, ?, ?, ?)")
        .bind(found.chain.as_uuid())
        .bind(Arc::clone(&signal.id))
        .bind(Arc::clone(&signal.name))
        .bind(signal.payload.to_vec())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    let woken = run::signalled(connection, found.run, now).await?;
    Ok(woken.map_or(SignalOutcome::NotOpen, SignalOutcome::Delivered))
}

/// Starts a run if its workflow id admits it, and stores a signal for the one that is open then, once among all runs of
/// the workflow id.
pub(super) async fn with_start(
    connection: &mut SqliteConnection,
    new: &NewRun,
    signal: &NewSignal,
    now: Micros,
) -> Result<SignalledStart> {
    if let Some(latest) = run::select(connection, &signal.to).await?
        && was_sent(connection, latest.run, &signal.id).await?
    {
        let start = match latest.run == new.run {
            true => StartOutcome::Started,
            false => StartOutcome::Existing {
                run: latest.run,
                status: latest.status,
            },
        };
        let signal = SignalOutcome::Duplicate;
        return Ok(SignalledStart { start, signal });
    }
    let start = start_one(connection, new, now).await?;
    let signal = deliver(connection, signal, now).await?;
    Ok(SignalledStart { start, signal })
}

async fn is_known(connection: &mut SqliteConnection, chain: RunId, id: &Arc<str>) -> Result<bool> {
    let known = sqlx::query("SELECT 1 FROM sync_workflow_signals WHERE chain = ? AND id = ?")
        .bind(chain.as_uuid())
        .bind(Arc::clone(id))
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    Ok(known.is_some())
}

/// Whether an earlier run of the same workflow id was sent it.
async fn was_sent(connection: &mut SqliteConnection, to: RunId, id: &Arc<str>) -> Result<bool> {
    let sent = sqlx::query(
        "SELECT 1 FROM (
             SELECT chain FROM sync_workflow_runs
             WHERE workflow_id = (SELECT workflow_id FROM sync_workflow_runs WHERE run = ?)
             ORDER BY sequence DESC LIMIT ?
         ) AS latest
         JOIN sync_workflow_signals AS signal ON signal.chain = latest.chain AND signal.id = ?
         LIMIT 1",
    )
    .bind(to.as_uuid())
    .bind(SENT_SIGNAL_RUNS)
    .bind(Arc::clone(id))
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    Ok(sent.is_some())
}

/// Marks signals of each run's own chain as consumed.
pub(super) async fn consume(
    connection: &mut SqliteConnection,
    signals: &[(RunId, i64)],
) -> Result<()> {
    static CONSUME: Bulk = Bulk::new(
        "WITH consumed (run, sequence) AS (VALUES ",
        "(?,?)",
        ") UPDATE sync_workflow_signals AS signal SET consumed = 1
           FROM consumed JOIN sync_workflow_runs AS owner ON owner.run = consumed.run
           WHERE signal.sequence = consumed.sequence AND signal.chain = owner.chain",
    );
    CONSUME
        .execute(connection, signals, |statement, (run, sequence)| {
            statement.bind(run.as_uuid()).bind(*sequence)
        })
        .await
}

/// The unconsumed signals of a chain, in the order of their arrival.
pub(super) async fn waiting(
    connection: &mut SqliteConnection,
    chain: RunId,
    limit: u32,
) -> Result<Vec<SignalMessage>> {
    let rows = sqlx::query(
        "SELECT sequence, name, payload FROM sync_workflow_signals
         WHERE chain = ? AND consumed = 0 ORDER BY sequence LIMIT ?",
    )
    .bind(chain.as_uuid())
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter()
        .map(|row| {
            Ok(SignalMessage {
                sequence: column(row, "sequence")?,
                name: column::<String>(row, "name")?.into(),
                payload: bytes(row, "payload")?,
            })
        })
        .collect()
}
