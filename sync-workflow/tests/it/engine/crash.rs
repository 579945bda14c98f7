//! Workers that go away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sync_workflow::{Activity, ActivityContext, Context, Failure, FailureKind, status::RunStatus};

use super::{
    Storage,
    code::{Counter, crash, steps},
    eventually, on_every_journal, quick,
};

on_every_journal![
    another_worker_goes_on_where_a_dead_one_stopped,
    an_interrupted_activity_that_may_run_once_is_not_repeated,
    a_run_asleep_wakes_on_another_worker,
    shutting_down_gives_runs_back_without_counting_an_attempt,
];

async fn another_worker_goes_on_where_a_dead_one_stopped(storage: Storage) {
    let calls = Arc::new(AtomicU32::new(0));
    let first = Counter {
        calls: Arc::clone(&calls),
        hang_at: 6,
    };
    let worker = storage
        .start(
            quick()
                .lease(Duration::from_millis(600))
                .workflow(steps)
                .activity(first),
        )
        .await;
    let handle = worker.client().start(steps, "a", 10).await.unwrap();
    eventually("the sixth step hangs", || async {
        calls.load(Ordering::SeqCst) == 6
    })
    .await;
    crash(worker).await;

    let second = Counter {
        calls: Arc::clone(&calls),
        hang_at: 0,
    };
    let worker = storage
        .start(quick().workflow(steps).activity(second))
        .await;
    let handle = worker
        .client()
        .handle(steps, handle.workflow_id().as_str())
        .await
        .unwrap();
    assert_eq!(handle.result().await.unwrap(), 45);
    // Five were journaled, the sixth was interrupted and ran again.
    assert_eq!(calls.load(Ordering::SeqCst), 11);
    worker.shutdown().await;
}

async fn once(ctx: Context, n: u32) -> Result<u32, Failure> {
    match ctx.activity(Counter::activity(), n).at_most_once().await {
        Ok(n) => Ok(n),
        Err(error) if error.is_kind(FailureKind::Interrupted) => Ok(1_000),
        Err(error) => Err(error.into()),
    }
}

async fn an_interrupted_activity_that_may_run_once_is_not_repeated(storage: Storage) {
    let calls = Arc::new(AtomicU32::new(0));
    let first = Counter {
        calls: Arc::clone(&calls),
        hang_at: 1,
    };
    let worker = storage
        .start(
            quick()
                .lease(Duration::from_millis(600))
                .workflow(once)
                .activity(first),
        )
        .await;
    worker.client().start(once, "a", 1).await.unwrap();
    eventually("the activity hangs", || async {
        calls.load(Ordering::SeqCst) == 1
    })
    .await;
    crash(worker).await;

    let second = Counter {
        calls: Arc::clone(&calls),
        hang_at: 0,
    };
    let worker = storage.start(quick().workflow(once).activity(second)).await;
    let handle = worker.client().handle(once, "a").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1_000);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    worker.shutdown().await;
}

async fn naps(ctx: Context, millis: u32) -> Result<u32, Failure> {
    ctx.sleep(Duration::from_millis(millis.into())).await?;
    Ok(millis)
}

async fn a_run_asleep_wakes_on_another_worker(storage: Storage) {
    let worker = storage.start(quick().workflow(naps)).await;
    let handle = worker.client().start(naps, "a", 500).await.unwrap();
    eventually("the run sleeps", || async {
        handle.describe().await.unwrap().status == RunStatus::Pending
    })
    .await;
    crash(worker).await;
    let worker = storage.start(quick().workflow(naps)).await;
    assert_eq!(
        worker
            .client()
            .handle(naps, "a")
            .await
            .unwrap()
            .result()
            .await
            .unwrap(),
        500
    );
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
