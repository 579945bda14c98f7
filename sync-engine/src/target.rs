//! The destination, and how a step writes to it: in the journal's transaction where both are one database.

use sqlx::{Postgres, Sqlite, pool::PoolConnection};
use sync_adapters::{
    Destination,
    destination::{self, Connection},
};
use sync_workflow::{
    ActivityContext, Tx,
    journal::{self, Journal, OpenTransaction},
};

use crate::failure::StepFailure;

/// The destination of a sync.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    destination: Destination,
    /// Whether the journal is in the same database, so that rows and record commit together.
    is_journal: bool,
}

impl Target {
    /// Finds out whether journal and destination are one database.
    pub(crate) async fn of(
        destination: Destination,
        journal: &dyn Journal,
    ) -> Result<Self, TargetError> {
        let is_journal = match (&destination, journal.begin().await) {
            (Destination::Postgres(pool), Ok(OpenTransaction::Postgres(mut transaction))) => {
                share_locks(pool, &mut transaction).await?
            }
            (Destination::Sqlite(pool), Ok(OpenTransaction::Sqlite(mut transaction, _turn))) => {
                let ours = file_of(&mut *pool.acquire().await?).await?;
                ours.is_some() && ours == file_of(&mut transaction).await?
            }
            (_, Err(journal::Error::Unsupported { .. }) | Ok(_)) => false,
            (_, Err(error)) => return Err(TargetError::Journal(error)),
        };
        Ok(Self {
            destination,
            is_journal,
        })
    }

    /// Whether a page and its record commit together.
    pub(crate) fn is_journal(&self) -> bool {
        self.is_journal
    }

    pub(crate) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Opens the transaction that a step writes in.
    pub(crate) async fn begin(&self, context: &ActivityContext) -> Result<Work, StepFailure> {
        if self.is_journal {
            let is_postgres = matches!(self.destination, Destination::Postgres(_));
            let tx = context.begin().await?;
            return Ok(Work::Joined { tx, is_postgres });
        }
        Ok(Work::Own(self.destination.begin().await?))
    }

    /// A connection to read on.
    pub(crate) async fn reading(&self) -> Result<Reading, destination::Error> {
        Ok(match &self.destination {
            Destination::Postgres(pool) => Reading::Postgres(pool.acquire().await?),
            Destination::Sqlite(pool) => Reading::Sqlite(pool.acquire().await?),
            _ => return Err(unknown_kind()),
        })
    }
}

fn unknown_kind() -> destination::Error {
    destination::Error::UnsupportedUrl {
        scheme: "unknown".to_owned(),
    }
}

/// Why it could not be found out where the journal is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("the journal failed")]
    Journal(#[source] journal::Error),
    #[error("the destination failed")]
    Destination(#[source] destination::Error),
}

impl From<sqlx::Error> for TargetError {
    fn from(error: sqlx::Error) -> Self {
        Self::Destination(error.into())
    }
}

/// Advisory locks belong to one database of one server: a lock that the one connection holds is refused to
/// the other exactly when both are in the same database.
async fn share_locks(
    pool: &sqlx::PgPool,
    journal: &mut sqlx::Transaction<'static, Postgres>,
) -> Result<bool, sqlx::Error> {
    let (number, _) = uuid::Uuid::new_v4().as_u64_pair();
    let number = number.cast_signed();
    let mut ours = pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(number)
        .execute(&mut *ours)
        .await?;
    let is_free: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock($1)")
        .bind(number)
        .fetch_one(&mut **journal)
        .await?;
    ours.rollback().await?;
    Ok(!is_free)
}

/// The file that a connection has open, by its true path; none when it is in memory.
async fn file_of(
    connection: &mut sqlx::SqliteConnection,
) -> Result<Option<std::path::PathBuf>, sqlx::Error> {
    let path: String =
        sqlx::query_scalar("select file from pragma_database_list where name = 'main'")
            .fetch_one(connection)
            .await?;
    if path.is_empty() {
        return Ok(None);
    }
    Ok(Some(
        std::path::Path::new(&path)
            .canonicalize()
            .map_err(sqlx::Error::Io)?,
    ))
}

/// An open transaction of a step.
pub(crate) enum Work {
    /// The step's own transaction in the journal: the engine commits it with the step's record.
    Joined { tx: Tx, is_postgres: bool },
    /// A transaction of the destination.
    Own(destination::Transaction),
}

impl Work {
    pub(crate) fn connection(&mut self) -> Result<Connection<'_>, StepFailure> {
        match self {
            Self::Joined {
                tx,
                is_postgres: true,
            } => tx
                .postgres()
                .map(Connection::Postgres)
                .map_err(|error| StepFailure::internal(&error)),
            Self::Joined { tx, .. } => tx
                .sqlite()
                .map(Connection::Sqlite)
                .map_err(|error| StepFailure::internal(&error)),
            Self::Own(transaction) => Ok(transaction.connection()),
        }
    }

    /// Makes the step's writes last; those of a joined one last with the step's record.
    pub(crate) async fn commit(self) -> Result<(), StepFailure> {
        match self {
            Self::Joined { .. } => Ok(()),
            Self::Own(transaction) => Ok(transaction.commit().await?),
        }
    }
}

/// A connection for reading, outside of any transaction.
pub(crate) enum Reading {
    Postgres(PoolConnection<Postgres>),
    Sqlite(PoolConnection<Sqlite>),
}

impl Reading {
    pub(crate) fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Postgres(connection) => Connection::Postgres(connection),
            Self::Sqlite(connection) => Connection::Sqlite(connection),
        }
    }
}
