//! One page, one statement, one round trip.

use std::{fmt::Write as _, iter, sync::Arc};

use sqlx::{
    Arguments as _, AssertSqlSafe, Encode, PgConnection, Postgres, Type,
    error::BoxDynError,
    postgres::{PgArguments, PgBindIterExt, PgHasArrayType},
};
use sync_core::{FieldType, Record, Value, change::ChangeCounts, proof::Generation};

use super::{
    super::{Error, Rows, dialect::quoted, table::Column},
    value::{Day, Instant, type_of},
};

/// Records in one statement; a larger page takes several.
const MOST_ROWS: usize = 5_000;
/// Parameters before those of the schema's columns: organisation, generation, and the arrays of the columns
/// that every table has. After the schema's columns come adapter and entity, where the ledger is written.
const FIXED: usize = 7;

/// The statements that write a page into a table.
#[derive(Debug)]
pub(in crate::destination) struct WriteStatements {
    plain: Arc<str>,
    stamping: Arc<str>,
}

impl WriteStatements {
    pub(in crate::destination) fn new(table: &str, columns: &[Column]) -> Self {
        let written = written(table, columns);
        Self {
            plain: format!("with written as ({written}\n){COUNTS}").into(),
            stamping: format!("with written as ({written}\n){}{COUNTS}", seen(columns)).into(),
        }
    }

    fn of(&self, generation: Option<Generation>) -> Arc<str> {
        match generation {
            None => self.plain.clone(),
            Some(_) => self.stamping.clone(),
        }
    }
}

/// How many rows were inserted, and how many updated.
const COUNTS: &str = "
select count(*) filter (where inserted), count(*) filter (where not inserted) from written";

/// What was met and not rewritten bears the generation in the ledger: one row of it for the whole page.
fn seen(columns: &[Column]) -> String {
    let (adapter, entity) = (FIXED + columns.len() + 1, FIXED + columns.len() + 2);
    format!(
        ", seen as (
  insert into sync.seen (org_id, adapter, entity, generation, external_ids)
  select $1, ${adapter}, ${entity}, $2, array_agg(met) from unnest($3::text[]) as met
  where met not in (select external_id from written)
  having count(*) > 0
)"
    )
}

/// Inserts what is new and updates what differs.
fn written(table: &str, columns: &[Column]) -> String {
    let table = quoted(table);
    let (mut arrays, mut names, mut values, mut updates) =
        (String::new(), String::new(), String::new(), String::new());
    for (index, column) in columns.iter().enumerate() {
        let name = quoted(column.name.as_str());
        // Reading an array of json leaves two copies of each document in memory until the statement ends.
        let (sent_as, cast) = match column.field_type {
            FieldType::Json => ("text", "::json"),
            other => (type_of(other), ""),
        };
        let parameter = FIXED + 1 + index;
        write!(arrays, ", unnest(${parameter}::{sent_as}[]) as {name}")
            .expect("writing to a string");
        write!(names, ", {name}").expect("writing to a string");
        write!(values, ", i.{name}{cast}").expect("writing to a string");
        write!(updates, ", {name} = excluded.{name}").expect("writing to a string");
    }
    format!(
        "
  insert into {table} as t
    (org_id, external_id, content_hash, raw, generation, source_updated_at, _parent_id,
     first_seen_at, synced_at{names})
  select $1, i.external_id, i.content_hash, i.raw::json, $2, i.source_updated_at, i._parent_id,
         clock_timestamp(), clock_timestamp(){values}
  from (
    -- Arrays taken apart in step: as rows of one function in the from clause each array would first be
    -- written down in full, which takes more than twice the time. An empty array stands for one of nulls:
    -- what has ended goes on as null, and costs nothing.
    select unnest($3::text[]) as external_id, unnest($4::bytea[]) as content_hash,
           unnest($5::text[]) as raw, unnest($6::timestamptz[]) as source_updated_at,
           unnest($7::text[]) as _parent_id{arrays}
  ) i
  on conflict (org_id, external_id) do update
  set content_hash = excluded.content_hash, raw = excluded.raw,
      generation = greatest(t.generation, excluded.generation),
      source_updated_at = excluded.source_updated_at, _parent_id = excluded._parent_id,
      synced_at = excluded.synced_at, deleted_at = null, _merged_into = null{updates}
  where (t.content_hash is distinct from excluded.content_hash or t.deleted_at is not null)
    -- A row never goes back to an older state; without times, what comes last holds.
    and (t.source_updated_at <= excluded.source_updated_at) is not false
  -- No transaction has touched a row that was inserted just now.
  returning t.external_id, t.xmax = 0 as inserted"
    )
}

/// Writes records, each id at most once among them.
pub(in crate::destination) async fn write(
    connection: &mut PgConnection,
    rows: &Rows,
    generation: Option<Generation>,
    records: &[&Record],
) -> Result<ChangeCounts, Error> {
    let mut counts = ChangeCounts::default();
    for chunk in records.chunks(MOST_ROWS) {
        let arguments = arguments(rows, generation, chunk).map_err(Error::Unsendable)?;
        let statement = AssertSqlSafe(rows.table().postgres_write().of(generation));
        let (inserted, updated): (i64, i64) = sqlx::query_as_with(statement, arguments)
            .fetch_one(&mut *connection)
            .await?;
        counts.inserted += inserted.unsigned_abs();
        counts.updated += updated.unsigned_abs();
    }
    counts.unchanged = records.len() as u64 - counts.inserted - counts.updated;
    Ok(counts)
}

fn arguments(
    rows: &Rows,
    generation: Option<Generation>,
    records: &[&Record],
) -> Result<PgArguments, BoxDynError> {
    let (org, adapter, entity) = rows.key();
    let columns = rows.table().columns();
    let raw_bytes: usize = records.iter().map(|record| record.raw.get().len()).sum();
    let mut arguments = PgArguments::default();
    arguments.reserve(FIXED + columns.len() + 2, raw_bytes * 2);
    arguments.add(org)?;
    arguments.add(generation.map_or(0, |generation| generation.0))?;
    let ids = records.iter().map(|record| record.external_id.as_str());
    arguments.add(ids.bind_iter())?;
    let hashes = records
        .iter()
        .map(|record| &record.content_hash.as_bytes()[..]);
    arguments.add(hashes.bind_iter())?;
    arguments.add(records.iter().map(|record| record.raw.get()).bind_iter())?;
    let times = records
        .iter()
        .map(|record| record.source_updated_at.map(Instant));
    add_array(&mut arguments, times)?;
    let parents = records
        .iter()
        .map(|record| record.parent_id.as_ref().map(|id| id.as_str()));
    add_array(&mut arguments, parents)?;
    for (index, column) in columns.iter().enumerate() {
        let values = records.iter().map(|record| &record.values[index]);
        add_column(&mut arguments, column, values)?;
    }
    if generation.is_some() {
        arguments.add(adapter)?;
        arguments.add(entity)?;
    }
    Ok(arguments)
}

/// A value of another type than its column, which the mapping never makes, is stored as null.
fn add_column<'r>(
    arguments: &mut PgArguments,
    column: &Column,
    values: impl Iterator<Item = &'r Value> + Clone,
) -> Result<(), BoxDynError> {
    macro_rules! array {
        ($pattern:pat => $value:expr) => {
            add_array(
                arguments,
                values.map(|value| match value {
                    $pattern => Some($value),
                    _ => None,
                }),
            )
        };
    }
    match column.field_type {
        FieldType::Text => array!(Value::Text(text) => &**text),
        FieldType::Integer => array!(Value::Integer(number) => *number),
        FieldType::Float => array!(Value::Float(number) => *number),
        FieldType::Boolean => array!(Value::Boolean(boolean) => *boolean),
        FieldType::Date => array!(Value::Date(date) => Day(*date)),
        FieldType::Timestamp => array!(Value::Timestamp(instant) => Instant(*instant)),
        FieldType::Json => array!(Value::Json(json) => json.get()),
    }
}

/// An array of nulls is sent as an empty one.
fn add_array<'r, T>(
    arguments: &mut PgArguments,
    values: impl Iterator<Item = Option<T>> + Clone,
) -> Result<(), BoxDynError>
where
    T: Encode<'r, Postgres> + Type<Postgres> + PgHasArrayType + 'r,
{
    if values.clone().any(|value| value.is_some()) {
        arguments.add(values.bind_iter())
    } else {
        arguments.add(iter::empty::<T>().bind_iter())
    }
}
