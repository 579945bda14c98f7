//! Durable workflows for Rust: journaled step by step to Postgres or SQLite, resumed after a crash.

pub mod context;
mod failure;
pub mod id;
mod payload;
pub mod record;
pub mod replay;
pub mod status;

#[cfg(feature = "runtime")]
pub mod client;
#[cfg(feature = "runtime")]
pub mod journal;
#[cfg(feature = "runtime")]
pub mod testing;
#[cfg(feature = "runtime")]
pub mod worker;

pub use failure::{CallError, Cancelled, ErrorValue, Failure, FailureKind, TypedError};
pub use context::{Context, Workflow};
#[cfg(feature = "runtime")]
pub use {
    client::{Client, RunError, RunHandle},
    context::{Activity, Tx},
    worker::{ActivityContext, Worker},
};
pub use replay::RetryPolicy;
