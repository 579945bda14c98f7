//! Tables `entity_syncs` and `walked_parents`: who writes an entity, how far it has come, and which parents
//! a walk has been through.
//!
//! `entity_syncs` has one row for each entity of each organisation: the walk that may write it. A step ends
//! with a compare-and-set of (walk, step) in the transaction of its rows, so that a step happens once, and
//! that a walk that was taken over writes nothing more.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use sync_adapters::destination::{Connection, Error, Rows};
use sync_core::{AdapterName, EntityName, ExternalId, OrgId, proof::Generation};

use crate::key::EntityKey;

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

/// A walk that writes, or wrote last, an entity.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) walk: String,
    pub(crate) workflow_id: String,
    pub(crate) sync_type: String,
    pub(crate) manifest: String,
    pub(crate) step: i64,
    pub(crate) state: String,
    /// How it ended; none while it is open.
    pub(crate) status: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) started_at: String,
    pub(crate) updated_at: String,
}

type WriterRow = (
    String,
    String,
    String,
    String,
    i64,
    String,
    Option<String>,
    Option<String>,
    String,
    String,
);

impl From<WriterRow> for Writer {
    fn from(row: WriterRow) -> Self {
        Self {
            walk: row.0,
            workflow_id: row.1,
            sync_type: row.2,
            manifest: row.3,
            step: row.4,
            state: row.5,
            status: row.6,
            reason: row.7,
            started_at: row.8,
            updated_at: row.9,
        }
    }
}

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

const COLUMNS: &str =
    "walk, workflow_id, sync_type, manifest, step, state, status, reason, started_at, updated_at";

/// The entity's writer, open or not.
pub(crate) async fn writer(
    connection: &mut Connection<'_>,
    key: &EntityKey,
) -> Result<Option<Writer>, Error> {
    let sql = sql(
        connection,
        &format!(
            "select {COLUMNS} from {{sync}}entity_syncs where org_id = $1 and adapter = $2 and entity = $3"
        ),
    );
    let (org, adapter, entity) = (key.org.as_str(), key.adapter.as_str(), key.entity.as_str());
    let row: Option<WriterRow> = on!(connection, c => {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
        query.fetch_optional(&mut **c).await?
    });
    Ok(row.map(Writer::from))
}

/// The writers of all entities of one organisation at one adapter, by entity.
pub(crate) async fn writers(
    connection: &mut Connection<'_>,
    org: &OrgId,
    adapter: &AdapterName,
) -> Result<Vec<(EntityName, Writer)>, Error> {
    // A manifest has far fewer entities; the limit only keeps the answer bounded.
    let sql = sql(
        connection,
        "select entity, walk, workflow_id, sync_type, manifest, step, state, status, reason, started_at || '|' || updated_at
         from {sync}entity_syncs where org_id = $1 and adapter = $2 order by entity limit 1000",
    );
    type Row = (
        String,
        String,
        String,
        String,
        String,
        i64,
        String,
        Option<String>,
        Option<String>,
        String,
    );
    let rows: Vec<Row> = on!(connection, c => {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(org.as_str()).bind(adapter.as_str());
        query.fetch_all(&mut **c).await?
    });
    let read = |row: Row| {
        let (started_at, updated_at) = row.9.split_once('|').unwrap_or_default();
        let (started_at, updated_at) = (started_at.to_owned(), updated_at.to_owned());
        let name = EntityName::new(&row.0).ok()?;
        let row = (
            row.1, row.2, row.3, row.4, row.5, row.6, row.7, row.8, started_at, updated_at,
        );
        Some((name, Writer::from(row)))
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

/// Makes `next` the entity's writer, if `previous` still is. False when another one was faster.
pub(crate) async fn take_over(
    connection: &mut Connection<'_>,
    key: &EntityKey,
    previous: Option<&Writer>,
    next: &Writer,
) -> Result<bool, Error> {
    let sql = sql(
        connection,
        match previous {
            None => {
                "insert into {sync}entity_syncs
                   (org_id, adapter, entity, walk, workflow_id, sync_type, manifest, step, state, started_at, updated_at)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)
                 on conflict (org_id, adapter, entity) do nothing"
            }
            Some(_) => {
                "update {sync}entity_syncs
                 set walk = $4, workflow_id = $5, sync_type = $6, manifest = $7, step = $8, state = $9,
                     started_at = $10, updated_at = $10, status = null, reason = null
                 where org_id = $1 and adapter = $2 and entity = $3 and walk = $11 and step = $12"
            }
        },
    );
    let (org, adapter, entity) = (key.org.as_str(), key.adapter.as_str(), key.entity.as_str());
    let changed = on!(connection, c => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
        let query = query.bind(&next.walk).bind(&next.workflow_id).bind(&next.sync_type);
        let query = query.bind(&next.manifest).bind(next.step).bind(&next.state).bind(&next.started_at);
        match previous {
            None => query.execute(&mut **c).await?.rows_affected(),
            Some(previous) => query.bind(&previous.walk).bind(previous.step).execute(&mut **c).await?.rows_affected(),
        }
    });
    Ok(changed == 1)
}

/// Moves the walk from step `step` to the next one. False when it is not at that step any more.
pub(crate) async fn advance(
    connection: &mut Connection<'_>,
    key: &EntityKey,
    walk: &str,
    step: i64,
    state: &str,
) -> Result<bool, Error> {
    let sql = sql(
        connection,
        "update {sync}entity_syncs set step = step + 1, state = $6, updated_at = $7
         where org_id = $1 and adapter = $2 and entity = $3 and walk = $4 and step = $5 and status is null",
    );
    let (org, adapter, entity) = (key.org.as_str(), key.adapter.as_str(), key.entity.as_str());
    let now = Timestamp::now().to_string();
    let changed = on!(connection, c => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
        query.bind(walk).bind(step).bind(state).bind(now).execute(&mut **c).await?.rows_affected()
    });
    Ok(changed == 1)
}

/// Closes the walk. False when it is closed already, or is not the writer any more.
pub(crate) async fn close(
    connection: &mut Connection<'_>,
    key: &EntityKey,
    walk: &str,
    status: &str,
    reason: Option<&str>,
    state: &str,
) -> Result<bool, Error> {
    let sql = sql(
        connection,
        "update {sync}entity_syncs set status = $5, reason = $6, state = $7, updated_at = $8
         where org_id = $1 and adapter = $2 and entity = $3 and walk = $4 and status is null",
    );
    let (org, adapter, entity) = (key.org.as_str(), key.adapter.as_str(), key.entity.as_str());
    let now = Timestamp::now().to_string();
    let changed = on!(connection, c => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
        let query = query.bind(walk).bind(status).bind(reason).bind(state).bind(now);
        query.execute(&mut **c).await?.rows_affected()
    });
    Ok(changed == 1)
}

/// Notes that the lists of these parents were walked to their ends.
pub(crate) async fn note_parents(
    connection: &mut Connection<'_>,
    key: &EntityKey,
    generation: Generation,
    parents: &[ExternalId],
) -> Result<(), Error> {
    if parents.is_empty() {
        return Ok(());
    }
    let sql = sql(
        connection,
        "insert into {sync}walked_parents (org_id, adapter, entity, generation, parent_id)
         select $1, $2, $3, $4, id from ({ids}) as p(id) where true
         on conflict (org_id, adapter, entity, generation, parent_id) do nothing",
    )
    // SQLite names no columns of a subquery.
    .replace(
        "(select value from json_each($5)) as p(id)",
        "(select value as id from json_each($5)) as p",
    );
    let (org, adapter, entity) = (key.org.as_str(), key.adapter.as_str(), key.entity.as_str());
    on!(connection, c => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
        query.bind(generation.0).bind(json(parents)).execute(&mut **c).await?;
    });
    Ok(())
}

/// Those of the parents whose lists the walk went through to the end.
pub(crate) async fn walked_parents(
    connection: &mut Connection<'_>,
    key: &EntityKey,
    generation: Generation,
    parents: &[ExternalId],
) -> Result<Vec<ExternalId>, Error> {
    let sql = sql(
        connection,
        "select parent_id from {sync}walked_parents
         where org_id = $1 and adapter = $2 and entity = $3 and generation = $4 and parent_id in ({ids})",
    );
    let (org, adapter, entity) = (key.org.as_str(), key.adapter.as_str(), key.entity.as_str());
    let found: Vec<String> = on!(connection, c => {
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
        query.bind(generation.0).bind(json(parents)).fetch_all(&mut **c).await?
    });
    read_ids(found)
}

/// Forgets the parents of walks up to this one.
pub(crate) async fn forget_parents(
    connection: &mut Connection<'_>,
    key: &EntityKey,
    generation: Generation,
) -> Result<(), Error> {
    let sql = sql(
        connection,
        "delete from {sync}walked_parents
         where org_id = $1 and adapter = $2 and entity = $3 and generation <= $4",
    );
    let (org, adapter, entity) = (key.org.as_str(), key.adapter.as_str(), key.entity.as_str());
    on!(connection, c => {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
        query.bind(generation.0).execute(&mut **c).await?;
    });
    Ok(())
}

/// The live records of a table behind `after`, in the order of their ids, at most `limit`.
pub(crate) async fn live_ids(
    connection: &mut Connection<'_>,
    rows: &Rows,
    after: Option<&ExternalId>,
    limit: u32,
) -> Result<Vec<ExternalId>, Error> {
    let sql = format!(
        "select external_id from \"{}\" where org_id = $1 and deleted_at is null and external_id > $2
         order by external_id limit $3",
        rows.table().name()
    );
    let (org, after) = (rows.org().as_str(), after.map_or("", ExternalId::as_str));
    let found: Vec<String> = on!(connection, c => {
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(org).bind(after).bind(i64::from(limit));
        query.fetch_all(&mut **c).await?
    });
    read_ids(found)
}

/// Those of the records that are tombstones: their deletion was proved.
pub(crate) async fn tombstones(
    connection: &mut Connection<'_>,
    rows: &Rows,
    ids: &[ExternalId],
) -> Result<Vec<ExternalId>, Error> {
    // The parameters in between keep `$5` what it is in the other statements.
    let template = format!(
        "select external_id from \"{}\" where org_id = $1 and $2 = $3 and $4 = 0
         and deleted_at is not null and external_id in ({{ids}})",
        rows.table().name()
    );
    let sql = sql(connection, &template);
    let found: Vec<String> = on!(connection, c => {
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(rows.org().as_str()).bind("").bind("");
        query.bind(0_i64).bind(json(ids)).fetch_all(&mut **c).await?
    });
    read_ids(found)
}

/// Rows that the walk found changed although they had changed before `cursor`, up to which deltas had read.
pub(crate) async fn stale(
    connection: &mut Connection<'_>,
    rows: &Rows,
    generation: Generation,
    cursor: Timestamp,
    started_at: &str,
) -> Result<u64, Error> {
    let cast = match connection {
        Connection::Sqlite(_) => "",
        _ => "::timestamptz",
    };
    let sql = format!(
        "select count(*) from \"{}\" where org_id = $1 and generation = $2 and deleted_at is null
         and source_updated_at < $3{cast} and first_seen_at < $4{cast}",
        rows.table().name()
    );
    let (org, cursor) = (rows.org().as_str(), format!("{cursor:.6}"));
    let found: i64 = on!(connection, c => {
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(org).bind(generation.0);
        query.bind(cursor).bind(started_at).persistent(false).fetch_one(&mut **c).await?
    });
    Ok(found.unsigned_abs())
}

fn json(ids: &[ExternalId]) -> String {
    let ids = ids.iter().map(|id| Value::from(id.as_str()));
    Value::from_iter(ids).to_string()
}

fn read_ids(found: Vec<String>) -> Result<Vec<ExternalId>, Error> {
    let unreadable = |source| Error::Unreadable {
        what: "a stored id",
        source: Box::new(source),
    };
    let ids = found.into_iter().map(ExternalId::new);
    ids.collect::<Result<_, _>>().map_err(unreadable)
}
