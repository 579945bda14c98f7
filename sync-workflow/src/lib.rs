//! Durable workflows for Rust: journaled step by step to Postgres or SQLite, resumed after a crash.
//!
//! A *workflow* is an ordinary async function. Everything that it does to the outside is an
//! *activity*, and each completed step is in a journal before its effect is relied on. Kill the
//! process anywhere: another process, or the same one restarted, continues from the last completed
//! step.
//!
//! ```
//! use sync_workflow::{Context, Failure, Worker};
//!
//! async fn greet(name: String) -> Result<String, Failure> {
//!     Ok(format!("hello, {name}"))
//! }
//!
//! async fn hello(ctx: Context, name: String) -> Result<String, Failure> {
//!     Ok(ctx.activity(greet, name).await?)
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let worker = Worker::builder().workflow(hello).activity(greet).start("memory:").await?;
//!     let handle = worker.client().start(hello, "hello-1", "world".into()).await?;
//!     assert_eq!(handle.result().await?, "hello, world");
//!     worker.shutdown().await;
//!     Ok(())
//! }
//! ```
//!
//! # How it holds together
//!
//! ```text
//!   workflow code ── context ──▶ replay (sans-IO core) ──▶ worker ──▶ journal: Postgres, SQLite, memory
//!                                                             ▲
//!   any process ──── client ──────────────────────────────────┘
//! ```
//!
//! - [`context`]: what workflow code sees: activities, transactions, timers, signals, children.
//! - [`replay`]: the state machine from journal records and commands to what happens next. No
//!   clock, no IO.
//! - [`worker`]: claims runs, drives them, runs activities, commits in groups, holds the lease.
//! - [`journal`]: the storage port and its three journals.
//! - [`client`]: start, signal, cancel, await, list, from any process.
//! - [`telemetry`]: spans, metrics, and log lines that a replay does not repeat.
//! - [`testing`]: run workflows on a clock that skips time, crash them at every commit, play them in many orders, hold
//!   them against recorded journals.
//!
//! # What is promised
//!
//! Journal records exist exactly once and in order. An activity whose result is journaled never
//! runs again; any other runs at least once, each try with the same idempotency key. A
//! [transactional step](Context::transaction) happens exactly once. A signal, a timer, a child's
//! result is delivered exactly once.
//!
//! # Features
//!
//! `postgres` and `sqlite` (both on) bring the journals of these databases, `macros` (on) the attributes
//! `workflow`, `activity` and `activities`. Without default features only the pure core remains, which depends on
//! neither tokio nor sqlx. Off by default: `metrics`, `opentelemetry` and `tracing-subscriber` (see [`telemetry`]),
//! `zstd` and `encryption` (see [`payload`]), `testing` and `conformance`.

#![cfg_attr(
    not(feature = "runtime"),
    expect(
        dead_code,
        unused_imports,
        reason = "the worker drives the core, and is left out of the pure build"
    )
)]
#![cfg_attr(
    all(
        feature = "runtime",
        not(any(feature = "postgres", feature = "sqlite"))
    ),
    expect(
        unused_variables,
        reason = "without a database there is no transaction to start or signal in"
    )
)]

pub mod context;
mod failure;
pub mod id;
pub mod payload;
pub mod record;
pub mod replay;
pub mod status;
pub mod tag;
mod trace;
mod update;

#[cfg(feature = "runtime")]
pub mod client;
#[cfg(feature = "runtime")]
pub mod journal;
#[cfg(feature = "runtime")]
pub mod schedule;
#[cfg(feature = "runtime")]
pub mod telemetry;
#[cfg(feature = "runtime")]
pub mod testing;
#[cfg(feature = "runtime")]
pub mod worker;

pub use context::{Context, Workflow};
pub use failure::{CallError, Cancelled, ErrorValue, Failure, FailureKind, TypedError};
pub use replay::{ActivityOptions, RetryPolicy};
#[cfg(feature = "macros")]
pub use sync_workflow_macros::{activities, activity, workflow};
pub use trace::{InvalidTraceContext, TraceContext};
#[cfg(feature = "runtime")]
pub use {
    client::{Client, IdReuse, RunError, RunHandle},
    context::{Activity, Tx},
    worker::{ActivityContext, Termination, Worker, WorkerBuilder},
};

/// The code in the pages of the guide, as tests.
#[cfg(all(doctest, feature = "postgres", feature = "sqlite", feature = "testing"))]
mod guide {
    #[doc = include_str!("../../docs/guide/concepts.md")]
    struct Concepts;
    #[doc = include_str!("../../docs/guide/first-workflow.md")]
    struct FirstWorkflow;
    #[cfg(feature = "macros")]
    #[doc = include_str!("../../docs/guide/attributes.md")]
    struct Attributes;
    #[doc = include_str!("../../docs/guide/patterns.md")]
    struct Patterns;
    #[doc = include_str!("../../docs/guide/pitfalls.md")]
    struct Pitfalls;
    #[doc = include_str!("../../docs/guide/testing.md")]
    struct Testing;
    #[doc = include_str!("../../docs/guide/queues.md")]
    struct Queues;
    #[doc = include_str!("../../docs/guide/deployment.md")]
    struct Deployment;
    #[doc = include_str!("../../docs/guide/operations.md")]
    struct Operations;
    #[doc = include_str!("../../docs/guide/payloads.md")]
    struct Payloads;
    #[cfg(feature = "tracing-subscriber")]
    #[doc = include_str!("../../docs/guide/observability.md")]
    struct Observability;
    #[doc = include_str!("../../docs/guide/migrating.md")]
    struct Migrating;
}
