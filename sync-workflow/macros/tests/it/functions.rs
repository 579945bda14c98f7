//! Workflows and activities that are functions.

use std::time::Duration;

use sync_workflow::{
    Activity, ActivityContext, ActivityOptions, Context, Failure, RetryPolicy, Worker, Workflow,
    activity, testing::TestEnvironment, workflow,
};

/// Said of a card.
#[activity(
    name = "charge card",
    retry = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() },
    timeout = Duration::from_secs(30),
    deadline = Duration::from_secs(300),
    heartbeat_timeout = Duration::from_secs(5),
    queue = "bank",
    at_most_once,
    park_when_exhausted,
)]
pub(crate) async fn charge(
    ctx: ActivityContext,
    card: String,
    cents: u64,
) -> Result<String, Failure> {
    Ok(format!("{cents} of {card} at attempt {}", ctx.attempt()))
}

#[activity]
async fn ping() -> Result<u8, Failure> {
    Ok(1)
}

type Answer<T> = Result<T, Failure>;

#[activity]
async fn double((n, _): (u64, bool)) -> Answer<u64> {
    Ok(n * 2)
}

#[workflow(name = "ship order")]
async fn ships(ctx: Context, card: String, cents: u64) -> Result<String, Failure> {
    let one = ctx.activity(ping, ()).await?;
    let doubled = ctx.activity(double, (cents, true)).await?;
    let charged = ctx.activity(charge, (card, doubled)).await?;
    Ok(format!("{charged}, {one}"))
}

#[workflow]
async fn empty(_ctx: Context) -> Result<(), Failure> {
    Ok(())
}

#[test]
fn options_are_the_defaults_of_calls() {
    let options = charge::options();
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(options.retry.max_attempts, 3);
    assert_eq!(options.timeouts.start_to_close, seconds(30));
    assert_eq!(options.timeouts.schedule_to_close, seconds(300));
    assert_eq!(options.timeouts.heartbeat, seconds(5));
    assert_eq!(options.queue.as_deref(), Some("bank"));
    assert!(options.at_most_once && options.park_when_exhausted);
    assert_eq!(ping::options(), ActivityOptions::default());
}

#[test]
fn names_are_given_or_those_of_the_functions() {
    assert_eq!(
        (charge::NAME, ping::NAME, double::NAME),
        ("charge card", "ping", "double")
    );
    assert_eq!((ships::NAME, empty::NAME), ("ship order", "empty"));
}

#[test]
fn functions_with_names_and_arguments_run() {
    let worker = Worker::builder().workflow(ships).workflow(empty);
    let worker = worker.activity(charge).activity(ping).activity(double);
    TestEnvironment::run(worker, async |env| {
        let client = env.client();
        let order = client.start(ships, "a", ("1234".into(), 7)).await.unwrap();
        assert_eq!(order.result().await.unwrap(), "14 of 1234 at attempt 1, 1");
        assert_eq!(&*client.describe("a").await.unwrap().workflow, "ship order");
        let history = client.history(order.run_id(), 0, 100).await.unwrap();
        let names: Vec<_> = history
            .items
            .iter()
            .map(|item| &*item.record.name)
            .collect();
        assert!(names.contains(&"double"), "{names:?}");
        assert!(names.contains(&"activity/charge card"), "{names:?}");
        client
            .start(empty, "b", ())
            .await
            .unwrap()
            .result()
            .await
            .unwrap();
    });
}

#[test]
fn a_call_goes_before_the_options_of_the_activity() {
    #[activity(retry = RetryPolicy::none())]
    async fn fails(_n: u64) -> Result<(), Failure> {
        Err(Failure::new("never"))
    }
    #[workflow]
    async fn asks(ctx: Context, again: bool) -> Result<u32, Failure> {
        let call = ctx.activity(fails, 1);
        let twice = RetryPolicy {
            max_attempts: 2,
            ..RetryPolicy::default()
        };
        let call = if again { call.retry(twice) } else { call };
        Ok(call.await.is_ok().into())
    }
    let attempts = |again| {
        let worker = Worker::builder().workflow(asks);
        let attempts = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let seen = std::sync::Arc::clone(&attempts);
        let worker = worker.mock_with_context(fails, move |ctx, _| {
            seen.fetch_max(ctx.attempt(), std::sync::atomic::Ordering::SeqCst);
            async { Err(Failure::new("never")) }
        });
        TestEnvironment::run(worker, async |env| {
            env.client()
                .start(asks, "a", again)
                .await
                .unwrap()
                .result()
                .await
                .unwrap();
        });
        attempts.load(std::sync::atomic::Ordering::SeqCst)
    };
    assert_eq!((attempts(false), attempts(true)), (1, 2));
}

#[tokio::test]
async fn the_code_is_called_like_a_function() {
    assert_eq!(ping::call().await.unwrap(), 1);
    assert_eq!(double::call((4, false)).await.unwrap(), 8);
}
