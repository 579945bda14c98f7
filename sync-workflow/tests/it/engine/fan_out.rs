//! One workflow for each of many inputs.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use sync_workflow::{
    Client, Context, Failure, RunError, RunHandle, Worker, journal::RunFilter,
    testing::crash_sweep, worker::WorkerBuilder,
};

use super::{Storage, on_every_journal, quick};

on_every_journal![
    few_inputs_are_children_of_the_run,
    many_inputs_leave_few_records,
    no_more_run_at_once_than_may,
    after_so_many_failures_no_other_begins,
    every_failure_is_told_with_its_input,
    slices_need_no_turn_where_the_queue_has_limits,
    a_value_that_cannot_be_read_parks_the_run,
];

/// How many workflows of a test are under way, and the most that ever were.
#[derive(Debug, Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
    begun: AtomicUsize,
}

static GAUGES: LazyLock<Mutex<HashMap<u64, Arc<Gauge>>>> = LazyLock::new(Mutex::default);

fn gauge(test: u64) -> Arc<Gauge> {
    Arc::clone(GAUGES.lock().unwrap().entry(test).or_default())
}

async fn measured((test, n): (u64, u64)) -> Result<u64, Failure> {
    let gauge = gauge(test);
    gauge.begun.fetch_add(1, Ordering::SeqCst);
    let now = gauge.now.fetch_add(1, Ordering::SeqCst) + 1;
    gauge.most.fetch_max(now, Ordering::SeqCst);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    gauge.now.fetch_sub(1, Ordering::SeqCst);
    match n % 10 {
        7 => Err(Failure::final_error(format!("{n} is no number"))),
        _ => Ok(n),
    }
}

async fn measure(ctx: Context, input: (u64, u64)) -> Result<u64, Failure> {
    Ok(ctx.activity(measured, input).await?)
}

async fn double(_ctx: Context, n: u64) -> Result<u64, Failure> {
    Ok(2 * n)
}

/// What a fan-out is to do: how many inputs, in slices of how many, how many at once.
type Plan = (u64, usize, usize);

async fn doubles(ctx: Context, (inputs, slice, at_once): Plan) -> Result<u64, Failure> {
    let fan_out = ctx.fan_out(double, 0..inputs);
    let values = fan_out.slice(slice).at_once(at_once).all().await?;
    for (n, value) in (0..inputs).zip(&values) {
        assert_eq!(*value, 2 * n);
    }
    Ok(values.len() as u64)
}

/// How many had a value, and the inputs of those that failed.
async fn measures(
    ctx: Context,
    (test, plan, stop_after): (u64, Plan, Option<usize>),
) -> Result<(u64, Vec<u64>, bool), Failure> {
    let (inputs, slice, at_once) = plan;
    let inputs = (0..inputs).map(move |n| (test, n));
    let mut results = ctx.fan_out(measure, inputs).slice(slice).at_once(at_once);
    if let Some(failures) = stop_after {
        results = results.stop_after(failures);
    }
    let (mut values, mut failed) = (0, Vec::new());
    while let Some((index, result)) = results.next().await {
        match result {
            Ok(value) => {
                assert_eq!(value, index as u64);
                values += 1;
            }
            Err(_) => failed.push(index as u64),
        }
    }
    failed.sort_unstable();
    Ok((values, failed, results.is_stopped()))
}

fn worker() -> WorkerBuilder {
    quick()
        .workflow(doubles)
        .workflow(double)
        .workflow(measures)
        .workflow(measure)
        .activity(measured)
}

/// The runs of a workflow of this name that a run started.
async fn started<T, E>(worker: &Worker, of: &RunHandle<T, E>, name: &str) -> usize
where
    T: serde::de::DeserializeOwned,
    E: sync_workflow::ErrorValue,
{
    let filter = RunFilter {
        parent: Some(of.run_id()),
        workflow: Some(name.into()),
        limit: RunFilter::MAX_LIMIT,
        ..RunFilter::default()
    };
    worker.client().list(&filter).await.unwrap().items.len()
}

async fn few_inputs_are_children_of_the_run(storage: Storage) {
    let worker = storage.start(worker()).await;
    let client = worker.client();
    for (inputs, id) in [(0, "none"), (1, "one"), (20, "twenty")] {
        let handle = client.start(doubles, id, (inputs, 20, 3)).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), inputs);
        let children = started(&worker, &handle, "double").await;
        assert_eq!(children as u64, inputs);
    }
    worker.shutdown().await;
}

async fn many_inputs_leave_few_records(storage: Storage) {
    let worker = storage.start(worker()).await;
    let client = worker.client();
    let handle = client
        .start(doubles, "many", (1_003, 100, 200))
        .await
        .unwrap();
    assert_eq!(handle.result().await.unwrap(), 1_003);
    assert_eq!(started(&worker, &handle, "double").await, 0);
    assert_eq!(started(&worker, &handle, "fan-out/branch").await, 11);
    let run = handle.run_id();
    let records = client
        .history(run, Default::default(), 1_000)
        .await
        .unwrap();
    // The start, the end, and two for each slice.
    assert_eq!(records.items.len(), 2 + 2 * 11);
    worker.shutdown().await;
}

async fn no_more_run_at_once_than_may(storage: Storage) {
    let worker = storage.start(worker()).await;
    let client = worker.client();
    for (slice, id) in [(1_000, "children"), (20, "slices")] {
        let test = fastrand::u64(..);
        let input = (test, (100, slice, 10), None);
        let handle = client.start(measures, id, input).await.unwrap();
        let (values, failed, _) = handle.result().await.unwrap();
        assert_eq!((values, failed.len()), (90, 10));
        let most = gauge(test).most.load(Ordering::SeqCst);
        assert!(most <= 10, "{most} at once");
    }
    worker.shutdown().await;
}

async fn after_so_many_failures_no_other_begins(storage: Storage) {
    let worker = storage.start(worker()).await;
    let client = worker.client();
    for (slice, id) in [(1_000, "children"), (20, "slices")] {
        let test = fastrand::u64(..);
        let input = (test, (400, slice, 4), Some(2));
        let handle = client.start(measures, id, input).await.unwrap();
        let (_, failed, is_stopped) = handle.result().await.unwrap();
        assert!(is_stopped && failed.len() >= 2, "{failed:?}");
        let begun = gauge(test).begun.load(Ordering::SeqCst);
        assert!(begun < 200, "{begun} of 400 began");
    }
    worker.shutdown().await;
}

async fn every_failure_is_told_with_its_input(storage: Storage) {
    let worker = storage.start(worker()).await;
    let client = worker.client();
    let input = (fastrand::u64(..), (50, 7, 100), None);
    let handle = client.start(measures, "a", input).await.unwrap();
    let (values, failed, is_stopped) = handle.result().await.unwrap();
    assert_eq!((values, is_stopped), (45, false));
    assert_eq!(failed, [7, 17, 27, 37, 47]);
    worker.shutdown().await;
}

async fn slices_need_no_turn_where_the_queue_has_limits(storage: Storage) {
    let client = Client::new(Arc::clone(&storage.journal));
    // The run that fans out, and one other.
    let queue = client.queue("default");
    queue.limit().max_running(2).await.unwrap();
    let worker = storage.start(worker()).await;
    let handle = client.start(doubles, "a", (30, 10, 30)).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 30);
    let info = queue.describe().await.unwrap();
    assert_eq!((info.running, info.waiting), (0, 0));
    worker.shutdown().await;
}

#[test]
fn a_fan_out_survives_a_crash_at_every_commit() {
    let sweep = crash_sweep(
        |_: &Arc<()>| Worker::builder().workflow(doubles).workflow(double),
        async |client: &Client| {
            let handle = client.start(doubles, "a", (7, 3, 4)).await.unwrap();
            handle.result().await.unwrap()
        },
        |()| {},
    );
    assert!(sweep.crashes > 10, "{sweep:?}");
}

async fn in_words(_ctx: Context, n: u64) -> Result<String, Failure> {
    Ok(format!("twice {n}"))
}

async fn doubled(ctx: Context, slice: usize) -> Result<Vec<u64>, Failure> {
    Ok(ctx.fan_out(double, [1, 2]).slice(slice).all().await?)
}

async fn a_value_that_cannot_be_read_parks_the_run(storage: Storage) {
    let builder = || quick().workflow(doubled);
    let worker = storage
        .start(builder().workflow_named("double", in_words))
        .await;
    let client = worker.client();
    for (id, slice) in [("few", 10), ("many", 1)] {
        let handle = client.start(doubled, id, slice).await.unwrap();
        let Err(RunError::Parked { reason }) = handle.result().await else {
            panic!("a text is no number");
        };
        assert!(reason.contains("expected u64"), "{reason}");
        assert!(reason.contains("input"), "{reason}");
    }
    worker.shutdown().await;
}
