//! Activities that workers of another queue run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sync_workflow::{
    Activity, ActivityContext, CallError, Context, Failure, FailureKind, RetryPolicy,
    WorkerBuilder, context::ActivityCall,
};

use super::{
    Storage,
    code::{FlakyError, crash, soon},
    eventually, on_every_journal, quick,
};

on_every_journal![
    a_worker_of_another_queue_runs_it,
    its_error_keeps_its_type,
    it_is_told_to_stop_with_its_scope,
    it_goes_on_when_the_other_worker_dies,
];

/// Fails as often as it is told to, and counts its calls.
#[derive(Clone, Default)]
struct Render(Arc<AtomicU32>);

impl Activity for Render {
    const NAME: &'static str = "render";
    type Input = (u32, String);
    type Output = String;
    type Error = FlakyError;

    async fn run(
        &self,
        _: ActivityContext,
        (failures, scene): (u32, String),
    ) -> Result<String, FlakyError> {
        match self.0.fetch_add(1, Ordering::SeqCst) + 1 {
            call if call <= failures => Err(FlakyError::NotYet(call)),
            _ if scene == "never" => Err(FlakyError::Never),
            _ => Ok(format!("a film of {scene}")),
        }
    }
}

fn rendered(ctx: &Context, failures: u32, scene: String) -> ActivityCall<String, FlakyError> {
    let call = ctx.activity(Render::activity(), (failures, scene));
    call.retry(soon(5)).queue("gpu")
}

async fn film(ctx: Context, scene: String) -> Result<String, Failure> {
    match rendered(&ctx, 2, scene).await {
        Ok(film) => Ok(film),
        Err(CallError::Failed(error)) => Ok(format!("typed: {error}")),
        Err(other) => Err(other.into()),
    }
}

fn gpu(render: &Render) -> WorkerBuilder {
    quick().queue("gpu").remote_activity(render.clone())
}

async fn a_worker_of_another_queue_runs_it(storage: Storage) {
    let render = Render::default();
    let worker = storage.start(quick().workflow(film)).await;
    let handle = worker
        .client()
        .start(film, "film", "\u{0}\"sea\"".into())
        .await
        .unwrap();
    // Nobody serves the queue yet.
    let child = format!("{}/0", handle.run_id());
    let client = worker.client();
    eventually("it waits", async || client.describe(&child).await.is_ok()).await;
    assert_eq!(render.0.load(Ordering::SeqCst), 0);
    let other = storage.start(gpu(&render)).await;
    assert_eq!(handle.result().await.unwrap(), "a film of \u{0}\"sea\"");
    assert_eq!(render.0.load(Ordering::SeqCst), 3, "two attempts failed");
    let info = client.describe(&child).await.unwrap();
    assert_eq!((&*info.queue, &*info.workflow), ("gpu", "activity/render"));
    other.shutdown().await;
    worker.shutdown().await;
}

async fn its_error_keeps_its_type(storage: Storage) {
    let worker = storage.start(quick().workflow(film)).await;
    let other = storage.start(gpu(&Render::default())).await;
    let handle = worker
        .client()
        .start(film, "film", "never".into())
        .await
        .unwrap();
    assert_eq!(handle.result().await.unwrap(), "typed: Never");
    other.shutdown().await;
    worker.shutdown().await;
}

/// Runs until it is told to stop, and says so.
#[derive(Clone, Default)]
struct Endless(Arc<AtomicU32>);

impl Activity for Endless {
    const NAME: &'static str = "endless";
    type Input = ();
    type Output = ();
    type Error = Failure;

    async fn run(&self, ctx: ActivityContext, (): ()) -> Result<(), Failure> {
        self.0.fetch_add(1, Ordering::SeqCst);
        ctx.cancelled().await;
        self.0.fetch_add(10, Ordering::SeqCst);
        Ok(())
    }
}

async fn stops(ctx: Context, (): ()) -> Result<bool, Failure> {
    let scope = ctx.scope();
    let endless = scope.context().activity(Endless::activity(), ());
    let mut endless = std::pin::pin!(endless.queue("gpu").retry(RetryPolicy::none()));
    let stopped = tokio::select! {
        ended = &mut endless => ended,
        stop = ctx.wait::<()>("stop") => {
            stop?;
            scope.cancel();
            endless.await
        }
    };
    ctx.wait::<()>("end").await?;
    Ok(stopped.is_err_and(|error| error.is_kind(FailureKind::Cancelled)))
}

async fn it_is_told_to_stop_with_its_scope(storage: Storage) {
    let endless = Endless::default();
    let worker = storage.start(quick().workflow(stops)).await;
    let other = storage
        .start(quick().queue("gpu").remote_activity(endless.clone()))
        .await;
    let client = worker.client();
    let handle = client.start(stops, "a", ()).await.unwrap();
    let count = || endless.0.load(Ordering::SeqCst);
    eventually("it runs", async || count() == 1).await;
    client.signal("a", "stop", &()).await.unwrap();
    eventually("it is told", async || count() == 11).await;
    client.signal("a", "end", &()).await.unwrap();
    assert!(handle.result().await.unwrap());
    other.shutdown().await;
    worker.shutdown().await;
}

async fn it_goes_on_when_the_other_worker_dies(storage: Storage) {
    let builder = || quick().queue("gpu").lease(Duration::from_millis(600));
    let hangs = Endless::default();
    let worker = storage.start(quick().workflow(stops)).await;
    let other = storage
        .start(builder().remote_activity(hangs.clone()))
        .await;
    let client = worker.client();
    let handle = client.start(stops, "a", ()).await.unwrap();
    eventually("it runs", async || hangs.0.load(Ordering::SeqCst) == 1).await;
    crash(other).await;
    let again = Endless::default();
    let other = storage
        .start(builder().remote_activity(again.clone()))
        .await;
    eventually("it runs again", async || {
        again.0.load(Ordering::SeqCst) == 1
    })
    .await;
    for signal in ["stop", "end"] {
        client.signal("a", signal, &()).await.unwrap();
    }
    assert!(handle.result().await.unwrap());
    other.shutdown().await;
    worker.shutdown().await;
}
