//! Builds: which nodes are of which, and where runs are moved.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{
    SqliteJournal,
    error::failed,
    run,
    value::{Micros, column},
};
use crate::{
    id::{BuildId, NodeId, RunId},
    journal::{
        BuildInfo, BuildMove, BuildMoved, BuildStore, ClaimRequest, Error, Result, RunSelector,
    },
};

// From one build of open runs to the next by the index, for runs are many and builds are few.
const BUILDS: &str = "
    WITH RECURSIVE open (build) AS (
        SELECT min(build) FROM sync_workflow_runs WHERE queue = ?1 AND build IS NOT NULL AND status < 10
        UNION ALL
        SELECT (SELECT min(other.build) FROM sync_workflow_runs AS other
                WHERE other.queue = ?1 AND other.build > open.build AND other.build IS NOT NULL AND other.status < 10)
        FROM open WHERE open.build IS NOT NULL
    ), named (build) AS (
        SELECT build FROM open WHERE build IS NOT NULL
        UNION SELECT build FROM sync_workflow_nodes WHERE queue = ?1 AND build IS NOT NULL
        UNION SELECT build FROM sync_workflow_current_builds WHERE queue = ?1
    )
    SELECT named.build AS build,
           EXISTS (SELECT 1 FROM sync_workflow_current_builds AS chosen
                   WHERE chosen.queue = ?1 AND chosen.build = named.build) AS is_current,
           (SELECT count(*) FROM sync_workflow_nodes AS node
            WHERE node.queue = ?1 AND node.build = named.build AND node.lease_until > ?2) AS workers,
           (SELECT count(*) FROM (
                SELECT 1 FROM sync_workflow_runs AS run
                WHERE run.queue = ?1 AND run.build = named.build AND run.build IS NOT NULL AND run.status < 10
                LIMIT ?3)) AS open_runs
    FROM named ORDER BY named.build";

#[async_trait]
impl BuildStore for SqliteJournal {
    async fn declare_build(&self, node: NodeId, queue: &str, build: &BuildId) -> Result<()> {
        let (queue, build) = (queue.to_owned(), build.clone());
        self.write(move |connection, _| {
            Box::pin(async move {
                let declared = sqlx::query(
                    "UPDATE sync_workflow_nodes SET queue = ?, build = ? WHERE node = ?",
                )
                .bind(queue)
                .bind(build.as_str())
                .bind(node.as_uuid())
                .execute(connection)
                .await
                .map_err(failed)?;
                match declared.rows_affected() {
                    0 => Err(Error::Fenced),
                    _ => Ok(()),
                }
            })
        })
        .await
    }

    async fn set_current_build(&self, queue: &str, build: Option<&BuildId>) -> Result<()> {
        let (queue, build) = (queue.to_owned(), build.cloned());
        self.write(move |connection, _| {
            Box::pin(async move {
                let query = match &build {
                    Some(build) => sqlx::query(
                        "INSERT INTO sync_workflow_current_builds (queue, build) VALUES (?, ?)
                         ON CONFLICT (queue) DO UPDATE SET build = excluded.build",
                    )
                    .bind(queue)
                    .bind(build.as_str()),
                    None => sqlx::query("DELETE FROM sync_workflow_current_builds WHERE queue = ?")
                        .bind(queue),
                };
                query.execute(connection).await.map_err(failed)?;
                Ok(())
            })
        })
        .await
    }

    async fn list_builds(&self, queue: &str) -> Result<Vec<BuildInfo>> {
        let mut reader = self.reader().await?;
        let rows = sqlx::query(BUILDS)
            .bind(queue)
            .bind::<Micros>(self.now())
            .bind(BuildInfo::MOST_COUNTED)
            .fetch_all(&mut *reader)
            .await
            .map_err(failed)?;
        let mut builds = Vec::with_capacity(rows.len());
        for row in &rows {
            let Ok(build) = BuildId::new(column::<&str>(row, "build")?) else {
                continue;
            };
            builds.push(BuildInfo {
                build,
                is_current: column(row, "is_current")?,
                workers: column::<i64>(row, "workers")?.cast_unsigned(),
                open_runs: column::<i64>(row, "open_runs")?.cast_unsigned(),
            });
        }
        Ok(builds)
    }

    async fn move_to_build(&self, run: RunId, to: &BuildMove) -> Result<BuildMoved> {
        let to = to.clone();
        self.write(move |connection, _| {
            Box::pin(async move { move_run(connection, run, &to).await })
        })
        .await
    }
}

async fn move_run(
    connection: &mut SqliteConnection,
    run: RunId,
    to: &BuildMove,
) -> Result<BuildMoved> {
    let found = run::select(connection, &RunSelector::Run(run)).await?;
    let Some(found) = found.filter(|found| !found.status.is_closed()) else {
        return Ok(BuildMoved::NotOpen);
    };
    if let Some(expected) = to.if_length {
        if found.node.is_some() {
            return Ok(BuildMoved::Held);
        }
        let length: u32 = sqlx::query_scalar(
            "SELECT coalesce(max(position) + 1, 0) FROM sync_workflow_records WHERE run = ?",
        )
        .bind(run.as_uuid())
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
        if length != expected {
            return Ok(BuildMoved::Grown);
        }
    }
    sqlx::query("UPDATE sync_workflow_runs SET build = ? WHERE run = ?")
        .bind(to.to.as_ref().map(BuildId::as_str))
        .bind(run.as_uuid())
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(BuildMoved::Moved)
}

/// Whether a claim takes runs of no build.
pub(super) async fn takes_new(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
) -> Result<bool> {
    let Some(build) = &request.build else {
        return Ok(true);
    };
    sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT 1 FROM sync_workflow_current_builds WHERE queue = ? AND build <> ?)",
    )
    .bind(&*request.queue)
    .bind(build.as_str())
    .fetch_one(connection)
    .await
    .map_err(failed)
}
