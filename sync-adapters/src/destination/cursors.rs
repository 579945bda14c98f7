//! Table `cursors`: where each sync of each entity stands.

use serde::{Serialize, de::DeserializeOwned};
use sqlx::AssertSqlSafe;

use super::{Connection, Error, Rows, connection::on};

/// A cursor as it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCursor<C> {
    /// The cursor.
    pub cursor: C,
    /// The fingerprint of the manifest under which it was saved: under another one it means nothing.
    pub manifest: String,
    /// When it was saved, by the database's clock.
    pub updated_at: jiff::Timestamp,
}

const SAVE: &str = "\
insert into {sync}cursors (org_id, adapter, entity, kind, position, manifest, updated_at)
values ($1, $2, $3, $4, $5, $6, {now})
on conflict (org_id, adapter, entity, kind) do update
set position = excluded.position, manifest = excluded.manifest, updated_at = excluded.updated_at";

const LOAD: &str = "\
select position, manifest, {utc}updated_at{/utc} as updated_at from {sync}cursors
where org_id = $1 and adapter = $2 and entity = $3 and kind = $4";

const FORGET: &str = "\
delete from {sync}cursors where org_id = $1 and adapter = $2 and entity = $3 and kind = $4";

impl Connection<'_> {
    /// Saves a cursor of a kind, such as `delta`; the one before it is gone.
    ///
    /// # Errors
    /// The cursor cannot be written as JSON, or the database fails.
    pub async fn save_cursor<C: Serialize + Sync>(
        &mut self,
        rows: &Rows,
        kind: &str,
        cursor: &C,
        manifest: &str,
    ) -> Result<(), Error> {
        let json = serde_json::to_string(cursor).map_err(|e| Error::Unsendable(e.into()))?;
        let sql = self.dialect().sql(SAVE, rows.table().name());
        let (org, adapter, entity) = rows.key();
        on!(self, connection => {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            query.bind(kind).bind(json).bind(manifest).execute(&mut **connection).await?;
        });
        Ok(())
    }

    /// The cursor of a kind, if one was saved.
    ///
    /// # Errors
    /// The stored cursor is not of this type, or the database fails.
    pub async fn load_cursor<C: DeserializeOwned>(
        &mut self,
        rows: &Rows,
        kind: &str,
    ) -> Result<Option<StoredCursor<C>>, Error> {
        let sql = self.dialect().sql(LOAD, rows.table().name());
        let (org, adapter, entity) = rows.key();
        let row: Option<(String, String, String)> = on!(self, connection => {
            let query = sqlx::query_as(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            query.bind(kind).fetch_optional(&mut **connection).await?
        });
        let Some((position, manifest, updated_at)) = row else {
            return Ok(None);
        };
        let unreadable = |e| Error::unreadable("the stored cursor", e);
        Ok(Some(StoredCursor {
            cursor: serde_json::from_str(&position).map_err(unreadable)?,
            manifest,
            updated_at: read_time(&updated_at)?,
        }))
    }

    /// Forgets the cursor of a kind.
    ///
    /// # Errors
    /// The database fails.
    pub async fn forget_cursor(&mut self, rows: &Rows, kind: &str) -> Result<(), Error> {
        let sql = self.dialect().sql(FORGET, rows.table().name());
        let (org, adapter, entity) = rows.key();
        on!(self, connection => {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            query.bind(kind).execute(&mut **connection).await?;
        });
        Ok(())
    }
}

/// A time as the bookkeeping tables give it.
pub(super) fn read_time(text: &str) -> Result<jiff::Timestamp, Error> {
    text.parse()
        .map_err(|e: jiff::Error| Error::unreadable("a stored time", e))
}
