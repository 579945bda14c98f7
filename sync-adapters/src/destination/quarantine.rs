//! Table `quarantine`: documents that could not become rows, with the reason.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::AssertSqlSafe;
use sync_core::{ExternalId, QuarantineReason, Quarantined, proof::Generation};

use super::{Connection, Error, Rows, connection::on, cursors::read_time, generations::count};

/// A document in quarantine.
#[derive(Debug, Clone)]
pub struct QuarantineEntry {
    /// The source's id, if it could be read.
    pub external_id: Option<ExternalId>,
    /// Why it is here.
    pub reason: QuarantineReason,
    /// The document, in the bytes of the source.
    pub raw: Box<RawValue>,
    /// When it was first put here.
    pub first_seen_at: jiff::Timestamp,
    /// When it was last put here.
    pub last_seen_at: jiff::Timestamp,
    /// How often it was put here.
    pub occurrences: u64,
}

/// A document on its way into the table.
#[derive(Debug, Serialize)]
struct Item<'q> {
    item: String,
    external_id: Option<&'q str>,
    reason: String,
    raw: &'q str,
}

const PUT: &str = "\
insert into {sync}quarantine as q
  (org_id, adapter, entity, item, external_id, reason, raw, generation, first_seen_at, last_seen_at, occurrences)
select $1, $2, $3, e.value ->> 'item', e.value ->> 'external_id', e.value ->> 'reason', e.value ->> 'raw',
       $4, {now}, {now}, 1
from {each}
where true
on conflict (org_id, adapter, entity, item) do update
set reason = excluded.reason, raw = excluded.raw, last_seen_at = excluded.last_seen_at,
    -- A delta has no generation, and must not undo what a walk has noted.
    generation = case when excluded.generation > q.generation
                      then excluded.generation else q.generation end,
    occurrences = q.occurrences + 1";

const NOTE_SEEN: &str = "\
insert into {sync}seen (org_id, adapter, entity, generation, external_ids) values ($1, $2, $3, $4, {array})";

const RELEASE: &str = "\
delete from {sync}quarantine
where org_id = $1 and adapter = $2 and entity = $3 and generation >= $4 and external_id in ({ids})";

const LIST: &str = "\
select external_id, reason, raw, {utc}first_seen_at{/utc}, {utc}last_seen_at{/utc}, occurrences
from {sync}quarantine where org_id = $1 and adapter = $2 and entity = $3 order by item limit $4";

const COUNT: &str = "\
select count(*) from {sync}quarantine where org_id = $1 and adapter = $2 and entity = $3";

/// What a complete walk did not meet again is no longer wrong.
pub(super) const SETTLE: &str = "\
delete from {sync}quarantine
where org_id = $1 and adapter = $2 and entity = $3 and generation < $4";

impl Connection<'_> {
    /// Puts documents into quarantine. One that is there already is renewed and counted.
    ///
    /// With a generation, documents whose id could be read are noted as seen by the walk: the source still
    /// has them, and their older rows are no candidates for deletion.
    ///
    /// # Errors
    /// The database fails.
    pub async fn quarantine(
        &mut self,
        rows: &Rows,
        generation: Option<Generation>,
        documents: &[Quarantined],
    ) -> Result<(), Error> {
        if documents.is_empty() {
            return Ok(());
        }
        let items: BTreeMap<String, Item<'_>> = documents
            .iter()
            .map(|document| Ok((key(document), item(document)?)))
            .collect::<Result<_, Error>>()?;
        let items = json(&items.into_values().collect::<Vec<_>>())?;
        let number = generation.map_or(0, |generation| generation.0);
        self.with_json(PUT, rows, number, &items).await?;
        let ids: Vec<&str> = documents
            .iter()
            .filter_map(|document| Some(document.external_id.as_ref()?.as_str()))
            .collect();
        if generation.is_some() && !ids.is_empty() {
            self.with_json(NOTE_SEEN, rows, number, &json(&ids)?)
                .await?;
        }
        Ok(())
    }

    /// Takes records out of quarantine that have since become rows.
    ///
    /// # Errors
    /// The database fails.
    pub async fn release_quarantined(
        &mut self,
        rows: &Rows,
        ids: &[ExternalId],
    ) -> Result<u64, Error> {
        if ids.is_empty() {
            return Ok(0);
        }
        self.with_json(RELEASE, rows, 0, &json(ids)?).await
    }

    /// Documents in quarantine.
    ///
    /// # Errors
    /// The database fails.
    pub async fn quarantined_count(&mut self, rows: &Rows) -> Result<u64, Error> {
        let sql = self.dialect().sql(COUNT, rows.table().name());
        let (org, adapter, entity) = rows.key();
        let documents: i64 = on!(self, connection => {
            let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            query.fetch_one(&mut **connection).await?
        });
        Ok(count(documents))
    }

    /// The first documents in quarantine, at most `limit`.
    ///
    /// # Errors
    /// The database fails, or holds what cannot be read.
    pub async fn quarantined(
        &mut self,
        rows: &Rows,
        limit: u32,
    ) -> Result<Vec<QuarantineEntry>, Error> {
        let sql = self.dialect().sql(LIST, rows.table().name());
        let (org, adapter, entity) = rows.key();
        let entries: Vec<(Option<String>, String, String, String, String, i64)> = on!(self, connection => {
            let query = sqlx::query_as(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            query.bind(i64::from(limit)).fetch_all(&mut **connection).await?
        });
        let unreadable = |e| Error::unreadable("a document in quarantine", e);
        let read = |(id, reason, raw, first, last, occurrences): (
            Option<String>,
            String,
            String,
            String,
            String,
            i64,
        )| {
            Ok(QuarantineEntry {
                external_id: id
                    .map(ExternalId::new)
                    .transpose()
                    .map_err(|e| Error::unreadable("an id", e))?,
                reason: serde_json::from_str(&reason).map_err(unreadable)?,
                raw: RawValue::from_string(raw).map_err(unreadable)?,
                first_seen_at: read_time(&first)?,
                last_seen_at: read_time(&last)?,
                occurrences: count(occurrences),
            })
        };
        entries.into_iter().map(read).collect()
    }

    /// Runs a statement on the rows' key, a generation and a JSON array; tells how many rows it changed.
    pub(super) async fn with_json(
        &mut self,
        template: &'static str,
        rows: &Rows,
        generation: i64,
        array: &str,
    ) -> Result<u64, Error> {
        let sql = self.dialect().sql(template, rows.table().name());
        let (org, adapter, entity) = rows.key();
        Ok(on!(self, connection => {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            let query = query.bind(generation).bind(array);
            query.execute(&mut **connection).await?.rows_affected()
        }))
    }
}

/// What makes a document the same one the next time: its id, or else its bytes.
fn key(document: &Quarantined) -> String {
    match &document.external_id {
        Some(id) => format!("id:{id}"),
        None => {
            let digest = xxhash_rust::xxh3::xxh3_128(document.raw.get().as_bytes());
            format!("raw:{digest:032x}")
        }
    }
}

fn item(document: &Quarantined) -> Result<Item<'_>, Error> {
    Ok(Item {
        item: key(document),
        external_id: document.external_id.as_ref().map(ExternalId::as_str),
        reason: json(&document.reason)?,
        raw: document.raw.get(),
    })
}

pub(super) fn json(value: &(impl Serialize + ?Sized)) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| Error::Unsendable(e.into()))
}
