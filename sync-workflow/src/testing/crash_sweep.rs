//! A worker that dies at every commit in turn.

use std::{fmt::Debug, sync::Arc};

use super::{
    TestEnvironment,
    stage::{Plan, Played, play},
    tap::{Crash, Side},
};
use crate::{client::Client, worker::WorkerBuilder};

/// What a sweep went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// How many commits the scenario takes when nothing happens.
    pub commits: u64,
    /// How many crashes were injected: two for each commit, before and after it, each in a scenario of its own.
    pub crashes: u64,
}

/// Plays a scenario once as it is, and then again and again with a worker that dies at a commit: at the first one,
/// before it has happened and after it has happened but before anybody heard of it, at the second one, and so on. After each
/// death another worker takes over. The outcome must be the same every time, and `check` looks at the effects.
///
/// `worker` makes a worker, whose activities keep their effects in an `E`: a new one for each scenario, shared by the
/// worker that dies and the one that takes over. `scenario` starts workflows, sends signals, and returns what came of it. Time is
/// that of [`TestEnvironment`](super::TestEnvironment), and the journal is in memory.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use sync_workflow::{
///     Activity, ActivityContext, Client, Context, Failure, Worker, testing::crash_sweep,
/// };
///
/// /// Cents by the idempotency key of the charge.
/// type Ledger = Mutex<std::collections::BTreeMap<String, u64>>;
///
/// struct Charge(Arc<Ledger>);
///
/// impl Activity for Charge {
///     const NAME: &'static str = "charge";
///     type Input = u64;
///     type Output = u64;
///     type Error = Failure;
///
///     async fn run(&self, ctx: ActivityContext, cents: u64) -> Result<u64, Failure> {
///         self.0.lock().unwrap().insert(ctx.idempotency_key(), cents);
///         Ok(cents)
///     }
/// }
///
/// async fn order(ctx: Context, cents: u64) -> Result<u64, Failure> {
///     let charged = ctx.activity(Charge::activity(), cents).await?;
///     Ok(charged + ctx.activity(Charge::activity(), 5).await?)
/// }
///
/// let sweep = crash_sweep(
///     |ledger: &Arc<Ledger>| Worker::builder().workflow(order).activity(Charge(Arc::clone(ledger))),
///     async |client: &Client| client.start(order, "order-1", 100).await.unwrap().result().await.unwrap(),
///     |ledger| assert_eq!(ledger.lock().unwrap().values().sum::<u64>(), 105),
/// );
/// assert_eq!(sweep.crashes, 2 * sweep.commits);
/// ```
///
/// # Panics
///
/// When an outcome differs, and when `scenario` or `check` panics; the crash is told on standard error. Also within an async runtime:
/// call it from a plain `#[test]`.
pub fn crash_sweep<E, T>(
    worker: impl Fn(&Arc<E>) -> WorkerBuilder,
    scenario: impl AsyncFn(&Client) -> T,
    check: impl Fn(&E),
) -> Sweep
where
    E: Default,
    T: PartialEq + Debug,
{
    let scenario = async |env: &TestEnvironment, _: &E| scenario(env.client()).await;
    sweep(worker, scenario, check).0
}

/// The sweep of a scenario that sees the environment and the effects, and its outcome.
pub(super) fn sweep<E, T>(
    worker: impl Fn(&Arc<E>) -> WorkerBuilder,
    scenario: impl AsyncFn(&TestEnvironment, &E) -> T,
    check: impl Fn(&E),
) -> (Sweep, T)
where
    E: Default,
    T: PartialEq + Debug,
{
    let play = |crash: Option<Crash>| {
        let effects = Arc::new(E::default());
        let plan = Plan { crash, seed: None };
        let played = play(
            plan,
            || worker(&effects),
            async |env| scenario(env, &effects).await,
        );
        check(&effects);
        played
    };
    let Played {
        outcome, commits, ..
    } = play(None);
    let mut sweep = Sweep {
        commits,
        crashes: 0,
    };
    for commit in 1..=commits {
        for side in [Side::Before, Side::After] {
            let _told = TellOnPanic(commit, side);
            let again = play(Some(Crash { commit, side })).outcome;
            assert_eq!(again, outcome, "with a crash {side:?} commit {commit}");
            sweep.crashes += 1;
        }
    }
    (sweep, outcome)
}

/// Says which crash a panic belongs to.
struct TellOnPanic(u64, Side);

impl Drop for TellOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was with a crash {:?} commit {}", self.1, self.0);
        }
    }
}
