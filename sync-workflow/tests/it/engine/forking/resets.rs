//! Resets and restarts: what is done again, and what is not.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use sync_workflow::{
    Activity, ActivityContext, Client, Context, Failure, RetryPolicy, Worker,
    client::{BulkAction, ForkPoint},
    id::{CommandId, Position},
    journal::RunFilter,
    record::RecordKind,
    status::RunStatus,
    testing::{ReplayCheck, crash_sweep},
};

use super::{
    Storage,
    code::{Counter, collects, crash},
    eventually, fails, history, on_every_journal, quick,
};

on_every_journal![
    what_is_kept_is_not_done_again_and_the_rest_is_new,
    an_open_run_is_reset_under_its_worker_again_and_again,
    a_failed_run_is_taken_back_to_its_last_failure,
    failed_and_parked_runs_are_taken_back_together,
    a_fork_survives_the_worker,
];

/// Keeps the idempotency keys of its attempts, each with the number that it was given.
#[derive(Clone, Default)]
struct Effects(Arc<Mutex<Vec<(String, u64)>>>);

impl Activity for Effects {
    const NAME: &'static str = "effects";
    type Input = u64;
    type Output = u64;
    type Error = Failure;

    async fn run(&self, ctx: ActivityContext, n: u64) -> Result<u64, Failure> {
        self.0.lock().unwrap().push((ctx.idempotency_key(), n));
        Ok(n)
    }
}

impl Effects {
    fn take(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Two steps with a random number each, before and after a wait.
async fn draws(ctx: Context, (): ()) -> Result<(u64, u64), Failure> {
    let first = ctx.activity(Effects::activity(), ctx.random()).await?;
    ctx.wait::<()>("go").await?;
    let second = ctx.activity(Effects::activity(), ctx.random()).await?;
    Ok((first, second))
}

async fn what_is_kept_is_not_done_again_and_the_rest_is_new(storage: Storage) {
    let effects = Effects::default();
    let worker = storage
        .start(quick().workflow(draws).activity(effects.clone()))
        .await;
    let client = worker.client();
    let origin = client.start(draws, "origin", ()).await.unwrap();
    client.signal("origin", "go", &()).await.unwrap();
    let (kept, left) = origin.result().await.unwrap();
    let before = effects.take();

    let new = client.reset("origin", Position(2)).await.unwrap();
    assert_ne!(new, origin.run_id());
    let reset = client.handle(draws, "origin").await.unwrap();
    let (again, anew) = reset.result().await.unwrap();
    assert_eq!(again, kept);
    assert_ne!(anew, left);
    let after = effects.take();
    assert_eq!(after.len(), 1, "{after:?}");
    assert!(after[0].0 != before[1].0 && after[0].1 == anew, "{after:?}");

    let exported = client.export(new).await.unwrap();
    let check = ReplayCheck::of_history(draws, &exported).unwrap();
    check.every_prefix().unwrap();

    // The same from a worker that has never seen the run: what it drew follows from its history.
    client
        .fork(new, ForkPoint::End, "at-the-end")
        .await
        .unwrap();
    let ended = client.handle(draws, "at-the-end").await.unwrap();
    assert_eq!(ended.result().await.unwrap(), (again, anew));
    assert_eq!(effects.take(), []);

    client.restart("origin").await.unwrap();
    let restarted = client.handle(draws, "origin").await.unwrap();
    let values = restarted.result().await.unwrap();
    assert!(values.0 != kept && values.1 != anew, "{values:?}");
    assert_eq!(effects.take().len(), 2);
    worker.shutdown().await;
}

/// Counts three times.
async fn counts(ctx: Context, (): ()) -> Result<u32, Failure> {
    let mut sum = 0;
    for n in 1..=3 {
        sum += ctx.activity(Counter::activity(), n).await?;
    }
    Ok(sum)
}

async fn an_open_run_is_reset_under_its_worker_again_and_again(storage: Storage) {
    let counter = Counter {
        hang_at: 3,
        ..Counter::default()
    };
    let calls = Arc::clone(&counter.calls);
    let worker = storage
        .start(quick().workflow(counts).activity(counter))
        .await;
    let client = worker.client();
    let origin = client.start(counts, "a", ()).await.unwrap();
    let hangs = async || {
        let records = history(&client, origin.run_id()).await;
        calls.load(Ordering::SeqCst) == 3 && records.len() == 3
    };
    eventually("the third activity hangs", hangs).await;
    let waiting = tokio::spawn(async move { origin.result().await });

    let first = client.reset("a", Position(2)).await.unwrap();
    let is_over = async || client.describe_run(first).await.unwrap().status.is_closed();
    eventually("it goes on", is_over).await;
    assert_eq!(waiting.await.unwrap().unwrap(), 6, "who awaits it follows");
    assert_eq!(calls.load(Ordering::SeqCst), 5);
    let mut runs = vec![first];
    for _ in 0..3 {
        runs.push(client.reset("a", Position(2)).await.unwrap());
    }
    let handle = client.handle(counts, "a").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 6);
    let kinds = history(&client, handle.run_id()).await;
    let forks = kinds
        .iter()
        .filter(|item| item.kind() == RecordKind::Forked);
    assert_eq!(forks.count(), 1);
    let listed = client.list(&RunFilter::default()).await.unwrap().items;
    assert_eq!(listed.len(), 5);
    worker.shutdown().await;
}

/// Fails until it is mended.
#[derive(Clone, Default)]
struct Repairable {
    is_mended: Arc<AtomicBool>,
    calls: Arc<AtomicU32>,
}

impl Activity for Repairable {
    const NAME: &'static str = "repairable";
    type Input = u64;
    type Output = u64;
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, n: u64) -> Result<u64, Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.is_mended.load(Ordering::SeqCst) {
            true => Ok(n),
            false => Err(Failure::final_error("out of order")),
        }
    }
}

/// Something that fails and does not matter, two steps, and one that fails.
async fn needs_repair(ctx: Context, n: u64) -> Result<u64, Failure> {
    let ignored = ctx.activity(fails, n).retry(RetryPolicy::none()).await;
    let n = ctx.activity(Counter::activity(), 1).await? + u32::from(ignored.is_err());
    let n = ctx.activity(Repairable::activity(), u64::from(n)).await?;
    Ok(n * 10)
}

async fn a_failed_run_is_taken_back_to_its_last_failure(storage: Storage) {
    let (repairable, counter) = (Repairable::default(), Counter::default());
    let calls = Arc::clone(&counter.calls);
    let builder = quick().workflow(needs_repair).activity(fails);
    let worker = storage
        .start(builder.activity(counter).activity(repairable.clone()))
        .await;
    let client = worker.client();
    let handle = client.start(needs_repair, "a", 1).await.unwrap();
    assert!(handle.result().await.is_err());
    repairable.is_mended.store(true, Ordering::SeqCst);
    client.reset("a", ForkPoint::LastFailure).await.unwrap();
    let handle = client.handle(needs_repair, "a").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 20);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(repairable.calls.load(Ordering::SeqCst), 2);
    // The counter is command 1.
    client
        .reset("a", ForkPoint::Command(CommandId(1)))
        .await
        .unwrap();
    let handle = client.handle(needs_repair, "a").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 20);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    worker.shutdown().await;
}

async fn broken(_: Context, (): ()) -> Result<(), Failure> {
    panic!("not yet")
}

async fn failed_and_parked_runs_are_taken_back_together(storage: Storage) {
    let repairable = Repairable::default();
    let builder = quick().workflow(needs_repair).workflow(collects);
    let builder = builder.workflow(broken);
    let builder = builder.activity(fails).activity(Counter::default());
    let worker = storage.start(builder.activity(repairable.clone())).await;
    let client = worker.client();
    for n in 0..3 {
        let handle = client
            .start(needs_repair, &format!("r-{n}"), n)
            .await
            .unwrap();
        assert!(handle.result().await.is_err());
    }
    // Not the latest of its workflow id any more.
    client.restart("r-0").await.unwrap();
    let restarted = client.handle(needs_repair, "r-0").await.unwrap();
    assert!(restarted.result().await.is_err());
    client.start(collects, "r-open", 1).await.unwrap();
    let parked = client.start(broken, "r-parked", ()).await.unwrap();
    assert!(parked.result().await.is_err());
    repairable.is_mended.store(true, Ordering::SeqCst);
    let filter = RunFilter {
        workflow_id_prefix: Some("r-".into()),
        ..RunFilter::default()
    };
    let back = BulkAction::Reset {
        to: ForkPoint::LastFailure,
    };
    let dry = client.bulk_dry_run(&filter, &back).await.unwrap();
    assert_eq!((dry.found, dry.changed), (5, 0));
    let done = client.bulk(&filter, &back).await.unwrap();
    // The parked one has no failure, and of one workflow id there were two.
    assert_eq!((done.found, done.changed), (5, 3));
    for n in 0..3 {
        let id = format!("r-{n}");
        let handle = client.handle(needs_repair, &id).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), 20);
    }
    let again = client.bulk(&filter, &back).await.unwrap();
    assert_eq!((again.found, again.changed), (5, 0));
    let restart = BulkAction::Reset {
        to: ForkPoint::Start,
    };
    let done = client.bulk(&RunFilter::parked(), &restart).await.unwrap();
    assert_eq!((done.found, done.changed), (1, 1));
    assert_eq!(
        client.describe_run(parked.run_id()).await.unwrap().status,
        RunStatus::ContinuedAsNew
    );
    worker.shutdown().await;
}

/// What was paid, by idempotency key.
#[derive(Default)]
struct Payments(Mutex<BTreeSet<String>>);

struct Pay(Arc<Payments>);

impl Activity for Pay {
    const NAME: &'static str = "pay";
    type Input = u64;
    type Output = u64;
    type Error = Failure;

    async fn run(&self, ctx: ActivityContext, n: u64) -> Result<u64, Failure> {
        self.0.0.lock().unwrap().insert(ctx.idempotency_key());
        Ok(n)
    }
}

async fn pays(ctx: Context, (): ()) -> Result<u64, Failure> {
    let first = ctx.activity(Pay::activity(), 1).await?;
    let go: u64 = ctx.wait("go").await?;
    Ok(first + go * ctx.activity(Pay::activity(), 2).await?)
}

/// Whatever dies around it, a reset happens once, and each step has the key of its run.
#[test]
fn a_reset_among_crashes_is_one_reset() {
    let sweep = crash_sweep(
        |payments: &Arc<Payments>| {
            let worker = Worker::builder().workflow(pays);
            worker.activity(Pay(Arc::clone(payments)))
        },
        async |client: &Client| {
            let handle = client.start(pays, "a", ()).await.unwrap();
            client.signal("a", "go", &5_u64).await.unwrap();
            let first = handle.result().await.unwrap();
            client.reset("a", Position(2)).await.unwrap();
            let again = client.handle(pays, "a").await.unwrap();
            (first, again.result().await.unwrap())
        },
        |payments| assert_eq!(payments.0.lock().unwrap().len(), 3),
    );
    assert!(sweep.commits >= 4, "{sweep:?}");
}

async fn a_fork_survives_the_worker(storage: Storage) {
    let build = || quick().workflow(collects);
    let worker = storage.start(build()).await;
    let client = Client::new(Arc::clone(&storage.journal));
    let handle = client.start(collects, "a", 2).await.unwrap();
    client.signal("a", "number", &1_u32).await.unwrap();
    let received = async || history(&client, handle.run_id()).await.len() == 2;
    eventually("one is received", received).await;
    crash(worker).await;
    // Nobody holds it, or a dead node does.
    client.reset("a", ForkPoint::End).await.unwrap();
    client.signal("a", "number", &2_u32).await.unwrap();
    let worker = storage.start(build()).await;
    assert_eq!(handle.result().await.unwrap(), [1, 2]);
    worker.shutdown().await;
}
