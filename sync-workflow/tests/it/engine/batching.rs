//! Starts with a signal, signals in batches, and starts that wait until nobody asks again.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use sync_workflow::{
    Activity, ActivityContext, Client, Context, Failure, FailureKind, RunError, Worker,
    client::Debounced,
    record::RecordKind,
    status::RunStatus,
    testing::{TestEnvironment, crash_sweep},
};

use super::{Storage, eventually, on_every_journal, quick};

on_every_journal![
    what_many_callers_send_is_written_in_batches,
    a_signal_starts_the_next_run_once_the_last_one_has_ended,
    a_batch_that_was_begun_survives_a_cancellation,
    a_signal_that_cannot_be_read_parks_who_collects,
    who_asks_again_before_a_run_begins_changes_what_it_does,
];

const HOUR: Duration = Duration::from_secs(3_600);

/// The rows that were written, and the sizes of the batches.
#[derive(Default)]
struct Table {
    rows: Mutex<BTreeSet<u32>>,
    batches: Mutex<Vec<usize>>,
}

struct Write(Arc<Table>);

impl Activity for Write {
    const NAME: &'static str = "write";
    type Input = Vec<u32>;
    type Output = ();
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, rows: Vec<u32>) -> Result<(), Failure> {
        self.0.batches.lock().unwrap().push(rows.len());
        self.0.rows.lock().unwrap().extend(rows);
        Ok(())
    }
}

/// Writes ten rows at once, for ever.
async fn writer(ctx: Context, (): ()) -> Result<(), Failure> {
    for _ in 0..3 {
        let rows = ctx.collect("row", 10, Duration::from_millis(50)).await?;
        ctx.activity(Write::activity(), rows).await?;
    }
    ctx.continue_as_new(writer, ()).await
}

async fn what_many_callers_send_is_written_in_batches(storage: Storage) {
    let table = Arc::new(Table::default());
    let builder = quick().workflow(writer).activity(Write(Arc::clone(&table)));
    let worker = storage.start(builder).await;
    let clients = [worker.client(), Client::new(Arc::clone(&storage.journal))];
    let callers = (0..8_u32).map(|caller| {
        let client = clients[caller as usize % 2].clone();
        tokio::spawn(async move {
            let mut started = 0;
            for number in 0..25 {
                let row = caller * 25 + number;
                let id = format!("row {row}");
                // Every row is sent twice, as by a caller that lost the answer.
                for _ in 0..2 {
                    let start = client.start(writer, "writer", ());
                    let handle = start.signal_once("row", &id, &row).await.unwrap();
                    started += u32::from(handle.is_new());
                }
            }
            started
        })
    });
    let started = futures::future::join_all(callers).await;
    assert_eq!(started.into_iter().map(Result::unwrap).sum::<u32>(), 1);
    eventually("every row is written", || async {
        table.rows.lock().unwrap().len() == 200
    })
    .await;
    let batches = table.batches.lock().unwrap().clone();
    assert_eq!(batches.iter().sum::<usize>(), 200);
    assert!(batches.iter().all(|rows| (1..=10).contains(rows)));
    worker.shutdown().await;
}

async fn takes_one(ctx: Context, (): ()) -> Result<u32, Failure> {
    Ok(ctx.wait::<u32>("number").await?)
}

async fn a_signal_starts_the_next_run_once_the_last_one_has_ended(storage: Storage) {
    let worker = storage.start(quick().workflow(takes_one)).await;
    let stranger = Client::new(Arc::clone(&storage.journal));
    for (client, number) in [
        (worker.client(), 1_u32),
        (stranger.clone(), 2),
        (worker.client(), 3),
    ] {
        let start = client.start(takes_one, "a", ());
        let handle = start.signal("number", &number).await.unwrap();
        assert!(handle.is_new());
        assert_eq!(handle.result().await.unwrap(), number);
    }
    let kept = stranger
        .start(takes_one, "a", ())
        .reuse(sync_workflow::client::IdReuse::ReturnExisting);
    let refused = kept.signal("number", &4).await;
    assert!(matches!(
        refused,
        Err(sync_workflow::client::Error::NotOpen)
    ));
    worker.shutdown().await;
}

async fn collects_for_long(ctx: Context, max: usize) -> Result<Vec<u32>, Failure> {
    Ok(ctx.collect("row", max, HOUR).await?)
}

async fn received(client: &Client, id: &str) -> usize {
    let run = client.describe(id).await.unwrap().run;
    let records = client.history(run, 0, 100).await.unwrap().items;
    let received = |kind| kind == RecordKind::SignalReceived;
    records.iter().filter(|item| received(item.kind())).count()
}

async fn a_batch_that_was_begun_survives_a_cancellation(storage: Storage) {
    let worker = storage.start(quick().workflow(collects_for_long)).await;
    let client = worker.client();
    let start = client.start(collects_for_long, "a", 10);
    let handle = start.signal("row", &1_u32).await.unwrap();
    handle.signal("row", &2_u32).await.unwrap();
    eventually("both are received", || async {
        received(&client, "a").await == 2
    })
    .await;
    handle.cancel().await.unwrap();
    assert_eq!(handle.result().await.unwrap(), [1, 2]);

    let empty = client.start(collects_for_long, "b", 10).await.unwrap();
    empty.cancel().await.unwrap();
    let ended = empty.result().await;
    let is_cancelled = |failure: &Failure| failure.kind == FailureKind::Cancelled;
    assert!(
        matches!(&ended, Err(RunError::Failed(failure) | RunError::Ended(failure)) if is_cancelled(failure)),
        "{ended:?}"
    );
    worker.shutdown().await;
}

async fn a_signal_that_cannot_be_read_parks_who_collects(storage: Storage) {
    let worker = storage.start(quick().workflow(collects_for_long)).await;
    let client = worker.client();
    let start = client.start(collects_for_long, "a", 2);
    let handle = start.signal("row", &1_u32).await.unwrap();
    handle.signal("row", "two").await.unwrap();
    eventually("the run is parked", || async {
        handle.describe().await.unwrap().status == RunStatus::Parked
    })
    .await;
    worker.shutdown().await;
}

/// Shows what it was started with, and ends when it is told to.
async fn reindexes(ctx: Context, revision: u64) -> Result<u64, Failure> {
    ctx.publish("revision", &revision)?;
    ctx.wait::<()>("end").await?;
    Ok(revision)
}

async fn who_asks_again_before_a_run_begins_changes_what_it_does(storage: Storage) {
    let worker = storage
        .start(quick().poll_interval(HOUR).workflow(reindexes))
        .await;
    let client = worker.client();
    let stranger = Client::new(Arc::clone(&storage.journal));
    let ask = async |client: &Client, revision, quiet_for| {
        let start = client.start(reindexes, "index", revision);
        start.debounce(quiet_for, HOUR).await.unwrap()
    };
    let first = ask(&client, 1, HOUR).await;
    let Debounced::Started(handle) = first else {
        panic!("it was not started: {first:?}");
    };
    for (client, revision) in [(&stranger, 2), (&client, 3)] {
        let again = ask(client, revision, HOUR).await;
        assert!(matches!(&again, Debounced::Replaced(same) if same.run_id() == handle.run_id()));
    }
    // The worker is told of the earlier time, for it would not look for an hour.
    let last = ask(&stranger, 4, Duration::ZERO).await;
    assert!(matches!(last, Debounced::Replaced(_)), "{last:?}");
    eventually("it has begun", || async {
        client.published::<u64>("index", "revision").await.unwrap() == Some(4)
    })
    .await;
    let late = ask(&client, 5, Duration::ZERO).await;
    assert!(matches!(late, Debounced::Existing(_)), "{late:?}");
    handle.signal("end", &()).await.unwrap();
    assert_eq!(late.into_handle().result().await.unwrap(), 4);

    let next = ask(&client, 5, Duration::ZERO).await;
    assert!(matches!(next, Debounced::Started(_)), "{next:?}");
    client.signal("index", "end", &()).await.unwrap();
    assert_eq!(next.into_handle().result().await.unwrap(), 5);
    worker.shutdown().await;
}

/// Batches of at most three, each complete or a minute old.
async fn batches(ctx: Context, count: usize) -> Result<Vec<Vec<u32>>, Failure> {
    let mut batches = Vec::new();
    while batches.iter().map(Vec::len).sum::<usize>() < count {
        batches.push(ctx.collect("row", 3, Duration::from_secs(60)).await?);
    }
    Ok(batches)
}

#[test]
fn a_batch_is_full_or_its_time_is_over() {
    TestEnvironment::run(Worker::builder().workflow(batches), async |env| {
        let client = env.client();
        let send = async |rows: std::ops::Range<u32>| {
            for row in rows {
                let start = client.start(batches, "a", 9);
                start.signal("row", &row).await.unwrap();
            }
        };
        send(0..4).await;
        // The fourth waits for its minute, which begins with it.
        env.skip(Duration::from_secs(59)).await;
        send(4..5).await;
        env.skip(Duration::from_secs(59)).await;
        send(5..9).await;
        let handle = client.handle(batches, "a").await.unwrap();
        let expected = [vec![0, 1, 2], vec![3, 4], vec![5, 6, 7], vec![8]];
        assert_eq!(handle.result().await.unwrap(), expected);
    });
}

#[test]
fn a_debounced_start_is_told_from_the_next_one_by_time() {
    let worker = || Worker::builder().workflow(reindexes);
    TestEnvironment::run(worker(), async |env| {
        let client = env.client();
        let ask = async |revision| {
            let start = client.start(reindexes, "index", revision);
            let (quiet, longest) = (Duration::from_secs(10), Duration::from_secs(25));
            start.debounce(quiet, longest).await.unwrap()
        };
        let begun = async || client.published::<u64>("index", "revision").await.unwrap();
        assert!(matches!(ask(1).await, Debounced::Started(_)));
        // Never quiet for ten seconds: it begins after twenty-five.
        for (revision, shown) in [(2, None), (3, None), (4, Some(3))] {
            env.skip(Duration::from_secs(9)).await;
            assert_eq!(begun().await, shown);
            let asked = ask(revision).await;
            match shown {
                None => assert!(matches!(asked, Debounced::Replaced(_)), "{asked:?}"),
                Some(_) => assert!(matches!(asked, Debounced::Existing(_)), "{asked:?}"),
            }
        }
        client.signal("index", "end", &()).await.unwrap();
    });
}

/// Adds up what is collected, over several runs.
async fn adds(ctx: Context, (count, sum): (u32, u32)) -> Result<u32, Failure> {
    let rows = ctx.collect::<u32>("row", 4, Duration::from_secs(1)).await?;
    ctx.activity(Write::activity(), rows.clone()).await?;
    let (count, sum) = (count + rows.len() as u32, sum + rows.iter().sum::<u32>());
    if count == 10 {
        return Ok(sum);
    }
    ctx.continue_as_new(adds, (count, sum)).await
}

#[test]
fn no_signal_of_a_batch_is_lost_whatever_crashes() {
    let sweep = crash_sweep(
        |table: &Arc<Table>| {
            let builder = Worker::builder().workflow(adds);
            builder.activity(Write(Arc::clone(table)))
        },
        async |client: &Client| {
            let mut run = None;
            for row in 0..10_u32 {
                let start = client.start(adds, "adds", (0, 0));
                let signal = start.signal_once("row", &row.to_string(), &row);
                run = run.or(Some(signal.await.unwrap()));
            }
            run.unwrap().result().await.unwrap()
        },
        |table| assert_eq!(table.rows.lock().unwrap().len(), 10),
    );
    assert!(sweep.crashes > 0);
}
