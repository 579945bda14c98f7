//! Builds: which nodes are of which, and where runs are moved.

use async_trait::async_trait;
use sqlx::query_as;

use super::{
    PostgresJournal,
    failure::{self, Effect},
    pooling::Seat,
    unit,
};
use crate::{
    id::{BuildId, NodeId, RunId},
    journal::{BuildInfo, BuildMove, BuildMoved, BuildStore, Error, Result},
    status::RunStatus,
};

/// The builds whose runs a node of a build takes, which two parameters name: its own and, unless another is current,
/// none.
macro_rules! taken {
    ($queue:literal, $build:literal) => {
        concat!(
            "(
            SELECT ",
            $build,
            "::text AS build
            UNION ALL
            SELECT '' WHERE NOT EXISTS (
                SELECT FROM sync_workflow.current_builds c
                WHERE c.queue = ",
            $queue,
            " AND c.build <> ",
            $build,
            ")
        ) AS taken"
        )
    };
}
pub(super) use taken;

const DECLARE: &str = "
UPDATE sync_workflow.nodes SET queue = $2, build = $3 WHERE node_id = $1
RETURNING true";

const SET_CURRENT: &str = "
INSERT INTO sync_workflow.current_builds (queue, build) VALUES ($1, $2)
ON CONFLICT (queue) DO UPDATE SET build = excluded.build
RETURNING true";

const CLEAR_CURRENT: &str = "
DELETE FROM sync_workflow.current_builds WHERE queue = $1 RETURNING true";

// From one build of open runs to the next by the index, for runs are many and builds are few.
const BUILDS: &str = "
WITH RECURSIVE open AS (
    SELECT min(r.build) AS build FROM sync_workflow.runs r
    WHERE r.queue = $1 AND r.build <> '' AND r.status < 10
    UNION ALL
    SELECT (SELECT min(r.build) FROM sync_workflow.runs r
            WHERE r.queue = $1 AND r.build > o.build AND r.build <> '' AND r.status < 10)
    FROM open o WHERE o.build IS NOT NULL
), named AS (
    SELECT o.build FROM open o WHERE o.build IS NOT NULL
    UNION SELECT n.build FROM sync_workflow.nodes n WHERE n.queue = $1 AND n.build IS NOT NULL
    UNION SELECT c.build FROM sync_workflow.current_builds c WHERE c.queue = $1
)
SELECT b.build,
       EXISTS (SELECT FROM sync_workflow.current_builds c WHERE c.queue = $1 AND c.build = b.build),
       (SELECT count(*) FROM sync_workflow.nodes n
        WHERE n.queue = $1 AND n.build = b.build AND n.expires_at > clock_timestamp()) AS workers,
       (SELECT count(*) FROM (
            SELECT FROM sync_workflow.runs r
            WHERE r.queue = $1 AND r.build = b.build AND r.build <> '' AND r.status < 10 LIMIT $2
        ) counted)
FROM named b ORDER BY b.build";

// Until the move is committed, claims pass the run over.
const LOCK: &str = "
SELECT status FROM sync_workflow.runs WHERE run_id = $1 AND status < 10 FOR NO KEY UPDATE";

// A statement of its own after the lock: it sees what a node wrote that held the run before.
const LENGTH: &str = "
SELECT coalesce(max(position) + 1, 0) FROM sync_workflow.journal WHERE run_id = $1";

const MOVE: &str = "
UPDATE sync_workflow.runs SET build = $2 WHERE run_id = $1 RETURNING true";

#[async_trait]
impl BuildStore for PostgresJournal {
    async fn declare_build(&self, node: NodeId, queue: &str, build: &BuildId) -> Result<()> {
        let query = query_as::<_, (bool,)>(DECLARE)
            .bind(node.as_uuid())
            .bind(queue)
            .bind(build.as_str());
        let declared = self.shared.row(Effect::Commit, query).await?;
        declared.map(|_| ()).ok_or(Error::Fenced)
    }

    async fn set_current_build(&self, queue: &str, build: Option<&BuildId>) -> Result<()> {
        let query = match build {
            Some(build) => query_as::<_, (bool,)>(SET_CURRENT)
                .bind(queue)
                .bind(build.as_str()),
            None => query_as(CLEAR_CURRENT).bind(queue),
        };
        self.shared.row(Effect::Commit, query).await.map(drop)
    }

    async fn list_builds(&self, queue: &str) -> Result<Vec<BuildInfo>> {
        let query = query_as::<_, (String, bool, i64, i64)>(BUILDS)
            .bind(queue)
            .bind(i64::from(BuildInfo::MOST_COUNTED));
        let rows = self.shared.rows(Effect::None, query).await?;
        let info = |(build, is_current, workers, open_runs): (String, bool, i64, i64)| {
            Some(BuildInfo {
                build: BuildId::new(&build).ok()?,
                is_current,
                workers: workers.cast_unsigned(),
                open_runs: open_runs.cast_unsigned(),
            })
        };
        Ok(rows.into_iter().filter_map(info).collect())
    }

    async fn move_to_build(&self, run: RunId, to: &BuildMove) -> Result<BuildMoved> {
        let to = to.clone();
        unit::run(&self.shared, move |seat| {
            Box::pin(async move { move_run(seat, run, &to).await })
        })
        .await
    }
}

async fn move_run(seat: &mut Seat, run: RunId, to: &BuildMove) -> Result<BuildMoved> {
    let failed = |error| failure::of_statement(error, Effect::None);
    let mut transaction = unit::begin(seat).await?;
    let locked: Option<(i16,)> = query_as(LOCK)
        .bind(run.as_uuid())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
    let Some((status,)) = locked else {
        return Ok(BuildMoved::NotOpen);
    };
    if let Some(length) = to.if_length {
        if status == RunStatus::Running.code() {
            return Ok(BuildMoved::Held);
        }
        let (found,): (i32,) = query_as(LENGTH)
            .bind(run.as_uuid())
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        if found.cast_unsigned() != length {
            return Ok(BuildMoved::Grown);
        }
    }
    let _moved: (bool,) = query_as(MOVE)
        .bind(run.as_uuid())
        .bind(to.to.as_ref().map_or("", BuildId::as_str))
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    unit::commit(transaction).await?;
    Ok(BuildMoved::Moved)
}
