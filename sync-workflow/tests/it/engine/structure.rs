//! Parts of a workflow that are cancelled, timed or undone as a whole.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use sync_workflow::{
    Activity, ActivityContext, CallError, Client, Context, Failure, FailureKind, RetryPolicy,
    RunError,
    id::{RunId, WorkflowId},
    record::RecordKind,
    status::RunStatus,
    testing::ReplayCheck,
    worker::IntoWorkflow,
};

use super::{
    Storage,
    code::{crash, double},
    eventually, on_every_journal, quick,
};

on_every_journal![
    a_cancelled_scope_ends_its_calls_and_the_run_goes_on,
    a_child_in_a_cancelled_scope_is_asked_to_cancel,
    a_child_is_asked_to_cancel_although_the_worker_dies,
    a_call_that_takes_too_long_is_dropped,
    a_timeout_is_cancelled_with_the_run,
    a_saga_is_undone_in_reverse,
    a_saga_goes_on_being_undone_after_a_crash,
];

const LONG: Duration = Duration::from_secs(3_600);

/// Holds code against everything that a run of it has written, cut everywhere.
async fn replays<M>(client: &Client, code: impl IntoWorkflow<M>, run: RunId, id: &str) {
    let history = client.history(run, 0, 1_000).await.unwrap();
    let records = history.items.into_iter().map(|item| item.record).collect();
    let id = WorkflowId::new(id).unwrap();
    let check = ReplayCheck::new(code, run, id, records);
    check.whole().unwrap();
    check.every_prefix().unwrap();
}

/// Runs until it is told to stop, and says so.
#[derive(Clone, Default)]
struct Patient(Arc<Mutex<Vec<&'static str>>>);

impl Patient {
    fn heard(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

impl Activity for Patient {
    const NAME: &'static str = "patient";
    type Input = ();
    type Output = ();
    type Error = Failure;

    async fn run(&self, ctx: ActivityContext, (): ()) -> Result<(), Failure> {
        self.0.lock().unwrap().push("started");
        ctx.cancelled().await;
        self.0.lock().unwrap().push("stopped");
        Ok(())
    }
}

/// Cancels a scope with an activity, a timer, a wait and a scope in it, and counts what was cancelled.
async fn gives_up(ctx: Context, (): ()) -> Result<Vec<String>, Failure> {
    let scope = ctx.scope();
    let inner = scope.context().scope();
    let kept = scope.context().shield().activity(double, 21);
    let activity = scope.context().activity(Patient::activity(), ());
    let timer = inner.context().sleep(LONG);
    let signal = inner.context().wait::<()>("never");
    let is_cancelled = |error: &CallError| error.is_kind(FailureKind::Cancelled);
    let work = async {
        let (activity, timer, signal) = tokio::join!(activity, timer, signal);
        let late = inner.context().activity(double, 1).await;
        vec![
            format!("activity {}", activity.is_err_and(|e| is_cancelled(&e))),
            format!("timer {}", timer.is_err()),
            format!("signal {}", signal.is_err_and(|e| is_cancelled(&e))),
            format!("late {}", late.is_err_and(|e| is_cancelled(&e))),
            format!("kept {}", kept.await.unwrap_or_default()),
        ]
    };
    let mut work = std::pin::pin!(work);
    let mut ended = tokio::select! {
        ended = &mut work => ended,
        go = ctx.wait::<()>("give up") => {
            go?;
            scope.cancel();
            scope.cancel();
            work.await
        }
    };
    ended.push(format!(
        "run {} scope {}",
        ctx.is_cancelled(),
        inner.context().is_cancelled()
    ));
    ctx.wait::<()>("end").await?;
    ended.push(format!("on {}", ctx.activity(double, 2).await?));
    Ok(ended)
}

async fn a_cancelled_scope_ends_its_calls_and_the_run_goes_on(storage: Storage) {
    let patient = Patient::default();
    let builder = quick().workflow(gives_up).activity(patient.clone());
    let worker = storage.start(builder.activity(double)).await;
    let client = worker.client();
    let handle = client.start(gives_up, "scope", ()).await.unwrap();
    eventually("it works", async || patient.heard() == ["started"]).await;
    client.signal("scope", "give up", &()).await.unwrap();
    eventually("it stops", async || {
        patient.heard() == ["started", "stopped"]
    })
    .await;
    client.signal("scope", "end", &()).await.unwrap();
    let ended = handle.result().await.unwrap();
    let expected = [
        "activity true",
        "timer true",
        "signal true",
        "late true",
        "kept 42",
        "run false scope true",
        "on 4",
    ];
    assert_eq!(ended, expected);
    replays(&client, gives_up, handle.run_id(), "scope").await;
    worker.shutdown().await;
}

/// A child that ends when it is cancelled.
async fn waits(ctx: Context, (): ()) -> Result<(), Failure> {
    Ok(ctx.wait::<()>("never").await?)
}

/// Cancels a scope with children, and waits on.
async fn lets_go(ctx: Context, (): ()) -> Result<(), Failure> {
    let scope = ctx.scope();
    let child = |id: &str| Ok::<_, Failure>(ctx.child(waits, ()).id(WorkflowId::new(id)?));
    let beside = child("beside")?.start();
    let asked = scope
        .context()
        .child(waits, ())
        .id(WorkflowId::new("asked")?)
        .start();
    let adult = scope
        .context()
        .child(waits, ())
        .id(WorkflowId::new("adult")?);
    let adult = adult.abandon_on_close().start();
    ctx.wait::<()>("let go").await?;
    scope.cancel();
    let (asked, adult) = tokio::join!(asked, adult);
    assert!(asked.is_err() && adult.is_err(), "{asked:?} {adult:?}");
    ctx.wait::<()>("end").await?;
    drop(beside);
    Ok(())
}

async fn status(client: &Client, id: &str) -> Option<RunStatus> {
    client.describe(id).await.ok().map(|info| info.status)
}

async fn a_child_in_a_cancelled_scope_is_asked_to_cancel(storage: Storage) {
    let worker = storage
        .start(quick().workflow(lets_go).workflow(waits))
        .await;
    let client = worker.client();
    let handle = client.start(lets_go, "parent", ()).await.unwrap();
    eventually("children", async || {
        status(&client, "adult").await.is_some()
    })
    .await;
    client.signal("parent", "let go", &()).await.unwrap();
    eventually("it ends", async || {
        status(&client, "asked").await == Some(RunStatus::Cancelled)
    })
    .await;
    for id in ["beside", "adult", "parent"] {
        assert!(!status(&client, id).await.unwrap().is_closed(), "{id}");
    }
    client.signal("parent", "end", &()).await.unwrap();
    handle.result().await.unwrap();
    replays(&client, lets_go, handle.run_id(), "parent").await;
    worker.shutdown().await;
}

async fn a_child_is_asked_to_cancel_although_the_worker_dies(storage: Storage) {
    let builder = || {
        let quickly = quick().lease(Duration::from_millis(600));
        quickly.workflow(lets_go).workflow(waits)
    };
    let worker = storage.start(builder()).await;
    let client = Client::new(Arc::clone(&storage.journal));
    client.start(lets_go, "parent", ()).await.unwrap();
    eventually("children", async || {
        status(&client, "adult").await.is_some()
    })
    .await;
    crash(worker).await;
    client.signal("parent", "let go", &()).await.unwrap();
    // Dies somewhere on the way.
    let worker = storage.start(builder()).await;
    crash(worker).await;
    let worker = storage.start(builder()).await;
    eventually("it ends", async || {
        status(&client, "asked").await == Some(RunStatus::Cancelled)
    })
    .await;
    worker.shutdown().await;
}

async fn hurries(ctx: Context, limit: u64) -> Result<String, Failure> {
    let limit = Duration::from_millis(limit);
    let signal = ctx.timeout(limit, ctx.wait::<u64>("number")).await;
    let n = match signal {
        Ok(signal) => signal?,
        Err(elapsed) => return Ok(Failure::from(elapsed).to_string()),
    };
    // More than one call, and quick enough.
    let twice = async { ctx.activity(double, ctx.activity(double, n).await?).await };
    Ok(ctx.timeout(LONG, twice).await?.map(|n| n.to_string())?)
}

async fn a_call_that_takes_too_long_is_dropped(storage: Storage) {
    let worker = storage
        .start(quick().workflow(hurries).activity(double))
        .await;
    let client = worker.client();
    let late = client.start(hurries, "late", 30).await.unwrap();
    let words = late.result().await.unwrap();
    assert!(words.contains("longer than 30ms"), "{words}");
    replays(&client, hurries, late.run_id(), "late").await;
    let timely = client.start(hurries, "timely", 3_600_000).await.unwrap();
    client.signal("timely", "number", &5).await.unwrap();
    assert_eq!(timely.result().await.unwrap(), "20");
    replays(&client, hurries, timely.run_id(), "timely").await;
    worker.shutdown().await;
}

async fn a_timeout_is_cancelled_with_the_run(storage: Storage) {
    let worker = storage
        .start(quick().workflow(hurries).activity(double))
        .await;
    let handle = worker
        .client()
        .start(hurries, "a", 3_600_000)
        .await
        .unwrap();
    handle.cancel().await.unwrap();
    let ended = handle.result().await;
    assert!(
        matches!(&ended, Err(RunError::Ended(failure)) if failure.kind == FailureKind::Cancelled),
        "{ended:?}"
    );
    worker.shutdown().await;
}

/// Does and undoes, and remembers in which order. One may be made impossible to undo.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<String>>>);

impl Activity for Book {
    const NAME: &'static str = "book";
    type Input = String;
    type Output = ();
    type Error = Failure;

    async fn run(&self, _: ActivityContext, entry: String) -> Result<(), Failure> {
        let refuses = entry.contains("impossible") || entry == "do 4";
        self.0.lock().unwrap().push(entry);
        match refuses {
            true => Err(Failure::final_error("refused")),
            false => Ok(()),
        }
    }
}

/// Does 1 to 4, the last of which fails, and undoes 3 to 1, with a wait in the middle.
async fn travels(ctx: Context, impossible: u32) -> Result<(), Failure> {
    let mut saga = ctx.saga();
    let mut failed = None;
    for n in 1..=4 {
        let step = ctx.activity(Book::activity(), format!("do {n}"));
        if let Err(error) = step.retry(RetryPolicy::none()).await {
            failed = Some(error);
            break;
        }
        let what = if n == impossible {
            "impossible"
        } else {
            "undo"
        };
        saga.on_undo(async move |ctx: Context| {
            if n == 2 {
                ctx.wait::<()>("undo").await?;
            }
            ctx.activity(Book::activity(), format!("{what} {n}")).await
        });
    }
    match failed {
        Some(error) => Err(saga.undo(error.into()).await),
        None => Ok(()),
    }
}

async fn a_saga_is_undone_in_reverse(storage: Storage) {
    let book = Book::default();
    let worker = storage
        .start(quick().workflow(travels).activity(book.clone()))
        .await;
    let client = worker.client();
    let handle = client.start(travels, "trip", 2).await.unwrap();
    // Undoing goes on although the run is cancelled.
    eventually("undone in part", async || book.0.lock().unwrap().len() == 5).await;
    handle.cancel().await.unwrap();
    client.signal("trip", "undo", &()).await.unwrap();
    let Err(RunError::Failed(failure)) = handle.result().await else {
        panic!("it succeeded");
    };
    assert_eq!(failure.message, "refused");
    assert!(
        failure.causes[0].starts_with("not undone: refused"),
        "{failure:?}"
    );
    let entries = book.0.lock().unwrap().clone();
    let expected = [
        "do 1",
        "do 2",
        "do 3",
        "do 4",
        "undo 3",
        "impossible 2",
        "undo 1",
    ];
    assert_eq!(entries, expected);
    replays(&client, travels, handle.run_id(), "trip").await;
    worker.shutdown().await;
}

async fn a_saga_goes_on_being_undone_after_a_crash(storage: Storage) {
    let book = Book::default();
    let builder = || {
        let quickly = quick().lease(Duration::from_millis(600));
        quickly.workflow(travels).activity(book.clone())
    };
    let worker = storage.start(builder()).await;
    let handle = worker.client().start(travels, "trip", 0).await.unwrap();
    let (client, run) = (Client::new(Arc::clone(&storage.journal)), handle.run_id());
    let undone = async || {
        let history = client.history(run, 0, 100).await.unwrap();
        let done = history
            .items
            .iter()
            .filter(|item| item.kind() == RecordKind::ActivityCompleted);
        done.count() == 4
    };
    eventually("undone in part", undone).await;
    crash(worker).await;
    client.signal("trip", "undo", &()).await.unwrap();
    let worker = storage.start(builder()).await;
    let handle = client.handle(travels, "trip").await.unwrap();
    assert!(matches!(handle.result().await, Err(RunError::Failed(_))));
    let entries = book.0.lock().unwrap().clone();
    let expected = ["do 1", "do 2", "do 3", "do 4", "undo 3", "undo 2", "undo 1"];
    assert_eq!(entries, expected);
    worker.shutdown().await;
}
