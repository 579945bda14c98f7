//! Runs from their start to their end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sync_workflow::{
    Activity, Context, Failure, FailureKind, RunError, Workflow, status::RunStatus,
};

use super::{
    Storage,
    code::{Counter, FlakyError, collects, double, doubled},
    eventually, on_every_journal, quick,
};

on_every_journal![
    a_long_chain_continues_as_new,
    a_request_to_cancel_reaches_a_chain_that_continues_as_new,
    a_start_with_a_used_workflow_id_returns_the_first_run,
    a_cancelled_workflow_cleans_up,
    a_terminated_run_ends_at_once,
    a_workflow_type_holds_its_dependencies,
];

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

async fn endless(ctx: Context, n: u32) -> Result<u32, Failure> {
    ctx.activity(Counter::activity(), n).await?;
    ctx.continue_as_new(endless, n + 1).await
}

async fn a_request_to_cancel_reaches_a_chain_that_continues_as_new(storage: Storage) {
    let counter = Counter::default();
    let calls = Arc::clone(&counter.calls);
    let worker = storage
        .start(quick().workflow(endless).activity(counter))
        .await;
    let handle = worker.client().start(endless, "a", 0).await.unwrap();
    eventually("some runs have passed", || async {
        calls.load(Ordering::SeqCst) > 5
    })
    .await;
    // A request may meet a run that has just closed: the next one takes it then.
    eventually("the request arrives", || async {
        worker.client().cancel("a").await.is_ok()
    })
    .await;
    assert!(
        matches!(handle.result().await, Err(RunError::Ended(failure)) if failure.kind == FailureKind::Cancelled)
    );
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
