//! The sans-IO core: from journal records and the code's commands to what happens next.
//!
//! ```text
//!   journal records ──▶ ┌─────────┐ ──▶ new records, children to start
//!   events          ──▶ │ machine │ ──▶ actions: start this activity, set that timer
//!                       └─────────┘
//!                         ▲     │ one completion at a time
//!            commands     │     ▼
//!                      workflow future
//! ```
//!
//! An [`Execution`] holds the future of one run. The driver tells it what happened outside
//! ([`Execution::handle`]) and performs the [`Turn`] that comes back: commit its records, and, once
//! they are durable, its actions. Replay is the same loop with the events read from the journal.
//!
//! # Why plain combinators replay
//!
//! A completion is *granted* to one durable call at a time, and the workflow future is polled after
//! each single grant. So `join!`, `select!` and `FuturesUnordered` never see two results at once,
//! and the order in which they saw them is the order of the journal. A call that is complete while
//! nobody awaits it stays held; once it is awaited, the held calls are granted in the order of
//! their records. Nothing but the journal decides.
//!
//! Nothing in this module reads a clock, draws a random number or performs IO: the time is an
//! argument, and random values follow from the id of the run and the number of the command. A run that began as a copy of
//! another one's first records has the values of that one while it replays them.

mod again;
mod command;
mod execution;
mod fault;
mod lineage;
mod machine;
mod scope;
mod turn;
mod waker;

pub use again::is_replaying;
pub use command::{ActivityOptions, RetryPolicy, Timeouts};
pub(crate) use command::{ChildRequest, Command, Request, TimerDue};
pub use execution::{BodyFuture, Execution};
pub(crate) use execution::{SharedMachine, lock};
pub use fault::{Asked, Fault, Mismatch};
#[cfg(feature = "runtime")]
pub(crate) use lineage::Identity;
#[cfg(feature = "runtime")]
pub(crate) use machine::StartedChild;
pub(crate) use machine::{Machine, timer_fingerprint};
pub(crate) use scope::ScopeId;
pub use turn::{Action, ChildStart, Continuation, Event, Progress, TransactionBody, Turn};
