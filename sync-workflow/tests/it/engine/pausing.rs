//! Runs that an operator holds back.

use std::sync::{Arc, atomic::Ordering};

use sync_workflow::{
    Activity, ActivityContext, Client, Context, Failure, Worker, client::BulkAction,
    journal::RunFilter, record::RecordKind, status::RunStatus, worker::WorkerBuilder,
};
use tokio::sync::Semaphore;

use super::{
    Storage,
    code::{Counter, collects, crash, double, doubled},
    eventually, on_every_journal, quick,
};

on_every_journal![
    a_paused_run_takes_no_step_until_it_is_resumed,
    what_is_under_way_ends_and_nothing_follows,
    a_run_that_is_resumed_before_it_has_paused_goes_on_at_once,
    a_pause_survives_the_worker,
    a_paused_run_is_cancelled_and_terminated,
    many_runs_pause_and_resume_by_a_filter,
];

/// An activity that ends when it is let go.
#[derive(Clone)]
struct Gate {
    begun: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            begun: Arc::new(Semaphore::new(0)),
            open: Arc::new(Semaphore::new(0)),
        }
    }
}

impl Activity for Gate {
    const NAME: &'static str = "gate";
    type Input = ();
    type Output = ();
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, (): ()) -> Result<(), Failure> {
        self.begun.add_permits(1);
        self.open.acquire().await.unwrap().forget();
        Ok(())
    }
}

impl Gate {
    async fn has_begun(&self) {
        self.begun.acquire().await.unwrap().forget();
    }
}

async fn gate_then_count(ctx: Context, (): ()) -> Result<u32, Failure> {
    ctx.activity(Gate::activity(), ()).await?;
    Ok(ctx.activity(Counter::activity(), 7).await?)
}

/// Counts again and again beside the gate.
async fn gate_beside_counts(ctx: Context, rounds: u32) -> Result<u32, Failure> {
    let counts = async {
        for round in 0..rounds {
            ctx.wait::<()>("round").await?;
            ctx.activity(Counter::activity(), round).await?;
        }
        Ok::<_, Failure>(())
    };
    let (gate, counts) = futures::join!(ctx.activity(Gate::activity(), ()), counts);
    gate?;
    counts?;
    Ok(rounds)
}

fn gated(gate: &Gate, counter: &Counter) -> WorkerBuilder {
    quick()
        .workflow(gate_then_count)
        .workflow(gate_beside_counts)
        .workflow(collects)
        .workflow(doubled)
        .activity(double)
        .activity(gate.clone())
        .activity(counter.clone())
}

async fn status(client: &Client, id: &str) -> RunStatus {
    client.describe(id).await.unwrap().status
}

async fn becomes(client: &Client, id: &str, expected: RunStatus) {
    let is = async || status(client, id).await == expected;
    eventually(&format!("{id} is {expected}"), is).await;
}

async fn kinds(client: &Client, id: &str) -> Vec<RecordKind> {
    let run = client.describe(id).await.unwrap().run;
    let records = client.history(run, 0, 1_000).await.unwrap().items;
    records.iter().map(|record| record.kind()).collect()
}

/// Lets the worker take a run from its beginning to its end.
async fn another_run_ends(worker: &Worker, id: &str) {
    let handle = worker.client().start(doubled, id, 1).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 2);
}

async fn a_paused_run_takes_no_step_until_it_is_resumed(storage: Storage) {
    let worker = storage
        .start(gated(&Gate::default(), &Counter::default()))
        .await;
    let client = worker.client();
    let handle = client.start(collects, "a", 2).await.unwrap();
    client.pause("a").await.unwrap();
    client.pause("a").await.unwrap();
    becomes(&client, "a", RunStatus::Paused).await;
    for n in [1, 2] {
        client.signal("a", "number", &n).await.unwrap();
    }
    another_run_ends(&worker, "b").await;
    assert_eq!(kinds(&client, "a").await, [RecordKind::Started]);
    assert_eq!(status(&client, "a").await, RunStatus::Paused);
    assert!(client.describe("a").await.unwrap().pause_requested);
    client.resume("a").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), [1, 2]);
    assert!(client.resume("a").await.is_err());
    worker.shutdown().await;
}

async fn what_is_under_way_ends_and_nothing_follows(storage: Storage) {
    let (gate, counter) = (Gate::default(), Counter::default());
    let worker = storage.start(gated(&gate, &counter)).await;
    let client = worker.client();
    let handle = client.start(gate_then_count, "a", ()).await.unwrap();
    gate.has_begun().await;
    client.pause("a").await.unwrap();
    another_run_ends(&worker, "b").await;
    let info = client.describe("a").await.unwrap();
    assert_eq!(
        (info.status, info.pause_requested),
        (RunStatus::Running, true)
    );
    gate.open.add_permits(1);
    becomes(&client, "a", RunStatus::Paused).await;
    assert_eq!(
        kinds(&client, "a").await,
        [RecordKind::Started, RecordKind::ActivityCompleted]
    );
    another_run_ends(&worker, "c").await;
    assert_eq!(counter.calls.load(Ordering::SeqCst), 0);
    client.resume("a").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 7);
    assert_eq!(counter.calls.load(Ordering::SeqCst), 1);
    worker.shutdown().await;
}

async fn a_run_that_is_resumed_before_it_has_paused_goes_on_at_once(storage: Storage) {
    let (gate, counter) = (Gate::default(), Counter::default());
    let worker = storage.start(gated(&gate, &counter)).await;
    let client = worker.client();
    let handle = client.start(gate_beside_counts, "a", 3).await.unwrap();
    gate.has_begun().await;
    for round in 1..=3_u32 {
        client.pause("a").await.unwrap();
        client.signal("a", "round", &()).await.unwrap();
        another_run_ends(&worker, &format!("b-{round}")).await;
        client.resume("a").await.unwrap();
        // While the gate is still closed.
        let has_counted = async || counter.calls.load(Ordering::SeqCst) == round;
        eventually("it counts", has_counted).await;
    }
    gate.open.add_permits(1);
    assert_eq!(handle.result().await.unwrap(), 3);
    worker.shutdown().await;
}

async fn a_pause_survives_the_worker(storage: Storage) {
    let (gate, counter) = (Gate::default(), Counter::default());
    let worker = storage.start(gated(&gate, &counter)).await;
    let client = Client::new(Arc::clone(&storage.journal));
    client.start(gate_then_count, "a", ()).await.unwrap();
    gate.has_begun().await;
    client.pause("a").await.unwrap();
    crash(worker).await;
    let worker = storage.start(gated(&gate, &counter)).await;
    becomes(&client, "a", RunStatus::Paused).await;
    another_run_ends(&worker, "b").await;
    assert_eq!(kinds(&client, "a").await, [RecordKind::Started]);
    gate.open.add_permits(1);
    client.resume("a").await.unwrap();
    let handle = client.handle(gate_then_count, "a").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 7);
    worker.shutdown().await;
}

async fn a_paused_run_is_cancelled_and_terminated(storage: Storage) {
    let worker = storage
        .start(gated(&Gate::default(), &Counter::default()))
        .await;
    let client = worker.client();
    let cancelled = client.start(collects, "a", 1).await.unwrap();
    let terminated = client.start(collects, "b", 1).await.unwrap();
    for id in ["a", "b"] {
        client.pause(id).await.unwrap();
        becomes(&client, id, RunStatus::Paused).await;
    }
    client.cancel("a").await.unwrap();
    assert!(cancelled.result().await.is_err());
    assert_eq!(status(&client, "a").await, RunStatus::Cancelled);
    client.terminate("b", "enough").await.unwrap();
    assert!(terminated.result().await.is_err());
    assert_eq!(status(&client, "b").await, RunStatus::Terminated);
    worker.shutdown().await;
}

async fn many_runs_pause_and_resume_by_a_filter(storage: Storage) {
    let worker = storage
        .start(gated(&Gate::default(), &Counter::default()))
        .await;
    let client = worker.client();
    for n in 0..4 {
        let id = format!("group-{}-{n}", n % 2);
        client.start(collects, &id, 1).await.unwrap();
    }
    let group = RunFilter {
        workflow_id_prefix: Some("group-0-".into()),
        ..RunFilter::default()
    };
    let paused = client.bulk(&group, &BulkAction::Pause).await.unwrap();
    assert_eq!((paused.found, paused.changed), (2, 2));
    for id in ["group-0-0", "group-0-2"] {
        becomes(&client, id, RunStatus::Paused).await;
    }
    assert!(!client.describe("group-1-1").await.unwrap().pause_requested);
    let all = RunFilter::default();
    let resumed = client.bulk(&all, &BulkAction::Resume).await.unwrap();
    assert_eq!((resumed.found, resumed.changed), (4, 2));
    for n in 0..4 {
        let id = format!("group-{}-{n}", n % 2);
        client.signal(&id, "number", &n).await.unwrap();
        let handle = client.handle(collects, &id).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), [n]);
    }
    worker.shutdown().await;
}
