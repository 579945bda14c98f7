//! Workflows and activities of more than one test.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sync_workflow::{Activity, ActivityContext, Context, Failure, RetryPolicy, TypedError, Worker};

pub(super) async fn double(n: u64) -> Result<u64, Failure> {
    Ok(n * 2)
}

pub(super) async fn doubled(ctx: Context, n: u64) -> Result<u64, Failure> {
    Ok(ctx.activity(double, n).await?)
}

pub(super) async fn collects(ctx: Context, count: u32) -> Result<Vec<u32>, Failure> {
    let mut received = Vec::new();
    for _ in 0..count {
        received.push(ctx.wait::<u32>("number").await?);
    }
    Ok(received)
}

pub(super) fn soon(max_attempts: u32) -> RetryPolicy {
    RetryPolicy {
        initial_interval: Duration::from_millis(1),
        max_interval: Duration::from_millis(5),
        max_attempts,
        ..RetryPolicy::default()
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum FlakyError {
    NotYet(u32),
    Never,
}

impl std::fmt::Display for FlakyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for FlakyError {}

impl TypedError for FlakyError {
    fn is_final(&self) -> bool {
        *self == Self::Never
    }
}

/// Counts its calls and can be made to hang.
#[derive(Clone, Default)]
pub(super) struct Counter {
    pub(super) calls: Arc<AtomicU32>,
    pub(super) hang_at: u32,
}

impl Activity for Counter {
    const NAME: &'static str = "counter";
    type Input = u32;
    type Output = u32;
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, n: u32) -> Result<u32, Failure> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if call == self.hang_at {
            std::future::pending::<()>().await;
        }
        Ok(n)
    }
}

pub(super) async fn steps(ctx: Context, count: u32) -> Result<u32, Failure> {
    let mut sum = 0;
    for n in 0..count {
        sum += ctx.activity(Counter::activity(), n).await?;
    }
    Ok(sum)
}

/// Ends a worker as a crash does: nothing is given back.
pub(super) async fn crash(worker: Worker) {
    worker.abandon().await;
}
