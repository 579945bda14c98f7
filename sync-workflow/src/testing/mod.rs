//! Tools for tests of workflows.
//!
//! `TestEnvironment` runs workflows in memory on a clock that skips time, and `crash_sweep` plays a scenario with a worker
//! that dies at every commit in turn; both need the feature `testing`. [`ReplayCheck`] holds a workflow against a recorded journal: the whole of it, or every prefix,
//! which is every place where a crash could have cut it.

#[cfg(feature = "testing")]
pub(crate) mod crash_sweep;
#[cfg(feature = "testing")]
mod environment;
mod replay_check;

#[cfg(feature = "testing")]
pub use crash_sweep::{Sweep, crash_sweep};
#[cfg(feature = "testing")]
pub use environment::TestEnvironment;
pub use replay_check::{Difference, ReplayCheck};
