//! Starts with a signal: the run if there is no open one, and the signal to the run that is open then.

use sqlx::{PgConnection, Postgres, postgres::PgArguments, query::QueryAs};
use uuid::Uuid;

use super::{
    connection::Shared,
    failure::{self, Effect},
    pooling::Opening,
    signals::{bumped, sent},
    start::{MAX_ROUNDS, born, bound, latest_and_same, makes_room, overtaken},
};
use crate::{
    id::{NodeId, RunId},
    journal::{
        NewRun, NewSignal, Result, SENT_SIGNAL_RUNS, SignalOutcome, SignalledStart, StartOutcome,
        WokenRun,
    },
    status::RunStatus,
};

// The statements of a start and of a signal in one. `latest` is of the snapshot; `target` is it, locked, if it is
// still open, so that it does not close while the signal is stored. If it closed meanwhile there is neither a target nor
// a birth, and the caller looks again. Two births at once are one, by the unique key on (workflow_id, sequence).
const SIGNAL_WITH_START: &str = concat!(
    latest_and_same!(),
    sent!(workflow_id: "$3", runs: "$21", signal: "$18"),
    ", target AS MATERIALIZED (
    SELECT r.run_id, r.chain_id FROM sync_workflow.runs r
    WHERE r.run_id = (SELECT run_id FROM latest) AND r.status < 10 AND NOT EXISTS (SELECT FROM sent)
    FOR NO KEY UPDATE
)",
    born!(wake_at: "coalesce($10, now())", inbox: "1", unless: "sent"),
    ", stored AS (
    INSERT INTO sync_workflow.signals (chain_id, signal_id, name, payload)
    SELECT receiver.chain_id, $18, $19, $20
    FROM (SELECT chain_id FROM target UNION ALL SELECT chain_id FROM born) receiver
    ON CONFLICT (chain_id, signal_id) DO NOTHING
    RETURNING chain_id
)",
    bumped!(),
    "
SELECT EXISTS (SELECT FROM born), EXISTS (SELECT FROM same), EXISTS (SELECT FROM sent),
       EXISTS (SELECT FROM target), bumped.run_id, bumped.node_id, latest.run_id, latest.status
FROM (VALUES (1)) AS always
LEFT JOIN bumped ON true
LEFT JOIN latest ON true"
);

type Row = (
    bool,
    bool,
    bool,
    bool,
    Option<Uuid>,
    Option<Uuid>,
    Option<Uuid>,
    Option<i16>,
);

pub(super) async fn signal_with_start(
    shared: &Shared,
    new: &NewRun,
    signal: &NewSignal,
) -> Result<SignalledStart> {
    for _ in 0..MAX_ROUNDS {
        let row = shared.row(Effect::Commit, query(new, signal)).await?;
        if let Some(outcome) = outcome(new, row) {
            return Ok(outcome);
        }
    }
    Err(overtaken())
}

pub(super) async fn signal_with_start_in(
    connection: &mut PgConnection,
    opening: &Opening,
    new: &NewRun,
    signal: &NewSignal,
) -> Result<SignalledStart> {
    for _ in 0..MAX_ROUNDS {
        let row = query(new, signal)
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

fn query<'q>(new: &'q NewRun, signal: &'q NewSignal) -> QueryAs<'q, Postgres, Row, PgArguments> {
    bound(SIGNAL_WITH_START, new)
        .bind(&*signal.id)
        .bind(&*signal.name)
        .bind(&signal.payload[..])
        .bind(i64::from(SENT_SIGNAL_RUNS))
}

/// The outcome, or `None` if the latest run closed, or another was started, in that very moment.
fn outcome(new: &NewRun, row: Option<Row>) -> Option<SignalledStart> {
    let (born, same, sent, locked, bumped, node, latest, status) = row?;
    if born {
        let woken = WokenRun {
            run: new.run,
            node: None,
        };
        return Some(SignalledStart {
            start: StartOutcome::Started,
            signal: SignalOutcome::Delivered(woken),
        });
    }
    let run = RunId::from_uuid(latest?);
    let status = RunStatus::from_code(status?)?;
    let start = match same {
        true => StartOutcome::Started,
        false => StartOutcome::Existing { run, status },
    };
    let signal = match bumped {
        Some(run) => SignalOutcome::Delivered(WokenRun {
            run: RunId::from_uuid(run),
            node: node.map(NodeId::from_uuid),
        }),
        // It conflicted with a row, whether this snapshot shows that or not.
        None if sent || locked => SignalOutcome::Duplicate,
        None if status.is_closed() && !makes_room(new.reuse, status) => SignalOutcome::NotOpen,
        None => return None,
    };
    Some(SignalledStart { start, signal })
}
