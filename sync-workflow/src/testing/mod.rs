//! Tools for tests of workflows.
//!
//! `TestEnvironment` runs workflows in memory on a clock that skips time, `crash_sweep` plays a scenario with a worker
//! that dies at every commit in turn, `explore` plays it in many orders, and `durable_test` does both; they need the
//! feature `testing`. [`ReplayCheck`] holds a workflow against a recorded journal: the whole of it, or every prefix,
//! which is every place where a crash could have cut it.

#[cfg(feature = "testing")]
mod crash_sweep;
#[cfg(feature = "testing")]
mod durable_test;
#[cfg(feature = "testing")]
mod environment;
#[cfg(feature = "testing")]
mod explore;
mod replay_check;
#[cfg(feature = "testing")]
mod stage;
#[cfg(feature = "testing")]
mod tap;

#[cfg(feature = "testing")]
pub use crash_sweep::{Sweep, crash_sweep};
#[cfg(feature = "testing")]
pub use durable_test::durable_test;
#[cfg(feature = "testing")]
pub use environment::TestEnvironment;
#[cfg(feature = "testing")]
pub use explore::{Explored, explore};
pub use replay_check::{Difference, ReplayCheck};
#[cfg(all(feature = "testing", feature = "macros"))]
pub use sync_workflow_macros::durable_test;
#[cfg(feature = "testing")]
pub(crate) use tap::Tap;
