//! Starts that wait until nobody asks again.

use sqlx::SqliteConnection;

use super::{
    error::failed,
    start::start_one,
    value::{Micros, column, micros, timestamp},
};
use crate::{
    id::RunId,
    journal::{Debounce, DebounceOutcome, NewRun, Placement, Result, StartOutcome, seal::seal},
};

pub(super) async fn debounce(
    connection: &mut SqliteConnection,
    new: &NewRun,
    debounce: Debounce,
    now: Micros,
) -> Result<DebounceOutcome> {
    let due = debounce.due(timestamp(now), timestamp(now), new.placement);
    let delayed = NewRun {
        placement: Placement::NotBefore(due),
        ..new.clone()
    };
    match start_one(connection, &delayed, now).await? {
        StartOutcome::Started => Ok(DebounceOutcome::Started),
        StartOutcome::Existing { run, status } => {
            match replace(connection, run, new, debounce, now).await? {
                true => Ok(DebounceOutcome::Replaced { run }),
                false => Ok(DebounceOutcome::Existing { run, status }),
            }
        }
    }
}

/// Gives a run that has not begun another input, and a later time unless its turn has come.
async fn replace(
    connection: &mut SqliteConnection,
    run: RunId,
    new: &NewRun,
    debounce: Debounce,
    now: Micros,
) -> Result<bool> {
    let waiting = sqlx::query(
        "SELECT created_at FROM sync_workflow_runs AS waiting
         WHERE run = ? AND status IN (0, 3) AND progress = 0 AND chain = run AND workflow = ?
           AND NOT cancel_requested
           AND NOT EXISTS (SELECT 1 FROM sync_workflow_records AS record
                           WHERE record.run = waiting.run AND position > 0)",
    )
    .bind(run.as_uuid())
    .bind(&*new.workflow)
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed)?;
    let Some(waiting) = waiting else {
        return Ok(false);
    };
    let first = timestamp(column(&waiting, "created_at")?);
    sqlx::query(
        "UPDATE sync_workflow_records SET payload = ?, fingerprint = ? WHERE run = ? AND position = 0",
    )
    .bind(new.input.to_vec())
    .bind(seal(run, &new.first_record()))
    .bind(run.as_uuid())
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    sqlx::query(
        "UPDATE sync_workflow_runs SET wake_at = ? WHERE run = ? AND status = 0 AND admission = 0",
    )
    .bind(micros(debounce.due(first, timestamp(now), new.placement)))
    .bind(run.as_uuid())
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(true)
}
