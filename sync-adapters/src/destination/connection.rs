//! A borrowed connection, and the page that is written on it.

use sqlx::{PgConnection, SqliteConnection};
use sync_core::{Quarantined, Record, change::ChangeCounts, proof::Generation};

use super::{Error, Rows, dialect::Dialect, page, postgres, sqlite};

/// A connection of the caller, usually inside a transaction of the caller.
///
/// Dropping the future of an operation leaves the transaction as it is; the caller then rolls it back.
#[derive(Debug)]
#[non_exhaustive]
pub enum Connection<'c> {
    /// To PostgreSQL.
    Postgres(&'c mut PgConnection),
    /// To SQLite.
    Sqlite(&'c mut SqliteConnection),
}

impl<'c> From<&'c mut PgConnection> for Connection<'c> {
    fn from(connection: &'c mut PgConnection) -> Self {
        Self::Postgres(connection)
    }
}

impl<'c> From<&'c mut SqliteConnection> for Connection<'c> {
    fn from(connection: &'c mut SqliteConnection) -> Self {
        Self::Sqlite(connection)
    }
}

/// What became of a page.
#[derive(Debug, Default)]
pub struct PageWritten {
    /// How many records were inserted, updated, left as they are, set aside.
    ///
    /// Unchanged are also those that the page holds twice, and those that are older than what is stored.
    pub counts: ChangeCounts,
    /// Records that no database can hold; already in quarantine.
    pub refused: Vec<Quarantined>,
}

/// Runs the same query on either connection.
macro_rules! on {
    ($connection:expr, $bound:ident => $query:expr) => {
        match $connection {
            $crate::destination::Connection::Postgres($bound) => $query,
            $crate::destination::Connection::Sqlite($bound) => $query,
        }
    };
}
pub(super) use on;

impl Connection<'_> {
    /// Writes the records of a page. A record whose content is stored already is not rewritten; one that is
    /// older than what is stored is not written; one that was deleted and comes again lives again.
    ///
    /// With a generation, every record of the page bears it afterwards: a walk that looks for deletions
    /// gives it, a delta does not. Idempotent by (organisation, external id) and content hash. One statement
    /// on Postgres; two where the page before was mostly stored already, and then only what differs is sent.
    ///
    /// # Errors
    /// The database fails, or a record does not have the table's shape. The transaction must then be undone.
    pub async fn write_page(
        &mut self,
        rows: &Rows,
        generation: Option<Generation>,
        records: &[Record],
    ) -> Result<PageWritten, Error> {
        rows.table.check_shape(records)?;
        let page = page::fold(&rows.table, records);
        let mut counts = ChangeCounts::default();
        if !page.records.is_empty() {
            counts = match self {
                Self::Postgres(connection) => {
                    postgres::write(connection, rows, generation, &page.records).await?
                }
                Self::Sqlite(connection) => {
                    sqlite::write(connection, rows, generation, &page.records).await?
                }
            };
        }
        counts.unchanged += page.folded;
        counts.quarantined += page.refused.len() as u64;
        self.quarantine(rows, generation, &page.refused).await?;
        Ok(PageWritten {
            counts,
            refused: page.refused,
        })
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// The same connection for a shorter time.
    pub fn reborrow(&mut self) -> Connection<'_> {
        match self {
            Self::Postgres(connection) => Connection::Postgres(connection),
            Self::Sqlite(connection) => Connection::Sqlite(connection),
        }
    }
}
