//! The lease rows of nodes.

use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::{
    error::failed,
    run,
    value::{Micros, timestamp},
};
use crate::{
    id::NodeId,
    journal::{Error, Renewal, Result},
};

pub(super) async fn enlist(
    connection: &mut SqliteConnection,
    node: NodeId,
    until: Micros,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO sync_workflow_nodes (node, lease_until) VALUES (?, ?)
         ON CONFLICT (node) DO UPDATE SET lease_until = excluded.lease_until",
    )
    .bind(node.as_uuid())
    .bind(until)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

pub(super) async fn renew(
    connection: &mut SqliteConnection,
    node: NodeId,
    until: Micros,
    now: Micros,
) -> Result<Renewal> {
    let renewed = sqlx::query("UPDATE sync_workflow_nodes SET lease_until = ? WHERE node = ?")
        .bind(until)
        .bind(node.as_uuid())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    if renewed.rows_affected() == 0 {
        return Err(Error::Fenced);
    }
    let next_expiry: Option<Micros> =
        sqlx::query_scalar("SELECT min(lease_until) FROM sync_workflow_nodes WHERE node <> ?")
            .bind(node.as_uuid())
            .fetch_one(connection)
            .await
            .map_err(failed)?;
    Ok(Renewal {
        now: timestamp(now),
        next_expiry: next_expiry.map(timestamp),
    })
}

/// Refuses a node whose lease row is gone.
pub(super) async fn check(connection: &mut SqliteConnection, node: NodeId) -> Result<()> {
    let row = sqlx::query("SELECT 1 FROM sync_workflow_nodes WHERE node = ?")
        .bind(node.as_uuid())
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.map(|_| ()).ok_or(Error::Fenced)
}

/// The nodes whose lease has run out, the longest dead first.
pub(super) async fn expired(
    connection: &mut SqliteConnection,
    limit: u32,
    now: Micros,
) -> Result<Vec<NodeId>> {
    let rows = sqlx::query(
        "SELECT node FROM sync_workflow_nodes WHERE lease_until <= ? ORDER BY lease_until, node LIMIT ?",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.iter()
        .map(|row| {
            row.try_get::<Uuid, _>(0)
                .map(NodeId::from_uuid)
                .map_err(failed)
        })
        .collect()
}

/// Deletes the lease row of a node that is dead, and frees its runs.
pub(super) async fn bury(
    connection: &mut SqliteConnection,
    node: NodeId,
    now: Micros,
) -> Result<()> {
    run::free(connection, node, run::Claims::Keep, now).await?;
    delete(connection, node).await
}

/// Deletes the lease row of a node that ends itself, and frees its runs without counting a claim.
pub(super) async fn retire(
    connection: &mut SqliteConnection,
    node: NodeId,
    now: Micros,
) -> Result<()> {
    run::free(connection, node, run::Claims::TakeBack, now).await?;
    delete(connection, node).await
}

async fn delete(connection: &mut SqliteConnection, node: NodeId) -> Result<()> {
    sqlx::query("DELETE FROM sync_workflow_nodes WHERE node = ?")
        .bind(node.as_uuid())
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(())
}
