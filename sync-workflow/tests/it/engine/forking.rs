//! Runs that begin again from a place of a history: forks, resets, restarts.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use sync_workflow::{
    Activity, ActivityContext, Client, Context, Failure, FailureKind, RetryPolicy, Tx, Worker,
    client::{BulkAction, ForkError, ForkPoint},
    id::{CommandId, Position, RunId},
    journal::{Deletion, HistoryRecord, RunFilter},
    record::{Record, RecordKind},
    status::RunStatus,
    tag::Tags,
    testing::{ReplayCheck, crash_sweep},
    worker::WorkerBuilder,
};

use super::{
    Storage,
    code::{Counter, collects, crash, double, doubled},
    eventually, on_every_journal, quick,
};

on_every_journal![
    a_fork_at_every_place_comes_to_the_same_end,
    what_is_kept_is_not_done_again_and_the_rest_is_new,
    an_open_run_is_reset_under_its_worker_again_and_again,
    signals_that_came_after_the_place_are_received_again,
    a_reset_waits_for_the_child_that_is_still_open,
    a_fork_hears_of_the_end_of_a_child_of_its_origin,
    a_parent_gets_the_result_of_a_child_that_was_reset,
    a_failed_run_is_taken_back_to_its_last_failure,
    failed_and_parked_runs_are_taken_back_together,
    a_request_to_cancel_is_taken_back,
    what_code_showed_before_the_place_is_shown,
    a_place_that_a_history_does_not_have_is_refused,
    a_child_that_is_gone_is_told,
    a_fork_survives_the_worker,
];

async fn history(client: &Client, run: RunId) -> Vec<HistoryRecord> {
    client.history(run, 0, 1_000).await.unwrap().items
}

async fn position_of(client: &Client, run: RunId, kind: RecordKind) -> Position {
    let records = history(client, run).await;
    let found = records.iter().find(|item| item.kind() == kind);
    found.unwrap().position()
}

async fn echo(n: u64) -> Result<u64, Failure> {
    Ok(n)
}

async fn note(_: String) -> Result<u64, Failure> {
    Ok(1)
}

async fn fails(_: u64) -> Result<u64, Failure> {
    Err(Failure::final_error("no"))
}

/// Asks for everything that there is, and gives to activities whatever follows from the run.
async fn everything(ctx: Context, n: u64) -> Result<u64, Failure> {
    let long = Duration::from_secs(3_600);
    let drawn = ctx.random();
    let mut sum = u64::from(ctx.activity(echo, drawn).await? == drawn);
    let me = format!("{} {} {}", ctx.run_id(), ctx.workflow_id(), ctx.uuid());
    sum += ctx.activity(note, me).await?;
    let version = ctx.version("a change", 0..=1);
    let (at, seven) = (ctx.now(), ctx.side_effect("draw", || 7_u64));
    let together = futures::join!(
        ctx.activity(echo, seven),
        ctx.sleep(Duration::from_millis(1)),
        ctx.activity(note, ctx.uuid().to_string()),
    );
    together.1?;
    sum += together.0? + together.2? + u64::from(version);
    let raced = ctx.timeout(long, ctx.activity(echo, ctx.random())).await;
    sum += u64::from(raced.is_ok());
    match ctx.activity(echo, n).at_most_once().await {
        Ok(value) => sum += value,
        // The place was between the attempt and its end.
        Err(error) if error.is_kind(FailureKind::Interrupted) => sum += n,
        Err(error) => return Err(error.into()),
    }
    ctx.transaction("nothing", async |_: Tx| Ok::<_, Failure>(()))
        .await?;
    let mut saga = ctx.saga();
    saga.on_undo(async move |ctx: Context| ctx.activity(note, ctx.uuid().to_string()).await);
    let refused = ctx.activity(fails, 1).retry(RetryPolicy::none()).await;
    let undone = saga.undo(refused.unwrap_err().into()).await;
    sum += u64::from(undone.message.contains("no"));
    let child = ctx.child(doubled, 5).start();
    let named = ctx.activity(note, child.workflow_id().to_string());
    let (five, named, six) = futures::join!(child, named, ctx.child(doubled, 6));
    sum += five? + named? + six?;
    ctx.child(doubled, 7).detach();
    let scope = ctx.scope();
    let slow = scope.context().sleep(long);
    let ends = async {
        let _ = ctx.activity(echo, ctx.random()).await;
        scope.cancel();
    };
    sum += u64::from(futures::join!(slow, ends).0.is_err());
    sum += ctx.fan_out(doubled, 0..4).all().await?.iter().sum::<u64>();
    let myself = ctx.workflow_id();
    let (first, second): (u64, u64) = (ctx.wait("number").await?, ctx.wait("number").await?);
    sum += 10 * first + second;
    let _origin_may_be_closed = ctx.signal(&myself, "own", &ctx.random()).await;
    let last = ctx.uuid();
    sum += ctx.activity(note, last.to_string()).await?;
    Ok(sum + u64::from(at <= ctx.now()))
}

fn all_code() -> WorkerBuilder {
    quick()
        .workflow(everything)
        .workflow(doubled)
        .activity(echo)
        .activity(note)
        .activity(fails)
        .activity(double)
}

async fn a_fork_at_every_place_comes_to_the_same_end(storage: Storage) {
    let worker = storage.start(all_code()).await;
    let client = worker.client();
    let origin = client.start(everything, "origin", 3).await.unwrap();
    for n in [4_u64, 2] {
        client.signal("origin", "number", &n).await.unwrap();
    }
    let expected = origin.result().await.unwrap();
    let records = history(&client, origin.run_id()).await;
    let end = u32::try_from(records.len()).unwrap() - 1;
    assert!(end > 30, "{end}");

    let mut forks = Vec::new();
    for place in 1..=end {
        let id = format!("fork-{place}");
        let run = client.fork(origin.run_id(), Position(place), &id).await;
        forks.push((place, run.unwrap(), id));
    }
    let middle = forks[forks.len() / 2].clone();
    for (place, run, id) in &forks {
        let fork = client.handle(everything, id).await.unwrap();
        assert_eq!(fork.result().await.unwrap(), expected, "forked at {place}");
        let exported = client.export(*run).await.unwrap();
        let check = ReplayCheck::of_history(everything, &exported).unwrap();
        check
            .whole()
            .unwrap_or_else(|error| panic!("{place}: {error}"));
    }
    // Forks of a fork: before and after the place at which it became itself.
    for place in [5, middle.0, middle.0 + 1, middle.0 + 5] {
        let id = format!("fork-of-fork-{place}");
        client.fork(middle.1, Position(place), &id).await.unwrap();
        let fork = client.handle(everything, &id).await.unwrap();
        assert_eq!(fork.result().await.unwrap(), expected, "forked at {place}");
        let exported = client.export(fork.run_id()).await.unwrap();
        let check = ReplayCheck::of_history(everything, &exported).unwrap();
        check.whole().unwrap();
    }
    assert_eq!(history(&client, origin.run_id()).await.len(), records.len());
    worker.shutdown().await;
}

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

async fn signals_that_came_after_the_place_are_received_again(storage: Storage) {
    let worker = storage.start(quick().workflow(collects)).await;
    let client = worker.client();
    let handle = client.start(collects, "a", 4).await.unwrap();
    for n in 1..=3_u32 {
        let id = n.to_string();
        client.signal_once("a", "number", &id, &n).await.unwrap();
    }
    let received = async || history(&client, handle.run_id()).await.len() == 4;
    eventually("three are received", received).await;
    let copy = client.fork(handle.run_id(), ForkPoint::End, "copy");
    copy.await.unwrap();
    client.reset("a", Position(2)).await.unwrap();
    // One is sent again, and counts no more often.
    client
        .signal_once("a", "number", "1", &1_u32)
        .await
        .unwrap();
    client
        .signal_once("a", "number", "3", &3_u32)
        .await
        .unwrap();
    client
        .signal_once("a", "number", "4", &4_u32)
        .await
        .unwrap();
    assert_eq!(handle.result().await.unwrap(), [1, 2, 3, 4]);
    client.reset("a", Position(3)).await.unwrap();
    let again = client.handle(collects, "a").await.unwrap();
    assert_eq!(again.result().await.unwrap(), [1, 2, 3, 4]);
    client
        .signal_once("copy", "number", "1", &7_u32)
        .await
        .unwrap();
    client
        .signal_once("copy", "number", "5", &5_u32)
        .await
        .unwrap();
    let copy = client.handle(collects, "copy").await.unwrap();
    assert_eq!(copy.result().await.unwrap(), [1, 2, 3, 5]);
    worker.shutdown().await;
}

async fn number(ctx: Context, name: String) -> Result<u64, Failure> {
    Ok(ctx.wait(&name).await?)
}

/// Two children, one after the other has been started.
async fn waits_for_children(ctx: Context, (): ()) -> Result<u64, Failure> {
    let first = ctx.child(number, "first".into()).start();
    ctx.activity(echo, 1).await?;
    let second = ctx.child(number, "second".into()).start();
    Ok(first.await? + 10 * second.await?)
}

fn parents() -> WorkerBuilder {
    quick()
        .workflow(waits_for_children)
        .workflow(number)
        .activity(echo)
}

/// The children that a run's history names, in the order of their starts, once there are so many.
async fn children(client: &Client, parent: RunId, count: usize) -> Vec<RunId> {
    let found = async || {
        let records = history(client, parent).await;
        let starts = records.into_iter().map(|item| item.record);
        let starts = starts.filter(|record| record.kind == RecordKind::ChildStarted);
        let run = |record: Record| {
            let started: serde_json::Value = serde_json::from_slice(&record.payload).unwrap();
            serde_json::from_value(started["run"].clone()).unwrap()
        };
        starts.map(run).collect::<Vec<RunId>>()
    };
    let all = async || found().await.len() == count;
    eventually("they are started", all).await;
    found().await
}

async fn tell(client: &Client, child: RunId, name: &str, n: u64) {
    let id = client.describe_run(child).await.unwrap().workflow_id;
    client.signal(id.as_str(), name, &n).await.unwrap();
}

async fn a_reset_waits_for_the_child_that_is_still_open(storage: Storage) {
    let worker = storage.start(parents()).await;
    let client = worker.client();
    let handle = client.start(waits_for_children, "a", ()).await.unwrap();
    let before = children(&client, handle.run_id(), 2).await;
    let place = position_of(&client, handle.run_id(), RecordKind::ActivityCompleted).await;
    let new = client.reset("a", place).await.unwrap();
    let after = children(&client, new, 2).await;
    assert_eq!(after[0], before[0]);
    assert_ne!(after[1], before[1]);
    let is_cancelled = async || {
        let info = client.describe_run(before[1]).await.unwrap();
        info.status == RunStatus::Cancelled
    };
    eventually("the other is cancelled", is_cancelled).await;
    tell(&client, after[0], "first", 3).await;
    tell(&client, after[1], "second", 4).await;
    assert_eq!(handle.result().await.unwrap(), 43);
    worker.shutdown().await;
}

async fn a_fork_hears_of_the_end_of_a_child_of_its_origin(storage: Storage) {
    let worker = storage.start(parents()).await;
    let client = worker.client();
    let handle = client.start(waits_for_children, "a", ()).await.unwrap();
    let before = children(&client, handle.run_id(), 2).await;
    let place = position_of(&client, handle.run_id(), RecordKind::ActivityCompleted).await;
    let new = client.fork(handle.run_id(), place, "b").await.unwrap();
    let own = children(&client, new, 2).await;
    assert_eq!(own[0], before[0]);
    let asleep = async || client.describe("b").await.unwrap().status == RunStatus::Pending;
    eventually("it sleeps", asleep).await;
    tell(&client, own[1], "second", 5).await;
    tell(&client, before[0], "first", 3).await;
    tell(&client, before[1], "second", 4).await;
    assert_eq!(handle.result().await.unwrap(), 43);
    let fork = client.handle(waits_for_children, "b").await.unwrap();
    assert_eq!(fork.result().await.unwrap(), 53);
    worker.shutdown().await;
}

/// A child under a name.
async fn parent(ctx: Context, (): ()) -> Result<u64, Failure> {
    let id = sync_workflow::id::WorkflowId::new("child")?;
    Ok(ctx.child(number, "number".into()).id(id).await? + 1)
}

async fn a_parent_gets_the_result_of_a_child_that_was_reset(storage: Storage) {
    let worker = storage
        .start(quick().workflow(parent).workflow(number))
        .await;
    let client = worker.client();
    let handle = client.start(parent, "parent", ()).await.unwrap();
    children(&client, handle.run_id(), 1).await;
    let new = client.restart("child").await.unwrap();
    let info = client.describe("child").await.unwrap();
    assert_eq!((info.run, info.parent), (new, Some(handle.run_id())));
    client.signal("child", "number", &6_u64).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 7);
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

async fn a_request_to_cancel_is_taken_back(storage: Storage) {
    let worker = storage.start(quick().workflow(collects)).await;
    let client = worker.client();
    let handle = client.start(collects, "a", 1).await.unwrap();
    client.cancel("a").await.unwrap();
    assert!(handle.result().await.is_err());
    let place = position_of(&client, handle.run_id(), RecordKind::CancelRequested).await;
    client.reset("a", place).await.unwrap();
    client.signal("a", "number", &8_u32).await.unwrap();
    let again = client.handle(collects, "a").await.unwrap();
    assert_eq!(again.result().await.unwrap(), [8]);
    // And where it is kept, the code sees it.
    client
        .fork(handle.run_id(), Position(place.0 + 1), "kept")
        .await
        .unwrap();
    let kept = client.handle(collects, "kept").await.unwrap();
    assert!(kept.result().await.is_err());
    assert_eq!(kept.describe().await.unwrap().status, RunStatus::Cancelled);
    worker.shutdown().await;
}

/// Shows how far it is, in two ways.
async fn shows(ctx: Context, count: u64) -> Result<(), Failure> {
    for n in 1..=count {
        ctx.publish("progress", &n)?;
        ctx.set_tag("stage", &n.to_string())?;
        ctx.wait::<()>("go").await?;
        ctx.activity(echo, n).await?;
    }
    Ok(())
}

async fn what_code_showed_before_the_place_is_shown(storage: Storage) {
    let worker = storage.start(quick().workflow(shows).activity(echo)).await;
    let client = worker.client();
    let start = client.start(shows, "a", 4);
    let handle = start.tag("tenant", "42").await.unwrap();
    for id in ["one", "two", "three"] {
        client.signal_once("a", "go", id, &()).await.unwrap();
    }
    let shown = async |id: &str| client.published::<u64>(id, "progress").await.unwrap();
    let is_shown = async || shown("a").await == Some(4);
    eventually("it has come to its last step", is_shown).await;

    // All that it has done is kept: what is shown was shown before.
    let fork = client.fork(handle.run_id(), ForkPoint::End, "b").await;
    assert_eq!(history(&client, fork.unwrap()).await.len(), 8);
    let copied = async || shown("b").await == Some(4);
    eventually("the code has shown it", copied).await;
    let tags = Tags::new().with("tenant", "42").unwrap();
    let tags = tags.with("stage", "4").unwrap();
    let filter = RunFilter {
        tags,
        workflow_id_prefix: Some("b".into()),
        ..RunFilter::default()
    };
    let tagged = async || client.list(&filter).await.unwrap().items.len() == 1;
    eventually("and tagged", tagged).await;
    worker.shutdown().await;
}

async fn a_place_that_a_history_does_not_have_is_refused(storage: Storage) {
    let worker = storage
        .start(
            quick()
                .workflow(doubled)
                .workflow(collects)
                .activity(double),
        )
        .await;
    let client = worker.client();
    let handle = client.start(doubled, "a", 2).await.unwrap();
    handle.result().await.unwrap();
    let run = handle.run_id();
    // The start, the activity, and the end, which cannot be kept.
    for point in [
        ForkPoint::Position(Position(3)),
        ForkPoint::Position(Position(u32::MAX)),
        ForkPoint::Command(CommandId(1)),
        ForkPoint::Command(CommandId(u32::MAX)),
        ForkPoint::LastFailure,
    ] {
        let refused = client.fork(run, point, "b").await;
        assert!(
            matches!(refused, Err(ForkError::NoPlace { records: 2, .. })),
            "{refused:?}"
        );
    }
    let unknown = client.reset("nobody", ForkPoint::Start).await;
    assert!(
        matches!(
            unknown,
            Err(ForkError::Client(sync_workflow::client::Error::NotFound))
        ),
        "{unknown:?}"
    );
    let taken = client.fork(run, ForkPoint::Start, "a").await;
    assert!(
        matches!(taken, Err(ForkError::Existing { run: found, .. }) if found == run),
        "{taken:?}"
    );
    let nameless = client.fork(run, ForkPoint::Start, "").await;
    assert!(
        matches!(nameless, Err(ForkError::Client(_))),
        "{nameless:?}"
    );
    assert_eq!(
        client
            .list(&RunFilter::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    worker.shutdown().await;
}

async fn a_child_that_is_gone_is_told(storage: Storage) {
    let worker = storage
        .start(quick().workflow(family).workflow(doubled).activity(double))
        .await;
    let client = worker.client();
    let handle = client.start(family, "a", 4).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 8);
    let child = children(&client, handle.run_id(), 1).await[0];
    let deletion = Deletion {
        workflow: client.describe_run(child).await.unwrap().workflow,
        closed_for: Duration::ZERO,
        after: None,
    };
    let deleted = async || {
        client
            .journal()
            .delete_closed(&deletion)
            .await
            .unwrap()
            .runs
    };
    eventually("the child is deleted", async || deleted().await == 1).await;
    let completed = position_of(&client, handle.run_id(), RecordKind::ChildCompleted).await;
    let gone = client.fork(handle.run_id(), completed, "b").await;
    assert!(matches!(gone, Err(ForkError::ChildGone { .. })), "{gone:?}");
    let after = Position(completed.0 + 1);
    client.fork(handle.run_id(), after, "b").await.unwrap();
    let fork = client.handle(family, "b").await.unwrap();
    assert_eq!(fork.result().await.unwrap(), 8);
    worker.shutdown().await;
}

async fn family(ctx: Context, n: u64) -> Result<u64, Failure> {
    Ok(ctx.child(doubled, n).await?)
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
