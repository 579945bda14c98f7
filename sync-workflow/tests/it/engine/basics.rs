//! What a workflow can do, one capability at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sync_workflow::{
    Activity, ActivityContext, CallError, Context, Failure, FailureKind, RetryPolicy, RunError,
    TypedError, Workflow, id::WorkflowId, status::RunStatus,
};

use super::{Storage, eventually, on_every_journal, quick};

on_every_journal![
    an_activity_s_value_is_the_workflow_s_result,
    a_failed_activity_is_tried_again_until_it_succeeds,
    an_activity_that_used_up_its_attempts_gives_its_typed_error,
    a_final_error_is_not_tried_again,
    a_panic_in_an_activity_is_an_error_and_not_the_end_of_the_worker,
    a_panic_in_a_workflow_parks_the_run_and_the_worker_goes_on,
    a_sleep_ends_after_eviction,
    signals_are_received_in_the_order_in_which_they_were_sent,
    a_signal_sent_twice_with_one_id_is_received_once,
    a_parent_gets_the_results_of_its_children,
    a_child_whose_workflow_id_is_taken_is_an_error,
    a_long_chain_continues_as_new,
    a_start_with_a_used_workflow_id_returns_the_first_run,
    a_cancelled_workflow_cleans_up,
    a_terminated_run_ends_at_once,
    the_same_time_and_random_values_are_seen_by_every_replay,
    a_timed_out_activity_fails,
    heartbeat_details_reach_the_next_attempt,
    a_foreign_await_parks_the_run,
    a_workflow_type_holds_its_dependencies,
    an_open_child_is_cancelled_when_its_parent_closes,
    an_undecodable_input_parks_the_run,
    shutting_down_gives_runs_back_without_counting_an_attempt,
];

async fn double(n: u64) -> Result<u64, Failure> {
    Ok(n * 2)
}

async fn doubled(ctx: Context, n: u64) -> Result<u64, Failure> {
    Ok(ctx.activity(double, n).await?)
}

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

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum FlakyError {
    NotYet(u32),
    Never,
}

impl std::fmt::Display for FlakyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for FlakyError {}

impl TypedError for FlakyError {
    fn is_final(&self) -> bool {
        *self == Self::Never
    }
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

fn soon(max_attempts: u32) -> RetryPolicy {
    RetryPolicy {
        initial_interval: Duration::from_millis(1),
        max_interval: Duration::from_millis(5),
        max_attempts,
        ..RetryPolicy::default()
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

async fn panics(ctx: Context, n: u64) -> Result<u64, Failure> {
    let n = ctx.activity(double, n).await?;
    assert!(n > 100, "too small: {n}");
    Ok(n)
}

async fn a_panic_in_a_workflow_parks_the_run_and_the_worker_goes_on(storage: Storage) {
    let worker = storage
        .start(quick().workflow(panics).workflow(doubled).activity(double))
        .await;
    let client = worker.client();
    let handle = client.start(panics, "a", 1).await.unwrap();
    let Err(RunError::Parked { reason }) = handle.result().await else {
        panic!("not parked")
    };
    assert!(reason.contains("too small: 2"), "{reason}");
    assert_eq!(
        client.describe("a").await.unwrap().status,
        RunStatus::Parked
    );
    assert_eq!(
        client
            .start(doubled, "b", 1)
            .await
            .unwrap()
            .result()
            .await
            .unwrap(),
        2
    );
    client.unpark("a").await.unwrap();
    assert!(matches!(
        handle.result().await,
        Err(RunError::Parked { .. })
    ));
    worker.shutdown().await;
}

async fn naps(ctx: Context, millis: u64) -> Result<bool, Failure> {
    let before = ctx.now();
    ctx.sleep(Duration::from_millis(millis)).await?;
    Ok(ctx.now().duration_since(before) >= jiff::SignedDuration::from_millis(millis as i64))
}

async fn a_sleep_ends_after_eviction(storage: Storage) {
    let worker = storage.start(quick().workflow(naps)).await;
    let handle = worker.client().start(naps, "a", 400).await.unwrap();
    eventually("the run leaves memory", || async {
        worker.resident_runs() == 0 && handle.describe().await.unwrap().status == RunStatus::Pending
    })
    .await;
    assert!(handle.result().await.unwrap());
    worker.shutdown().await;
}

async fn collects(ctx: Context, count: u32) -> Result<Vec<u32>, Failure> {
    let mut received = Vec::new();
    for _ in 0..count {
        received.push(ctx.wait::<u32>("number").await?);
    }
    Ok(received)
}

async fn signals_are_received_in_the_order_in_which_they_were_sent(storage: Storage) {
    let worker = storage.start(quick().workflow(collects)).await;
    let handle = worker.client().start(collects, "a", 250).await.unwrap();
    for number in 0..250_u32 {
        handle.signal("number", &number).await.unwrap();
        if number == 100 {
            eventually("the run leaves memory", || async {
                worker.resident_runs() == 0
            })
            .await;
        }
    }
    assert_eq!(handle.result().await.unwrap(), (0..250).collect::<Vec<_>>());
    worker.shutdown().await;
}

async fn a_signal_sent_twice_with_one_id_is_received_once(storage: Storage) {
    let worker = storage.start(quick().workflow(collects)).await;
    let client = worker.client();
    let handle = client.start(collects, "a", 2).await.unwrap();
    client
        .signal_once("a", "number", "first", &1)
        .await
        .unwrap();
    client
        .signal_once("a", "number", "first", &1)
        .await
        .unwrap();
    client
        .signal_once("a", "number", "second", &2)
        .await
        .unwrap();
    assert_eq!(handle.result().await.unwrap(), [1, 2]);
    worker.shutdown().await;
}

async fn family(ctx: Context, children: u64) -> Result<u64, Failure> {
    let started: Vec<_> = (0..children)
        .map(|n| ctx.child(doubled, n).start())
        .collect();
    let mut sum = 0;
    for child in started {
        sum += child.await?;
    }
    Ok(sum)
}

async fn a_parent_gets_the_results_of_its_children(storage: Storage) {
    let worker = storage
        .start(quick().workflow(family).workflow(doubled).activity(double))
        .await;
    let handle = worker.client().start(family, "a", 100).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 9_900);
    worker.shutdown().await;
}

async fn adopts(ctx: Context, id: String) -> Result<bool, Failure> {
    let id = WorkflowId::new(id)?;
    let result = ctx.child(doubled, 1).id(id).await;
    Ok(result.is_err_and(|error| error.is_kind(FailureKind::Rejected)))
}

async fn a_child_whose_workflow_id_is_taken_is_an_error(storage: Storage) {
    let worker = storage
        .start(quick().workflow(adopts).workflow(doubled).activity(double))
        .await;
    let client = worker.client();
    client
        .start(doubled, "taken", 1)
        .await
        .unwrap()
        .result()
        .await
        .unwrap();
    assert!(
        client
            .start(adopts, "a", "taken".into())
            .await
            .unwrap()
            .result()
            .await
            .unwrap()
    );
    assert!(
        !client
            .start(adopts, "b", "free".into())
            .await
            .unwrap()
            .result()
            .await
            .unwrap()
    );
    worker.shutdown().await;
}

async fn counts(ctx: Context, n: u64) -> Result<u64, Failure> {
    if n == 20 {
        return Ok(ctx.wait::<u64>("kept").await? + n);
    }
    ctx.activity(double, n).await?;
    ctx.continue_as_new(counts, n + 1).await
}

async fn a_long_chain_continues_as_new(storage: Storage) {
    let worker = storage
        .start(quick().workflow(counts).activity(double))
        .await;
    let handle = worker.client().start(counts, "a", 0).await.unwrap();
    worker.client().signal("a", "kept", &100).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 120);
    worker.shutdown().await;
}

async fn a_start_with_a_used_workflow_id_returns_the_first_run(storage: Storage) {
    let worker = storage
        .start(quick().workflow(doubled).activity(double))
        .await;
    let client = worker.client();
    let first = client.start(doubled, "a", 1).await.unwrap();
    assert_eq!(first.result().await.unwrap(), 2);
    let second = client.start(doubled, "a", 5).await.unwrap();
    assert!(first.is_new() && !second.is_new());
    assert_eq!(second.run_id(), first.run_id());
    assert_eq!(second.result().await.unwrap(), 2);
    let third = client
        .start(doubled, "a", 5)
        .reuse(sync_workflow::client::IdReuse::StartNew)
        .await
        .unwrap();
    assert!(third.is_new());
    assert_eq!(third.result().await.unwrap(), 10);
    worker.shutdown().await;
}

async fn cleans_up(ctx: Context, (): ()) -> Result<u64, Failure> {
    let slept = ctx.sleep(Duration::from_secs(3_600)).await;
    if slept.is_err() {
        assert!(
            ctx.activity(double, 1)
                .await
                .is_err_and(|error| error.is_cancelled())
        );
        ctx.shield().activity(double, 4).await?;
    }
    slept?;
    Ok(0)
}

async fn a_cancelled_workflow_cleans_up(storage: Storage) {
    let worker = storage
        .start(quick().workflow(cleans_up).activity(double))
        .await;
    let handle = worker.client().start(cleans_up, "a", ()).await.unwrap();
    eventually("the run sleeps", || async { worker.resident_runs() == 0 }).await;
    handle.cancel().await.unwrap();
    assert!(
        matches!(handle.result().await, Err(RunError::Ended(failure)) if failure.kind == FailureKind::Cancelled)
    );
    assert_eq!(
        handle.describe().await.unwrap().status,
        RunStatus::Cancelled
    );
    let history = worker
        .client()
        .history(handle.run_id(), 0, 100)
        .await
        .unwrap();
    let activities = history
        .items
        .iter()
        .filter(|item| item.kind() == sync_workflow::record::RecordKind::ActivityCompleted);
    assert_eq!(activities.count(), 1);
    worker.shutdown().await;
}

async fn a_terminated_run_ends_at_once(storage: Storage) {
    let worker = storage.start(quick().workflow(collects)).await;
    let handle = worker.client().start(collects, "a", 1).await.unwrap();
    handle.terminate("enough").await.unwrap();
    assert!(
        matches!(handle.result().await, Err(RunError::Ended(failure)) if failure.kind == FailureKind::Terminated && failure.message == "enough")
    );
    assert!(handle.signal("number", &1).await.is_err());
    eventually("its driver notices", || async {
        worker.resident_runs() == 0
    })
    .await;
    worker.shutdown().await;
}

async fn draws(ctx: Context, (): ()) -> Result<bool, Failure> {
    let draw = || {
        (
            ctx.random(),
            ctx.uuid(),
            ctx.side_effect("pid", std::process::id),
        )
    };
    let drawn = (ctx.now(), draw(), draw());
    let recorded = ctx.activity(echo, serde_json::to_value(drawn)?).await?;
    ctx.wait::<()>("go").await?;
    Ok(recorded == serde_json::to_value(drawn)? && drawn.1 != drawn.2)
}

async fn echo(value: serde_json::Value) -> Result<serde_json::Value, Failure> {
    Ok(value)
}

async fn the_same_time_and_random_values_are_seen_by_every_replay(storage: Storage) {
    let worker = storage.start(quick().workflow(draws).activity(echo)).await;
    let handle = worker.client().start(draws, "a", ()).await.unwrap();
    eventually("the run leaves memory", || async {
        worker.resident_runs() == 0
    })
    .await;
    handle.signal("go", &()).await.unwrap();
    assert!(handle.result().await.unwrap());
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

async fn strays(ctx: Context, (): ()) -> Result<(), Failure> {
    ctx.activity(double, 1).await?;
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(())
}

async fn a_foreign_await_parks_the_run(storage: Storage) {
    let worker = storage
        .start(quick().workflow(strays).activity(double))
        .await;
    let handle = worker.client().start(strays, "a", ()).await.unwrap();
    let Err(RunError::Parked { reason }) = handle.result().await else {
        panic!("not parked")
    };
    assert!(reason.contains("not a durable call"), "{reason}");
    worker.shutdown().await;
}

struct Greeter {
    greeting: String,
}

impl Workflow for Greeter {
    const NAME: &'static str = "greeter";
    type Input = String;
    type Output = String;
    type Error = FlakyError;

    async fn run(&self, _ctx: Context, name: String) -> Result<String, FlakyError> {
        if name.is_empty() {
            Err(FlakyError::Never)
        } else {
            Ok(format!("{}, {name}", self.greeting))
        }
    }
}

async fn a_workflow_type_holds_its_dependencies(storage: Storage) {
    let worker = storage
        .start(quick().workflow(Greeter {
            greeting: "moin".into(),
        }))
        .await;
    let client = worker.client();
    let greeted = client
        .start(Greeter::workflow(), "a", "anna".into())
        .await
        .unwrap();
    assert_eq!(greeted.result().await.unwrap(), "moin, anna");
    let failed = client
        .start(Greeter::workflow(), "b", String::new())
        .await
        .unwrap();
    assert!(matches!(
        failed.result().await,
        Err(RunError::Failed(FlakyError::Never))
    ));
    worker.shutdown().await;
}

async fn leaves_children(ctx: Context, (): ()) -> Result<(), Failure> {
    drop(
        ctx.child(collects, 1)
            .id(WorkflowId::new("dependent")?)
            .start(),
    );
    ctx.child(collects, 1)
        .id(WorkflowId::new("independent")?)
        .detach();
    ctx.activity(double, 1).await?;
    Ok(())
}

async fn an_open_child_is_cancelled_when_its_parent_closes(storage: Storage) {
    let worker = storage
        .start(
            quick()
                .workflow(leaves_children)
                .workflow(collects)
                .activity(double),
        )
        .await;
    let client = worker.client();
    client
        .start(leaves_children, "a", ())
        .await
        .unwrap()
        .result()
        .await
        .unwrap();
    let dependent = client.handle(collects, "dependent").await.unwrap();
    assert!(dependent.result().await.is_err());
    assert_eq!(
        dependent.describe().await.unwrap().status,
        RunStatus::Cancelled
    );
    client.signal("independent", "number", &7).await.unwrap();
    assert_eq!(
        client
            .handle(collects, "independent")
            .await
            .unwrap()
            .result()
            .await
            .unwrap(),
        [7]
    );
    worker.shutdown().await;
}

async fn an_undecodable_input_parks_the_run(storage: Storage) {
    let worker = storage
        .start(
            quick()
                .workflow_named("naps", collects)
                .workflow(doubled)
                .activity(double),
        )
        .await;
    let client = worker.client();
    // Another process's code of the same name takes a text.
    async fn naps(_ctx: Context, text: String) -> Result<String, Failure> {
        Ok(text)
    }
    let handle = client
        .start(naps, "a", "not a number".into())
        .await
        .unwrap();
    let Err(RunError::Parked { reason }) = handle.result().await else {
        panic!("not parked")
    };
    assert!(reason.contains("input cannot be decoded"), "{reason}");
    worker.shutdown().await;
}

async fn shutting_down_gives_runs_back_without_counting_an_attempt(storage: Storage) {
    let build = || quick().workflow(waits_long).activity(blocks);
    let worker = storage
        .start(build().drain_timeout(Duration::from_millis(1)))
        .await;
    let handle = worker.client().start(waits_long, "a", ()).await.unwrap();
    let journal = Arc::clone(&storage.journal);
    worker.shutdown().await;
    let run = sync_workflow::journal::RunSelector::Run(handle.run_id());
    let info = journal.describe(&run).await.unwrap().unwrap();
    assert_eq!(
        (info.status, info.attempts, info.node),
        (RunStatus::Pending, 0, None)
    );
}

async fn blocks(ctx: ActivityContext, (): ()) -> Result<(), Failure> {
    ctx.cancelled().await;
    std::future::pending().await
}

async fn waits_long(ctx: Context, (): ()) -> Result<(), Failure> {
    Ok(ctx.activity(blocks, ()).await?)
}
