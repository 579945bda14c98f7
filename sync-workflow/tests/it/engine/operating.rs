//! What an operator does to many runs, and with histories.

use std::time::Duration;

use sync_workflow::{
    Client, Context, Failure,
    client::{BulkAction, RunHistory},
    journal::RunFilter,
    status::RunStatus,
    testing::ReplayCheck,
};

use super::{
    Storage,
    code::{collects, double, doubled},
    eventually, on_every_journal, quick,
};

on_every_journal![
    many_runs_are_cancelled_and_terminated_by_a_filter,
    parked_runs_go_on_together,
    an_exported_history_is_replayed,
];

async fn many_runs_are_cancelled_and_terminated_by_a_filter(storage: Storage) {
    let worker = storage.start(quick().workflow(collects)).await;
    let client = worker.client();
    for n in 0..7 {
        let id = format!("group-{}-{n}", n % 2);
        client.start(collects, &id, 1).await.unwrap();
    }
    client.signal("group-0-0", "number", &1).await.unwrap();
    eventually("one has ended", async || {
        client
            .describe("group-0-0")
            .await
            .unwrap()
            .status
            .is_closed()
    })
    .await;
    let group = |number: u32| RunFilter {
        workflow_id_prefix: Some(format!("group-{number}-")),
        limit: 2,
        ..RunFilter::default()
    };
    let dry = client
        .bulk_dry_run(&group(0), &BulkAction::Cancel)
        .await
        .unwrap();
    assert_eq!((dry.found, dry.changed, dry.shown.len()), (3, 0, 3));
    let asked = client.bulk(&group(0), &BulkAction::Cancel).await.unwrap();
    assert_eq!((asked.found, asked.changed), (3, 3));
    let reason = "no longer needed".to_owned();
    let terminate = BulkAction::Terminate { reason };
    let ended = client.bulk(&group(1), &terminate).await.unwrap();
    assert_eq!((ended.found, ended.changed), (3, 3));
    for (id, status) in [
        ("group-0-2", RunStatus::Cancelled),
        ("group-1-1", RunStatus::Terminated),
    ] {
        let is_ended = async || client.describe(id).await.unwrap().status == status;
        eventually("it ends", is_ended).await;
    }
    let again = client.bulk(&group(1), &terminate).await.unwrap();
    assert_eq!((again.found, again.changed), (0, 0));
    let parked_only = RunFilter {
        statuses: vec![RunStatus::Completed],
        ..group(0)
    };
    let nothing = client
        .bulk(&parked_only, &BulkAction::Unpark)
        .await
        .unwrap();
    assert_eq!(nothing.found, 0);
    worker.shutdown().await;
}

async fn broken(_: Context, _: u64) -> Result<u64, Failure> {
    panic!("not yet")
}

async fn parked_runs_go_on_together(storage: Storage) {
    let worker = storage
        .start(quick().workflow_named("doubled", broken))
        .await;
    let client = Client::new(std::sync::Arc::clone(&storage.journal));
    for n in 0..3 {
        client.start(doubled, &format!("n-{n}"), n).await.unwrap();
    }
    let parked = RunFilter {
        statuses: vec![RunStatus::Parked],
        ..RunFilter::default()
    };
    let all_parked = async || client.list(&parked).await.unwrap().items.len() == 3;
    eventually("all are parked", all_parked).await;
    worker.shutdown().await;
    let worker = storage
        .start(quick().workflow(doubled).activity(double))
        .await;
    let done = client
        .bulk(&RunFilter::default(), &BulkAction::Unpark)
        .await
        .unwrap();
    assert_eq!((done.found, done.changed), (3, 3));
    for n in 0..3 {
        let handle = client.handle(doubled, &format!("n-{n}")).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), 2 * n);
    }
    worker.shutdown().await;
}

/// Leaves records with all kinds of payloads.
async fn records(ctx: Context, n: u64) -> Result<String, Failure> {
    let drawn = ctx.side_effect("drawn", || "\u{0}é".to_owned());
    let n = ctx.activity(double, n).await?;
    ctx.sleep(Duration::from_millis(1)).await?;
    let _recorded = ctx.now();
    let chosen = ctx.version("a change", 0..=3);
    let child = ctx.child(doubled, n).await?;
    Ok(format!("{drawn} {child} {chosen}"))
}

async fn other_records(ctx: Context, n: u64) -> Result<String, Failure> {
    let n = ctx.activity(double, n).await?;
    Ok(n.to_string())
}

async fn an_exported_history_is_replayed(storage: Storage) {
    let builder = quick().workflow(records).workflow(doubled);
    let worker = storage.start(builder.activity(double)).await;
    let client = worker.client();
    let handle = client.start(records, "a", u64::MAX / 4).await.unwrap();
    handle.result().await.unwrap();
    let exported = client.export(handle.run_id()).await.unwrap();
    let written = serde_json::to_string_pretty(&exported).unwrap();
    assert!(
        written.contains("\"kind\": \"version_chosen\""),
        "{written}"
    );
    let read: RunHistory = serde_json::from_str(&written).unwrap();
    assert_eq!(
        (read.status, read.workflow.as_str()),
        (RunStatus::Completed, "records")
    );
    let history = client.history(handle.run_id(), 0, 1_000).await.unwrap();
    let stored: Vec<_> = history.items.into_iter().map(|item| item.record).collect();
    assert_eq!(read.to_records().unwrap(), stored);
    let check = ReplayCheck::of_history(records, &read).unwrap();
    check.whole().unwrap();
    check.every_prefix().unwrap();
    assert!(
        ReplayCheck::of_history(other_records, &read)
            .unwrap()
            .whole()
            .is_err()
    );
    worker.shutdown().await;
}
