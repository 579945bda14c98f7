//! Every kind of record: whatever is added comes with a golden history and a crash sweep, or these tests fail.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::future::poll_immediate;
use sync_workflow::{
    Client, Context, Failure, RetryPolicy, Tx, Worker, WorkerBuilder,
    client::{ForkPoint, RunHistory},
    id::WorkflowId,
    journal::RunFilter,
    record::RecordKind,
    testing::{ReplayCheck, TestEnvironment, crash_sweep},
};

async fn double(n: u64) -> Result<u64, Failure> {
    Ok(n * 2)
}

async fn fails(_: u64) -> Result<u64, Failure> {
    Err(Failure::final_error("no"))
}

async fn child(ctx: Context, n: u64) -> Result<u64, Failure> {
    Ok(ctx.activity(double, n).await?)
}

async fn failing_child(_ctx: Context, _: u64) -> Result<u64, Failure> {
    Err(Failure::new("no"))
}

/// Waits for what never comes.
async fn waits(ctx: Context, (): ()) -> Result<(), Failure> {
    Ok(ctx.wait("never").await?)
}

/// Does everything that leaves a record, and goes on as a child does.
async fn everything(ctx: Context, n: u64) -> Result<u64, Failure> {
    let drawn = ctx.side_effect("draw", || 7_u64);
    let version = u64::from(ctx.version("a change", 0..=1));
    let doubled = ctx.activity(double, n).await?;
    // A crash may interrupt it.
    let _once = ctx.activity(double, n).at_most_once().await;
    let refused = ctx.activity(fails, n).retry(RetryPolicy::none()).await;
    ctx.sleep(Duration::from_millis(1)).await?;
    ctx.signal(&ctx.workflow_id(), "own", &doubled).await?;
    let unsent = ctx.signal(&WorkflowId::new("nobody")?, "own", &0).await;
    let own: u64 = ctx.wait("own").await?;
    let done = step(&ctx, false).await?;
    let undone = step(&ctx, true).await;
    let lost = ctx.child(failing_child, own).await;
    let sum = ctx.child(child, own).await? + drawn + version + done;
    let refusals = [
        refused.is_err(),
        unsent.is_err(),
        undone.is_err(),
        lost.is_err(),
    ];
    match refusals.contains(&false) {
        true => Err(Failure::final_error("something failed to fail")),
        false => ctx.continue_as_new(child, sum).await,
    }
}

async fn step(ctx: &Context, fails: bool) -> Result<u64, Failure> {
    let step = ctx.transaction::<u64, Failure, _, _>("step", move |tx: Tx| async move {
        drop(tx);
        match fails {
            true => Err(Failure::final_error("no")),
            false => Ok(1),
        }
    });
    Ok(step.await?)
}

fn worker() -> WorkerBuilder {
    Worker::builder()
        .workflow(everything)
        .workflow(child)
        .workflow(failing_child)
        .workflow(waits)
        .activity(double)
        .activity(fails)
}

/// Has runs leave a record of every kind, and returns their histories.
async fn leaves_every_kind(client: &Client) -> Vec<RunHistory> {
    let all = client.start(everything, "everything", 1).await.unwrap();
    let cancelled = client.start(waits, "cancelled", ()).await.unwrap();
    let ended = client.start(waits, "ended", ()).await.unwrap();
    cancelled.cancel().await.unwrap();
    ended.terminate("not needed any more").await.unwrap();
    assert_eq!(all.result().await.unwrap(), 26);
    assert!(cancelled.result().await.is_err());
    assert!(ended.result().await.is_err());
    let copied = client.fork(ended.run_id(), ForkPoint::End, "forked").await;
    copied.unwrap();
    client.terminate("forked", "copied").await.unwrap();
    let runs = client.list(&RunFilter::default()).await.unwrap().items;
    let mut histories = Vec::new();
    for run in runs.iter().rev() {
        histories.push(client.export(run.run).await.unwrap());
    }
    histories
}

fn kinds(histories: &[RunHistory]) -> BTreeSet<i16> {
    let records = histories.iter().flat_map(|history| &history.records);
    records.map(|record| record.kind.code()).collect()
}

/// What a scenario has to leave and a golden history to hold, those of a kind that is new too.
fn every_kind() -> BTreeSet<i16> {
    RecordKind::ALL.map(RecordKind::code).into()
}

#[test]
fn every_kind_survives_a_crash_at_every_commit() {
    let sweep = crash_sweep(
        |_: &Arc<()>| worker(),
        async |client: &Client| {
            let mut left = kinds(&leaves_every_kind(client).await);
            // A crash in the middle of what runs at most once is a failure in the place of its value.
            left.insert(RecordKind::ActivityCompleted.code());
            left
        },
        |()| {},
    );
    assert!(sweep.commits >= 12, "{sweep:?}");
    let left = TestEnvironment::run(worker(), async |env| leaves_every_kind(env.client()).await);
    assert_eq!(kinds(&left), every_kind());
}

/// Leaves a signal unread to the run in which it goes on, which reads it.
async fn reads_on(ctx: Context, is_second: bool) -> Result<u64, Failure> {
    let mut number = ctx.wait("number");
    if is_second {
        return Ok(number.await?);
    }
    assert!(poll_immediate(&mut number).await.is_none());
    ctx.wait::<()>("go").await?;
    ctx.continue_as_new(reads_on, true).await
}

async fn leaves_unread(client: &Client) -> RunHistory {
    let handle = client.start(reads_on, "reads-on", false).await.unwrap();
    handle.signal("number", &7).await.unwrap();
    handle.signal("go", &()).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 7);
    let last = client.describe("reads-on").await.unwrap();
    client.export(last.run).await.unwrap()
}

/// The golden histories: never changed, and joined by others when there is more to keep.
fn goldens() -> Vec<RunHistory> {
    let mut histories = Vec::new();
    for file in std::fs::read_dir(golden_directory()).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let kept: Vec<RunHistory> = serde_json::from_str(&text).unwrap();
        histories.extend(kept);
    }
    histories
}

fn golden_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/kinds")
}

#[test]
fn histories_of_every_kind_that_were_kept_are_still_replayed() {
    let goldens = goldens();
    assert_eq!(kinds(&goldens), every_kind());
    for golden in &goldens {
        let check = match &*golden.workflow {
            "everything" => ReplayCheck::of_history(everything, golden),
            "child" => ReplayCheck::of_history(child, golden),
            "failing_child" => ReplayCheck::of_history(failing_child, golden),
            "waits" => ReplayCheck::of_history(waits, golden),
            "reads_on" => ReplayCheck::of_history(reads_on, golden),
            other => panic!("nobody knows the workflow {other}"),
        };
        let replayed = check.unwrap().whole();
        replayed.unwrap_or_else(|difference| panic!("{}: {difference}", golden.workflow_id));
    }
}

/// What is written now reads as what was kept: names, numbers and fingerprints have not changed their form.
#[test]
fn the_same_records_are_written_as_when_they_were_kept() {
    let shape = |histories: &[RunHistory]| -> BTreeSet<String> {
        let told = histories.iter().map(|history| {
            let records = history.records.iter().map(|record| {
                let (kind, command) = (record.kind, record.command);
                format!(
                    "{kind:?} {command:?} {} {}",
                    record.name, record.fingerprint
                )
            });
            let records: Vec<_> = records.collect();
            format!("{}: {}", history.workflow, records.join(", "))
        });
        told.collect()
    };
    let mut left =
        TestEnvironment::run(worker(), async |env| leaves_every_kind(env.client()).await);
    keep("everything.json", &left);
    let read_on = Worker::builder().workflow(reads_on);
    let unread = TestEnvironment::run(read_on, async |env| leaves_unread(env.client()).await);
    assert!(unread.to_records().unwrap()[1].is_carried_over());
    keep("carried_over.json", std::slice::from_ref(&unread));
    left.push(unread);
    assert_eq!(shape(&left), shape(&goldens()));
}

/// Writes a golden file, if that is asked for. What was kept once is never written again.
fn keep(name: &str, histories: &[RunHistory]) {
    let file = golden_directory().join(name);
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "keep") && !file.exists() {
        let text = serde_json::to_string_pretty(histories).unwrap();
        std::fs::create_dir_all(golden_directory()).unwrap();
        std::fs::write(file, text + "\n").unwrap();
    }
}
