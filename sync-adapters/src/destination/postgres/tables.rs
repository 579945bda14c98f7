//! Tables, made and extended. One process at a time; the second finds everything done.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    super::{Error, Table, dialect::quoted},
    value::type_of,
};

/// The advisory lock under which tables are made: the first eight bytes of `main-sync`.
const LOCK: i64 = i64::from_be_bytes(*b"main-syn");

/// The columns that every table of an entity has.
const FIXED_COLUMNS: &[(&str, &str)] = &[
    ("org_id", "text"),
    ("external_id", "text"),
    ("content_hash", "bytea"),
    ("raw", "json"),
    ("generation", "bigint"),
    ("source_updated_at", "timestamp with time zone"),
    ("_parent_id", "text"),
    ("_merged_into", "text"),
    ("first_seen_at", "timestamp with time zone"),
    ("synced_at", "timestamp with time zone"),
    ("deleted_at", "timestamp with time zone"),
];

const BOOKKEEPING: &[&str] = &[
    "create table if not exists sync.cursors (
       org_id text not null, adapter text not null, entity text not null, kind text not null,
       position text not null, manifest text not null, updated_at timestamptz not null,
       primary key (org_id, adapter, entity, kind))",
    "create table if not exists sync.generations (
       org_id text not null, adapter text not null, entity text not null, generation bigint not null,
       walk text not null, live_before bigint not null,
       started_at timestamptz not null, ended_at timestamptz,
       primary key (org_id, adapter, entity, generation), unique (org_id, adapter, entity, walk))",
    // One row per page of a walk; the ids of the records that were met and not rewritten.
    "create table if not exists sync.seen (
       org_id text not null, adapter text not null, entity text not null, generation bigint not null,
       external_ids text[] not null)",
    "create index if not exists seen_generation on sync.seen (org_id, adapter, entity, generation)",
    "create table if not exists sync.quarantine (
       org_id text not null, adapter text not null, entity text not null, item text not null,
       external_id text, reason text not null, raw text not null, generation bigint not null,
       first_seen_at timestamptz not null, last_seen_at timestamptz not null, occurrences bigint not null,
       primary key (org_id, adapter, entity, item))",
    "create table if not exists sync.deletion_requests (
       org_id text not null, adapter text not null, entity text not null, generation bigint not null,
       refusal text not null, candidates bigint not null, requested_at timestamptz not null,
       approved bigint, decided_by text, decided_at timestamptz,
       primary key (org_id, adapter, entity, generation))",
    "create table if not exists sync.unresolved_refs (
       org_id text not null, adapter text not null, entity text not null, field text not null,
       external_id text not null, target_entity text not null, target_id text not null,
       first_seen_at timestamptz not null,
       primary key (org_id, adapter, entity, field, external_id))",
];

const COLUMNS_OF: &str = "\
select attname::text, format_type(atttypid, atttypmod) from pg_attribute
where attrelid = to_regclass($1) and attnum > 0 and not attisdropped";

/// Makes or extends the tables, inside the caller's transaction.
pub(in crate::destination) async fn create(
    connection: &mut PgConnection,
    tables: &[Table],
) -> Result<(), Error> {
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *connection)
        .await?;
    let has_schema: bool = sqlx::query_scalar("select to_regnamespace('sync') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !has_schema {
        sqlx::query("create schema sync")
            .execute(&mut *connection)
            .await?;
    }
    for statement in BOOKKEEPING {
        sqlx::query(*statement).execute(&mut *connection).await?;
    }
    for table in tables {
        create_table(connection, table).await?;
    }
    Ok(())
}

async fn create_table(connection: &mut PgConnection, table: &Table) -> Result<(), Error> {
    let name = quoted(table.name());
    let existing: HashMap<String, String> = sqlx::query_as(COLUMNS_OF)
        .bind(&name)
        .fetch_all(&mut *connection)
        .await?
        .into_iter()
        .collect();
    if existing.is_empty() {
        let statement = AssertSqlSafe(create_statement(table));
        sqlx::query(statement).execute(&mut *connection).await?;
        return Ok(());
    }
    for (column, wanted) in columns_of(table) {
        match existing.get(column) {
            Some(found) if found == wanted => {}
            Some(found) => {
                return Err(Error::SchemaConflict {
                    table: table.name().to_owned(),
                    column: column.to_owned(),
                    found: found.clone(),
                    wanted: wanted.to_owned(),
                });
            }
            None => {
                let add = format!("alter table {name} add column {} {wanted}", quoted(column));
                sqlx::query(AssertSqlSafe(add))
                    .execute(&mut *connection)
                    .await?;
            }
        }
    }
    Ok(())
}

fn columns_of(table: &Table) -> impl Iterator<Item = (&str, &'static str)> {
    let fixed = FIXED_COLUMNS.iter().copied();
    let declared = table.columns().iter();
    fixed.chain(declared.map(|column| (column.name.as_str(), type_of(column.field_type))))
}

fn create_statement(table: &Table) -> String {
    let declared: String = table
        .columns()
        .iter()
        .map(|column| {
            format!(
                ", {} {}",
                quoted(column.name.as_str()),
                type_of(column.field_type)
            )
        })
        .collect();
    // Keys compare as bytes: ids have no language, and comparing bytes is what an index does fastest.
    format!(
        "create table {} (org_id text collate \"C\" not null, external_id text collate \"C\" not null,
         content_hash bytea not null, raw json not null, generation bigint not null,
         source_updated_at timestamptz, _parent_id text, _merged_into text,
         first_seen_at timestamptz not null, synced_at timestamptz not null, deleted_at timestamptz{declared},
         primary key (org_id, external_id))",
        quoted(table.name())
    )
}
