//! Runs that stop for a person.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sync_workflow::{
    Activity, Context, Failure, RunError, context::WorkflowCallee, status::RunStatus,
    worker::IntoWorkflow,
};

use super::{
    Storage,
    code::{Counter, collects, crash, double, doubled, steps},
    eventually, on_every_journal, quick,
};

on_every_journal![
    a_panic_in_a_workflow_parks_the_run_and_the_worker_goes_on,
    a_foreign_await_parks_the_run,
    a_call_in_a_spawned_task_parks_the_run,
    a_call_in_a_thread_parks_the_run,
    a_call_in_the_body_of_a_transaction_parks_the_run,
    an_undecodable_input_parks_the_run,
    changed_code_parks_the_run_and_the_right_code_goes_on,
    a_run_that_kills_its_workers_is_parked,
];

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

/// The reason for which a run of this workflow is parked.
async fn reason_of<M: 'static, W>(storage: &Storage, workflow: W) -> String
where
    W: IntoWorkflow<M> + WorkflowCallee<M, Input = (), Output = u64, Error = Failure> + Copy,
{
    let worker = quick().workflow(workflow).activity(double);
    let worker = storage.start(worker).await;
    let handle = worker.client().start(workflow, "a", ()).await.unwrap();
    let Err(RunError::Parked { reason }) = handle.result().await else {
        panic!("not parked")
    };
    worker.shutdown().await;
    reason
}

async fn a_call_in_a_spawned_task_parks_the_run(storage: Storage) {
    async fn spawns(ctx: Context, (): ()) -> Result<u64, Failure> {
        let call = ctx.activity(double, 1);
        // The workflow waits for something durable, so that the spawned call is what is noticed.
        let spawned = tokio::spawn(call);
        ctx.wait::<()>("never").await?;
        Ok(spawned.await??)
    }
    let reason = reason_of(&storage, spawns).await;
    assert!(reason.contains("in a spawned task"), "{reason}");
}

async fn a_call_in_a_thread_parks_the_run(storage: Storage) {
    async fn threads(ctx: Context, (): ()) -> Result<u64, Failure> {
        let number = std::thread::spawn(move || ctx.random()).join();
        Ok(number.unwrap_or_default())
    }
    let reason = reason_of(&storage, threads).await;
    assert!(reason.contains("a thread"), "{reason}");
}

async fn a_call_in_the_body_of_a_transaction_parks_the_run(storage: Storage) {
    async fn calls(ctx: Context, (): ()) -> Result<u64, Failure> {
        let inner = ctx.clone();
        let step = ctx.transaction("step", async move |_tx| {
            Ok::<u64, Failure>(inner.activity(double, 1).await?)
        });
        Ok(step.await?)
    }
    let reason = reason_of(&storage, calls).await;
    assert!(reason.contains("the body of a transaction"), "{reason}");
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

async fn other_steps(ctx: Context, count: u32) -> Result<u32, Failure> {
    ctx.sleep(Duration::from_millis(1)).await?;
    Ok(count)
}

async fn waits_then_steps(ctx: Context, count: u32) -> Result<u32, Failure> {
    let n = ctx.activity(Counter::activity(), count).await?;
    ctx.wait::<()>("go").await?;
    Ok(n)
}

async fn changed_code_parks_the_run_and_the_right_code_goes_on(storage: Storage) {
    let build = || quick().activity(Counter::default());
    let worker = storage
        .start(build().workflow_named("job", waits_then_steps))
        .await;
    async fn job(ctx: Context, count: u32) -> Result<u32, Failure> {
        waits_then_steps(ctx, count).await
    }
    let handle = worker.client().start(job, "a", 3).await.unwrap();
    eventually("the run sleeps", || async {
        handle.describe().await.unwrap().status == RunStatus::Pending
    })
    .await;
    worker.shutdown().await;

    let worker = storage
        .start(build().workflow_named("job", other_steps))
        .await;
    let client = worker.client();
    client.signal("a", "go", &()).await.unwrap();
    let handle = client.handle(job, "a").await.unwrap();
    let Err(RunError::Parked { reason }) = handle.result().await else {
        panic!("not parked")
    };
    assert!(
        reason.contains("position 1")
            && reason.contains("counter")
            && reason.contains("TimerStarted"),
        "{reason}"
    );
    worker.shutdown().await;

    let worker = storage
        .start(build().workflow_named("job", waits_then_steps))
        .await;
    worker.client().unpark("a").await.unwrap();
    let handle = worker.client().handle(job, "a").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 3);
    worker.shutdown().await;
}

async fn a_run_that_kills_its_workers_is_parked(storage: Storage) {
    let calls = Arc::new(AtomicU32::new(0));
    for round in 1..=2 {
        let counter = Counter {
            calls: Arc::clone(&calls),
            hang_at: round,
        };
        let builder = quick()
            .lease(Duration::from_millis(600))
            .workflow(steps)
            .activity(counter);
        let worker = storage.start(builder).await;
        worker.client().start(steps, "a", 10).await.unwrap();
        eventually("the step hangs", || async {
            calls.load(Ordering::SeqCst) == round
        })
        .await;
        crash(worker).await;
    }
    let worker = storage
        .start(
            quick()
                .max_claims(2)
                .workflow(steps)
                .activity(Counter::default()),
        )
        .await;
    let handle = worker.client().handle(steps, "a").await.unwrap();
    let Err(RunError::Parked { reason }) = handle.result().await else {
        panic!("not parked")
    };
    assert!(reason.contains("2 claims in a row"), "{reason}");
    worker.client().unpark("a").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 45);
    worker.shutdown().await;
}
