//! Budgets in the memory of one process.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{LimitKey, LimitStore, LimitStoreError, Observation, Permit, Rate};

/// Keys remembered at once; the one that was idle longest makes room.
const MOST_KEYS: usize = 10_000;
/// Requests remembered per key; a higher limit than this is not enforced any closer.
const MOST_REQUESTS: u32 = 100_000;

/// Budgets for one process, by a sliding window: in no window of one period, wherever it begins, are
/// more requests sent than allowed.
#[derive(Debug, Default)]
pub struct MemoryLimits {
    budgets: Mutex<HashMap<LimitKey, Budget>>,
}

#[derive(Debug)]
struct Budget {
    rate: Rate,
    /// When each request of the last period was sent, the oldest first.
    sent: VecDeque<Instant>,
    blocked_until: Option<Instant>,
    touched: Instant,
}

impl MemoryLimits {
    /// An empty store: every budget is full.
    pub fn new() -> Self {
        Self::default()
    }

    fn budgets(&self) -> MutexGuard<'_, HashMap<LimitKey, Budget>> {
        // A panic while the lock is held leaves a budget that is at worst one request off.
        self.budgets
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl LimitStore for MemoryLimits {
    async fn acquire(&self, key: &LimitKey, declared: Rate) -> Result<Permit, LimitStoreError> {
        let now = Instant::now();
        let mut budgets = self.budgets();
        if budgets.len() >= MOST_KEYS && !budgets.contains_key(key) {
            forget_idle(&mut budgets);
        }
        let budget = budgets
            .entry(key.clone())
            .or_insert_with(|| Budget::new(declared, now));
        Ok(budget.acquire(now))
    }

    async fn observe(&self, key: &LimitKey, seen: Observation) -> Result<(), LimitStoreError> {
        if let Some(budget) = self.budgets().get_mut(key) {
            budget.observe(seen, Instant::now());
        }
        Ok(())
    }

    async fn block(&self, key: &LimitKey, wait: Duration) -> Result<(), LimitStoreError> {
        if let Some(budget) = self.budgets().get_mut(key) {
            let until = Instant::now() + wait;
            budget.blocked_until = budget.blocked_until.max(Some(until));
        }
        Ok(())
    }
}

fn forget_idle(budgets: &mut HashMap<LimitKey, Budget>) {
    let idle = budgets.iter().min_by_key(|(_, budget)| budget.touched);
    if let Some(key) = idle.map(|(key, _)| key.clone()) {
        budgets.remove(&key);
    }
}

impl Budget {
    fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            sent: VecDeque::new(),
            blocked_until: None,
            touched: now,
        }
    }

    fn acquire(&mut self, now: Instant) -> Permit {
        self.touched = now;
        if let Some(wait) = self
            .blocked_until
            .and_then(|until| until.checked_duration_since(now))
            && !wait.is_zero()
        {
            return Permit::Wait(wait);
        }
        self.forget_before(now);
        let allowed = self.rate.allowed().min(MOST_REQUESTS) as usize;
        if self.sent.len() < allowed {
            self.sent.push_back(now);
            return Permit::Granted;
        }
        // The permit comes free when the request that is `allowed` places from the end leaves the window.
        let frees = self.sent[self.sent.len() - allowed] + self.rate.period;
        Permit::Wait(frees.saturating_duration_since(now))
    }

    fn observe(&mut self, seen: Observation, now: Instant) {
        self.rate.limit = seen.limit.unwrap_or(self.rate.limit);
        self.rate.period = seen.period.unwrap_or(self.rate.period);
        self.forget_before(now);
        // What the API counted beyond our own requests was sent by somebody else with this credential.
        let used = seen.used.unwrap_or(0).min(MOST_REQUESTS) as usize;
        let foreign = used.saturating_sub(self.sent.len());
        self.sent.extend(std::iter::repeat_n(now, foreign));
    }

    fn forget_before(&mut self, now: Instant) {
        let expired = |sent: &Instant| *sent + self.rate.period <= now;
        while self.sent.front().is_some_and(expired) {
            self.sent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use sync_core::AdapterName;

    use super::*;

    const RATE: Rate = Rate {
        limit: 10,
        period: Duration::from_secs(20),
        target_percent: 80,
    };

    fn key(credential: &str) -> LimitKey {
        LimitKey {
            adapter: AdapterName::new("test").unwrap(),
            credential: credential.into(),
        }
    }

    async fn granted(limits: &MemoryLimits, key: &LimitKey) -> u32 {
        let mut granted = 0;
        while limits.acquire(key, RATE).await.unwrap() == Permit::Granted {
            granted += 1;
        }
        granted
    }

    #[tokio::test(start_paused = true)]
    async fn no_window_holds_more_than_its_share() {
        let limits = MemoryLimits::new();
        assert_eq!(granted(&limits, &key("a")).await, 8);
        tokio::time::advance(Duration::from_secs(19)).await;
        assert_eq!(
            limits.acquire(&key("a"), RATE).await.unwrap(),
            Permit::Wait(Duration::from_secs(1))
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(granted(&limits, &key("a")).await, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_do_not_share_a_budget() {
        let limits = MemoryLimits::new();
        assert_eq!(granted(&limits, &key("a")).await, 8);
        assert_eq!(granted(&limits, &key("b")).await, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_of_others_with_the_same_credential_count() {
        let limits = MemoryLimits::new();
        limits.acquire(&key("a"), RATE).await.unwrap();
        let seen = Observation {
            used: Some(6),
            ..Observation::default()
        };
        limits.observe(&key("a"), seen).await.unwrap();
        assert_eq!(granted(&limits, &key("a")).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lowered_limit_holds_at_once() {
        let limits = MemoryLimits::new();
        limits.acquire(&key("a"), RATE).await.unwrap();
        let seen = Observation {
            limit: Some(5),
            ..Observation::default()
        };
        limits.observe(&key("a"), seen).await.unwrap();
        assert_eq!(granted(&limits, &key("a")).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_holds_the_whole_key_until_it_ends() {
        let limits = MemoryLimits::new();
        limits.acquire(&key("a"), RATE).await.unwrap();
        limits
            .block(&key("a"), Duration::from_secs(30))
            .await
            .unwrap();
        limits
            .block(&key("a"), Duration::from_secs(3))
            .await
            .unwrap();
        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(
            limits.acquire(&key("a"), RATE).await.unwrap(),
            Permit::Wait(Duration::from_secs(1))
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            limits.acquire(&key("a"), RATE).await.unwrap(),
            Permit::Granted
        );
    }
}
