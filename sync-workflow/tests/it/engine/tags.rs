//! Runs that are found by what they are about.

use std::sync::{Arc, atomic::Ordering};

use sync_workflow::{
    Client, Context, Failure,
    client::{BulkAction, Error},
    journal::RunFilter,
    status::RunStatus,
    tag::{InvalidTag, Tags},
};

use super::{
    Storage,
    code::{Counter, collects, crash, steps},
    eventually, on_every_journal, quick,
};

on_every_journal![
    runs_are_found_by_the_tags_of_their_start,
    code_sets_tags_and_a_replay_does_not_set_them_again,
    tags_go_along_when_a_run_continues_as_new,
    a_child_gets_the_tags_that_are_asked_for,
    what_is_no_tag_is_refused,
];

fn tags<const N: usize>(tags: [(&str, &str); N]) -> Tags {
    tags.iter().fold(Tags::new(), |tags, (name, value)| {
        tags.with(name, value).unwrap()
    })
}

fn by<const N: usize>(by: [(&str, &str); N]) -> RunFilter {
    RunFilter {
        tags: tags(by),
        ..RunFilter::default()
    }
}

async fn found(client: &Client, filter: &RunFilter) -> Vec<String> {
    let items = client.list(filter).await.unwrap().items;
    let mut ids: Vec<_> = items
        .iter()
        .map(|info| info.workflow_id.to_string())
        .collect();
    ids.sort_unstable();
    ids
}

async fn runs_are_found_by_the_tags_of_their_start(storage: Storage) {
    let worker = storage.start(quick().workflow(collects)).await;
    // One starts with the commits of a worker, the other by itself.
    let clients = [worker.client(), Client::new(Arc::clone(&storage.journal))];
    for n in 0..4_usize {
        let start = clients[n % 2].start(collects, &n.to_string(), 1);
        let tenant = if n < 3 { "42" } else { "7" };
        start
            .tag("tenant", tenant)
            .tag("n", &n.to_string())
            .await
            .unwrap();
    }
    let client = worker.client();
    assert_eq!(
        found(&client, &by([("tenant", "42")])).await,
        ["0", "1", "2"]
    );
    assert_eq!(
        found(&client, &by([("tenant", "42"), ("n", "1")])).await,
        ["1"]
    );
    let info = client.describe("3").await.unwrap();
    assert_eq!(info.tags, tags([("n", "3"), ("tenant", "7")]));
    let terminate = BulkAction::Terminate {
        reason: "enough".into(),
    };
    let ended = client
        .bulk(&by([("tenant", "42")]), &terminate)
        .await
        .unwrap();
    assert_eq!((ended.found, ended.changed), (3, 3));
    assert!(!client.describe("3").await.unwrap().status.is_closed());
    worker.shutdown().await;
}

/// Sets its stage before and after each number, and takes the tag of its start away.
async fn staged(ctx: Context, count: u32) -> Result<(), Failure> {
    ctx.remove_tag("draft")?;
    for n in 0..count {
        ctx.set_tag("stage", &format!("waits for {n}"))?;
        ctx.wait::<u32>("number").await?;
    }
    ctx.set_tag("stage", "done")?;
    Ok(())
}

async fn code_sets_tags_and_a_replay_does_not_set_them_again(storage: Storage) {
    let client = Client::new(Arc::clone(&storage.journal));
    let worker = storage.start(quick().workflow(staged)).await;
    let handle = client.start(staged, "a", 2).tag("draft", "").await.unwrap();
    let waits = |n: u32| by([("stage", &format!("waits for {n}"))]);
    let first = async || found(&client, &waits(0)).await == ["a"];
    eventually("the first stage is shown", first).await;
    assert_eq!(
        found(&client, &by([("draft", "")])).await,
        Vec::<String>::new()
    );
    client.signal("a", "number", &0).await.unwrap();
    let second = async || found(&client, &waits(1)).await == ["a"];
    eventually("the second stage is shown", second).await;
    crash(worker).await;
    let worker = storage.start(quick().workflow(staged)).await;
    client.signal("a", "number", &1).await.unwrap();
    handle.result().await.unwrap();
    assert_eq!(
        client.describe("a").await.unwrap().tags,
        tags([("stage", "done")])
    );
    assert_eq!(found(&client, &waits(0)).await, Vec::<String>::new());
    worker.shutdown().await;
}

async fn counts_down(ctx: Context, n: u32) -> Result<u32, Failure> {
    ctx.set_tag("n", &n.to_string())?;
    if n == 0 {
        ctx.wait::<u32>("number").await?;
        return Ok(0);
    }
    ctx.continue_as_new(counts_down, n - 1).await
}

async fn tags_go_along_when_a_run_continues_as_new(storage: Storage) {
    let worker = storage.start(quick().workflow(counts_down)).await;
    let client = worker.client();
    client
        .start(counts_down, "a", 3)
        .tag("tenant", "42")
        .await
        .unwrap();
    let last = async || found(&client, &by([("tenant", "42"), ("n", "0")])).await == ["a"];
    eventually("the last run has all tags", last).await;
    assert_eq!(found(&client, &by([("tenant", "42")])).await.len(), 4);
    worker.shutdown().await;
}

async fn parent(ctx: Context, (): ()) -> Result<u32, Failure> {
    let child = ctx.child(steps, 2).tags(Tags::new().with("tenant", "7")?);
    Ok(child.await?)
}

async fn a_child_gets_the_tags_that_are_asked_for(storage: Storage) {
    let counter = Counter::default();
    let worker = storage
        .start(
            quick()
                .workflow(parent)
                .workflow(steps)
                .activity(counter.clone()),
        )
        .await;
    let client = worker.client();
    let handle = client
        .start(parent, "a", ())
        .tag("tenant", "42")
        .await
        .unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    assert_eq!(counter.calls.load(Ordering::SeqCst), 2);
    assert_eq!(found(&client, &by([("tenant", "42")])).await, ["a"]);
    let children = client.list(&by([("tenant", "7")])).await.unwrap().items;
    assert_eq!(children.len(), 1);
    assert_eq!(children[0].parent, Some(handle.run_id()));
    worker.shutdown().await;
}

async fn too_many(ctx: Context, (): ()) -> Result<(), Failure> {
    for n in 0..Tags::MAX {
        ctx.set_tag(&n.to_string(), "")?;
    }
    ctx.set_tag("0", "again")?;
    ctx.set_tag("one more", "")?;
    Ok(())
}

async fn what_is_no_tag_is_refused(storage: Storage) {
    let worker = storage
        .start(quick().workflow(too_many).workflow(collects))
        .await;
    let client = worker.client();
    let refused = client.start(collects, "a", 1).tag("", "").await;
    assert!(matches!(
        refused,
        Err(Error::InvalidTag(InvalidTag::EmptyName))
    ));
    let long = "x".repeat(Tags::MAX_VALUE_BYTES + 1);
    let refused = client
        .start(collects, "a", 1)
        .tag("a", &long)
        .tag("b", "")
        .await;
    assert!(matches!(
        refused,
        Err(Error::InvalidTag(InvalidTag::ValueTooLong { bytes: 257 }))
    ));
    assert!(matches!(client.describe("a").await, Err(Error::NotFound)));
    let handle = client.start(too_many, "b", ()).await.unwrap();
    let failure = handle.result().await.unwrap_err().to_string();
    assert!(failure.contains("more than 32 tags"), "{failure}");
    let info = client.describe("b").await.unwrap();
    assert_eq!(
        (info.status, info.tags.len()),
        (RunStatus::Failed, Tags::MAX)
    );
    worker.shutdown().await;
}
