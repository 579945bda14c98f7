//! The rate limit: a fixed window per token.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How many requests a token may make in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Requests per period.
    pub requests: u32,
    /// Seconds in a period.
    pub period_seconds: u64,
}

impl Default for RateLimit {
    /// 100 requests per 20 seconds.
    fn default() -> Self {
        Self {
            requests: 100,
            period_seconds: 20,
        }
    }
}

/// The windows of all tokens.
pub(crate) struct Limiter {
    pub(crate) limit: Option<RateLimit>,
    windows: HashMap<String, Window>,
}

struct Window {
    start: Instant,
    count: u32,
}

/// Where a token stands after one more request.
#[derive(Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) limit: u32,
    pub(crate) period_seconds: u64,
    pub(crate) count: u32,
    /// Seconds until the window ends, at least one.
    pub(crate) seconds_left: u64,
}

impl Standing {
    pub(crate) fn exceeded(&self) -> bool {
        self.count > self.limit
    }
}

impl Limiter {
    pub(crate) fn new(limit: Option<RateLimit>) -> Self {
        Self {
            limit,
            windows: HashMap::new(),
        }
    }

    /// Counts a request; refused ones count too. `lowered` is an armed limit that may be lower than the usual one.
    pub(crate) fn count(
        &mut self,
        token: &str,
        lowered: Option<u32>,
        now: Instant,
    ) -> Option<Standing> {
        let usual = match (self.limit, lowered) {
            (None, None) => return None,
            (None, Some(_)) => RateLimit::default(),
            (Some(limit), _) => limit,
        };
        let period = Duration::from_secs(usual.period_seconds);
        if !self.windows.contains_key(token) {
            self.windows.insert(
                token.to_owned(),
                Window {
                    start: now,
                    count: 0,
                },
            );
        }
        let window = self
            .windows
            .get_mut(token)
            .expect("the window was just put there");
        if now.duration_since(window.start) >= period {
            *window = Window {
                start: now,
                count: 0,
            };
        }
        window.count += 1;
        let left = period.saturating_sub(now.duration_since(window.start));
        Some(Standing {
            limit: lowered.unwrap_or(usual.requests),
            period_seconds: usual.period_seconds,
            count: window.count,
            seconds_left: (left.as_secs_f64().ceil() as u64).max(1),
        })
    }

    pub(crate) fn reset(&mut self) {
        self.windows.clear();
    }
}
