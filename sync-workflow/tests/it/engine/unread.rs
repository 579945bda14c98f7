//! Signals that a run received and its code never read: they are still to be read, in their order.

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{Either, poll_immediate, select},
};
use serde::{Deserialize, Serialize};
use sync_workflow::{
    Client, Context, Failure, Worker,
    client::ForkPoint,
    id::Position,
    record::{Record, RecordKind},
    testing::{ReplayCheck, crash_sweep},
};

use super::{Storage, eventually, on_every_journal, quick};

on_every_journal![
    what_a_dropped_wait_received_is_read_next,
    what_nobody_has_read_goes_along_when_a_run_continues_as_new,
    a_batch_that_was_begun_goes_along_too,
    a_run_is_taken_back_to_what_it_was_born_with,
];

const HOUR: Duration = Duration::from_secs(3_600);

/// What becomes of two waits that have received a signal each, and have not been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Waits {
    Dropped,
    DroppedTheOtherWayRound,
    Alive,
}

impl Waits {
    const ALL: [Self; 3] = [Self::Dropped, Self::DroppedTheOtherWayRound, Self::Alive];
}

/// Receives two numbers and reads none of them, then goes on as new, several times, and reads three.
async fn reads_late(ctx: Context, (waits, rounds): (Waits, u32)) -> Result<Vec<u32>, Failure> {
    if rounds == 0 {
        let mut numbers = Vec::new();
        for _ in 0..3 {
            numbers.push(ctx.wait("number").await?);
        }
        return Ok(numbers);
    }
    let (mut first, mut second) = (ctx.wait::<u32>("number"), ctx.wait::<u32>("number"));
    assert!(poll_immediate(&mut first).await.is_none());
    assert!(poll_immediate(&mut second).await.is_none());
    ctx.wait::<()>("go").await?;
    match waits {
        Waits::Dropped => drop((first, second)),
        Waits::DroppedTheOtherWayRound => {
            drop(second);
            drop(first);
        }
        Waits::Alive => return ctx.continue_as_new(reads_late, (waits, rounds - 1)).await,
    }
    ctx.continue_as_new(reads_late, (waits, rounds - 1)).await
}

/// Waits until the latest run has received so many signals, and returns its records.
async fn received(client: &Client, id: &str, count: usize) -> Vec<Record> {
    let records = async || {
        let run = client.describe(id).await.unwrap().run;
        let page = client.history(run, 0, 1_000).await.unwrap();
        page.items
            .into_iter()
            .map(|item| item.record)
            .collect::<Vec<_>>()
    };
    let numbers = async || {
        let records = records().await;
        let numbers = records.iter().filter(|record| &*record.name == "number");
        numbers.count()
    };
    eventually("the signals are received", async || {
        numbers().await == count
    })
    .await;
    records().await
}

async fn what_nobody_has_read_goes_along_when_a_run_continues_as_new(storage: Storage) {
    let worker = storage.start(quick().workflow(reads_late)).await;
    let client = worker.client();
    for waits in Waits::ALL {
        let id = format!("{waits:?}");
        let handle = client.start(reads_late, &id, (waits, 2)).await.unwrap();
        for number in 1..=2 {
            handle.signal("number", &number).await.unwrap();
        }
        received(&client, &id, 2).await;
        // Nobody waits for this one: it was sent last, and is read last.
        handle.signal("number", &3).await.unwrap();
        for _ in 0..2 {
            handle.signal("go", &()).await.unwrap();
        }
        assert_eq!(handle.result().await.unwrap(), [1, 2, 3], "{waits:?}");
    }
    worker.shutdown().await;
}

/// Drops waits that have received something in the order that it is told, and reads what they had.
async fn drops_and_reads(ctx: Context, order: [usize; 3]) -> Result<Vec<u32>, Failure> {
    let mut waits: Vec<_> = (0..3).map(|_| Some(ctx.wait::<u32>("number"))).collect();
    for wait in waits.iter_mut().flatten() {
        assert!(poll_immediate(wait).await.is_none());
    }
    ctx.wait::<()>("go").await?;
    drop(waits[order[0]].take());
    // It has received the same again, and leaves it behind once more.
    let mut again = ctx.wait::<u32>("number");
    assert!(poll_immediate(&mut again).await.is_none());
    ctx.sleep(Duration::from_millis(1)).await?;
    drop(waits[order[1]].take());
    drop(waits[order[2]].take());
    drop(again);
    let mut numbers = Vec::new();
    for _ in 0..3 {
        numbers.push(ctx.wait("number").await?);
    }
    Ok(numbers)
}

async fn what_a_dropped_wait_received_is_read_next(storage: Storage) {
    let worker = storage.start(quick().workflow(drops_and_reads)).await;
    let client = worker.client();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let id = format!("{order:?}");
        let handle = client.start(drops_and_reads, &id, order).await.unwrap();
        for number in 1..=3 {
            handle.signal("number", &number).await.unwrap();
        }
        received(&client, &id, 3).await;
        handle.signal("go", &()).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), [1, 2, 3], "{order:?}");
    }
    worker.shutdown().await;
}

/// Collects for longer than it has time.
async fn gathers(ctx: Context, (is_alive, rounds): (bool, u32)) -> Result<Vec<u32>, Failure> {
    if rounds == 0 {
        return Ok(ctx.collect("number", 4, HOUR).await?);
    }
    let collecting = ctx.collect::<u32>("number", 10, HOUR).boxed();
    match select(collecting, ctx.wait::<()>("go")).await {
        Either::Right((_, collecting)) if is_alive => {
            let next = ctx.continue_as_new(gathers, (is_alive, rounds - 1)).await;
            drop(collecting);
            next
        }
        Either::Right(_) => ctx.continue_as_new(gathers, (is_alive, rounds - 1)).await,
        Either::Left((numbers, _)) => Ok(numbers?),
    }
}

async fn a_batch_that_was_begun_goes_along_too(storage: Storage) {
    let worker = storage.start(quick().workflow(gathers)).await;
    let client = worker.client();
    for is_alive in [false, true] {
        let id = format!("alive: {is_alive}");
        let handle = client.start(gathers, &id, (is_alive, 2)).await.unwrap();
        for number in 1..=3 {
            handle.signal("number", &number).await.unwrap();
        }
        received(&client, &id, 3).await;
        for _ in 0..2 {
            handle.signal("go", &()).await.unwrap();
        }
        handle.signal("number", &4).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), [1, 2, 3, 4]);
    }
    worker.shutdown().await;
}

async fn a_run_is_taken_back_to_what_it_was_born_with(storage: Storage) {
    let worker = storage.start(quick().workflow(reads_late)).await;
    let client = worker.client();
    let start = client.start(reads_late, "a", (Waits::Dropped, 1));
    let handle = start.await.unwrap();
    for number in 1..=2 {
        handle.signal("number", &number).await.unwrap();
    }
    received(&client, "a", 2).await;
    handle.signal("go", &()).await.unwrap();
    let last = async || client.describe("a").await.unwrap();
    eventually("it goes on", async || last().await.run != handle.run_id()).await;
    let born = received(&client, "a", 2).await;
    assert_eq!(Record::count_born(&born), 3);
    // A third one is received, and everything begins again without it.
    for place in [ForkPoint::Start, Position(1).into(), ForkPoint::End] {
        client.reset("a", place).await.unwrap();
        let records = received(&client, "a", 2).await;
        assert_eq!(records[..3], born[..3]);
        assert_eq!(records[3].kind, RecordKind::Forked);
    }
    handle.signal("number", &3).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), [1, 2, 3]);
    let closed = last().await.run;
    client.fork(closed, ForkPoint::Start, "b").await.unwrap();
    let again = client.handle(reads_late, "b").await.unwrap();
    assert_eq!(again.result().await.unwrap(), [1, 2, 3]);
    worker.shutdown().await;
}

#[test]
fn no_unread_signal_is_lost_whatever_crashes() {
    for waits in Waits::ALL {
        let sweep = crash_sweep(
            |_: &Arc<()>| Worker::builder().workflow(reads_late),
            async |client: &Client| {
                let handle = client.start(reads_late, "a", (waits, 2)).await.unwrap();
                for number in 1..=2 {
                    handle.signal("number", &number).await.unwrap();
                }
                received(client, "a", 2).await;
                handle.signal("number", &3).await.unwrap();
                for _ in 0..2 {
                    handle.signal("go", &()).await.unwrap();
                }
                handle.result().await.unwrap()
            },
            |_| {},
        );
        assert!(sweep.crashes > 0);
    }
}

#[tokio::test]
async fn a_history_that_begins_with_what_was_carried_over_replays_from_every_place() {
    let storage = Storage::memory();
    let worker = storage.start(quick().workflow(reads_late)).await;
    let client = worker.client();
    let start = client.start(reads_late, "a", (Waits::Alive, 1));
    let handle = start.await.unwrap();
    for number in 1..=2 {
        handle.signal("number", &number).await.unwrap();
    }
    received(&client, "a", 2).await;
    handle.signal("go", &()).await.unwrap();
    handle.signal("number", &3).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), [1, 2, 3]);
    let last = client.describe("a").await.unwrap().run;
    let history = client.export(last).await.unwrap();
    let check = ReplayCheck::of_history(reads_late, &history).unwrap();
    check.every_prefix().unwrap();
    // It is the same elsewhere.
    let elsewhere = Client::new(Storage::memory().journal);
    elsewhere.import(&history).await.unwrap();
    let imported = elsewhere.export(last).await.unwrap();
    assert_eq!(
        imported.to_records().unwrap(),
        history.to_records().unwrap()
    );
    worker.shutdown().await;
}
