//! The same scenario in many orders of what happens.

use std::{collections::HashSet, ops::Range, sync::Arc};

use super::{
    TestEnvironment,
    stage::{Plan, Played, play},
    tap::Crash,
};
use crate::worker::WorkerBuilder;

/// The variable of the environment that names the one seed to play.
const SEED: &str = "WORKFLOW_SEED";

/// What an exploration went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explored {
    /// How often the scenario was played, each time with a seed of its own.
    pub schedules: u64,
    /// How many journals came of it that differ in what was recorded or in which order. Where it is 1, there is
    /// nothing for chance to decide.
    pub journals: usize,
}

/// Plays a scenario once for each seed, each time with other chances: which of the activities that run at once ends
/// first, whether a signal arrives before or after something else, when a commit is acknowledged, and when runs leave memory
/// and come back by replay. What the scenario asserts must hold each time.
///
/// Chance moves no clock: what takes longer than something else by the time of the test still does. It is drawn from the seed
/// alone, so that the same seed plays the same again, on every machine. A failure tells its seed, and the
/// environment variable `WORKFLOW_SEED` plays one seed instead of all.
///
/// `worker` makes the worker, whose activities keep their effects in an `E`, a new one for each seed; use `()` where
/// there are none.
///
/// ```
/// use std::sync::Arc;
/// use sync_workflow::{Context, Failure, Worker, testing::explore};
///
/// async fn fetch(shop: u64) -> Result<u64, Failure> { Ok(100 + shop) }
///
/// /// The sum does not depend on who answers first; a list in the order of the answers would.
/// async fn total(ctx: Context, (): ()) -> Result<u64, Failure> {
///     let (one, other) = tokio::join!(ctx.activity(fetch, 1), ctx.activity(fetch, 2));
///     Ok(one? + other?)
/// }
///
/// let explored = explore(
///     0..20,
///     |_: &Arc<()>| Worker::builder().workflow(total).activity(fetch),
///     async |env, _| {
///         let handle = env.client().start(total, "a", ()).await.unwrap();
///         assert_eq!(handle.result().await.unwrap(), 203);
///     },
/// );
/// assert_eq!(explored.schedules, 20);
/// assert!(explored.journals > 1, "the answers came in either order");
/// ```
///
/// `tokio::select!` without `biased;` draws from a source of its own, which no seed reaches.
///
/// # Panics
///
/// When the scenario panics; the seed is told on standard error. When `WORKFLOW_SEED` is not a number. Within an async runtime: call it
/// from a plain `#[test]`.
pub fn explore<E: Default>(
    seeds: Range<u64>,
    worker: impl Fn(&Arc<E>) -> WorkerBuilder,
    scenario: impl AsyncFn(&TestEnvironment, &E),
) -> Explored {
    explore_plans(seeds, |_| None, worker, scenario, |(), _| {})
}

/// Plays a scenario once for each seed, with the crash that goes with it.
pub(super) fn explore_plans<E: Default, T>(
    seeds: Range<u64>,
    crash: impl Fn(u64) -> Option<Crash>,
    worker: impl Fn(&Arc<E>) -> WorkerBuilder,
    scenario: impl AsyncFn(&TestEnvironment, &E) -> T,
    check: impl Fn(T, u64),
) -> Explored {
    let mut explored = Explored {
        schedules: 0,
        journals: 0,
    };
    let mut journals = HashSet::new();
    for seed in only_seed().map_or(seeds, |seed| seed..seed + 1) {
        let _told = TellOnPanic(seed);
        let effects = Arc::new(E::default());
        let plan = Plan {
            crash: crash(seed),
            seed: Some(seed),
        };
        let played: Played<T> = play(
            plan,
            || worker(&effects),
            async |env| scenario(env, &effects).await,
        );
        check(played.outcome, seed);
        journals.insert(played.journal);
        explored.schedules += 1;
    }
    explored.journals = journals.len();
    explored
}

/// The seed that somebody wants to see again.
fn only_seed() -> Option<u64> {
    let seed = std::env::var(SEED).ok()?;
    match seed.parse() {
        Ok(seed) if seed < u64::MAX => Some(seed),
        _ => panic!("{SEED} is not the number of a seed: {seed:?}"),
    }
}

/// Says which seed a panic belongs to.
struct TellOnPanic(u64);

impl Drop for TellOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("this was with seed {seed}: {SEED}={seed} plays it alone");
        }
    }
}
