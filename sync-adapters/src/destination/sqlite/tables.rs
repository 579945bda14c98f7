//! Tables, made and extended. The transaction is the only writer, so that a second process finds them.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, SqliteConnection};
use sync_core::FieldType;

use super::super::{Error, Table, dialect::quoted};

/// The columns that every table of an entity has.
const FIXED_COLUMNS: &[(&str, &str)] = &[
    ("org_id", "TEXT"),
    ("external_id", "TEXT"),
    ("content_hash", "BLOB"),
    ("raw", "TEXT"),
    ("generation", "INTEGER"),
    ("source_updated_at", "TEXT"),
    ("_parent_id", "TEXT"),
    ("_merged_into", "TEXT"),
    ("first_seen_at", "TEXT"),
    ("synced_at", "TEXT"),
    ("deleted_at", "TEXT"),
];

const BOOKKEEPING: &[&str] = &[
    "create table if not exists sync_cursors (
       org_id text not null, adapter text not null, entity text not null, kind text not null,
       position text not null, manifest text not null, updated_at text not null,
       primary key (org_id, adapter, entity, kind)) strict, without rowid",
    "create table if not exists sync_generations (
       org_id text not null, adapter text not null, entity text not null, generation integer not null,
       walk text not null, live_before integer not null, started_at text not null, ended_at text,
       primary key (org_id, adapter, entity, generation), unique (org_id, adapter, entity, walk)) strict",
    // One row per page of a walk; the ids of the records that were met and not rewritten, as a JSON array.
    "create table if not exists sync_seen (
       org_id text not null, adapter text not null, entity text not null, generation integer not null,
       external_ids text not null) strict",
    "create index if not exists sync_seen_generation on sync_seen (org_id, adapter, entity, generation)",
    "create table if not exists sync_quarantine (
       org_id text not null, adapter text not null, entity text not null, item text not null,
       external_id text, reason text not null, raw text not null, generation integer not null,
       first_seen_at text not null, last_seen_at text not null, occurrences integer not null,
       primary key (org_id, adapter, entity, item)) strict",
    "create table if not exists sync_deletion_requests (
       org_id text not null, adapter text not null, entity text not null, generation integer not null,
       refusal text not null, candidates integer not null, requested_at text not null,
       approved integer, decided_by text, decided_at text,
       primary key (org_id, adapter, entity, generation)) strict",
    "create table if not exists sync_unresolved_refs (
       org_id text not null, adapter text not null, entity text not null, field text not null,
       external_id text not null, target_entity text not null, target_id text not null,
       first_seen_at text not null,
       primary key (org_id, adapter, entity, field, external_id)) strict",
];

/// Makes or extends the tables, inside the caller's transaction.
pub(in crate::destination) async fn create(
    connection: &mut SqliteConnection,
    tables: &[Table],
) -> Result<(), Error> {
    for statement in BOOKKEEPING {
        sqlx::query(*statement).execute(&mut *connection).await?;
    }
    for table in tables {
        create_table(connection, table).await?;
    }
    Ok(())
}

async fn create_table(connection: &mut SqliteConnection, table: &Table) -> Result<(), Error> {
    let name = quoted(table.name());
    let existing: HashMap<String, String> =
        sqlx::query_as("select name, upper(type) from pragma_table_info($1)")
            .bind(table.name())
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
                    found: found.to_lowercase(),
                    wanted: wanted.to_lowercase(),
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

/// SQLite knows few types; what they mean stands in the manifest. Times are texts of one width.
fn type_of(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::Text | FieldType::Date | FieldType::Timestamp | FieldType::Json => "TEXT",
        FieldType::Integer | FieldType::Boolean => "INTEGER",
        FieldType::Float => "REAL",
    }
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
    format!(
        "create table {} (org_id text not null, external_id text not null, content_hash blob not null,
         raw text not null, generation integer not null, source_updated_at text, _parent_id text,
         _merged_into text, first_seen_at text not null, synced_at text not null, deleted_at text{declared},
         primary key (org_id, external_id)) strict",
        quoted(table.name())
    )
}
