//! Children and parents of what was forked.

use std::time::Duration;

use sync_workflow::{
    Client, Context, Failure,
    client::ForkError,
    id::{Position, RunId},
    journal::Deletion,
    record::{Record, RecordKind},
    status::RunStatus,
    worker::WorkerBuilder,
};

use super::{
    Storage,
    code::{double, doubled},
    echo, eventually, history, on_every_journal, position_of, quick,
};

on_every_journal![
    a_reset_waits_for_the_child_that_is_still_open,
    a_fork_hears_of_the_end_of_a_child_of_its_origin,
    a_parent_gets_the_result_of_a_child_that_was_reset,
    a_child_that_is_gone_is_told,
];

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
