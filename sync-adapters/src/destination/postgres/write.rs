//! One page, one statement, one round trip. Where pages mostly hold what is stored already, a page is asked
//! for first, and only what differs is sent.

use std::{
    fmt::Write as _,
    iter,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

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
/// Fewer records are sent as they are: the question would cost more than it saves.
const WORTH_ASKING: usize = 32;
/// Parameters before those of the schema's columns: organisation, generation, and the arrays of the columns
/// that every table has. After the schema's columns come adapter, entity and the ids that were found unchanged,
/// where the ledger is written.
const FIXED: usize = 7;

/// The statements that write a page into a table.
#[derive(Debug)]
pub(in crate::destination) struct WriteStatements {
    plain: Arc<str>,
    stamping: Arc<str>,
    unchanged: Arc<str>,
    /// Whether the last page was mostly stored already. The next one is likely to be so too.
    asks_first: AtomicBool,
}

impl WriteStatements {
    pub(in crate::destination) fn new(table: &str, columns: &[Column]) -> Self {
        let written = written(table, columns);
        Self {
            plain: format!("with written as ({written}\n){COUNTS}").into(),
            stamping: format!("with written as ({written}\n){}{COUNTS}", seen(columns)).into(),
            unchanged: unchanged(table).into(),
            asks_first: AtomicBool::new(false),
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

/// Which of the records are stored with this very content, by their places from 1 on.
fn unchanged(table: &str) -> String {
    let table = quoted(table);
    format!(
        "
select coalesce(array_agg(sent.place), '{{}}')
from unnest($2::text[], $3::bytea[]) with ordinality as sent (external_id, content_hash, place),
     lateral (
       -- The offset keeps this a look-up by the key for each record, whatever the planner believes of a
       -- table that was filled just now.
       select t.content_hash from {table} t
       where t.org_id = $1 and t.external_id = sent.external_id and t.deleted_at is null
       offset 0
     ) stored
where stored.content_hash = sent.content_hash"
    )
}

/// What was met and not rewritten bears the generation in the ledger: one row of it for the whole page.
fn seen(columns: &[Column]) -> String {
    let (adapter, entity) = (FIXED + columns.len() + 1, FIXED + columns.len() + 2);
    let unchanged = entity + 1;
    format!(
        ", seen as (
  insert into sync.seen (org_id, adapter, entity, generation, external_ids)
  select $1, ${adapter}, ${entity}, $2, array_agg(met) from (
    select met from unnest($3::text[]) as met where met not in (select external_id from written)
    union all select unnest(${unchanged}::text[])
  ) as met (met)
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
        let statements = rows.table().postgres_write();
        let mut page = Page::of(chunk.to_vec());
        if chunk.len() >= WORTH_ASKING && statements.asks_first.load(Ordering::Relaxed) {
            page.leave_out_unchanged(connection, rows).await?;
        }
        let (inserted, updated) = send(connection, rows, generation, &page).await?;
        let unchanged = chunk.len() as u64 - inserted - updated;
        let is_mostly_stored = unchanged * 2 > chunk.len() as u64;
        statements
            .asks_first
            .store(is_mostly_stored, Ordering::Relaxed);
        counts.inserted += inserted;
        counts.updated += updated;
        counts.unchanged += unchanged;
    }
    Ok(counts)
}

/// What is sent of a page.
struct Page<'r> {
    records: Vec<&'r Record>,
    /// Those that are stored as they are.
    unchanged: Vec<&'r Record>,
}

impl<'r> Page<'r> {
    fn of(records: Vec<&'r Record>) -> Self {
        let unchanged = Vec::new();
        Self { records, unchanged }
    }

    /// Asks which records are stored with the same content. Their rows are neither locked nor written.
    async fn leave_out_unchanged(
        &mut self,
        connection: &mut PgConnection,
        rows: &Rows,
    ) -> Result<(), Error> {
        let mut arguments = PgArguments::default();
        let added = add_keys(&mut arguments, rows, &self.records);
        added.map_err(Error::Unsendable)?;
        let statement = AssertSqlSafe(rows.table().postgres_write().unchanged.clone());
        let places: Vec<i64> = sqlx::query_scalar_with(statement, arguments)
            .fetch_one(connection)
            .await?;
        let mut is_unchanged = vec![false; self.records.len()];
        for place in places {
            let found = usize::try_from(place - 1).ok();
            if let Some(found) = found.and_then(|index| is_unchanged.get_mut(index)) {
                *found = true;
            }
        }
        let mut told = is_unchanged.into_iter();
        let records = std::mem::take(&mut self.records).into_iter();
        (self.unchanged, self.records) = records.partition(|_| told.next() == Some(true));
        Ok(())
    }
}

fn add_keys(
    arguments: &mut PgArguments,
    rows: &Rows,
    records: &[&Record],
) -> Result<(), BoxDynError> {
    arguments.add(rows.org().as_str())?;
    arguments.add(ids(records).bind_iter())?;
    arguments.add(hashes(records).bind_iter())
}

fn ids<'r>(records: &'r [&Record]) -> impl Iterator<Item = &'r str> + Clone {
    records.iter().map(|record| record.external_id.as_str())
}

fn hashes<'r>(records: &'r [&Record]) -> impl Iterator<Item = &'r [u8]> + Clone {
    records
        .iter()
        .map(|record| &record.content_hash.as_bytes()[..])
}

/// Writes what is left of a page, and gives how many rows were inserted and how many updated.
async fn send(
    connection: &mut PgConnection,
    rows: &Rows,
    generation: Option<Generation>,
    page: &Page<'_>,
) -> Result<(u64, u64), Error> {
    if page.records.is_empty() && generation.is_none() {
        return Ok((0, 0));
    }
    let arguments = arguments(rows, generation, page).map_err(Error::Unsendable)?;
    let statement = AssertSqlSafe(rows.table().postgres_write().of(generation));
    let (inserted, updated): (i64, i64) = sqlx::query_as_with(statement, arguments)
        .fetch_one(connection)
        .await?;
    Ok((inserted.unsigned_abs(), updated.unsigned_abs()))
}

fn arguments(
    rows: &Rows,
    generation: Option<Generation>,
    page: &Page<'_>,
) -> Result<PgArguments, BoxDynError> {
    let records = &page.records[..];
    let (org, adapter, entity) = rows.key();
    let columns = rows.table().columns();
    let raw_bytes: usize = records.iter().map(|record| record.raw.get().len()).sum();
    let mut arguments = PgArguments::default();
    arguments.reserve(FIXED + columns.len() + 3, raw_bytes * 2);
    arguments.add(org)?;
    arguments.add(generation.map_or(0, |generation| generation.0))?;
    arguments.add(ids(records).bind_iter())?;
    arguments.add(hashes(records).bind_iter())?;
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
        arguments.add(ids(&page.unchanged).bind_iter())?;
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
