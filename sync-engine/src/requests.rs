//! Counting requests: each attempt takes a permit, whoever repeats it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use sync_adapters::client::{LimitKey, LimitStore, LimitStoreError, Observation, Permit, Rate};

tokio::task_local! {
    static SENT: Arc<AtomicU64>;
}

/// Runs a call, and tells how many requests it sent.
pub(crate) async fn counted<T>(call: impl Future<Output = T>) -> (T, u64) {
    let sent = Arc::new(AtomicU64::new(0));
    let outcome = SENT.scope(Arc::clone(&sent), call).await;
    (outcome, sent.load(Ordering::Relaxed))
}

/// A store of budgets that counts the permits which it gives to the current task.
pub(crate) struct Counted<S> {
    inner: S,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: LimitStore> fmt::Debug for Counted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl<S: LimitStore> LimitStore for Counted<S> {
    async fn acquire(&self, key: &LimitKey, declared: Rate) -> Result<Permit, LimitStoreError> {
        let permit = self.inner.acquire(key, declared).await?;
        if permit == Permit::Granted {
            // Outside of `counted` nobody asks.
            let _uncounted = SENT.try_with(|sent| sent.fetch_add(1, Ordering::Relaxed));
        }
        Ok(permit)
    }

    async fn observe(&self, key: &LimitKey, seen: Observation) -> Result<(), LimitStoreError> {
        self.inner.observe(key, seen).await
    }

    async fn block(
        &self,
        key: &LimitKey,
        wait: std::time::Duration,
    ) -> Result<(), LimitStoreError> {
        self.inner.block(key, wait).await
    }
}
