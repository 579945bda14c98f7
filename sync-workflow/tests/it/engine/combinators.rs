//! Plain Rust combinators: live, and replayed from every prefix of their journal.

use std::time::Duration;

use futures::{FutureExt, StreamExt, future, stream::FuturesUnordered};
use sync_workflow::{
    ActivityContext, CallError, Context, Failure, RetryPolicy, Worker, testing::ReplayCheck,
    worker::IntoWorkflow,
};

use super::{Storage, quick};

/// Runs a workflow to its end on a worker, and replays every prefix of the journal that it wrote.
async fn check<M, W, T>(workflow: W, input: u64) -> T
where
    W: IntoWorkflow<M>
        + sync_workflow::context::WorkflowCallee<M, Input = u64, Output = T, Error = Failure>
        + Copy,
    T: serde::de::DeserializeOwned + 'static,
{
    let storage = Storage::memory();
    let builder: sync_workflow::worker::WorkerBuilder = quick();
    let worker: Worker = storage
        .start(
            builder
                .workflow(workflow)
                .workflow(delayed_child)
                .activity(delayed)
                .activity(fails),
        )
        .await;
    let client = worker.client();
    let handle = client.start(workflow, "a", input).await.unwrap();
    for number in 0..5_u64 {
        // A workflow that needs fewer signals may have ended.
        let _not_open = client.signal("a", "number", &number).await;
    }
    let result = handle.result().await.unwrap();
    let history = client.history(handle.run_id(), 0, 10_000).await.unwrap();
    let records: Vec<_> = history.items.into_iter().map(|item| item.record).collect();
    let check = ReplayCheck::new(
        workflow,
        handle.run_id(),
        handle.workflow_id().clone(),
        records,
    );
    // Unbiased selects poll in random order: what holds once must hold every time.
    for _ in 0..20 {
        check.whole().unwrap();
        check.every_prefix().unwrap();
    }
    worker.shutdown().await;
    result
}

/// Returns its input after as many milliseconds, so that completions come in another order than
/// calls.
async fn delayed(ctx: ActivityContext, millis: u64) -> Result<u64, Failure> {
    let _never = tokio::time::timeout(Duration::from_millis(millis), ctx.cancelled()).await;
    Ok(millis)
}

async fn fails(_: u64) -> Result<u64, Failure> {
    Err(Failure::final_error("no"))
}

async fn delayed_child(ctx: Context, millis: u64) -> Result<u64, Failure> {
    Ok(ctx.activity(delayed, millis).await?)
}

async fn joins(ctx: Context, n: u64) -> Result<u64, Failure> {
    let (a, b, c) = futures::join!(
        ctx.activity(delayed, n * 3),
        ctx.activity(delayed, n),
        ctx.child(delayed_child, n)
    );
    let more = future::try_join_all((0..40).map(|i| ctx.activity(delayed, i % 5))).await?;
    Ok(a? + b? + c? + more.iter().sum::<u64>())
}

#[tokio::test]
async fn joins_replay() {
    assert_eq!(check(joins, 4).await, 20 + 80);
}

async fn signals_itself(ctx: Context, n: u64) -> Result<Vec<u64>, Failure> {
    let myself = ctx.workflow_id();
    let nobody = sync_workflow::id::WorkflowId::new("nobody")?;
    let sent = futures::join!(
        ctx.signal(&myself, "own", &n),
        ctx.signal(&nobody, "own", &n),
        ctx.signal(&myself, "own", &(n + 1)),
    );
    assert!(sent.0.is_ok() && sent.1.is_err() && sent.2.is_ok());
    let mut got = vec![ctx.wait("own").await?, ctx.wait("own").await?];
    got.sort_unstable();
    Ok(got)
}

#[tokio::test]
async fn signals_replay() {
    assert_eq!(check(signals_itself, 4).await, [4, 5]);
}

async fn tokio_selects(ctx: Context, n: u64) -> Result<Vec<u64>, Failure> {
    let mut won = Vec::new();
    for round in 0..10 {
        let winner = tokio::select! {
            value = ctx.activity(delayed, (round * 7) % 5) => value?,
            value = ctx.activity(delayed, (round * 3) % 5) => value? + 100,
            slept = ctx.sleep(Duration::from_millis(n)) => { slept?; 1_000 }
            signal = ctx.wait::<u64>("number") => signal? + 10_000,
        };
        won.push(winner);
    }
    Ok(won)
}

#[tokio::test]
async fn tokio_selects_replay() {
    assert_eq!(check(tokio_selects, 2).await.len(), 10);
}

async fn futures_selects(ctx: Context, n: u64) -> Result<u64, Failure> {
    let mut slow = ctx.activity(delayed, n * 2).fuse();
    let mut quick = ctx.activity(delayed, 1).fuse();
    let mut timer = ctx.sleep(Duration::from_millis(n)).fuse();
    let mut sum = 0;
    loop {
        futures::select! {
            value = slow => sum += value?,
            value = quick => sum += value?,
            slept = timer => slept?,
            complete => return Ok(sum),
        }
    }
}

#[tokio::test]
async fn futures_selects_replay() {
    assert_eq!(check(futures_selects, 3).await, 7);
}

async fn unordered(ctx: Context, n: u64) -> Result<Vec<u64>, Failure> {
    let mut calls: FuturesUnordered<_> =
        (0..n).map(|i| ctx.activity(delayed, (i * 7) % n)).collect();
    let mut order = Vec::new();
    while let Some(value) = calls.next().await {
        order.push(value?);
        if order.len() == 3 {
            calls.push(ctx.activity(delayed, 100 + n));
        }
    }
    Ok(order)
}

#[tokio::test]
async fn futures_unordered_replay() {
    let order = check(unordered, 11).await;
    assert_eq!(order.len(), 12);
}

/// Both calls complete while neither is awaited; then an unbiased select sees both.
async fn late_select(ctx: Context, n: u64) -> Result<u64, Failure> {
    let mut first = ctx.activity(delayed, 1);
    let mut second = ctx.activity(delayed, 2);
    // Poll both once, so that they run while the workflow sleeps.
    let none = future::poll_fn(|cx| {
        std::task::Poll::Ready((
            first.poll_unpin(cx).is_ready(),
            second.poll_unpin(cx).is_ready(),
        ))
    });
    assert_eq!(none.await, (false, false));
    ctx.sleep(Duration::from_millis(n)).await?;
    let winner = tokio::select! {
        value = &mut first => value?,
        value = &mut second => value? + 100,
    };
    // What follows depends on who won: a replay in which the other wins would not match.
    ctx.activity(delayed, winner % 7).await?;
    Ok(winner)
}

#[tokio::test]
async fn a_select_over_calls_that_are_both_complete_replays() {
    assert_eq!(check(late_select, 50).await, 1);
}

async fn races_and_drops(ctx: Context, n: u64) -> Result<u64, Failure> {
    let mut total = 0;
    for _ in 0..n {
        let quick = ctx.activity(delayed, 1);
        let slow = ctx.activity(delayed, 10_000);
        match future::select(quick, slow).await {
            future::Either::Left((value, _dropped)) | future::Either::Right((value, _dropped)) => {
                total += value?
            }
        }
    }
    let failed: Result<u64, CallError> = ctx.activity(fails, 1).retry(RetryPolicy::none()).await;
    assert!(failed.is_err());
    Ok(total)
}

#[tokio::test]
async fn a_race_cancels_the_loser_and_replays() {
    assert_eq!(check(races_and_drops, 5).await, 5);
}

/// A signal that lost its race after it was received is received by the next wait.
async fn signals_in_races(ctx: Context, n: u64) -> Result<u64, Failure> {
    let mut sum = 0;
    let mut received = 0;
    while received < 5 {
        tokio::select! {
            value = ctx.wait::<u64>("number") => { sum += value?; received += 1; }
            slept = ctx.sleep(Duration::from_millis(n)) => slept?,
        }
    }
    Ok(sum)
}

#[tokio::test]
async fn no_signal_is_lost_in_races() {
    assert_eq!(check(signals_in_races, 1).await, 10);
}
