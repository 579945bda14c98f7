//! Activities: values, attempts, timeouts, progress.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sync_workflow::{
    Activity, ActivityContext, CallError, Context, Failure, FailureKind, RetryPolicy,
    status::RunStatus,
};
use tokio::sync::Semaphore;

use super::{
    Storage,
    code::{FlakyError, double, doubled, soon},
    eventually, on_every_journal, quick,
};

on_every_journal![
    an_activity_s_value_is_the_workflow_s_result,
    a_failed_activity_is_tried_again_until_it_succeeds,
    an_activity_that_used_up_its_attempts_gives_its_typed_error,
    a_final_error_is_not_tried_again,
    a_panic_in_an_activity_is_an_error_and_not_the_end_of_the_worker,
    a_timed_out_activity_fails,
    heartbeat_details_reach_the_next_attempt,
    an_attempt_knows_the_node_that_makes_it,
];

async fn an_activity_s_value_is_the_workflow_s_result(storage: Storage) {
    let worker = storage
        .start(quick().workflow(doubled).activity(double))
        .await;
    let handle = worker.client().start(doubled, "a", 21).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 42);
    let info = handle.describe().await.unwrap();
    assert_eq!(info.status, RunStatus::Completed);
    worker.shutdown().await;
}

struct Flaky {
    calls: Arc<AtomicU32>,
    succeeds_at: u32,
}

impl Activity for Flaky {
    const NAME: &'static str = "flaky";
    type Input = ();
    type Output = u32;
    type Error = FlakyError;

    async fn run(&self, ctx: ActivityContext, (): ()) -> Result<u32, FlakyError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        assert_eq!(ctx.attempt(), call);
        if self.succeeds_at == 0 {
            return Err(FlakyError::Never);
        }
        if call < self.succeeds_at {
            Err(FlakyError::NotYet(call))
        } else {
            Ok(call)
        }
    }
}

async fn insist(ctx: Context, attempts: u32) -> Result<String, Failure> {
    match ctx
        .activity(Flaky::activity(), ())
        .retry(soon(attempts))
        .await
    {
        Ok(call) => Ok(format!("call {call}")),
        Err(CallError::Failed(error)) => Ok(format!("error {error:?}")),
        Err(error) => Err(error.into()),
    }
}

async fn flaky_result(storage: Storage, succeeds_at: u32, attempts: u32) -> (String, u32) {
    let calls = Arc::new(AtomicU32::new(0));
    let flaky = Flaky {
        calls: Arc::clone(&calls),
        succeeds_at,
    };
    let worker = storage
        .start(quick().workflow(insist).activity(flaky))
        .await;
    let result = worker
        .client()
        .start(insist, "a", attempts)
        .await
        .unwrap()
        .result()
        .await
        .unwrap();
    worker.shutdown().await;
    (result, calls.load(Ordering::SeqCst))
}

async fn a_failed_activity_is_tried_again_until_it_succeeds(storage: Storage) {
    assert_eq!(flaky_result(storage, 4, 10).await, ("call 4".into(), 4));
}

async fn an_activity_that_used_up_its_attempts_gives_its_typed_error(storage: Storage) {
    assert_eq!(
        flaky_result(storage, 9, 3).await,
        ("error NotYet(3)".into(), 3)
    );
}

async fn a_final_error_is_not_tried_again(storage: Storage) {
    assert_eq!(
        flaky_result(storage, 0, 10).await,
        ("error Never".into(), 1)
    );
}

async fn explode(_: ()) -> Result<(), Failure> {
    panic!("boom")
}

async fn survives(ctx: Context, (): ()) -> Result<String, Failure> {
    let error = ctx.activity(explode, ()).retry(soon(2)).await.unwrap_err();
    assert!(error.is_kind(FailureKind::Panicked));
    Ok(error.to_string())
}

async fn a_panic_in_an_activity_is_an_error_and_not_the_end_of_the_worker(storage: Storage) {
    let worker = storage
        .start(quick().workflow(survives).activity(explode))
        .await;
    let result = worker
        .client()
        .start(survives, "a", ())
        .await
        .unwrap()
        .result()
        .await
        .unwrap();
    assert_eq!(result, "boom");
    worker.shutdown().await;
}

async fn hangs(ctx: ActivityContext, (): ()) -> Result<(), Failure> {
    ctx.cancelled().await;
    std::future::pending().await
}

async fn waits_briefly(ctx: Context, (): ()) -> Result<bool, Failure> {
    let slow = ctx
        .activity(hangs, ())
        .timeout(Duration::from_millis(10))
        .retry(soon(2))
        .await;
    let silent = ctx
        .activity(hangs, ())
        .heartbeat_timeout(Duration::from_millis(10))
        .retry(soon(2))
        .await;
    let late = ctx
        .activity(hangs, ())
        .deadline(Duration::from_millis(10))
        .retry(soon(99))
        .await;
    let timed_out = |result: Result<(), CallError>| {
        result.is_err_and(|error| error.is_kind(FailureKind::TimedOut))
    };
    Ok(timed_out(slow) && timed_out(silent) && timed_out(late))
}

async fn a_timed_out_activity_fails(storage: Storage) {
    let worker = storage
        .start(quick().workflow(waits_briefly).activity(hangs))
        .await;
    assert!(
        worker
            .client()
            .start(waits_briefly, "a", ())
            .await
            .unwrap()
            .result()
            .await
            .unwrap()
    );
    worker.shutdown().await;
}

async fn progresses(ctx: ActivityContext, (): ()) -> Result<u32, Failure> {
    let reached: u32 = ctx.details()?.unwrap_or_default();
    ctx.heartbeat(&(reached + 10));
    if reached < 20 {
        Err(Failure::new("more to do"))
    } else {
        Ok(reached)
    }
}

async fn patient(ctx: Context, (): ()) -> Result<u32, Failure> {
    Ok(ctx.activity(progresses, ()).retry(soon(10)).await?)
}

async fn heartbeat_details_reach_the_next_attempt(storage: Storage) {
    let worker = storage
        .start(quick().workflow(patient).activity(progresses))
        .await;
    assert_eq!(
        worker
            .client()
            .start(patient, "a", ())
            .await
            .unwrap()
            .result()
            .await
            .unwrap(),
        20
    );
    worker.shutdown().await;
}

struct Gated {
    gate: Arc<Semaphore>,
}

impl Activity for Gated {
    const NAME: &'static str = "gated";
    type Input = ();
    type Output = String;
    type Error = Failure;

    async fn run(&self, ctx: ActivityContext, (): ()) -> Result<String, Failure> {
        let _open = self.gate.acquire().await;
        Ok(ctx.node().to_string())
    }
}

async fn tells_its_node(ctx: Context, (): ()) -> Result<String, Failure> {
    Ok(ctx.activity(Gated::activity(), ()).await?)
}

async fn an_attempt_knows_the_node_that_makes_it(storage: Storage) {
    let gate = Arc::new(Semaphore::new(0));
    let activity = Gated {
        gate: Arc::clone(&gate),
    };
    let worker = storage
        .start(quick().workflow(tells_its_node).activity(activity))
        .await;
    let handle = worker
        .client()
        .start(tells_its_node, "a", ())
        .await
        .unwrap();
    eventually("the run is held", || async {
        handle.describe().await.unwrap().node.is_some()
    })
    .await;
    let holder = handle.describe().await.unwrap().node;
    gate.add_permits(1);
    let told = handle.result().await.unwrap();
    assert_eq!(Some(told), holder.map(|node| node.to_string()));
    worker.shutdown().await;
}

async fn retries_forever(ctx: Context, (): ()) -> Result<u32, Failure> {
    let retry = RetryPolicy {
        initial_interval: Duration::from_millis(300),
        max_attempts: 3,
        ..RetryPolicy::default()
    };
    Ok(ctx
        .activity(Stubborn::activity(), ())
        .retry(retry)
        .await
        .unwrap_or(99))
}

#[derive(Clone, Default)]
struct Stubborn {
    attempts: Arc<std::sync::Mutex<Vec<u32>>>,
}

impl Activity for Stubborn {
    const NAME: &'static str = "stubborn";
    type Input = ();
    type Output = u32;
    type Error = Failure;

    async fn run(&self, ctx: ActivityContext, (): ()) -> Result<u32, Failure> {
        self.attempts.lock().unwrap().push(ctx.attempt());
        Err(Failure::new("no"))
    }
}

mod attempts {
    use super::{Storage, Stubborn, quick, retries_forever};
    use crate::engine::{code::crash, eventually};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn failed_attempts_survive_a_crash() {
        let storage = Storage::memory();
        let stubborn = Stubborn::default();
        let build = || {
            quick()
                .lease(std::time::Duration::from_millis(600))
                .workflow(retries_forever)
                .activity(stubborn.clone())
        };
        let worker = storage.start(build()).await;
        worker
            .client()
            .start(retries_forever, "a", ())
            .await
            .unwrap();
        eventually("an attempt has failed", || async {
            !stubborn.attempts.lock().unwrap().is_empty()
        })
        .await;
        eventually("the run waits for the next attempt", || async {
            worker.resident_runs() == 0
        })
        .await;
        crash(worker).await;
        let worker = storage.start(build()).await;
        let handle = worker.client().handle(retries_forever, "a").await.unwrap();
        assert_eq!(handle.result().await.unwrap(), 99);
        assert_eq!(*stubborn.attempts.lock().unwrap(), [1, 2, 3]);
        worker.shutdown().await;
    }
}
