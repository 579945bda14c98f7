//! What an operator does to many runs, and with histories.

use std::time::Duration;

use sync_workflow::{
    Client, Context, Failure,
    client::{BulkAction, ImportError, RunHistory},
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
    an_imported_history_is_exported_again_as_it_was,
    an_imported_run_that_is_open_goes_on_when_it_is_resumed,
    what_is_no_history_is_not_imported,
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

/// A history as a file keeps it.
fn written(history: &RunHistory) -> String {
    serde_json::to_string(history).unwrap()
}

async fn an_imported_history_is_exported_again_as_it_was(storage: Storage) {
    let elsewhere = Storage::memory();
    let builder = || quick().workflow(records).workflow(doubled).activity(double);
    let worker = elsewhere.start(builder()).await;
    let source = worker.client();
    let start = source.start(records, "a", u64::MAX / 4);
    let handle = start.tag("tenant", "42").await.unwrap();
    let result = handle.result().await.unwrap();
    let exported = worker.client().export(handle.run_id()).await.unwrap();
    worker.shutdown().await;

    let client = Client::new(std::sync::Arc::clone(&storage.journal));
    let read: RunHistory = serde_json::from_str(&written(&exported)).unwrap();
    assert_eq!(client.import(&read).await.unwrap(), handle.run_id());
    let again = client.export(handle.run_id()).await.unwrap();
    assert_eq!(written(&again), written(&exported));
    let imported = client.handle(records, "a").await.unwrap();
    assert_eq!(imported.result().await.unwrap(), result);
    let info = client.describe("a").await.unwrap();
    assert_eq!(info.created_at, exported.records[0].recorded_at);
    assert_eq!(
        info.closed_at,
        exported.records.last().map(|last| last.recorded_at)
    );
    assert!(matches!(
        client.import(&read).await,
        Err(ImportError::Existing { run, status: RunStatus::Completed }) if run == read.run
    ));
}

async fn an_imported_run_that_is_open_goes_on_when_it_is_resumed(storage: Storage) {
    let elsewhere = Storage::memory();
    let worker = elsewhere.start(quick().workflow(collects)).await;
    let handle = worker.client().start(collects, "a", 2).await.unwrap();
    handle.signal("number", &1).await.unwrap();
    let has_received = async || {
        let history = worker.client().history(handle.run_id(), 0, 10).await;
        history.unwrap().items.len() == 2
    };
    eventually("one is received", has_received).await;
    let exported = worker.client().export(handle.run_id()).await.unwrap();
    worker.shutdown().await;

    let worker = storage.start(quick().workflow(collects)).await;
    let client = worker.client();
    client.import(&exported).await.unwrap();
    let info = client.describe("a").await.unwrap();
    assert_eq!(
        (info.status, info.pause_requested),
        (RunStatus::Paused, true)
    );
    client.signal("a", "number", &2).await.unwrap();
    client.resume("a").await.unwrap();
    let handle = client.handle(collects, "a").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), [1, 2]);
    worker.shutdown().await;
}

async fn what_is_no_history_is_not_imported(storage: Storage) {
    let worker = storage
        .start(quick().workflow(doubled).activity(double))
        .await;
    let client = worker.client();
    let handle = client.start(doubled, "a", 1).await.unwrap();
    handle.result().await.unwrap();
    let good = client.export(handle.run_id()).await.unwrap();
    let other = RunHistory {
        workflow_id: sync_workflow::id::WorkflowId::new("b").unwrap(),
        run: sync_workflow::id::RunId::from_uuid(uuid::Uuid::now_v7()),
        ..good.clone()
    };
    let refuse = async |history: RunHistory, expected: &str| {
        let refused = client.import(&history).await.unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
        assert!(client.describe("b").await.is_err());
    };
    let mut records = other.clone();
    records.records.clear();
    refuse(records, "no records").await;
    let mut late = other.clone();
    late.records.remove(0);
    refuse(late, "does not begin").await;
    let mut open = other.clone();
    open.records.pop();
    refuse(open, "completed").await;
    let mut twice = other.clone();
    twice.records.insert(1, twice.records[2].clone());
    refuse(twice, "goes on after record 1").await;
    let failed = RunHistory {
        status: RunStatus::Failed,
        ..other.clone()
    };
    refuse(failed, "failed").await;
    let same_id = RunHistory {
        workflow_id: good.workflow_id.clone(),
        ..other.clone()
    };
    refuse(same_id, "in the way").await;
    client.import(&other).await.unwrap();
    worker.shutdown().await;
}
