//! Tools for tests of workflows.
//!
//! [`ReplayCheck`] holds a workflow against a recorded journal: the whole of it, or every prefix,
//! which is every place where a crash could have cut it.

mod replay_check;

pub use replay_check::{Difference, ReplayCheck};
