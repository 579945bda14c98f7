//! Where synced records go: Postgres or SQLite.
//!
//! ```text
//! Destination ── begin ─▶ Transaction ── connection ─▶ Connection ─┬ write_page      rows of one page
//!   │ connect              commit                         ▲        ├ save_cursor     where the sync stands
//!   │ prepare (tables)                                    │        ├ quarantine      documents set aside
//!   │                     a caller's own transaction ─────┘        ├ begin_generation, candidates, tombstone
//!   └ Table ─ rows_of(org) ─▶ Rows                                 └ check_references
//! ```
//!
//! Every operation runs on a [`Connection`], which borrows a connection of the caller: rows, cursor and
//! the record of a durable step commit together, or not at all.
//!
//! **How a row is stamped with its generation.** A row that is written carries the generation in its column.
//! A row that is met unchanged is not rewritten: its id goes into the ledger `seen`, one row of the ledger
//! per page. Stamping the rows themselves costs four times as much and doubles the table. A row *bears*
//! a generation when the one or the other says so; every question here asks both.
//!
//! **The raw document** is kept as `json`, not `jsonb`: it keeps the bytes of the source, and takes `"\u0000"`
//! and numbers of any size.

mod connection;
mod cursors;
mod dialect;
mod error;
mod generations;
mod page;
mod postgres;
mod quarantine;
mod references;
mod sqlite;
mod table;
mod tombstones;
mod transaction;

use sqlx::{PgPool, SqlitePool};
use sync_core::Manifest;

pub use self::{
    connection::{Connection, PageWritten},
    cursors::StoredCursor,
    error::Error,
    generations::GenerationCounts,
    quarantine::QuarantineEntry,
    references::DanglingReferences,
    table::{Rows, Table},
    tombstones::{CandidateRow, PendingDeletion, Tombstoned},
    transaction::Transaction,
};

/// A database that records are synced into. Cheap to clone.
///
/// ```no_run
/// use sync_adapters::Destination;
/// # use sync_core::{Manifest, EntityName, OrgId};
/// # async fn example(manifest: Manifest) -> Result<(), Box<dyn std::error::Error>> {
/// let destination = Destination::connect("sqlite://sync.db").await?;
/// let tables = destination.prepare(&manifest).await?;
/// let people = tables[0].rows_of(OrgId::new("acme")?);
///
/// let mut transaction = destination.begin().await?;
/// let stored = transaction.connection().live_count(&people).await?;
/// transaction.commit().await?;
/// println!("{stored} people");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Destination {
    /// A PostgreSQL database.
    Postgres(PgPool),
    /// A SQLite file.
    Sqlite(SqlitePool),
}

impl Destination {
    /// Connects by address: `postgres://…` or `sqlite://…`. A SQLite file is created when it is missing.
    ///
    /// # Errors
    /// What keeps the destination from being used, each in its own variant: an unknown kind of address, an
    /// unreachable server, a refused password, a missing database, a file that is none.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => postgres::connect(url).await.map(Self::Postgres),
            Some("sqlite") => sqlite::connect(url).await.map(Self::Sqlite),
            scheme => {
                let scheme = scheme.unwrap_or_default().to_owned();
                Err(Error::UnsupportedUrl { scheme })
            }
        }
    }

    /// Makes the tables of the manifest's enabled entities and of the bookkeeping, or extends them, and
    /// returns the former. Doing so twice, or from two processes at once, is as good as once.
    ///
    /// A column that is new in the manifest is added; one that is gone from it stays.
    ///
    /// # Errors
    /// [`Error::SchemaConflict`] when a column exists with another type, [`Error::Unwritable`] when tables
    /// may not be made. Then nothing was changed.
    pub async fn prepare(&self, manifest: &Manifest) -> Result<Vec<Table>, Error> {
        let tables = Table::all(manifest)?;
        let mut transaction = self.begin().await?;
        match transaction.connection() {
            Connection::Postgres(connection) => postgres::create(connection, &tables).await?,
            Connection::Sqlite(connection) => sqlite::create(connection, &tables).await?,
        }
        transaction.commit().await?;
        Ok(tables)
    }
}
