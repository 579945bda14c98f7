//! Runs of one family in different queues.

use std::time::Duration;

use sync_workflow::{Client, Context, Failure, worker::WorkerBuilder};

use super::{
    Storage,
    code::{collects, double, doubled},
    eventually,
    faults::Faulty,
    on_every_journal, quick,
};

on_every_journal![
    a_parent_asleep_in_another_queue_is_told_that_its_child_has_closed,
    a_run_asleep_in_another_queue_is_told_of_a_signal,
];

/// A worker that looks around by itself so rarely that only a hint can have told it.
fn deaf(queue: &str) -> WorkerBuilder {
    quick()
        .queue(queue)
        .poll_interval(Duration::from_secs(3_600))
}

async fn waits_for_child(ctx: Context, n: u64) -> Result<u64, Failure> {
    Ok(ctx.child(waits_for_number, n).queue("children").await?)
}

async fn waits_for_number(ctx: Context, n: u64) -> Result<u64, Failure> {
    let number: u64 = ctx.wait("number").await?;
    Ok(number + n)
}

async fn a_parent_asleep_in_another_queue_is_told_that_its_child_has_closed(storage: Storage) {
    let parents = storage
        .start(deaf("parents").workflow(waits_for_child))
        .await;
    let children = storage
        .start(deaf("children").workflow(waits_for_number))
        .await;
    let client = parents.client();
    let start = client.start(waits_for_child, "parent", 40);
    let handle = start.queue("parents").await.unwrap();
    let child = || async {
        let filter = sync_workflow::journal::RunFilter {
            parent: Some(handle.run_id()),
            ..Default::default()
        };
        parents.client().list(&filter).await.unwrap().items.pop()
    };
    eventually("both sleep", || async {
        child().await.is_some() && parents.resident_runs() == 0 && children.resident_runs() == 0
    })
    .await;
    let child = child().await.unwrap();
    let client = children.client();
    client
        .signal(child.workflow_id.as_str(), "number", &2)
        .await
        .unwrap();
    let result = tokio::time::timeout(Duration::from_secs(60), handle.result());
    assert_eq!(result.await.expect("nobody was told").unwrap(), 42);
    parents.shutdown().await;
    children.shutdown().await;
}

async fn a_run_asleep_in_another_queue_is_told_of_a_signal(storage: Storage) {
    let here = storage
        .start(deaf("here").workflow(doubled).activity(double))
        .await;
    let there = storage.start(deaf("there").workflow(collects)).await;
    let client = there.client();
    let start = client.start(collects, "a", 1);
    let handle = start.queue("there").await.unwrap();
    eventually("the run sleeps", || async { there.resident_runs() == 0 }).await;
    here.client().signal("a", "number", &7).await.unwrap();
    let result = tokio::time::timeout(Duration::from_secs(60), handle.result());
    assert_eq!(result.await.expect("nobody was told").unwrap(), [7]);
    here.shutdown().await;
    there.shutdown().await;
}

#[tokio::test]
async fn many_starts_at_once_are_told_together() {
    let journal = Faulty::new(Storage::memory().journal);
    let client = Client::new(journal.clone());
    let ids: Vec<_> = (0..200).map(|n| format!("many-{n}")).collect();
    let starts = ids
        .iter()
        .map(|id| async { client.start(doubled, id, 1).await });
    for started in futures::future::join_all(starts).await {
        assert!(started.unwrap().is_new());
    }
    // The first by itself, and those that came meanwhile.
    assert!(journal.notified() <= 10, "{} times", journal.notified());
    client.wake_up("default").await;
    assert!(journal.notified() >= 2, "what comes later is told as well");
}
