//! Runs from other journals.

use std::sync::Arc;

use sqlx::SqliteConnection;

use super::{
    error::failed,
    record, run, tag,
    value::{Micros, micros},
};
use crate::{
    journal::{ImportedRun, Result, RunSelector, StartOutcome},
    tag::TagChange,
};

pub(super) async fn import(
    connection: &mut SqliteConnection,
    imported: &ImportedRun,
    now: Micros,
) -> Result<StartOutcome> {
    let of_workflow = RunSelector::Latest(imported.workflow_id.clone());
    for selector in [RunSelector::Run(imported.run), of_workflow] {
        if let Some(found) = run::select(connection, &selector).await? {
            return Ok(StartOutcome::Existing {
                run: found.run,
                status: found.status,
            });
        }
    }
    sqlx::query(
        "INSERT INTO sync_workflow_runs
           (run, chain, workflow_id, sequence, workflow, queue, status, pause_requested, wake_at, claims, progress,
            created_at, closed_at, inbox, cancel_requested, awaited)
         VALUES (?1, ?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, 0, 0, ?8, ?9, 0, 0, 0)",
    )
    .bind(imported.run.as_uuid())
    .bind(String::from(imported.workflow_id.clone()))
    .bind(Arc::clone(&imported.workflow))
    .bind(Arc::clone(&imported.queue))
    .bind(imported.status().code())
    .bind(imported.closed.is_none())
    .bind(imported.closed.is_none().then_some(now))
    .bind(micros(imported.created_at()))
    .bind(imported.closed_at().map(micros))
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    let tags: Vec<_> = imported
        .tags
        .iter()
        .map(|(name, value)| TagChange {
            name: Arc::clone(name),
            value: Some(Arc::clone(value)),
        })
        .collect();
    let tags: Vec<_> = tags.iter().map(|change| (imported.run, change)).collect();
    tag::change(connection, &tags).await?;
    record::import(connection, imported.run, &imported.records).await?;
    Ok(StartOutcome::Started)
}
