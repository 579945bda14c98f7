//! Transactional steps: the user's writes and the record of the step in one transaction.

use std::pin::pin;

use sqlx::{Postgres, Transaction, query_as};
use tokio::time::timeout;

use super::{
    connection::Shared,
    failure::{self, Effect, NoAnswer},
    unit,
};
use crate::journal::{Error, Result, TransactionCommit, seal::seal};

// The lock on the node's row is held until the commit, so that a reaper waits for it. The record is
// the last thing written, and it is checked: a transaction that failed earlier cannot pretend.
const APPEND: &str = "
WITH fence AS MATERIALIZED (
    SELECT node_id FROM sync_workflow.nodes WHERE node_id = $1 FOR KEY SHARE
), appended AS (
    INSERT INTO sync_workflow.journal
        (run_id, position, kind, command, name, fingerprint, payload)
    SELECT r.run_id, $3, $4, $5, $6, $7, $8
    FROM fence, sync_workflow.runs r
    WHERE r.run_id = $2 AND r.node_id = $1
      AND $3 = (SELECT coalesce(max(j.position) + 1, 0) FROM sync_workflow.journal j
                WHERE j.run_id = $2)
    RETURNING run_id
), settled AS (
    DELETE FROM sync_workflow.attempts
    WHERE run_id = $2 AND command = $9 AND EXISTS (SELECT FROM appended)
)
SELECT (SELECT count(*) FROM fence) = 1, (SELECT count(*) FROM appended) = 1";

pub(super) async fn begin(shared: &Shared) -> Result<Transaction<'static, Postgres>> {
    let deadline = shared.deadline();
    let mut beginning = tokio::spawn(begin_on(shared.clone()));
    match timeout(deadline, &mut beginning).await {
        Ok(Ok(begun)) => begun.map_err(|error| failure::of_statement(error, Effect::None)),
        Ok(Err(ended)) => Err(Error::Unavailable(ended.into())),
        Err(_) => {
            // A connection that is not replaced must not go back to its pool before it has begun
            // and is rolled back.
            if shared.withdraw_trust() {
                beginning.abort();
            }
            Err(Error::Unavailable(NoAnswer(deadline).into()))
        }
    }
}

async fn begin_on(shared: Shared) -> sqlx::Result<Transaction<'static, Postgres>> {
    let begin = shared.pool().begin_with(shared.opening().foreign());
    shared.meter().measure(begin).await
}

pub(super) async fn commit(
    shared: &Shared,
    transaction: Transaction<'static, Postgres>,
    commit: &TransactionCommit,
) -> Result<()> {
    let shared = shared.clone();
    let commit = commit.clone();
    unit::spawn(async move {
        let deadline = shared.deadline();
        let mut committing = pin!(append_and_commit(transaction, &commit));
        match timeout(deadline, committing.as_mut()).await {
            Ok(committed) => committed,
            Err(_) => {
                // Before the connection goes back to its pool.
                shared.withdraw_trust();
                Err(Error::Unknown(NoAnswer(deadline).into()))
            }
        }
    })
    .await
}

async fn append_and_commit(
    mut transaction: Transaction<'static, Postgres>,
    commit: &TransactionCommit,
) -> Result<()> {
    let record = &commit.record;
    let lost = Error::RunLost { run: commit.run };
    let appended = query_as::<_, (bool, bool)>(APPEND)
        .bind(commit.node.as_uuid())
        .bind(commit.run.as_uuid())
        .bind(record.position.0.cast_signed())
        .bind(record.kind.code())
        .bind(record.command.0.cast_signed())
        .bind(&*record.name)
        .bind(seal(commit.run, record))
        .bind(&record.payload[..])
        .bind(
            commit
                .settled_attempt
                .map(|command| command.0.cast_signed()),
        )
        .fetch_one(&mut *transaction)
        .await;
    match appended {
        Ok((true, true)) => transaction
            .commit()
            .await
            .map_err(|error| failure::of_statement(error, Effect::Commit)),
        Ok((false, _)) => Err(Error::Fenced),
        Ok((true, false)) => Err(lost),
        Err(error) if failure::is_taken_position(&error) => Err(lost),
        Err(error) => Err(failure::of_statement(error, Effect::None)),
    }
}
