//! One call on the wire: budget, deadline, bounded body, retries where they are safe.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use sync_core::Manifest;
use tokio::time::Instant;
use url::Url;

use super::{
    Credentials, Error, NetworkProblem,
    answer::Answer,
    error::ProtocolProblem,
    limit::{self, LimitKey, LimitStore, Permit, Rate},
    retry_after::retry_after,
};

/// A 429 without a wait, or with none, holds the key back for at least this long.
const SHORTEST_BLOCK: Duration = Duration::from_millis(250);

/// How patient the client is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The whole call, retries and waits included.
    pub(super) deadline: Duration,
    /// One attempt, from sending to the last byte.
    pub(super) attempt: Duration,
    /// The longest wait for the budget that is sat out here.
    pub(super) wait: Duration,
    /// Attempts after the first.
    pub(super) retries: usize,
    /// The shortest pause before a retry; it doubles each time.
    pub(super) pause: Duration,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: reqwest::Method,
    pub(super) url: Url,
    pub(super) body: Option<Bytes>,
}

impl Call {
    /// Whether sending it twice is as good as once.
    fn is_safe(&self) -> bool {
        self.method == reqwest::Method::GET
    }
}

/// Sends calls with one credential to one API.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) http: reqwest::Client,
    pub(super) manifest: Arc<Manifest>,
    pub(super) credentials: Credentials,
    pub(super) limits: Arc<dyn LimitStore>,
    pub(super) key: LimitKey,
    pub(super) patience: Patience,
    pub(super) max_body: usize,
}

impl Transport {
    /// Sends a call, and again where that is safe, until `read` can make something of the answer.
    pub(super) async fn call<T>(
        &self,
        call: &Call,
        read: impl Fn(&Answer) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.patience.deadline;
        let attempt = || async {
            let answer = self.attempt(call, deadline).await?;
            read(&answer)
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(self.patience.pause)
            .with_max_delay(Duration::from_secs(10))
            .with_max_times(self.patience.retries)
            .with_jitter();
        let retried = attempt
            .retry(backoff)
            .when(|error| may_repeat(call, error))
            .adjust(|error, pause| self.pause_after(error, pause, deadline))
            .notify(|error, pause| {
                tracing::debug!(path = call.url.path(), %error, ?pause, "call_retried");
            });
        let expired = NetworkProblem::Timeout {
            after: self.patience.deadline,
        };
        let outcome = tokio::time::timeout_at(deadline, retried).await;
        outcome.unwrap_or(Err(Error::Network(expired)))
    }

    async fn attempt(&self, call: &Call, deadline: Instant) -> Result<Answer, Error> {
        self.take_permit(deadline).await?;
        let expired = NetworkProblem::Timeout {
            after: self.patience.attempt,
        };
        let answer = tokio::time::timeout(self.patience.attempt, self.send(call)).await;
        let answer = answer.unwrap_or(Err(Error::Network(expired)))?;
        let now = SystemTime::from(jiff::Timestamp::now());
        let declared = self.manifest.rate_limit();
        let seen = limit::observe(&declared.headers, &answer.headers, now);
        self.limits
            .observe(&self.key, seen)
            .await
            .map_err(Error::LimitStore)?;
        let judged = answer.judge_at(&self.manifest, now);
        if let Err(Error::RateLimited { retry_after }) = &judged {
            tracing::warn!(adapter = %self.key.adapter, ?retry_after, "rate_limited");
            self.limits
                .block(&self.key, *retry_after)
                .await
                .map_err(Error::LimitStore)?;
        }
        judged
    }

    /// Waits for the budget, unless the wait is too long to be sat out.
    async fn take_permit(&self, deadline: Instant) -> Result<(), Error> {
        let declared = Rate::from(self.manifest.rate_limit());
        loop {
            let permit = self.limits.acquire(&self.key, declared).await;
            let wait = match permit.map_err(Error::LimitStore)? {
                Permit::Granted => return Ok(()),
                Permit::Wait(wait) => wait,
            };
            if wait > self.patience.wait || Instant::now() + wait >= deadline {
                return Err(Error::RateLimited { retry_after: wait });
            }
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    async fn send(&self, call: &Call) -> Result<Answer, Error> {
        let request = self.http.request(call.method.clone(), call.url.clone());
        let mut request = self.credentials.attach(request);
        if let Some(body) = &call.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        let mut response = request.send().await.map_err(network)?;
        let too_large = || {
            Error::from(ProtocolProblem::TooLarge {
                limit: self.max_body,
            })
        };
        let announced = response.content_length().unwrap_or(0);
        if announced > self.max_body as u64 {
            return Err(too_large());
        }
        let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
        while let Some(chunk) = response.chunk().await.map_err(network)? {
            if body.len() + chunk.len() > self.max_body {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status().as_u16();
        Ok(Answer {
            status,
            headers: std::mem::take(response.headers_mut()),
            body,
        })
    }

    /// The pause before the next attempt; `None` when there is none.
    fn pause_after(
        &self,
        error: &Error,
        pause: Option<Duration>,
        deadline: Instant,
    ) -> Option<Duration> {
        let asked = error.retry_after().unwrap_or_default();
        let sits_out = |pause| pause <= self.patience.wait && Instant::now() + pause < deadline;
        if matches!(error, Error::RateLimited { .. }) {
            // Nothing was done, so that it counts against the deadline only; the wait is the budget's.
            return sits_out(asked).then_some(Duration::ZERO);
        }
        let pause = pause?.max(asked);
        sits_out(pause).then_some(pause)
    }
}

impl Answer {
    fn judge_at(self, manifest: &Manifest, now: SystemTime) -> Result<Self, Error> {
        let asked = retry_after(&self.headers, now);
        let judged = self.judge(manifest, asked);
        judged.map_err(|error| match error {
            Error::RateLimited { .. } => {
                let period = u64::from(manifest.rate_limit().period_seconds);
                let wait = asked.unwrap_or_else(|| Duration::from_secs(period));
                Error::RateLimited {
                    retry_after: wait.max(SHORTEST_BLOCK),
                }
            }
            other => other,
        })
    }
}

/// A read is repeated after any passing failure. A write is repeated only when the first one surely had
/// no effect.
fn may_repeat(call: &Call, error: &Error) -> bool {
    error.is_retryable() && (call.is_safe() || !error.outcome_is_unknown())
}

fn network(error: reqwest::Error) -> Error {
    let error = error.without_url();
    Error::Network(if error.is_connect() {
        NetworkProblem::Connect(error)
    } else {
        NetworkProblem::Interrupted(error)
    })
}
