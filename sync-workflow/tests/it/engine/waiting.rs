//! Sleeping, signals, and values that every replay repeats.

use std::time::Duration;

use sync_workflow::{Context, Failure, FailureKind, id::WorkflowId, status::RunStatus};

use super::{Storage, code::collects, eventually, on_every_journal, quick};

on_every_journal![
    a_sleep_ends_after_eviction,
    signals_are_received_in_the_order_in_which_they_were_sent,
    a_signal_sent_twice_with_one_id_is_received_once,
    a_signal_is_received_behind_many_that_nobody_waits_for,
    workflows_talk_to_each_other,
    a_parent_signals_its_child,
    a_signal_to_nobody_is_an_error_of_the_sender,
    a_signal_that_is_too_large_is_an_error_of_the_sender,
    the_same_time_and_random_values_are_seen_by_every_replay,
];

async fn naps(ctx: Context, millis: u64) -> Result<bool, Failure> {
    let before = ctx.now();
    ctx.sleep(Duration::from_millis(millis)).await?;
    Ok(ctx.now().duration_since(before) >= jiff::SignedDuration::from_millis(millis as i64))
}

async fn a_sleep_ends_after_eviction(storage: Storage) {
    let worker = storage.start(quick().workflow(naps)).await;
    let handle = worker.client().start(naps, "a", 400).await.unwrap();
    eventually("the run leaves memory", || async {
        worker.resident_runs() == 0 && handle.describe().await.unwrap().status == RunStatus::Pending
    })
    .await;
    assert!(handle.result().await.unwrap());
    worker.shutdown().await;
}

async fn signals_are_received_in_the_order_in_which_they_were_sent(storage: Storage) {
    let worker = storage.start(quick().workflow(collects)).await;
    let handle = worker.client().start(collects, "a", 250).await.unwrap();
    for number in 0..250_u32 {
        handle.signal("number", &number).await.unwrap();
        if number == 100 {
            eventually("the run leaves memory", || async {
                worker.resident_runs() == 0
            })
            .await;
        }
    }
    assert_eq!(handle.result().await.unwrap(), (0..250).collect::<Vec<_>>());
    worker.shutdown().await;
}

async fn a_signal_sent_twice_with_one_id_is_received_once(storage: Storage) {
    let worker = storage.start(quick().workflow(collects)).await;
    let client = worker.client();
    let handle = client.start(collects, "a", 2).await.unwrap();
    client
        .signal_once("a", "number", "first", &1)
        .await
        .unwrap();
    client
        .signal_once("a", "number", "first", &1)
        .await
        .unwrap();
    client
        .signal_once("a", "number", "second", &2)
        .await
        .unwrap();
    assert_eq!(handle.result().await.unwrap(), [1, 2]);
    worker.shutdown().await;
}

async fn wants_one(ctx: Context, (): ()) -> Result<u32, Failure> {
    Ok(ctx.wait::<u32>("wanted").await?)
}

async fn a_signal_is_received_behind_many_that_nobody_waits_for(storage: Storage) {
    let worker = storage.start(quick().workflow(wants_one)).await;
    let handle = worker.client().start(wants_one, "a", ()).await.unwrap();
    for number in 0..150_u32 {
        handle.signal("unwanted", &number).await.unwrap();
    }
    handle.signal("wanted", &7).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 7);
    worker.shutdown().await;
}

/// Answers as many questions as it is told to.
async fn desk(ctx: Context, questions: u64) -> Result<(), Failure> {
    for _ in 0..questions {
        let (asker, question) = ctx.wait::<(WorkflowId, u64)>("question").await?;
        ctx.signal(&asker, "answer", &(question * 2)).await?;
    }
    Ok(())
}

async fn asks(ctx: Context, questions: u64) -> Result<Vec<u64>, Failure> {
    let desk = WorkflowId::new("desk")?;
    let mut answers = Vec::new();
    for question in 0..questions {
        ctx.signal(&desk, "question", &(ctx.workflow_id(), question))
            .await?;
        answers.push(ctx.wait("answer").await?);
    }
    Ok(answers)
}

async fn workflows_talk_to_each_other(storage: Storage) {
    let build = || quick().workflow(desk).workflow(asks);
    // The two may lie on two workers.
    let (worker, other) = (storage.start(build()).await, storage.start(build()).await);
    let answering = worker.client().start(desk, "desk", 20).await.unwrap();
    let asking = other.client().start(asks, "asks", 20).await.unwrap();
    let doubled: Vec<_> = (0..20).map(|question| question * 2).collect();
    assert_eq!(asking.result().await.unwrap(), doubled);
    answering.result().await.unwrap();
    other.shutdown().await;
    worker.shutdown().await;
}

async fn starts_and_tells(ctx: Context, (): ()) -> Result<Vec<u32>, Failure> {
    let child = ctx.child(collects, 3).start();
    let id = child.workflow_id();
    futures::future::try_join_all((0..3).map(|number| ctx.signal(&id, "number", &number))).await?;
    let mut collected = child.await?;
    collected.sort_unstable();
    Ok(collected)
}

async fn a_parent_signals_its_child(storage: Storage) {
    let worker = storage
        .start(quick().workflow(starts_and_tells).workflow(collects))
        .await;
    let handle = worker
        .client()
        .start(starts_and_tells, "a", ())
        .await
        .unwrap();
    assert_eq!(handle.result().await.unwrap(), [0, 1, 2]);
    worker.shutdown().await;
}

async fn signals_too_much(ctx: Context, (): ()) -> Result<String, Failure> {
    let text = "x".repeat(5 * 1024 * 1024);
    let sent = ctx.signal(&ctx.workflow_id(), "hello", &text).await;
    Ok(sent.map_or_else(|error| error.to_string(), |()| "sent".into()))
}

async fn a_signal_that_is_too_large_is_an_error_of_the_sender(storage: Storage) {
    let worker = storage.start(quick().workflow(signals_too_much)).await;
    let client = worker.client();
    let handle = client.start(signals_too_much, "a", ()).await.unwrap();
    let answer = handle.result().await.unwrap();
    assert!(answer.contains("more than the limit"), "{answer}");
    worker.shutdown().await;
}

async fn signals_nobody(ctx: Context, (): ()) -> Result<bool, Failure> {
    let sent = ctx.signal(&WorkflowId::new("nobody")?, "hello", &()).await;
    ctx.wait::<()>("go on").await?;
    Ok(sent.is_err_and(|error| error.is_kind(FailureKind::NotOpen)))
}

async fn a_signal_to_nobody_is_an_error_of_the_sender(storage: Storage) {
    let worker = storage.start(quick().workflow(signals_nobody)).await;
    let handle = worker
        .client()
        .start(signals_nobody, "a", ())
        .await
        .unwrap();
    eventually("the run leaves memory", || async {
        worker.resident_runs() == 0
    })
    .await;
    handle.signal("go on", &()).await.unwrap();
    assert!(handle.result().await.unwrap());
    worker.shutdown().await;
}

async fn draws(ctx: Context, (): ()) -> Result<bool, Failure> {
    let draw = || {
        (
            ctx.random(),
            ctx.uuid(),
            ctx.side_effect("pid", std::process::id),
        )
    };
    let drawn = (ctx.now(), draw(), draw());
    let recorded = ctx.activity(echo, serde_json::to_value(drawn)?).await?;
    ctx.wait::<()>("go").await?;
    Ok(recorded == serde_json::to_value(drawn)? && drawn.1 != drawn.2)
}

async fn echo(value: serde_json::Value) -> Result<serde_json::Value, Failure> {
    Ok(value)
}

async fn the_same_time_and_random_values_are_seen_by_every_replay(storage: Storage) {
    let worker = storage.start(quick().workflow(draws).activity(echo)).await;
    let handle = worker.client().start(draws, "a", ()).await.unwrap();
    eventually("the run leaves memory", || async {
        worker.resident_runs() == 0
    })
    .await;
    handle.signal("go", &()).await.unwrap();
    assert!(handle.result().await.unwrap());
    worker.shutdown().await;
}
