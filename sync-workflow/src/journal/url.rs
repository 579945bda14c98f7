//! Journals by URL.

use std::sync::Arc;

use super::{Error, Journal, Result, memory::MemoryJournal};

/// Opens a journal by its URL and brings its schema up to date: `postgres://…`, `sqlite:path` (the
/// file is created if it is missing) or `memory:`.
///
/// # Errors
///
/// [`Error::InvalidUrl`] for any other scheme; [`Error::Unavailable`] and [`Error::Refused`] when
/// the database cannot be opened; [`Error::NewerSchema`] when a newer version migrated it.
///
/// ```
/// # async fn example() -> sync_workflow::journal::Result<()> {
/// let journal = sync_workflow::journal::connect("memory:").await?;
/// # drop(journal); Ok(()) }
/// ```
pub async fn connect(url: &str) -> Result<Arc<dyn Journal>> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(
            super::postgres::PostgresJournal::connect(url).await?,
        )),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(super::sqlite::SqliteJournal::connect(url).await?)),
        "memory" => Ok(Arc::new(MemoryJournal::new())),
        _ => Err(Error::InvalidUrl {
            detail: format!("unknown scheme {scheme:?}; expected postgres, sqlite or memory"),
        }),
    }
}
