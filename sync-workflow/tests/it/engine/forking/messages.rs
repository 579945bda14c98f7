//! What came for a run, and what it showed, on both sides of the place.

use sync_workflow::{
    Context, Failure, client::ForkPoint, id::Position, journal::RunFilter, record::RecordKind,
    status::RunStatus, tag::Tags, testing::ReplayCheck,
};

use super::{
    Storage, code::collects, echo, eventually, history, on_every_journal, position_of, quick,
};

on_every_journal![
    signals_that_came_after_the_place_are_received_again,
    a_request_to_cancel_is_taken_back,
    what_code_showed_before_the_place_is_shown,
];

async fn signals_that_came_after_the_place_are_received_again(storage: Storage) {
    let worker = storage.start(quick().workflow(collects)).await;
    let client = worker.client();
    let handle = client.start(collects, "a", 4).await.unwrap();
    for n in 1..=3_u32 {
        let id = n.to_string();
        client.signal_once("a", "number", &id, &n).await.unwrap();
    }
    let received = async || history(&client, handle.run_id()).await.len() == 4;
    eventually("three are received", received).await;
    let copy = client.fork(handle.run_id(), ForkPoint::End, "copy");
    copy.await.unwrap();
    client.reset("a", Position(2)).await.unwrap();
    // One is sent again, and counts no more often.
    client
        .signal_once("a", "number", "1", &1_u32)
        .await
        .unwrap();
    client
        .signal_once("a", "number", "3", &3_u32)
        .await
        .unwrap();
    client
        .signal_once("a", "number", "4", &4_u32)
        .await
        .unwrap();
    assert_eq!(handle.result().await.unwrap(), [1, 2, 3, 4]);
    // That it was taken back is none of the code's doing.
    let taken_back = client.export(handle.run_id()).await.unwrap();
    assert_eq!(taken_back.status, RunStatus::ContinuedAsNew);
    let check = ReplayCheck::of_history(collects, &taken_back).unwrap();
    check.every_prefix().unwrap();
    client.reset("a", Position(3)).await.unwrap();
    let again = client.handle(collects, "a").await.unwrap();
    assert_eq!(again.result().await.unwrap(), [1, 2, 3, 4]);
    client
        .signal_once("copy", "number", "1", &7_u32)
        .await
        .unwrap();
    client
        .signal_once("copy", "number", "5", &5_u32)
        .await
        .unwrap();
    let copy = client.handle(collects, "copy").await.unwrap();
    assert_eq!(copy.result().await.unwrap(), [1, 2, 3, 5]);
    worker.shutdown().await;
}

async fn a_request_to_cancel_is_taken_back(storage: Storage) {
    let worker = storage.start(quick().workflow(collects)).await;
    let client = worker.client();
    let handle = client.start(collects, "a", 1).await.unwrap();
    client.cancel("a").await.unwrap();
    assert!(handle.result().await.is_err());
    let place = position_of(&client, handle.run_id(), RecordKind::CancelRequested).await;
    client.reset("a", place).await.unwrap();
    client.signal("a", "number", &8_u32).await.unwrap();
    let again = client.handle(collects, "a").await.unwrap();
    assert_eq!(again.result().await.unwrap(), [8]);
    // And where it is kept, the code sees it.
    client
        .fork(handle.run_id(), Position(place.0 + 1), "kept")
        .await
        .unwrap();
    let kept = client.handle(collects, "kept").await.unwrap();
    assert!(kept.result().await.is_err());
    assert_eq!(kept.describe().await.unwrap().status, RunStatus::Cancelled);
    worker.shutdown().await;
}

/// Shows how far it is, in two ways.
async fn shows(ctx: Context, count: u64) -> Result<(), Failure> {
    for n in 1..=count {
        ctx.publish("progress", &n)?;
        ctx.set_tag("stage", &n.to_string())?;
        ctx.wait::<()>("go").await?;
        ctx.activity(echo, n).await?;
    }
    Ok(())
}

async fn what_code_showed_before_the_place_is_shown(storage: Storage) {
    let worker = storage.start(quick().workflow(shows).activity(echo)).await;
    let client = worker.client();
    let start = client.start(shows, "a", 4);
    let handle = start.tag("tenant", "42").await.unwrap();
    for id in ["one", "two", "three"] {
        client.signal_once("a", "go", id, &()).await.unwrap();
    }
    let shown = async |id: &str| client.published::<u64>(id, "progress").await.unwrap();
    let is_shown = async || shown("a").await == Some(4);
    eventually("it has come to its last step", is_shown).await;

    // All that it has done is kept: what is shown was shown before.
    let fork = client.fork(handle.run_id(), ForkPoint::End, "b").await;
    assert_eq!(history(&client, fork.unwrap()).await.len(), 8);
    let copied = async || shown("b").await == Some(4);
    eventually("the code has shown it", copied).await;
    let tags = Tags::new().with("tenant", "42").unwrap();
    let tags = tags.with("stage", "4").unwrap();
    let filter = RunFilter {
        tags,
        workflow_id_prefix: Some("b".into()),
        ..RunFilter::default()
    };
    let tagged = async || client.list(&filter).await.unwrap().items.len() == 1;
    eventually("and tagged", tagged).await;
    worker.shutdown().await;
}
