//! Durable workflows for Rust: journaled step by step to Postgres or SQLite, resumed after a crash.

pub mod id;
pub mod record;
pub mod status;

#[cfg(feature = "runtime")]
pub mod client;
#[cfg(feature = "runtime")]
pub mod journal;
