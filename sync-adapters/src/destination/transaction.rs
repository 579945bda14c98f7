//! A transaction of a destination's own.

use sqlx::{Postgres, Sqlite};

use super::{Connection, Destination, Error};

/// An open transaction. Dropping it undoes what was done in it.
#[derive(Debug)]
pub struct Transaction(Open);

#[derive(Debug)]
enum Open {
    Postgres(sqlx::Transaction<'static, Postgres>),
    Sqlite(sqlx::Transaction<'static, Sqlite>),
}

impl Destination {
    /// Opens a transaction. On SQLite it is the only writer until it ends.
    ///
    /// # Errors
    /// The database does not answer, or its file stays busy.
    pub async fn begin(&self) -> Result<Transaction, Error> {
        // In a task of its own: a caller that is cancelled between BEGIN and its answer would otherwise
        // hand an open transaction back to the pool.
        let destination = self.clone();
        let begin = tokio::spawn(async move {
            Ok(match destination {
                Self::Postgres(pool) => Open::Postgres(pool.begin().await?),
                Self::Sqlite(pool) => Open::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            })
        });
        finish(begin.await).map(Transaction)
    }
}

impl Transaction {
    /// The connection, to work on.
    pub fn connection(&mut self) -> Connection<'_> {
        match &mut self.0 {
            Open::Postgres(transaction) => Connection::Postgres(transaction),
            Open::Sqlite(transaction) => Connection::Sqlite(transaction),
        }
    }

    /// Makes everything done in the transaction last. A caller that is cancelled here does not undo it.
    ///
    /// Never call it after an operation has failed: the database then undoes everything, and says nothing.
    ///
    /// # Errors
    /// The connection broke: whether the transaction took effect is unknown, and must be read back.
    pub async fn commit(self) -> Result<(), Error> {
        let commit = tokio::spawn(async move {
            match self.0 {
                Open::Postgres(transaction) => transaction.commit().await,
                Open::Sqlite(transaction) => transaction.commit().await,
            }
            .map_err(Error::from)
        });
        finish(commit.await)
    }
}

fn finish<T>(joined: Result<Result<T, Error>, tokio::task::JoinError>) -> Result<T, Error> {
    match joined {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and nothing will answer any more.
            Err(_) => Err(Error::Database(sqlx::Error::WorkerCrashed)),
        },
    }
}
