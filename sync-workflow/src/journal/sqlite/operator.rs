//! An operator's hand: cancel, terminate, unpark, pause, resume.

use sqlx::SqliteConnection;

use super::{commit, run, transition, value::Micros};
use crate::{
    journal::{Result, RunSelector, WokenRun},
    record::Record,
    status::RunStatus,
};

/// Asks an open run to cancel, once.
pub(super) async fn request_cancel(
    connection: &mut SqliteConnection,
    selector: &RunSelector,
    now: Micros,
) -> Result<Option<WokenRun>> {
    let Some(found) = open(connection, selector).await? else {
        return Ok(None);
    };
    if !found.cancel_requested || found.pause_requested {
        run::request_cancel(connection, &[found.run]).await?;
        run::end_pause(connection, found.run, now).await?;
        run::arrive(connection, &[(found.run, 1)], now).await?;
    }
    Ok(Some(WokenRun {
        run: found.run,
        node: found.node,
    }))
}

/// Ends an open run with a record at its next position.
pub(super) async fn terminate(
    connection: &mut SqliteConnection,
    selector: &RunSelector,
    record: &Record,
    status: RunStatus,
    now: Micros,
) -> Result<Option<WokenRun>> {
    let Some(found) = open(connection, selector).await? else {
        return Ok(None);
    };
    commit::terminate(connection, found.run, record, status, now).await?;
    Ok(Some(WokenRun {
        run: found.run,
        node: found.node,
    }))
}

/// Makes a parked run ready, with its attempts forgotten.
pub(super) async fn unpark(
    connection: &mut SqliteConnection,
    selector: &RunSelector,
    now: Micros,
) -> Result<Option<WokenRun>> {
    let found = run::select(connection, selector).await?;
    let Some(found) = found.filter(|found| found.status == RunStatus::Parked) else {
        return Ok(None);
    };
    transition::unpark(connection, found.run, now).await?;
    Ok(Some(WokenRun {
        run: found.run,
        node: None,
    }))
}

/// Asks an open run to pause, once.
pub(super) async fn pause(
    connection: &mut SqliteConnection,
    selector: &RunSelector,
) -> Result<Option<WokenRun>> {
    let Some(found) = open(connection, selector).await? else {
        return Ok(None);
    };
    if !found.pause_requested {
        run::request_pause(connection, found.run).await?;
    }
    Ok(Some(WokenRun {
        run: found.run,
        node: found.node,
    }))
}

/// Takes a request to pause back.
pub(super) async fn resume(
    connection: &mut SqliteConnection,
    selector: &RunSelector,
    now: Micros,
) -> Result<Option<WokenRun>> {
    let found = open(connection, selector).await?;
    let Some(found) = found.filter(|found| found.pause_requested) else {
        return Ok(None);
    };
    run::end_pause(connection, found.run, now).await?;
    run::arrive(connection, &[(found.run, 1)], now).await?;
    Ok(Some(WokenRun {
        run: found.run,
        node: found.node,
    }))
}

async fn open(
    connection: &mut SqliteConnection,
    selector: &RunSelector,
) -> Result<Option<run::Found>> {
    Ok(run::select(connection, selector)
        .await?
        .filter(|found| !found.status.is_closed()))
}
