//! A page: one question for what is stored, then the rows that differ, many to a statement.

use std::{collections::HashMap, fmt::Write as _};

use sqlx::{
    Arguments as _, AssertSqlSafe, SqliteConnection, error::BoxDynError, sqlite::SqliteArguments,
};
use sync_core::{Record, Value, change::ChangeCounts, proof::Generation};

use super::super::{
    Error, Rows,
    dialect::{Dialect, SQLITE_NOW, quoted},
    quarantine::json,
    table::Column,
};

/// Parameters that one statement takes.
const MOST_PARAMETERS: usize = 32_000;
/// Rows of one statement: powers of two up to this, so that few statements are prepared, and then reused.
const MOST_ROWS: usize = 64;
/// Parameters of a row before those of the schema's columns.
const FIXED: usize = 7;
/// Records whose stored state is asked for at once.
const CHUNK: usize = 1_000;

/// What is stored of a record.
struct Stored {
    content_hash: Vec<u8>,
    source_updated_at: Option<String>,
    is_deleted: bool,
}

const STORED: &str = "\
select external_id, content_hash, source_updated_at, deleted_at is not null from {table}
where org_id = $1 and external_id in (select value from json_each($2))";

const NOTE_SEEN: &str = "\
insert into sync_seen (org_id, adapter, entity, generation, external_ids) values ($1, $2, $3, $4, $5)";

/// The statement that writes so many rows into a table.
pub(in crate::destination) fn write_statement(
    table: &str,
    columns: &[Column],
    rows: usize,
) -> String {
    let (mut names, mut updates) = (String::new(), String::new());
    for column in columns {
        let name = quoted(column.name.as_str());
        write!(names, ", {name}").expect("writing to a string");
        write!(updates, ", {name} = excluded.{name}").expect("writing to a string");
    }
    let marks = ", ?".repeat(FIXED - 1 + columns.len());
    let row = format!("({SQLITE_NOW}, {SQLITE_NOW}, ?{marks})");
    let values = vec![row; rows].join(", ");
    format!(
        "\
insert into {} as t
  (first_seen_at, synced_at, org_id, external_id, content_hash, raw, generation, source_updated_at,
   _parent_id{names})
values {values}
on conflict (org_id, external_id) do update
set content_hash = excluded.content_hash, raw = excluded.raw,
    generation = max(t.generation, excluded.generation),
    source_updated_at = excluded.source_updated_at, _parent_id = excluded._parent_id,
    synced_at = excluded.synced_at, deleted_at = null, _merged_into = null{updates}",
        quoted(table)
    )
}

/// Writes records, each id at most once among them. The transaction is the only writer, so that what is
/// stored cannot change between the question and the rows.
pub(in crate::destination) async fn write(
    connection: &mut SqliteConnection,
    rows: &Rows,
    generation: Option<Generation>,
    records: &[&Record],
) -> Result<ChangeCounts, Error> {
    let mut counts = ChangeCounts::default();
    for chunk in records.chunks(CHUNK) {
        let stored = stored(connection, rows, chunk).await?;
        let (mut changed, mut unchanged) = (Vec::with_capacity(chunk.len()), Vec::new());
        for record in chunk {
            let found = stored.get(record.external_id.as_str());
            match found {
                Some(found) if !must_write(found, record) => {
                    counts.unchanged += 1;
                    unchanged.push(record.external_id.as_str());
                    continue;
                }
                Some(_) => counts.updated += 1,
                None => counts.inserted += 1,
            }
            changed.push(*record);
        }
        write_rows(connection, rows, generation, &changed).await?;
        if let Some(generation) = generation.filter(|_| !unchanged.is_empty()) {
            note_seen(connection, rows, generation, &unchanged).await?;
        }
    }
    Ok(counts)
}

fn must_write(stored: &Stored, record: &Record) -> bool {
    let differs = stored.content_hash != record.content_hash.as_bytes() || stored.is_deleted;
    // A row never goes back to an older state; without times, what comes last holds.
    let found = record.source_updated_at.map(time);
    let is_older = stored
        .source_updated_at
        .as_ref()
        .zip(found)
        .is_some_and(|(stored, new)| *stored > new);
    differs && !is_older
}

async fn stored(
    connection: &mut SqliteConnection,
    rows: &Rows,
    records: &[&Record],
) -> Result<HashMap<String, Stored>, Error> {
    let ids: Vec<&str> = records
        .iter()
        .map(|record| record.external_id.as_str())
        .collect();
    let sql = Dialect::Sqlite.sql(STORED, rows.table().name());
    let found: Vec<(String, Vec<u8>, Option<String>, bool)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(rows.org().as_str())
        .bind(json(&ids)?)
        .fetch_all(connection)
        .await?;
    let stored = found
        .into_iter()
        .map(|(id, content_hash, source_updated_at, is_deleted)| {
            (
                id,
                Stored {
                    content_hash,
                    source_updated_at,
                    is_deleted,
                },
            )
        });
    Ok(stored.collect())
}

async fn write_rows(
    connection: &mut SqliteConnection,
    rows: &Rows,
    generation: Option<Generation>,
    mut records: &[&Record],
) -> Result<(), Error> {
    let most = (MOST_PARAMETERS / (FIXED + rows.table().columns().len())).clamp(1, MOST_ROWS);
    while !records.is_empty() {
        let size = largest_power_of_two(records.len().min(most));
        let (chunk, rest) = records.split_at(size);
        let arguments = arguments(rows, generation, chunk).map_err(Error::Unsendable)?;
        let statement = AssertSqlSafe(rows.table().sqlite_write(size));
        sqlx::query_with(statement, arguments)
            .execute(&mut *connection)
            .await?;
        records = rest;
    }
    Ok(())
}

fn largest_power_of_two(at_most: usize) -> usize {
    1 << at_most.ilog2()
}

fn arguments(
    rows: &Rows,
    generation: Option<Generation>,
    records: &[&Record],
) -> Result<SqliteArguments, BoxDynError> {
    let mut arguments = SqliteArguments::default();
    for record in records {
        arguments.add(rows.org().as_str())?;
        arguments.add(record.external_id.as_str())?;
        arguments.add(&record.content_hash.as_bytes()[..])?;
        arguments.add(record.raw.get())?;
        arguments.add(generation.map_or(0, |generation| generation.0))?;
        arguments.add(record.source_updated_at.map(time))?;
        arguments.add(record.parent_id.as_ref().map(|id| id.as_str()))?;
        for value in &record.values {
            add_value(&mut arguments, value)?;
        }
    }
    Ok(arguments)
}

fn add_value(arguments: &mut SqliteArguments, value: &Value) -> Result<(), BoxDynError> {
    match value {
        Value::Null => arguments.add(None::<&str>),
        Value::Text(text) => arguments.add(&**text),
        Value::Integer(number) => arguments.add(*number),
        Value::Float(number) => arguments.add(*number),
        Value::Boolean(boolean) => arguments.add(*boolean),
        Value::Date(date) => arguments.add(date.to_string()),
        Value::Timestamp(instant) => arguments.add(time(*instant)),
        Value::Json(json) => arguments.add(json.get()),
    }
}

/// An instant as a text of one width, to the microsecond, as Postgres keeps it.
fn time(instant: jiff::Timestamp) -> String {
    format!("{instant:.6}")
}

async fn note_seen(
    connection: &mut SqliteConnection,
    rows: &Rows,
    generation: Generation,
    ids: &[&str],
) -> Result<(), Error> {
    let (org, adapter, entity) = rows.key();
    let query = sqlx::query(NOTE_SEEN).bind(org).bind(adapter).bind(entity);
    query
        .bind(generation.0)
        .bind(json(ids)?)
        .execute(connection)
        .await?;
    Ok(())
}
