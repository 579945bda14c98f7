//! Tags of runs.

use std::sync::Arc;

use sqlx::SqliteConnection;

use super::bulk::Bulk;
use crate::{
    id::RunId,
    journal::{NewRun, Result},
    tag::TagChange,
};

/// Sets the tags of runs, and takes those away that have no value.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    changes: &[(RunId, &TagChange)],
) -> Result<()> {
    static UNTAG: Bulk = Bulk::new(
        "WITH gone (run, name) AS (VALUES ",
        "(?,?)",
        ") DELETE FROM sync_workflow_tags WHERE (run, name) IN (SELECT run, name FROM gone)",
    );
    let value = |change: &TagChange| change.value.clone();
    let set: Vec<_> = changes
        .iter()
        .filter_map(|(run, change)| Some((*run, Arc::clone(&change.name), value(change)?)))
        .collect();
    let gone: Vec<_> = changes
        .iter()
        .filter(|(_, change)| change.value.is_none())
        .collect();
    UNTAG
        .execute(connection, &gone, |statement, (run, change)| {
            statement.bind(run.as_uuid()).bind(Arc::clone(&change.name))
        })
        .await?;
    insert(connection, &set).await
}

/// Gives new runs the tags that they are started with.
pub(super) async fn of_new(connection: &mut SqliteConnection, runs: &[&NewRun]) -> Result<()> {
    let tags = |new: &&NewRun| {
        let run = new.run;
        let tags: Vec<_> = new.tags.iter().collect();
        tags.into_iter()
            .map(move |(name, value)| (run, Arc::clone(name), Arc::clone(value)))
            .collect::<Vec<_>>()
    };
    let tags: Vec<_> = runs.iter().flat_map(tags).collect();
    insert(connection, &tags).await
}

/// Gives runs that continue others, which stand before them, the tags of those: as many as `Tags::MAX`.
pub(super) async fn carry_over(connection: &mut SqliteConnection, runs: &[&NewRun]) -> Result<()> {
    static CARRY_OVER: Bulk = Bulk::new(
        "INSERT INTO sync_workflow_tags (run, name, value)
         SELECT run, name, value FROM (
             SELECT next.run AS run, tag.name AS name, tag.value AS value,
                    row_number() OVER (PARTITION BY next.run ORDER BY tag.name) AS place
             FROM sync_workflow_runs AS next
             CROSS JOIN sync_workflow_runs AS before
             CROSS JOIN sync_workflow_tags AS tag
             WHERE before.workflow_id = next.workflow_id AND before.sequence = next.sequence - 1
               AND tag.run = before.run AND next.run IN (",
        "?",
        ")) WHERE place <= 32",
    );
    CARRY_OVER
        .execute(connection, runs, |statement, new| {
            statement.bind(new.run.as_uuid())
        })
        .await
}

async fn insert(
    connection: &mut SqliteConnection,
    tags: &[(RunId, Arc<str>, Arc<str>)],
) -> Result<()> {
    static TAG: Bulk = Bulk::new(
        "INSERT INTO sync_workflow_tags (run, name, value) VALUES ",
        "(?,?,?)",
        " ON CONFLICT (run, name) DO UPDATE SET value = excluded.value",
    );
    TAG.execute(connection, tags, |statement, (run, name, value)| {
        statement
            .bind(run.as_uuid())
            .bind(Arc::clone(name))
            .bind(Arc::clone(value))
    })
    .await
}
