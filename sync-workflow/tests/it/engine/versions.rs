//! Code that changes while runs are open.

use std::time::Duration;

use sync_workflow::{
    Context, Failure, RunError, Worker, WorkerBuilder,
    id::Position,
    record::RecordKind,
    replay::Fault,
    status::RunStatus,
    testing::{Difference, ReplayCheck},
    worker::{Outcome, ReplayReport},
};

use super::{
    Storage,
    code::{double, doubled},
    eventually, on_every_journal, quick,
};

on_every_journal!(
    a_run_that_passed_before_a_change_goes_by_the_old_code,
    a_run_that_tries_an_activity_again_passed_before,
    a_run_that_comes_to_a_change_keeps_what_it_chose,
    a_version_that_the_code_does_not_have_parks_the_run,
    a_check_before_a_deployment_tells_what_would_be_parked,
);

async fn triple(n: u64) -> Result<u64, Failure> {
    Ok(n * 3)
}

/// Before the change.
async fn old(ctx: Context, n: u64) -> Result<u64, Failure> {
    let n = ctx.activity(double, n).await?;
    ctx.wait::<()>("go on").await?;
    Ok(ctx.activity(double, n).await?)
}

/// The change, and a change before it.
async fn new(ctx: Context, n: u64) -> Result<u64, Failure> {
    let n = match ctx.version("triple", 0..=1) {
        0 => ctx.activity(double, n).await?,
        _ => ctx.activity(triple, n).await?,
    };
    ctx.wait::<()>("go on").await?;
    if ctx.version("last", 0..=2) == 0 {
        return Ok(0);
    }
    // Asked for again, at another place.
    match ctx.version("triple", 0..=1) {
        0 => Ok(ctx.activity(double, n).await?),
        _ => Ok(ctx.activity(triple, n).await?),
    }
}

/// After the change has settled: nobody asks for it any more, and the old code is gone.
async fn settled(ctx: Context, n: u64) -> Result<u64, Failure> {
    let n = ctx.activity(triple, n).await?;
    ctx.wait::<()>("go on").await?;
    Ok(ctx.activity(triple, n).await?)
}

/// Supports the change from its first version on, and so not the code before it.
async fn later(ctx: Context, n: u64) -> Result<u64, Failure> {
    let _supported = ctx.version("triple", 1..=4);
    settled(ctx, n).await
}

async fn stricter(ctx: Context, n: u64) -> Result<u64, Failure> {
    let _supported = ctx.version("triple", 2..=4);
    settled(ctx, n).await
}

fn worker() -> WorkerBuilder {
    quick().activity(double).activity(triple)
}

/// Lets a run with one code come to its signal, and returns when no worker is left.
async fn begins(storage: &Storage, builder: WorkerBuilder) {
    let worker = storage.start(builder).await;
    let client = worker.client();
    client.start(new, "changing", 1).await.unwrap();
    let come_to_signal = async || {
        let info = client.describe("changing").await.unwrap();
        let history = client.history(info.run, 0, 100).await.unwrap();
        let is_done = |kind| history.items.iter().any(|item| item.kind() == kind);
        is_done(RecordKind::ActivityCompleted)
    };
    eventually("the first step", come_to_signal).await;
    worker.shutdown().await;
}

async fn ends(worker: &Worker) -> Result<u64, RunError<Failure>> {
    let client = worker.client();
    client.signal("changing", "go on", &()).await.unwrap();
    let handle = client.handle(new, "changing").await.unwrap();
    handle.result().await
}

async fn a_run_that_passed_before_a_change_goes_by_the_old_code(storage: Storage) {
    begins(&storage, worker().workflow_named("new", old)).await;
    let worker = storage.start(worker().workflow(new)).await;
    assert_eq!(ends(&worker).await.unwrap(), 4);
    let info = worker.client().describe("changing").await.unwrap();
    let history = worker.client().history(info.run, 0, 100).await.unwrap();
    let chosen =
        |item: &&sync_workflow::journal::HistoryRecord| item.kind() == RecordKind::VersionChosen;
    let chosen: Vec<_> = history.items.iter().filter(chosen).collect();
    assert_eq!(
        chosen.len(),
        1,
        "the change that the run came to: {chosen:?}"
    );
    assert_eq!(&*chosen[0].record.name, "last");
    assert_eq!(&chosen[0].record.payload[..], b"2");
    let records = history.items.into_iter().map(|item| item.record).collect();
    let check = ReplayCheck::new(new, info.run, info.workflow_id, records);
    check.whole().unwrap();
    worker.shutdown().await;
}

/// The change without the way before it.
async fn new_only(ctx: Context, n: u64) -> Result<u64, Failure> {
    assert_eq!(ctx.version("triple", 0..=1), 1, "the old way is gone");
    settled(ctx, n).await
}

/// Fails, until other code is registered in its place.
async fn stumbling(_: u64) -> Result<u64, Failure> {
    Err(Failure::new("not yet"))
}

async fn a_run_that_tries_an_activity_again_passed_before(storage: Storage) {
    let before = storage
        .start(
            quick()
                .workflow_named("new", old)
                .activity_named("double", stumbling),
        )
        .await;
    let client = before.client();
    let handle = client.start(new, "changing", 1).await.unwrap();
    let has_failed = async || {
        let history = storage.journal.load(handle.run_id(), Position(0), 1).await;
        !history.unwrap().attempts.is_empty()
    };
    eventually("the first attempt", has_failed).await;
    before.shutdown().await;

    // The checks know it as well: this run needs the old way.
    let without = quick().activity(triple).workflow(new);
    let report = without.replay_check(&*storage.journal).await.unwrap();
    let lacks = |outcome: &Outcome| matches!(outcome, Outcome::Parked(Fault::Unregistered { name, .. }) if &**name == "double");
    let lacks_double =
        |report: &ReplayReport| report.differences.iter().any(|run| lacks(&run.outcome));
    assert!(lacks_double(&report), "{report}");
    let (run, id) = (handle.run_id(), handle.workflow_id());
    let history = storage.journal.load(run, Position(0), 10).await.unwrap();
    let check = || ReplayCheck::new(new_only, run, id.clone(), history.records.clone());
    check().whole().unwrap();
    let differs = check().attempts(&history.attempts).whole();
    assert!(
        matches!(
            &differs,
            Err(Difference::Fault {
                cut: 1,
                fault: Fault::Panicked { .. }
            })
        ),
        "{differs:?}"
    );

    let worker = storage.start(worker().workflow(new)).await;
    assert_eq!(ends(&worker).await.unwrap(), 4);
    worker.shutdown().await;
}

async fn a_run_that_comes_to_a_change_keeps_what_it_chose(storage: Storage) {
    begins(&storage, worker().workflow(new)).await;
    // Neither code that asks for it elsewhere nor code that asks no more is surprised.
    let again = storage.start(worker().workflow_named("new", later)).await;
    again.shutdown().await;
    let worker = storage.start(worker().workflow_named("new", settled)).await;
    assert_eq!(ends(&worker).await.unwrap(), 9);
    let info = worker.client().describe("changing").await.unwrap();
    let history = worker.client().history(info.run, 0, 100).await.unwrap();
    let records: Vec<_> = history.items.into_iter().map(|item| item.record).collect();
    let check = |code| ReplayCheck::new(code, info.run, info.workflow_id.clone(), records.clone());
    check(settled).whole().unwrap();
    worker.shutdown().await;
}

async fn a_version_that_the_code_does_not_have_parks_the_run(storage: Storage) {
    begins(&storage, worker().workflow(new)).await;
    let gate = worker().workflow_named("new", stricter);
    let report = gate.replay_check(&*storage.journal).await.unwrap();
    assert!(!report.holds());
    let words = report.to_string();
    let expected = "version 1 of the change \"triple\", and this code has 2 to 4";
    assert!(words.contains(expected), "{words}");
    let strict = storage.start(gate).await;
    let client = strict.client();
    client.signal("changing", "go on", &()).await.unwrap();
    eventually("parked", async || {
        client.describe("changing").await.unwrap().status == RunStatus::Parked
    })
    .await;
    strict.shutdown().await;
    let able = storage.start(worker().workflow_named("new", later)).await;
    able.client().unpark("changing").await.unwrap();
    let handle = able.client().handle(later, "changing").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 9);
    able.shutdown().await;
}

/// Reads what it wrote before as something else.
async fn reads_texts(ctx: Context, n: u64) -> Result<u64, Failure> {
    async fn double(_: u64) -> Result<String, Failure> {
        Ok(String::new())
    }
    let text = ctx.activity(double, n).await?;
    ctx.wait::<()>("go on").await?;
    Ok(text.len() as u64)
}

async fn gives_up(ctx: Context, n: u64) -> Result<u64, Failure> {
    let doubled = ctx.activity(double, n).await?;
    Err(Failure::new(format!(
        "{doubled} is no number to go on with"
    )))
}

async fn a_check_before_a_deployment_tells_what_would_be_parked(storage: Storage) {
    begins(&storage, worker().workflow_named("new", old)).await;
    let unknown = storage
        .start(quick().workflow(doubled).activity(double))
        .await;
    let later_on = jiff::Timestamp::now() + Duration::from_secs(3600);
    let client = unknown.client();
    let start = client.start(doubled, "elsewhere", 1);
    start.not_before(later_on).await.unwrap();
    unknown.shutdown().await;
    let check =
        async |builder: WorkerBuilder| builder.replay_check(&*storage.journal).await.unwrap();

    let same = check(worker().workflow_named("new", old)).await;
    assert!(same.holds(), "{same}");
    assert_eq!((same.replayed, same.unregistered["doubled"]), (1, 1));
    assert!(check(worker().workflow(new)).await.holds());

    let different = check(worker().workflow_named("new", settled)).await;
    assert!(!different.holds());
    assert_eq!(different.different, 1);
    let difference = &different.differences[0];
    assert_eq!(difference.workflow_id.as_str(), "changing");
    let Outcome::Parked(Fault::Nondeterministic(mismatch)) = &difference.outcome else {
        panic!("{different}");
    };
    assert_eq!(mismatch.position.0, 1);
    assert_eq!(&*mismatch.recorded.name, "double");
    assert_eq!(&*mismatch.asked.as_ref().unwrap().name, "triple");

    let unread = check(worker().workflow_named("new", reads_texts)).await;
    let outcome = &unread.differences[0].outcome;
    let Outcome::Parked(Fault::UndecodableValue { command, .. }) = outcome else {
        panic!("{unread}");
    };
    assert_eq!(command.0, 0);
    let failing = check(worker().workflow_named("new", gives_up)).await;
    let outcome = &failing.differences[0].outcome;
    assert!(matches!(outcome, Outcome::Failed(_)), "{failing}");
    let forgotten = check(quick().workflow_named("new", new)).await;
    assert!(forgotten.holds(), "it waits for a signal: {forgotten}");

    // Nothing was written, and nothing runs.
    let journal = &storage.journal;
    let list = journal
        .list(&sync_workflow::journal::RunFilter::default())
        .await
        .unwrap();
    let changing = list
        .items
        .iter()
        .find(|info| info.workflow_id.as_str() == "changing");
    assert_eq!(changing.unwrap().status, RunStatus::Pending);
}
