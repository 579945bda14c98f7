//! Units of work: transactions of several statements.
//!
//! A unit runs in a task of its own, which a caller that goes away does not stop. A `BEGIN` that is
//! cut off would otherwise leave a pooled connection inside a transaction that nobody knows of.

use futures_util::future::BoxFuture;
use sqlx::{Postgres, Transaction};
use tokio::time::timeout;

use super::{
    connection::Shared,
    failure::{self, Effect, NoAnswer},
    pooling::Seat,
};
use crate::journal::{Error, Result};

/// How many deadlines of a statement a unit may take.
const DEADLINES: u32 = 4;

/// Runs a unit to its end, even if the caller goes away.
pub(super) async fn run<T, F>(shared: &Shared, unit: F) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Seat) -> BoxFuture<'c, Result<T>> + Send + 'static,
{
    let shared = shared.clone();
    let deadline = shared.deadline() * DEADLINES;
    spawn(async move {
        let mut seat = Seat::new(shared.acquire().await?, shared.opening().clone());
        let outcome = timeout(deadline, unit(&mut seat)).await;
        match outcome {
            Ok(Err(error)) if error.is_transient() => {
                seat.close_on_drop();
                Err(error)
            }
            Ok(outcome) => outcome,
            Err(_) => {
                seat.close_on_drop();
                shared.withdraw_trust();
                Err(Error::Unknown(NoAnswer(deadline).into()))
            }
        }
    })
    .await
}

/// Runs a future in a task of its own.
pub(super) async fn spawn<T: Send + 'static>(
    unit: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(unit).await {
        Ok(outcome) => outcome,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(Error::Unknown(cancelled.into())),
        },
    }
}

/// Opens the transaction of a unit.
pub(super) async fn begin(seat: &mut Seat) -> Result<Transaction<'_, Postgres>> {
    seat.begin()
        .await
        .map_err(|error| failure::of_statement(error, Effect::None))
}

/// Commits a unit whose last write was checked.
pub(super) async fn commit(transaction: Transaction<'_, Postgres>) -> Result<()> {
    transaction
        .commit()
        .await
        .map_err(|error| failure::of_statement(error, Effect::Commit))
}
