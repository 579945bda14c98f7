//! Workers that go away, and workers that come back too late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sync_workflow::{
    Activity, ActivityContext, Context, Failure, FailureKind, RetryPolicy, RunError, Tx, Worker,
    status::RunStatus,
};

use super::{Storage, eventually, on_every_journal, quick};

on_every_journal![
    another_worker_goes_on_where_a_dead_one_stopped,
    an_interrupted_activity_that_may_run_once_is_not_repeated,
    changed_code_parks_the_run_and_the_right_code_goes_on,
    a_run_that_kills_its_workers_is_parked,
    a_run_asleep_wakes_on_another_worker,
    a_fenced_worker_commits_nothing_and_goes_on_as_a_new_node,
    two_workers_share_runs_and_each_step_is_journaled_once,
    a_request_to_cancel_reaches_a_chain_that_continues_as_new,
];

/// Counts its calls and can be made to hang.
#[derive(Clone, Default)]
struct Counter {
    calls: Arc<AtomicU32>,
    hang_at: u32,
}

impl Activity for Counter {
    const NAME: &'static str = "counter";
    type Input = u32;
    type Output = u32;
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, n: u32) -> Result<u32, Failure> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if call == self.hang_at {
            std::future::pending::<()>().await;
        }
        Ok(n)
    }
}

async fn steps(ctx: Context, count: u32) -> Result<u32, Failure> {
    let mut sum = 0;
    for n in 0..count {
        sum += ctx.activity(Counter::activity(), n).await?;
    }
    Ok(sum)
}

/// Ends a worker as a crash does: nothing is given back.
async fn crash(worker: Worker) {
    worker.abandon().await;
}

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

async fn debit(ctx: Context, amount: i64) -> Result<i64, Failure> {
    let balance: i64 = ctx
        .transaction("debit", async move |mut tx: Tx| {
            let sql = "update account set balance = balance - $1 returning balance";
            let balance: i64 = sqlx::query_scalar(sql)
                .bind(amount)
                .fetch_one(tx.postgres()?)
                .await?;
            Ok::<_, Failure>(balance)
        })
        .await?;
    let refused = ctx
        .transaction::<(), _, _, _>("refused", async move |mut tx: Tx| {
            sqlx::query("update account set balance = -1")
                .execute(tx.postgres()?)
                .await?;
            Err(Failure::new("no"))
        })
        .await;
    assert!(refused.is_err());
    ctx.activity(credit, 1).await?;
    ctx.wait::<()>("go").await?;
    Ok(balance)
}

/// An activity whose writes commit with its record.
async fn credit(ctx: ActivityContext, amount: i64) -> Result<(), Failure> {
    let mut tx = ctx.begin().await?;
    sqlx::query("update account set balance = balance + $1")
        .bind(amount)
        .execute(tx.postgres()?)
        .await?;
    if ctx.attempt() == 1 {
        return Err(Failure::new("the first attempt is rolled back"));
    }
    Ok(())
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transactional_step_happens_once() {
    let database = throwaway_postgres::Database::create().unwrap();
    database
        .psql("create table account (balance bigint not null); insert into account values (100)")
        .unwrap();
    let build = || quick().workflow(debit).activity(credit);
    let worker = build().start(database.url()).await.unwrap();
    let handle = worker.client().start(debit, "a", 30).await.unwrap();
    eventually("the run sleeps", || async {
        handle.describe().await.unwrap().status == RunStatus::Pending
    })
    .await;
    worker.shutdown().await;

    let worker = build().start(database.url()).await.unwrap();
    worker.client().signal("a", "go", &()).await.unwrap();
    assert_eq!(
        worker
            .client()
            .handle(debit, "a")
            .await
            .unwrap()
            .result()
            .await
            .unwrap(),
        70
    );
    assert_eq!(
        database.psql("select balance from account").unwrap().trim(),
        "71"
    );
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
    use super::{Storage, Stubborn, crash, eventually, quick, retries_forever};

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

async fn a_fenced_worker_commits_nothing_and_goes_on_as_a_new_node(storage: Storage) {
    let calls = Arc::new(AtomicU32::new(0));
    let gate = Gate::default();
    let counter = Gated {
        calls: Arc::clone(&calls),
        gate: gate.clone(),
    };
    let worker = storage
        .start(quick().workflow(gated_steps).activity(counter))
        .await;
    let handle = worker.client().start(gated_steps, "a", 4).await.unwrap();
    gate.open(2);
    eventually("the third step waits", || async {
        calls.load(Ordering::SeqCst) == 3
    })
    .await;
    let zombie = handle.describe().await.unwrap().node.unwrap();

    // Declared dead behind its back, as a reaper does after a pause.
    storage.journal.retire(zombie).await.unwrap();
    gate.open(100);
    assert_eq!(handle.result().await.unwrap(), 6);
    let after = storage.journal.enlist(zombie, Duration::from_secs(1)).await;
    assert!(
        after.is_ok(),
        "the zombie's lease is gone for good until somebody enlists it"
    );
    let history = worker
        .client()
        .history(handle.run_id(), 0, 100)
        .await
        .unwrap();
    assert_eq!(history.items.len(), 6, "a start, four steps and an end");
    worker.shutdown().await;
}

/// Lets a number of calls through.
#[derive(Clone)]
struct Gate(Arc<tokio::sync::Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(tokio::sync::Semaphore::new(0)))
    }
}

impl Gate {
    fn open(&self, calls: usize) {
        self.0.add_permits(calls);
    }
}

struct Gated {
    calls: Arc<AtomicU32>,
    gate: Gate,
}

impl Activity for Gated {
    const NAME: &'static str = "gated";
    type Input = u32;
    type Output = u32;
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, n: u32) -> Result<u32, Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.gate.0.acquire().await?.forget();
        Ok(n)
    }
}

async fn gated_steps(ctx: Context, count: u32) -> Result<u32, Failure> {
    let mut sum = 0;
    for n in 0..count {
        sum += ctx.activity(Gated::activity(), n).await?;
    }
    Ok(sum)
}

async fn two_workers_share_runs_and_each_step_is_journaled_once(storage: Storage) {
    let calls = Arc::new(AtomicU32::new(0));
    let build = || {
        let counter = Counter {
            calls: Arc::clone(&calls),
            hang_at: 0,
        };
        quick()
            .max_resident_runs(4)
            .workflow(steps)
            .activity(counter)
    };
    let first = storage.start(build()).await;
    let second = storage.start(build()).await;
    let client = sync_workflow::Client::new(Arc::clone(&storage.journal));
    let mut handles = Vec::new();
    for n in 0..30 {
        handles.push(client.start(steps, &format!("run-{n}"), 5).await.unwrap());
    }
    for handle in &handles {
        assert_eq!(handle.result().await.unwrap(), 10);
        let history = client.history(handle.run_id(), 0, 100).await.unwrap();
        assert_eq!(history.items.len(), 7);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 150);
    first.shutdown().await;
    second.shutdown().await;
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
