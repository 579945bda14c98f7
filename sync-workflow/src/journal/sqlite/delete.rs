//! The deletion of runs that ended long ago.

use sqlx::SqliteConnection;

use super::{
    bulk::Bulk,
    error::failed,
    run,
    value::{Micros, column, micros, number, run_id, timestamp},
};
use crate::{
    id::RunId,
    journal::{Deleted, Deletion, DeletionPlace, Result},
    status::RunStatus,
};

/// A run that ended long enough ago.
struct Candidate {
    place: DeletionPlace,
    chain: RunId,
    status: RunStatus,
    /// How many records it has.
    length: u32,
    /// Its parent may yet ask how it ended.
    is_kept: bool,
}

/// Whether there is anything to look at.
pub(super) async fn has_any(
    connection: &mut SqliteConnection,
    deletion: &Deletion,
    until: Micros,
) -> Result<bool> {
    let candidates = candidates(connection, deletion, until, 1).await?;
    Ok(!candidates.is_empty())
}

pub(super) async fn delete_closed(
    connection: &mut SqliteConnection,
    deletion: &Deletion,
    until: Micros,
) -> Result<Deleted> {
    let candidates = candidates(connection, deletion, until, Deletion::MAX_RUNS).await?;
    let mut deleted = Deleted::default();
    let mut records = 0;
    let (mut runs, mut chains) = (Vec::new(), Vec::new());
    for candidate in candidates {
        if deleted.after.is_some() && records >= Deletion::MAX_RECORDS {
            break;
        }
        records += candidate.length;
        deleted.after = Some(candidate.place);
        if candidate.is_kept {
            continue;
        }
        deleted.runs += 1;
        runs.push(candidate.place.run);
        if candidate.status != RunStatus::ContinuedAsNew {
            chains.push(candidate.chain);
        }
    }
    delete(connection, &runs, &chains).await?;
    Ok(deleted)
}

async fn candidates(
    connection: &mut SqliteConnection,
    deletion: &Deletion,
    until: Micros,
    limit: u32,
) -> Result<Vec<Candidate>> {
    let (closed_at, run) = match deletion.after {
        None => (0, uuid::Uuid::nil()),
        Some(place) => (micros(place.closed_at), place.run.as_uuid()),
    };
    let rows = sqlx::query(
        "SELECT ended.run AS run, ended.chain AS chain, ended.status AS status, ended.closed_at AS closed_at,
                (SELECT coalesce(max(position) + 1, 0) FROM sync_workflow_records AS record
                 WHERE record.run = ended.run) AS length,
                EXISTS (SELECT 1 FROM sync_workflow_runs AS parent
                        WHERE parent.run = ended.parent_run AND parent.status < 10) AS is_kept
         FROM sync_workflow_runs AS ended
         WHERE workflow = ? AND closed_at IS NOT NULL AND closed_at <= ? AND (closed_at, run) > (?, ?)
         ORDER BY closed_at, run LIMIT ?",
    )
    .bind(deletion.workflow.to_string())
    .bind(until)
    .bind(closed_at)
    .bind(run)
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter()
        .map(|row| {
            Ok(Candidate {
                place: DeletionPlace {
                    closed_at: timestamp(column(row, "closed_at")?),
                    run: run_id(row, "run")?,
                },
                chain: run_id(row, "chain")?,
                status: run::status(row)?,
                length: number(row, "length")?,
                is_kept: column(row, "is_kept")?,
            })
        })
        .collect()
}

async fn delete(connection: &mut SqliteConnection, runs: &[RunId], chains: &[RunId]) -> Result<()> {
    static RECORDS: Bulk = Bulk::new("DELETE FROM sync_workflow_records WHERE run IN (", "?", ")");
    static ATTEMPTS: Bulk = Bulk::new(
        "DELETE FROM sync_workflow_attempts WHERE run IN (",
        "?",
        ")",
    );
    static PIECES: Bulk = Bulk::new(
        "DELETE FROM sync_workflow_payload_pieces WHERE run IN (",
        "?",
        ")",
    );
    static TAGS: Bulk = Bulk::new("DELETE FROM sync_workflow_tags WHERE run IN (", "?", ")");
    static SIGNALS: Bulk = Bulk::new(
        "DELETE FROM sync_workflow_signals WHERE chain IN (",
        "?",
        ")",
    );
    static PUBLISHED: Bulk = Bulk::new(
        "DELETE FROM sync_workflow_published WHERE chain IN (",
        "?",
        ")",
    );
    static RUNS: Bulk = Bulk::new("DELETE FROM sync_workflow_runs WHERE run IN (", "?", ")");
    let of_runs = [&RECORDS, &ATTEMPTS, &PIECES, &TAGS, &RUNS];
    let of_chains = [&SIGNALS, &PUBLISHED];
    let all = of_runs.into_iter().map(|bulk| (bulk, runs));
    for (bulk, ids) in all.chain(of_chains.into_iter().map(|bulk| (bulk, chains))) {
        bulk.execute(connection, ids, |statement, id| {
            statement.bind(id.as_uuid())
        })
        .await?;
    }
    Ok(())
}
