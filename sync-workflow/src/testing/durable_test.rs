//! A scenario that must come to the same whatever crashes.

use std::{fmt::Debug, ops::Range, sync::Arc};

use super::{TestEnvironment, crash_sweep::sweep, explore::explore_plans, tap::Crash};
use crate::worker::WorkerBuilder;

/// Plays a scenario once as it is, then with a crash before and after every commit as [`crash_sweep`](super::crash_sweep()) does,
/// and then once for each seed with chances as [`explore`](super::explore()) draws them and a crash at one of the first
/// commits. The outcome must be the same each time; what the scenario asserts of the environment and of the effects must hold.
///
/// The attribute of the same name writes the call (feature `macros`).
///
/// # Panics
///
/// When an outcome differs, and when `scenario` panics; the crash or the seed is told on standard error. Also within an async
/// runtime: call it from a plain `#[test]`.
pub fn durable_test<E, T>(
    seeds: Range<u64>,
    worker: impl Fn(&Arc<E>) -> WorkerBuilder,
    scenario: impl AsyncFn(&TestEnvironment, &E) -> T,
) where
    E: Default,
    T: PartialEq + Debug,
{
    let (_sweep, expected) = sweep(&worker, &scenario, |_| {});
    let crash = |seed| Some(Crash::of_seed(seed));
    explore_plans(seeds, crash, worker, scenario, |outcome, seed| {
        assert_eq!(outcome, expected, "with seed {seed}");
    });
}
