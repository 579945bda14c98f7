//! Table `walked_parents`, and what a walk asks the tables of records.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use sync_adapters::destination::{Connection, Error, Rows};
use sync_core::{ExternalId, proof::Generation};

use super::{on, sql};
use crate::key::EntityKey;

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

/// The number of the latest walk that looks for deletions.
pub(crate) async fn latest_generation(
    connection: &mut Connection<'_>,
    rows: &Rows,
) -> Result<Option<Generation>, Error> {
    let sql = sql(
        connection,
        "select max(generation) from {sync}generations where org_id = $1 and adapter = $2 and entity = $3",
    );
    let (org, table) = (rows.org().as_str(), rows.table());
    let latest: Option<i64> = on!(connection, c => {
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(org).bind(table.adapter().as_str());
        query.bind(table.entity().as_str()).fetch_one(&mut **c).await?
    });
    Ok(latest.map(Generation))
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
