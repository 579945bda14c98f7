//! Starts that wait until nobody asks again.

use sqlx::query_as;

use super::{
    commit::not_before,
    connection::Shared,
    failure::Effect,
    nodes::microseconds,
    start::{MAX_ROUNDS, makes_room, overtaken, start_after},
};
use crate::{
    id::RunId,
    journal::{Debounce, DebounceOutcome, NewRun, Result, StartOutcome, seal::seal},
    status::RunStatus,
};

// A claim passes over the row while it is locked: what is replaced was not claimed, and is claimed with what replaced
// it. In a queue with limits a run whose time has come waits for its turn, and keeps it.
const REPLACE: &str = "
WITH locked AS MATERIALIZED (
    SELECT r.run_id, r.status,
           r.progress = 0 AND r.chain_id = r.run_id AND r.workflow = $2 AND NOT r.cancel_requested AS fits
    FROM sync_workflow.runs r WHERE r.run_id = $1
    FOR NO KEY UPDATE
), target AS MATERIALIZED (
    SELECT l.run_id FROM locked l
    WHERE l.status IN (0, 3) AND l.fits
      AND NOT EXISTS (SELECT FROM sync_workflow.journal j WHERE j.run_id = $1 AND j.position > 0)
), replaced AS (
    UPDATE sync_workflow.journal j SET payload = $3, fingerprint = $4
    FROM target WHERE j.run_id = target.run_id AND j.position = 0
    RETURNING j.run_id
), moved AS (
    UPDATE sync_workflow.runs r
    SET wake_at = greatest($5, least(now() + $6 * interval '1 microsecond',
                                     r.created_at + $7 * interval '1 microsecond'))
    FROM target
    WHERE r.run_id = target.run_id AND r.status + 0 = 0 AND r.admission = 0
)
SELECT EXISTS (SELECT FROM replaced), (SELECT status FROM locked)";

pub(super) async fn debounce(
    shared: &Shared,
    new: &NewRun,
    debounce: Debounce,
) -> Result<DebounceOutcome> {
    let delay = debounce.quiet_for.min(debounce.longest_wait);
    for _ in 0..MAX_ROUNDS {
        let (run, status) = match start_after(shared, new, Some(delay)).await? {
            StartOutcome::Started => return Ok(DebounceOutcome::Started),
            StartOutcome::Existing {
                run,
                status: status @ (RunStatus::Pending | RunStatus::Paused),
            } => (run, status),
            StartOutcome::Existing { run, status } => {
                return Ok(DebounceOutcome::Existing { run, status });
            }
        };
        let (replaced, now) = replace(shared, run, new, debounce).await?;
        if replaced {
            return Ok(DebounceOutcome::Replaced { run });
        }
        let status = now.and_then(RunStatus::from_code).unwrap_or(status);
        // It may have ended since, and be gone altogether.
        if now.is_some() && !makes_room(new.reuse, status) {
            return Ok(DebounceOutcome::Existing { run, status });
        }
    }
    Err(overtaken())
}

/// Whether the run had not begun and has this input now, and else its status.
async fn replace(
    shared: &Shared,
    run: RunId,
    new: &NewRun,
    debounce: Debounce,
) -> Result<(bool, Option<i16>)> {
    let query = query_as(REPLACE)
        .bind(run.as_uuid())
        .bind(&*new.workflow)
        .bind(&new.input[..])
        .bind(seal(run, &new.first_record()))
        .bind(not_before(new.placement))
        .bind(microseconds(debounce.quiet_for))
        .bind(microseconds(debounce.longest_wait));
    let row = shared.row(Effect::Commit, query).await?;
    Ok(row.unwrap_or_default())
}
