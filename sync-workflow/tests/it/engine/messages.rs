//! What runs show, and what they are asked: publications and updates.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use sync_workflow::{
    Activity as _, Client, Context, Failure, RunError, Tx,
    client::{Error, UpdateError},
    id::WorkflowId,
    journal::RunSelector,
    record::RecordKind,
};
use tokio::sync::watch;

use super::{
    Storage,
    code::{Counter, crash, double},
    eventually, on_every_journal, quick,
};

on_every_journal![
    what_a_run_publishes_is_read_while_it_goes_on_and_afterwards,
    a_watch_tells_the_latest_value_and_the_end,
    an_update_is_answered_once_it_is_durable,
    an_update_is_rejected_by_the_workflow,
    an_update_that_is_repeated_is_answered_alike,
    an_update_survives_a_crash_and_a_continuation,
    an_update_that_nobody_answers_ends_with_the_run,
    a_value_that_is_shown_before_a_step_is_committed_before_it,
    a_step_gives_way_to_what_its_own_run_has_to_commit,
];

/// Shows something before each step.
async fn books(ctx: Context, count: u32) -> Result<u32, Failure> {
    for n in 1..=count {
        ctx.publish("progress", &n)?;
        let step = ctx.transaction::<(), Failure, _, _>("book", |tx: Tx| async move {
            drop(tx);
            Ok(())
        });
        step.await?;
    }
    Ok(count)
}

async fn a_value_that_is_shown_before_a_step_is_committed_before_it(storage: Storage) {
    let worker = storage.start(quick().workflow(books)).await;
    let client = worker.client();
    let handle = client.start(books, "booking", 5).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 5);
    let shown = client.published::<u32>("booking", "progress").await;
    assert_eq!(shown.unwrap(), Some(5));
    worker.shutdown().await;
}

/// Whether the activity beside the step has run.
static HAS_RUN: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

async fn runs(_: u32) -> Result<u32, Failure> {
    HAS_RUN.send_replace(true);
    Ok(1)
}

/// Waits for an activity within a step.
async fn runs_beside_a_step(ctx: Context, n: u32) -> Result<u32, Failure> {
    let step = ctx.transaction::<u32, Failure, _, _>("beside", |tx: Tx| async move {
        let has_run = HAS_RUN
            .subscribe()
            .wait_for(|has_run| *has_run)
            .await
            .is_ok();
        drop(tx);
        Ok(u32::from(has_run))
    });
    let (stepped, ran) = tokio::join!(step, ctx.activity(runs, n));
    Ok(stepped? + ran?)
}

async fn a_step_gives_way_to_what_its_own_run_has_to_commit(storage: Storage) {
    let worker = storage
        .start(quick().workflow(runs_beside_a_step).activity(runs))
        .await;
    let client = worker.client();
    let handle = client.start(runs_beside_a_step, "beside", 1).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 2);
    worker.shutdown().await;
}

/// Publishes after each step, and waits.
async fn counts(ctx: Context, count: u32) -> Result<u32, Failure> {
    for n in 0..count {
        ctx.activity(Counter::activity(), n).await?;
        ctx.publish("progress", &(n + 1))?;
    }
    ctx.wait::<()>("go on").await?;
    ctx.publish("progress", "done")?;
    Ok(count)
}

fn counter() -> Counter {
    Counter::default()
}

async fn what_a_run_publishes_is_read_while_it_goes_on_and_afterwards(storage: Storage) {
    let worker = storage
        .start(quick().workflow(counts).activity(counter()))
        .await;
    let client = worker.client();
    let nobody = client.published::<u32>("nobody", "progress").await;
    assert!(matches!(nobody, Err(Error::NotFound)), "{nobody:?}");
    let handle = client.start(counts, "counting", 3).await.unwrap();
    // A client without a worker sees the same.
    let outside = Client::new(Arc::clone(&storage.journal));
    let progress = async || {
        outside
            .published::<u32>("counting", "progress")
            .await
            .unwrap()
    };
    eventually("three", async || progress().await == Some(3)).await;
    assert_eq!(
        client.published::<u32>("counting", "other").await.unwrap(),
        None
    );
    client.signal("counting", "go on", &()).await.unwrap();
    handle.result().await.unwrap();
    let done = outside.published::<String>("counting", "progress").await;
    assert_eq!(done.unwrap().as_deref(), Some("done"));
    let wrong = outside.published::<u32>("counting", "progress").await;
    assert!(matches!(wrong, Err(Error::Undecodable(_))), "{wrong:?}");
    // Reading it woke nobody and left nothing.
    let history = client.history(handle.run_id(), 0, 100).await.unwrap();
    assert_eq!(
        history.items.len(),
        6,
        "a start, three steps, a signal, an end"
    );
    worker.shutdown().await;
}

/// Shows a number for each signal, in several runs.
async fn shows(ctx: Context, from: u32) -> Result<(), Failure> {
    let n: u32 = ctx.wait("show").await?;
    if n == 0 {
        return Ok(());
    }
    ctx.publish("shown", &n)?;
    ctx.continue_as_new(shows, from + 1).await
}

async fn a_watch_tells_the_latest_value_and_the_end(storage: Storage) {
    let worker = storage.start(quick().workflow(shows)).await;
    let client = worker.client();
    client.start(shows, "showing", 0).await.unwrap();
    let outside = Client::new(Arc::clone(&storage.journal));
    let mut near = client.watch::<u32>("showing", "shown").await.unwrap();
    let mut far = outside.watch::<u32>("showing", "shown").await.unwrap();
    for n in 1..=4 {
        client.signal("showing", "show", &n).await.unwrap();
        assert_eq!(near.next().await.unwrap(), Some(n));
        assert_eq!(far.next().await.unwrap(), Some(n));
    }
    client.signal("showing", "show", &0).await.unwrap();
    assert_eq!(near.next().await.unwrap(), None);
    assert_eq!(far.next().await.unwrap(), None);
    worker.shutdown().await;
}

/// Adds what it is asked to add, up to a bound, and continues as new now and then.
async fn adds(ctx: Context, mut sum: u64) -> Result<u64, Failure> {
    loop {
        let update = ctx.update::<u64, u64>("add").await?;
        match *update.input() {
            0 => {
                update.accept(&sum)?;
                return Ok(sum);
            }
            n if n > 100 => update.reject(Failure::new("too much"))?,
            n => {
                sum += ctx.activity(double, n).await?;
                update.accept(&sum)?;
                if n == 7 {
                    return ctx.continue_as_new(adds, sum).await;
                }
            }
        }
    }
}

async fn add(client: &Client, n: u64) -> Result<u64, UpdateError> {
    client.update("sum", "add", &n).await
}

async fn an_update_is_answered_once_it_is_durable(storage: Storage) {
    let worker = storage.start(quick().workflow(adds).activity(double)).await;
    let client = worker.client();
    let nobody = add(&client, 1).await;
    assert!(matches!(nobody, Err(UpdateError::Client(Error::NotOpen))));
    let handle = client.start(adds, "sum", 0).await.unwrap();
    let outside = Client::new(Arc::clone(&storage.journal));
    assert_eq!(add(&client, 1).await.unwrap(), 2);
    assert_eq!(add(&outside, 2).await.unwrap(), 6);
    // Whoever has the answer finds what led to it in the journal.
    let history = client.history(handle.run_id(), 0, 100).await.unwrap();
    let done = |item: &&sync_workflow::journal::HistoryRecord| {
        item.kind() == RecordKind::ActivityCompleted
    };
    assert_eq!(history.items.iter().filter(done).count(), 2);
    let many = (0..20).map(|_| add(&outside, 10));
    let mut sums: Vec<_> = futures::future::join_all(many)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=20).map(|n| 6 + 20 * n).collect::<Vec<_>>());
    assert_eq!(add(&client, 0).await.unwrap(), 406);
    assert_eq!(handle.result().await.unwrap(), 406);
    worker.shutdown().await;
}

async fn an_update_is_rejected_by_the_workflow(storage: Storage) {
    let worker = storage.start(quick().workflow(adds).activity(double)).await;
    let client = worker.client();
    client.start(adds, "sum", 0).await.unwrap();
    let rejected = add(&client, 1_000).await;
    let Err(UpdateError::Rejected(failure)) = rejected else {
        panic!("{rejected:?}");
    };
    assert_eq!(failure.message, "too much");
    assert_eq!(add(&client, 0).await.unwrap(), 0);
    worker.shutdown().await;
}

async fn an_update_that_is_repeated_is_answered_alike(storage: Storage) {
    let worker = storage.start(quick().workflow(adds).activity(double)).await;
    let client = worker.client();
    let handle = client.start(adds, "sum", 0).await.unwrap();
    let once = async |n: u64| {
        client
            .update_once::<_, u64>("sum", "add", "the one", &n)
            .await
            .unwrap()
    };
    assert_eq!(once(5).await, 10);
    assert_eq!(add(&client, 1).await.unwrap(), 12);
    assert_eq!(once(5).await, 10);
    add(&client, 0).await.unwrap();
    handle.result().await.unwrap();
    // Even when it has ended.
    assert_eq!(once(5).await, 10);
    worker.shutdown().await;
}

async fn an_update_survives_a_crash_and_a_continuation(storage: Storage) {
    let builder = || {
        let quickly = quick().lease(Duration::from_millis(600));
        quickly.workflow(adds).activity(double)
    };
    let first = storage.start(builder()).await;
    let client = Client::new(Arc::clone(&storage.journal));
    client.start(adds, "sum", 0).await.unwrap();
    assert_eq!(add(&client, 7).await.unwrap(), 14);
    crash(first).await;
    let asked = {
        let client = client.clone();
        tokio::spawn(async move { add(&client, 7).await })
    };
    let selector = RunSelector::Latest(WorkflowId::new("sum").unwrap());
    let delivered = async || {
        let info = storage.journal.describe(&selector).await.unwrap().unwrap();
        storage
            .journal
            .inbox(info.run, &[], 10)
            .await
            .unwrap()
            .signals
            .len()
            == 1
    };
    eventually("the update is delivered", delivered).await;
    let second = storage.start(builder()).await;
    assert_eq!(asked.await.unwrap().unwrap(), 28);
    assert_eq!(add(&client, 0).await.unwrap(), 28);
    second.shutdown().await;
}

/// Takes an update and does not answer.
async fn forgets(ctx: Context, (): ()) -> Result<(), Failure> {
    let _unanswered = ctx.update::<u64, u64>("add").await?;
    Err(Failure::final_error("forgot"))
}

async fn an_update_that_nobody_answers_ends_with_the_run(storage: Storage) {
    let worker = storage.start(quick().workflow(forgets)).await;
    let client = worker.client();
    let handle = client.start(forgets, "sum", ()).await.unwrap();
    let unanswered = add(&client, 1).await;
    assert!(
        matches!(unanswered, Err(UpdateError::Unanswered)),
        "{unanswered:?}"
    );
    assert!(matches!(handle.result().await, Err(RunError::Failed(_))));
    worker.shutdown().await;
}
