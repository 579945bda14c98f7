//! Budgets of requests: 429 answers are prevented, not only endured.
//!
//! A budget belongs to a credential at an API, not to a process. Where it is kept is behind
//! [`LimitStore`]: in memory for one process, in a shared store for many.

mod headers;
mod memory;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use sync_core::{AdapterName, manifest::RateLimit};

pub(super) use self::headers::observe;
pub use self::memory::MemoryLimits;

/// Whose budget it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LimitKey {
    /// The API.
    pub adapter: AdapterName,
    /// The credential, by a name that gives nothing away.
    pub credential: String,
}

/// How many requests may be sent in any window of one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests allowed by the API in one period.
    pub limit: u32,
    /// The period.
    pub period: Duration,
    /// The share of the limit that is used, in percent: the rest absorbs requests that bunch up on
    /// their way.
    pub target_percent: u8,
}

impl Rate {
    /// Requests that are sent at most in one period; never none.
    pub fn allowed(&self) -> u32 {
        let share = u64::from(self.limit) * u64::from(self.target_percent.min(100)) / 100;
        u32::try_from(share).unwrap_or(u32::MAX).max(1)
    }
}

impl From<&RateLimit> for Rate {
    fn from(declared: &RateLimit) -> Self {
        Self {
            limit: declared.requests,
            period: Duration::from_secs(u64::from(declared.period_seconds)),
            target_percent: declared.target_percent,
        }
    }
}

/// What an answer tells of the budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observation {
    /// Requests allowed in one period.
    pub limit: Option<u32>,
    /// The period.
    pub period: Option<Duration>,
    /// Requests that the API has counted in the current period, whoever sent them.
    pub used: Option<u32>,
}

/// The answer to a request for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// One request may be sent now; it is counted.
    Granted,
    /// Not yet: ask again after this long. Nothing is counted.
    Wait(Duration),
}

/// A store of budgets that does not answer.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed")]
pub struct LimitStoreError {
    /// What was tried.
    pub operation: &'static str,
    /// Why it failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Where budgets are kept, on one clock: that of the store.
///
/// Every method is one atomic step, whoever else uses the same key at that moment.
#[async_trait]
pub trait LimitStore: fmt::Debug + Send + Sync {
    /// Takes one request from the budget, or says how long to wait. `declared` holds until an
    /// observation corrects it.
    ///
    /// # Errors
    /// The store does not answer.
    async fn acquire(&self, key: &LimitKey, declared: Rate) -> Result<Permit, LimitStoreError>;

    /// Corrects the budget by what an answer tells.
    ///
    /// # Errors
    /// The store does not answer.
    async fn observe(&self, key: &LimitKey, seen: Observation) -> Result<(), LimitStoreError>;

    /// Blocks the whole key, for everybody, for this long from now on.
    ///
    /// # Errors
    /// The store does not answer.
    async fn block(&self, key: &LimitKey, wait: Duration) -> Result<(), LimitStoreError>;
}
