//! The kit for tests of workflows.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sync_workflow::{
    Activity, ActivityContext, CallError, Client, Context, Failure, Worker, WorkerBuilder,
    testing::{TestEnvironment, crash_sweep, durable_test},
};

use super::code::{FlakyError, double, doubled, soon};

const DAY: Duration = Duration::from_secs(86_400);

async fn letter(_: String) -> Result<String, Failure> {
    Err(Failure::new("sends a real letter"))
}

/// Reminds every thirty days until somebody answers, at most a dozen times.
async fn reminds(ctx: Context, name: String) -> Result<Vec<String>, Failure> {
    let mut sent = Vec::new();
    for _ in 0..12 {
        let answer = ctx.timeout(30 * DAY, ctx.wait::<String>("answer")).await;
        if let Ok(answer) = answer {
            sent.push(answer?);
            break;
        }
        sent.push(ctx.activity(letter, name.clone()).await?);
    }
    Ok(sent)
}

fn mocked(failures: u32) -> WorkerBuilder {
    let calls = Arc::new(AtomicU32::new(0));
    Worker::builder()
        .workflow(reminds)
        .mock(letter, move |name| {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            async move {
                match call < failures {
                    true => Err(Failure::new("the post is on strike")),
                    false => Ok(format!("Dear {name}")),
                }
            }
        })
}

#[test]
fn a_year_takes_no_time() {
    let begun = Instant::now();
    TestEnvironment::run(mocked(3), async |env| {
        let client = env.client();
        let handle = client.start(reminds, "a", "Ada".into()).await.unwrap();
        env.skip(95 * DAY).await;
        assert_eq!(env.now().to_string(), "2026-04-06T00:00:00Z");
        client.signal("a", "answer", "yes").await.unwrap();
        let sent = handle.result().await.unwrap();
        assert_eq!(sent, ["Dear Ada", "Dear Ada", "Dear Ada", "yes"]);
        let unanswered = client.start(reminds, "b", "Bob".into()).await.unwrap();
        assert_eq!(unanswered.result().await.unwrap().len(), 12);
        assert!(env.now().to_string().starts_with("2027-04-01"));
    });
    // A few hundred steps of the clock, and not as many as there are seconds.
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_test_gives_the_same_every_time() {
    let trace = || {
        TestEnvironment::run(mocked(5), async |env| {
            let handle = env
                .client()
                .start(reminds, "a", "Ada".into())
                .await
                .unwrap();
            env.skip(31 * DAY).await;
            let history = env.client().history(handle.run_id(), 0, 100).await.unwrap();
            let kinds: Vec<_> = history.items.iter().map(|item| item.kind()).collect();
            (kinds, env.now())
        })
    };
    assert_eq!(trace(), trace());
}

/// Charges by idempotency key, and remembers every attempt.
#[derive(Default)]
struct Ledger {
    charged: Mutex<std::collections::BTreeMap<String, u64>>,
    attempts: AtomicU32,
}

struct Charge(Arc<Ledger>);

impl Activity for Charge {
    const NAME: &'static str = "charge";
    type Input = u64;
    type Output = u64;
    type Error = Failure;

    async fn run(&self, ctx: ActivityContext, cents: u64) -> Result<u64, Failure> {
        self.0.attempts.fetch_add(1, Ordering::SeqCst);
        self.0
            .charged
            .lock()
            .unwrap()
            .insert(ctx.idempotency_key(), cents);
        Ok(cents)
    }
}

async fn part(ctx: Context, cents: u64) -> Result<u64, Failure> {
    Ok(ctx.activity(Charge::activity(), cents).await?)
}

/// A little of everything.
async fn order(ctx: Context, cents: u64) -> Result<u64, Failure> {
    let first = ctx.activity(Charge::activity(), cents).await?;
    ctx.sleep(DAY).await?;
    let tip: u64 = ctx.wait("tip").await?;
    let (child, second) = tokio::join!(
        ctx.child(part, 7),
        ctx.activity(Charge::activity(), tip).retry(soon(3)),
    );
    ctx.publish("charged", &(first + tip))?;
    let step = ctx.transaction("step", async move |_tx| Ok::<u64, Failure>(1));
    Ok(first + child? + second? + step.await?)
}

fn shop(ledger: &Arc<Ledger>) -> WorkerBuilder {
    let worker = Worker::builder().workflow(order).workflow(part);
    worker.activity(Charge(Arc::clone(ledger)))
}

async fn buys(client: &Client) -> (u64, Option<u64>) {
    let handle = client.start(order, "order", 100).await.unwrap();
    client
        .signal_once("order", "tip", "the tip", &5_u64)
        .await
        .unwrap();
    let charged = handle.result().await.unwrap();
    (charged, client.published("order", "charged").await.unwrap())
}

#[test]
fn a_sweep_crashes_at_every_commit() {
    let most = AtomicU32::new(0);
    let sweep = crash_sweep(shop, buys, |ledger: &Ledger| {
        assert_eq!(ledger.charged.lock().unwrap().values().sum::<u64>(), 112);
        most.fetch_max(ledger.attempts.load(Ordering::SeqCst), Ordering::SeqCst);
    });
    assert!(sweep.commits >= 6, "{sweep:?}");
    assert_eq!(sweep.crashes, 2 * sweep.commits);
    assert!(most.into_inner() > 3, "some crash makes an attempt twice");
}

/// Draws a number without telling the engine, so that it differs after a crash.
#[derive(Default)]
struct Drawn(AtomicU32);

#[test]
#[should_panic(expected = "with a crash")]
fn a_sweep_finds_what_depends_on_the_crash() {
    async fn twice(ctx: Context, n: u64) -> Result<u64, Failure> {
        let n = ctx.activity(double, n).await?;
        Ok(ctx.activity(double, n).await?)
    }
    let worker = |drawn: &Arc<Drawn>| {
        let drawn = Arc::clone(drawn);
        Worker::builder().workflow(twice).mock(double, move |n| {
            let call = drawn.0.fetch_add(1, Ordering::SeqCst);
            async move { Ok(n + u64::from(call)) }
        })
    };
    let _found = crash_sweep(
        worker,
        async |client: &Client| {
            let handle = client.start(twice, "a", 1).await.unwrap();
            handle.result().await.unwrap()
        },
        |_| {},
    );
}

#[test]
#[should_panic(expected = "two workflow registrations")]
fn a_worker_that_cannot_start_is_told() {
    TestEnvironment::run(
        Worker::builder().workflow(part).workflow(part),
        async |_| {},
    );
}

async fn flaky(n: u64) -> Result<String, FlakyError> {
    Err(FlakyError::NotYet(u32::try_from(n).unwrap()))
}

/// What the activity said, and its last error if it gave up.
async fn tries(ctx: Context, n: u64) -> Result<String, Failure> {
    match ctx.activity(flaky, n).retry(soon(5)).await {
        Ok(said) => Ok(said),
        Err(CallError::Failed(error)) => Ok(format!("typed: {error}")),
        Err(other) => Err(other.into()),
    }
}

fn outcome_of_tries(worker: WorkerBuilder) -> String {
    TestEnvironment::run(worker.workflow(tries), async |env| {
        let handle = env.client().start(tries, "a", 7).await.unwrap();
        handle.result().await.unwrap()
    })
}

#[test]
fn a_mock_sees_what_the_activity_would() {
    let worker = Worker::builder().mock_with_context(flaky, async |ctx: ActivityContext, n| {
        let seen = ctx.details::<Vec<String>>().unwrap();
        let mut seen = seen.unwrap_or_default();
        seen.push(ctx.idempotency_key());
        ctx.heartbeat(&seen);
        match ctx.attempt() {
            3 => Ok(format!("{n} of {} by {seen:?}", ctx.workflow_id())),
            attempt => Err(FlakyError::NotYet(attempt)),
        }
    });
    let said = outcome_of_tries(worker);
    let (head, keys) = said.split_once(" by ").unwrap();
    assert_eq!(head, "7 of a");
    let keys: Vec<_> = keys.split('"').filter(|key| key.contains('/')).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert!(keys[0].ends_with("/0"), "{keys:?}");
}

#[test]
fn a_mock_fails_with_the_error_of_the_activity() {
    let worker = Worker::builder().mock(flaky, async |_| Err(FlakyError::Never));
    assert_eq!(outcome_of_tries(worker), "typed: Never");
}

#[test]
fn a_mock_takes_the_place_of_what_is_registered() {
    let real = || Worker::builder().activity(flaky);
    assert_eq!(outcome_of_tries(real()), "typed: NotYet(7)");
    let mocked = real().mock(flaky, async |_| Err(FlakyError::Never));
    let again = mocked.mock(flaky, async |n| Ok(format!("the last of {n}")));
    assert_eq!(outcome_of_tries(again), "the last of 7");
}

async fn remotely(ctx: Context, n: u64) -> Result<u64, Failure> {
    let doubled_there = ctx.activity(double, n).queue("gpu").await?;
    Ok(ctx.child(doubled, doubled_there).queue("cpu").await?)
}

fn outcome_of_remotely(worker: WorkerBuilder) -> u64 {
    let worker = worker.workflow(remotely).workflow(doubled);
    TestEnvironment::run(worker, async |env| {
        let handle = env.client().start(remotely, "a", 3).await.unwrap();
        let outcome = handle.result().await.unwrap();
        let id = format!("{}/0", handle.run_id());
        let child = env.client().describe(&id).await.unwrap();
        assert_eq!(
            (&*child.queue, &*child.workflow),
            ("gpu", "activity/double")
        );
        outcome
    })
}

#[test]
fn activities_of_other_queues_run_too() {
    let real = Worker::builder().activity(double);
    assert_eq!(outcome_of_remotely(real), 12);
    let served = Worker::builder().remote_activity(double);
    assert_eq!(outcome_of_remotely(served), 12);
    let mocked = Worker::builder().mock(double, async |n| Ok(n + 1));
    assert_eq!(outcome_of_remotely(mocked), 5);
}

#[test]
fn a_sweep_reaches_activities_of_other_queues() {
    let sweep = crash_sweep(
        |_: &Arc<()>| {
            let worker = Worker::builder().workflow(remotely).workflow(doubled);
            worker.activity(double)
        },
        async |client: &Client| {
            let handle = client.start(remotely, "a", 3).await.unwrap();
            handle.result().await.unwrap()
        },
        |()| {},
    );
    assert!(sweep.commits >= 4, "{sweep:?}");
}

#[test]
#[should_panic(expected = "open are b (\"waits\", pending)")]
fn a_test_that_waits_for_nothing_is_told() {
    async fn waits(ctx: Context, (): ()) -> Result<(), Failure> {
        Ok(ctx.wait("what nobody sends").await?)
    }
    TestEnvironment::run(Worker::builder().workflow(waits), async |env| {
        let handle = env.client().start(waits, "b", ()).await.unwrap();
        drop(handle.result().await);
    });
}

#[test]
fn a_parked_run_is_told_at_once() {
    async fn panics(_ctx: Context, (): ()) -> Result<(), Failure> {
        panic!("on purpose")
    }
    TestEnvironment::run(Worker::builder().workflow(panics), async |env| {
        let handle = env.client().start(panics, "a", ()).await.unwrap();
        let parked = handle.result().await.unwrap_err().to_string();
        assert!(parked.contains("on purpose"), "{parked}");
        let now = env.now().to_string();
        assert!(now.starts_with("2026-01-01T00:00:00"), "{now}");
    });
}

#[test]
fn runs_have_the_same_names_in_every_test() {
    let named = || {
        TestEnvironment::run(Worker::builder().workflow(part), async |env| {
            let handle = env.client().start(part, "a", 1).await.unwrap();
            handle.run_id()
        })
    };
    assert_eq!(named(), named());
}

#[test]
fn a_durable_test_plays_crashes_and_schedules() {
    let plays = AtomicU32::new(0);
    durable_test(0..20, shop, async |env, ledger| {
        plays.fetch_add(1, Ordering::SeqCst);
        let outcome = buys(env.client()).await;
        assert_eq!(ledger.charged.lock().unwrap().values().sum::<u64>(), 112);
        outcome
    });
    assert!(plays.into_inner() > 20 + 2 * 6);
}

#[test]
#[should_panic(expected = "left: 2")]
fn a_durable_test_finds_what_depends_on_a_crash() {
    let worker = |calls: &Arc<AtomicU32>| {
        let calls = Arc::clone(calls);
        Worker::builder().workflow(doubled).mock(double, move |_| {
            let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
            async move { Ok(call.into()) }
        })
    };
    durable_test(0..0, worker, async |env, _| {
        let handle = env.client().start(doubled, "a", 1).await.unwrap();
        handle.result().await.unwrap()
    });
}
