//! Tables `entity_syncs` and `walked_parents`: who writes an entity, how far it has come, and which parents
//! a walk has been through.
//!
//! `entity_syncs` has one row for each entity of each organisation: the walk that may write it. A step ends
//! with a compare-and-set of (walk, step) in the transaction of its rows, so that a step happens once, and
//! that a walk that was taken over writes nothing more.

mod parents;
mod writers;

use sqlx::AssertSqlSafe;
use sync_adapters::destination::{Connection, Error};

pub(crate) use self::{
    parents::{
        forget_parents, latest_generation, live_ids, note_parents, stale, tombstones,
        walked_parents,
    },
    writers::{Writer, advance, close, take_over, writer, writers},
};

/// The SQL of both databases is the same but for the names of the tables and what stands in braces.
fn sql(connection: &Connection<'_>, template: &str) -> String {
    let (prefix, ids) = match connection {
        Connection::Sqlite(_) => ("sync_", "select value from json_each($5)"),
        _ => ("sync.", "select json_array_elements_text($5::json)"),
    };
    template.replace("{sync}", prefix).replace("{ids}", ids)
}

/// Runs the same query on either connection.
macro_rules! on {
    ($connection:expr, $bound:ident => $query:expr) => {
        match $connection {
            Connection::Postgres($bound) => $query,
            Connection::Sqlite($bound) => $query,
            _ => {
                return Err(Error::UnsupportedUrl {
                    scheme: "unknown".to_owned(),
                });
            }
        }
    };
}

use on;

const TABLES: [&str; 2] = [
    "create table if not exists {sync}entity_syncs (
       org_id text not null, adapter text not null, entity text not null,
       walk text not null, workflow_id text not null, sync_type text not null, manifest text not null,
       step bigint not null, state text not null, status text, reason text,
       started_at text not null, updated_at text not null,
       primary key (org_id, adapter, entity))",
    "create table if not exists {sync}walked_parents (
       org_id text not null, adapter text not null, entity text not null, generation bigint not null,
       parent_id text not null,
       primary key (org_id, adapter, entity, generation, parent_id))",
];

/// The advisory lock under which tables are made: the first eight bytes of `sync-engine`.
const LOCK: i64 = i64::from_be_bytes(*b"sync-eng");

/// Makes the tables, inside the caller's transaction.
pub(crate) async fn create(connection: &mut Connection<'_>) -> Result<(), Error> {
    if let Connection::Postgres(connection) = connection {
        sqlx::query("select pg_advisory_xact_lock($1)")
            .bind(LOCK)
            .execute(&mut **connection)
            .await?;
    }
    for template in TABLES {
        let sql = sql(connection, template);
        on!(connection, c => {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut **c).await?;
        });
    }
    Ok(())
}
