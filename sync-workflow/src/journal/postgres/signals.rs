//! The table of signals: delivery.

use sqlx::{PgConnection, Postgres, postgres::PgArguments, query::QueryAs};
use uuid::Uuid;

use super::{
    connection::Shared,
    failure::{self, Effect},
    pooling::Opening,
    selector::columns,
};
use crate::{
    id::{NodeId, RunId},
    journal::{Error, NewSignal, Result, SENT_SIGNAL_RUNS, SignalOutcome, WokenRun},
};

/// `sent`: whether one of the latest runs of a workflow id was sent this signal.
macro_rules! sent {
    (workflow_id: $workflow_id:literal, runs: $runs:literal, signal: $signal:literal) => {
        concat!(
            ", sent AS MATERIALIZED (
    SELECT s.chain_id FROM (
        SELECT DISTINCT recent.chain_id FROM (
            SELECT r.chain_id FROM sync_workflow.runs r
            WHERE r.workflow_id = ",
            $workflow_id,
            "
            ORDER BY r.sequence DESC LIMIT ",
            $runs,
            "
        ) recent
    ) chain
    CROSS JOIN LATERAL (
        SELECT s.chain_id FROM sync_workflow.signals s
        WHERE s.chain_id = chain.chain_id AND s.signal_id = ",
            $signal,
            " OFFSET 0
    ) s
)"
        )
    };
}

/// `bumped`: the run that is locked as `target`, with one arrival more, if the signal was `stored`. The count goes up with
/// the signal, so that a suspension which has not seen it is refused.
macro_rules! bumped {
    () => {
        ", arrived AS MATERIALIZED (
    SELECT t.run_id FROM target t WHERE EXISTS (SELECT FROM stored)
), bumped AS (
    UPDATE sync_workflow.runs r
    SET inbox = r.inbox + 1,
        -- A run that has not begun keeps its time: a delayed start stays delayed.
        wake_at = CASE WHEN r.status = 0 AND r.progress > 0 THEN least(r.wake_at, now()) ELSE r.wake_at END
    FROM arrived
    WHERE r.run_id = arrived.run_id
    RETURNING r.run_id, r.node_id
)"
    };
}

pub(super) use {bumped, sent};

// The row of the run is locked first: it does not close while the signal is stored.
//
// `$6` is the node whose run sends it, if one does. Its lease is held until the signal is delivered, and
// `sent` finds what an earlier run of the workflow id was sent, among the latest `$7` runs.
const SIGNAL: &str = concat!(
    "
WITH alive AS MATERIALIZED (
    SELECT node_id FROM sync_workflow.nodes WHERE node_id = $6 FOR KEY SHARE
), fence AS MATERIALIZED (
    SELECT $6 IS NULL OR EXISTS (SELECT FROM alive) AS is_open
), chosen AS MATERIALIZED (
    SELECT coalesce($1, (
        SELECT run_id FROM sync_workflow.runs
        WHERE workflow_id = $2 ORDER BY sequence DESC LIMIT 1)) AS run_id
), target AS MATERIALIZED (
    SELECT r.run_id, r.chain_id FROM sync_workflow.runs r
    WHERE (SELECT is_open FROM fence)
          AND r.run_id = (SELECT run_id FROM chosen) AND r.status < 10
    FOR NO KEY UPDATE
)",
    sent!(
        workflow_id: "(SELECT o.workflow_id FROM sync_workflow.runs o
                                   WHERE o.run_id = (SELECT run_id FROM chosen))",
        runs: "$7",
        signal: "$3"
    ),
    ", stored AS (
    INSERT INTO sync_workflow.signals (chain_id, signal_id, name, payload)
    SELECT chain_id, $3, $4, $5 FROM target WHERE NOT EXISTS (SELECT FROM sent)
    ON CONFLICT (chain_id, signal_id) DO NOTHING
    RETURNING chain_id
)",
    bumped!(),
    "
SELECT (SELECT is_open FROM fence),
       EXISTS (SELECT FROM target),
       EXISTS (SELECT FROM sent)
       OR EXISTS (SELECT FROM sync_workflow.runs r
               JOIN sync_workflow.signals s ON s.chain_id = r.chain_id AND s.signal_id = $3
               WHERE r.run_id = (SELECT run_id FROM chosen)),
       (SELECT run_id FROM sync_workflow.runs r
        WHERE r.run_id = (SELECT run_id FROM chosen) AND r.status < 10),
       bumped.run_id, bumped.node_id
FROM (VALUES (1)) AS always LEFT JOIN bumped ON true"
);

/// How often a delivery looks again after the run that it chose closed, or stepped aside for the
/// next one of its chain, in that very moment.
const MAX_ROUNDS: u32 = 16;

type SignalRow = (bool, bool, bool, Option<Uuid>, Option<Uuid>, Option<Uuid>);

pub(super) async fn signal(
    shared: &Shared,
    signal: &NewSignal,
    sender: Option<NodeId>,
) -> Result<SignalOutcome> {
    for _ in 0..MAX_ROUNDS {
        let row = shared.row(Effect::Commit, query(signal, sender)).await?;
        if let Delivery::Settled(outcome) = outcome(row)? {
            return Ok(outcome);
        }
    }
    Ok(SignalOutcome::NotOpen)
}

pub(super) async fn signal_in(
    connection: &mut PgConnection,
    opening: &Opening,
    signal: &NewSignal,
) -> Result<SignalOutcome> {
    for _ in 0..MAX_ROUNDS {
        let row = query(signal, None)
            .persistent(opening.keeps_statements())
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| failure::of_statement(error, Effect::None))?;
        if let Delivery::Settled(outcome) = outcome(row)? {
            return Ok(outcome);
        }
    }
    Ok(SignalOutcome::NotOpen)
}

fn query(
    signal: &NewSignal,
    sender: Option<NodeId>,
) -> QueryAs<'_, Postgres, SignalRow, PgArguments> {
    let (run, workflow_id) = columns(&signal.to);
    sqlx::query_as(SIGNAL)
        .bind(run)
        .bind(workflow_id)
        .bind(&*signal.id)
        .bind(&*signal.name)
        .bind(&signal.payload[..])
        .bind(sender.map(|node| node.as_uuid()))
        .bind(sender.map_or(0, |_| i64::from(SENT_SIGNAL_RUNS)))
}

/// What one try to deliver found.
enum Delivery {
    Settled(SignalOutcome),
    /// The run was open when it was chosen and closed when it was locked.
    Moved,
}

fn outcome(row: Option<SignalRow>) -> Result<Delivery> {
    let Some((may_send, locked, known, open, bumped, node)) = row else {
        return Ok(Delivery::Settled(SignalOutcome::NotOpen));
    };
    if !may_send {
        return Err(Error::Fenced);
    }
    Ok(Delivery::Settled(match bumped {
        Some(run) => SignalOutcome::Delivered(WokenRun {
            run: RunId::from_uuid(run),
            node: node.map(NodeId::from_uuid),
        }),
        // It conflicted with a row, whether this snapshot shows that or not.
        None if locked || known => SignalOutcome::Duplicate,
        None if open.is_some() => return Ok(Delivery::Moved),
        None => SignalOutcome::NotOpen,
    }))
}
