//! Transactional steps: the user's SQL and the journal's record in one commit.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Context, call::TypedCall};
use crate::{
    failure::{CallError, ErrorValue, Failure},
    journal::OpenTransaction,
    payload,
    replay::{Request, TransactionBody},
};

impl Context {
    /// Runs SQL in a transaction of the journal's own database that commits together with the
    /// step's record: it happens exactly once, or not at all.
    ///
    /// The closure is given the open transaction. When it returns a value, the engine checks that
    /// this worker still owns the run, adds the record, and commits. When it returns an error, the
    /// transaction is rolled back, and the error is the step's result.
    ///
    /// A transaction that cannot begin or commit, because another one is in its way or the database is out of reach, is tried
    /// again with pauses of half a second, and the closure with it, until it commits or nobody waits for it any more:
    /// [`Context::timeout`] sets a limit, and cancelling the run ends it. Every twenty tries the log has `transaction_contended`. If it is the
    /// closure's own SQL that such a thing happens to (a deadlock, a serialization failure, a connection that breaks
    /// off), it is tried twenty times; then the error is the step's result.
    ///
    /// ```
    /// use sync_workflow::{Context, Failure, Tx};
    ///
    /// async fn debit(ctx: Context, account: i64) -> Result<i64, Failure> {
    ///     let balance: i64 = ctx
    ///         .transaction("debit", async move |mut tx: Tx| {
    ///             let sql = "update account set balance = balance - 1 where id = $1 returning balance";
    ///             let balance = sqlx::query_scalar(sql).bind(account).fetch_one(tx.postgres()?).await?;
    ///             Ok::<i64, Failure>(balance)
    ///         })
    ///         .await?;
    ///     Ok(balance)
    /// }
    /// ```
    pub fn transaction<T, E, F, Fut>(&self, name: &str, body: F) -> TransactionCall<T, E>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: ErrorValue,
        F: FnOnce(Tx) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let body: BoxedBody = Box::new(move |tx| {
            let attempt = body(tx);
            Box::pin(async move {
                let value = attempt.await.map_err(ErrorValue::into_failure)?;
                payload::encode(&value)
            })
        });
        let request = |_| Request::Transaction {
            body: Some(TransactionBody::new(body)),
            retry: Arc::default(),
        };
        TransactionCall(TypedCall::new(self, name.into(), Ok(Bytes::new()), request))
    }
}

/// The closure of a transactional step, with its types erased.
pub(crate) type BoxedBody =
    Box<dyn FnOnce(Tx) -> Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + Send>> + Send>;

/// A transactional step. Awaiting it gives the closure's value once it is committed.
#[must_use = "a step runs when it is awaited"]
pub struct TransactionCall<T, E>(TypedCall<T, E>);

impl<T: DeserializeOwned, E: ErrorValue> Future for TransactionCall<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

/// Where a [`Tx`] puts its transaction back when the step's code is done with it.
pub(crate) type ReturnSlot = Arc<Mutex<Option<OpenTransaction>>>;

/// An open transaction on the journal's database, lent to the code of one step.
///
/// Dropping it hands the transaction back to the engine, which commits it with the step's record if
/// the step succeeds. Code never commits it by itself.
#[derive(Debug)]
pub struct Tx {
    transaction: Option<OpenTransaction>,
    slot: ReturnSlot,
}

impl Tx {
    pub(crate) fn new(transaction: OpenTransaction) -> (Self, ReturnSlot) {
        let slot = ReturnSlot::default();
        (
            Self {
                transaction: Some(transaction),
                slot: Arc::clone(&slot),
            },
            slot,
        )
    }

    /// The connection of a Postgres journal, inside the transaction.
    ///
    /// # Errors
    ///
    /// [`WrongDatabase`] when the journal is not in Postgres.
    #[cfg(feature = "postgres")]
    pub fn postgres(&mut self) -> Result<&mut sqlx::PgConnection, WrongDatabase> {
        match &mut self.transaction {
            Some(OpenTransaction::Postgres(transaction)) => Ok(&mut **transaction),
            _ => Err(WrongDatabase {
                expected: "postgres",
            }),
        }
    }

    /// The connection of a SQLite journal, inside the transaction.
    ///
    /// # Errors
    ///
    /// [`WrongDatabase`] when the journal is not in SQLite.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(&mut self) -> Result<&mut sqlx::SqliteConnection, WrongDatabase> {
        match &mut self.transaction {
            Some(OpenTransaction::Sqlite(transaction, _)) => Ok(&mut **transaction),
            _ => Err(WrongDatabase { expected: "sqlite" }),
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = self.transaction.take();
    }
}

/// The step's code expects another database than the one that the journal is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal is not in {expected}")]
pub struct WrongDatabase {
    /// What the code expects.
    pub expected: &'static str,
}
