//! Table `entity_syncs`: the walk that may write an entity, and its next step.

use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sync_adapters::destination::{Connection, Error};
use sync_core::{AdapterName, EntityName, OrgId};

use super::{on, sql};
use crate::key::EntityKey;

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

/// The entity, and the columns of its writer.
type WriterRow = (
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
    String,
);

const COLUMNS: &str = "entity, walk, workflow_id, sync_type, manifest, step, state, status, reason, started_at, updated_at";

fn read(row: WriterRow) -> Result<(EntityName, Writer), Error> {
    let entity = EntityName::new(&row.0).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let writer = Writer {
        walk: row.1,
        workflow_id: row.2,
        sync_type: row.3,
        manifest: row.4,
        step: row.5,
        state: row.6,
        status: row.7,
        reason: row.8,
        started_at: row.9,
        updated_at: row.10,
    };
    Ok((entity, writer))
}

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
    let found = row.map(read).transpose()?;
    Ok(found.map(|(_, writer)| writer))
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
        &format!(
            "select {COLUMNS} from {{sync}}entity_syncs where org_id = $1 and adapter = $2 order by entity limit 1000"
        ),
    );
    let rows: Vec<WriterRow> = on!(connection, c => {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(org.as_str()).bind(adapter.as_str());
        query.fetch_all(&mut **c).await?
    });
    rows.into_iter().map(read).collect()
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
