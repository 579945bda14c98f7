//! Workers of several builds side by side.

use std::time::Duration;

use sync_workflow::{
    Client, Context, Failure, Worker, WorkerBuilder,
    client::BulkAction,
    id::BuildId,
    journal::{BuildInfo, RunFilter, RunInfo},
    status::RunStatus,
    worker::{Outcome, ReplayCheckCommand, ReplayReport, ReplayScope, Verdict},
};

use super::{Storage, code::double, eventually, on_every_journal, quick};

on_every_journal![
    a_run_ends_with_the_code_that_began_it,
    runs_without_a_worker_of_their_build_are_seen_and_wait,
    children_and_continuations_go_to_the_current_build,
    what_replays_moves_and_the_rest_stays,
    a_run_that_does_not_fit_where_an_operator_moves_it_is_parked,
    a_check_before_a_deployment_leaves_other_builds_their_runs,
    a_worker_without_a_build_goes_on_as_ever,
];

mod old {
    use super::{Context, Failure, double};

    pub(super) async fn answer(ctx: Context, _: u64) -> Result<String, Failure> {
        ctx.publish("stage", "waits")?;
        ctx.wait::<()>("go on").await?;
        Ok("old".into())
    }

    pub(super) async fn calls(ctx: Context, n: u64) -> Result<String, Failure> {
        ctx.publish("stage", "waits")?;
        ctx.wait::<()>("go on").await?;
        if n > 0 {
            ctx.continue_as_new(calls, n - 1).await
        }
        Ok(ctx.child(child, n).await?)
    }

    pub(super) async fn child(_ctx: Context, _: u64) -> Result<String, Failure> {
        Ok("an old child".into())
    }

    pub(super) async fn steps(ctx: Context, n: u64) -> Result<u64, Failure> {
        let n = ctx.activity(double, n).await?;
        ctx.publish("stage", "waits")?;
        ctx.wait::<()>("go on").await?;
        Ok(n)
    }
}

mod new {
    use super::{Context, Failure};

    /// Does the same as before in its journal's eyes, until it answers.
    pub(super) async fn answer(ctx: Context, _: u64) -> Result<String, Failure> {
        ctx.publish("stage", "waits")?;
        ctx.wait::<()>("go on").await?;
        Ok("new".into())
    }

    pub(super) async fn calls(ctx: Context, n: u64) -> Result<String, Failure> {
        Ok(format!("new {n} and {}", ctx.child(child, n).await?))
    }

    pub(super) async fn child(_ctx: Context, _: u64) -> Result<String, Failure> {
        Ok("a new child".into())
    }

    /// Leaves a step out that old runs have made.
    pub(super) async fn steps(ctx: Context, n: u64) -> Result<u64, Failure> {
        ctx.wait::<()>("go on").await?;
        Ok(n)
    }
}

fn of_old() -> WorkerBuilder {
    quick()
        .workflow(old::answer)
        .workflow(old::calls)
        .workflow(old::child)
        .workflow(old::steps)
        .activity(double)
        .build_id("old")
}

fn of_new() -> WorkerBuilder {
    quick()
        .workflow(new::answer)
        .workflow(new::calls)
        .workflow(new::child)
        .workflow(new::steps)
        .activity(double)
        .build_id("new")
}

/// Waits until the code of a run waits for its signal.
async fn waits(client: &Client, id: &str) {
    let mut stages = client.watch::<String>(id, "stage").await.unwrap();
    assert_eq!(stages.next().await.unwrap().as_deref(), Some("waits"));
}

async fn at_rest(client: &Client, id: &str) {
    eventually("nobody holds the run", async || {
        client.describe(id).await.unwrap().status == RunStatus::Pending
    })
    .await;
}

async fn go_on(client: &Client, id: &str) {
    client.signal(id, "go on", &()).await.unwrap();
}

async fn build_of(client: &Client, id: &str) -> Option<String> {
    let info: RunInfo = client.describe(id).await.unwrap();
    info.build.map(String::from)
}

async fn listed(client: &Client) -> Vec<(String, bool, u64, u64)> {
    let builds = client.builds("default").list().await.unwrap();
    let told = |info: BuildInfo| {
        let build = info.build.to_string();
        (build, info.is_current, info.workers, info.open_runs)
    };
    builds.into_iter().map(told).collect()
}

async fn a_run_ends_with_the_code_that_began_it(storage: Storage) {
    let old = storage.start(of_old()).await;
    let client = old.client();
    let handle = client.start(old::answer, "early", 0).await.unwrap();
    waits(&client, "early").await;
    assert_eq!(build_of(&client, "early").await.as_deref(), Some("old"));
    let new = storage.start(of_new()).await;
    client.builds("default").set_current("new").await.unwrap();
    // The old worker's own client starts it, and the new worker takes it.
    let late = client.start(new::answer, "late", 0).await.unwrap();
    waits(&client, "late").await;
    assert_eq!(build_of(&client, "late").await.as_deref(), Some("new"));
    let expected = [("new".into(), true, 1, 1), ("old".into(), false, 1, 1)];
    assert_eq!(listed(&client).await, expected);
    go_on(&client, "early").await;
    go_on(&client, "late").await;
    assert_eq!(handle.result().await.unwrap(), "old");
    assert_eq!(late.result().await.unwrap(), "new");
    let builds = client.builds("default").list().await.unwrap();
    assert!(builds[1].is_drained() && !builds[0].is_drained());
    old.shutdown().await;
    assert_eq!(listed(&new.client()).await, [("new".into(), true, 1, 0)]);
    new.shutdown().await;
}

async fn runs_without_a_worker_of_their_build_are_seen_and_wait(storage: Storage) {
    let old = storage.start(of_old()).await;
    old.client().start(old::answer, "early", 0).await.unwrap();
    waits(&old.client(), "early").await;
    old.shutdown().await;
    let new = storage.start(of_new()).await;
    let client = new.client();
    go_on(&client, "early").await;
    let builds = client.builds("default").list().await.unwrap();
    let stranded: Vec<_> = builds.iter().filter(|info| info.is_stranded()).collect();
    assert_eq!(stranded.len(), 1);
    assert_eq!(stranded[0].build.as_str(), "old");
    // What became ready later is done, and the other waits.
    let late = client.start(new::answer, "late", 0).await.unwrap();
    go_on(&client, "late").await;
    assert_eq!(late.result().await.unwrap(), "new");
    let filter = RunFilter {
        build: Some(BuildId::new("old").unwrap()),
        statuses: vec![RunStatus::Pending],
        ..RunFilter::default()
    };
    let waiting = client.list(&filter).await.unwrap().items;
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].workflow_id.as_str(), "early");
    let old = storage.start(of_old()).await;
    let handle = client.handle(old::answer, "early").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), "old");
    old.shutdown().await;
    new.shutdown().await;
}

async fn children_and_continuations_go_to_the_current_build(storage: Storage) {
    let old = storage.start(of_old()).await;
    let client = old.client();
    let mother = client.start(old::calls, "mother", 0).await.unwrap();
    let chain = client.start(old::calls, "chain", 7).await.unwrap();
    waits(&client, "mother").await;
    waits(&client, "chain").await;
    let new = storage.start(of_new()).await;
    client.builds("default").set_current("new").await.unwrap();
    go_on(&client, "mother").await;
    go_on(&client, "chain").await;
    assert_eq!(mother.result().await.unwrap(), "a new child");
    assert_eq!(chain.result().await.unwrap(), "new 6 and a new child");
    assert_eq!(build_of(&client, "mother").await.as_deref(), Some("old"));
    assert_eq!(build_of(&client, "chain").await.as_deref(), Some("new"));
    old.shutdown().await;
    new.shutdown().await;
}

async fn move_to_new(storage: &Storage) -> ReplayReport {
    let journal = &*storage.journal;
    let scope = ReplayScope::default();
    of_new()
        .move_what_replays(journal, &scope, &mut |_| {})
        .await
        .unwrap()
}

/// Leaves a run that fits the new code and one that does not, with no worker.
async fn begin_both(storage: &Storage) {
    let worker = storage.start(of_old()).await;
    let client = worker.client();
    client.start(old::answer, "fits", 0).await.unwrap();
    client.start(old::steps, "differs", 1).await.unwrap();
    waits(&client, "fits").await;
    waits(&client, "differs").await;
    worker.shutdown().await;
}

async fn what_replays_moves_and_the_rest_stays(storage: Storage) {
    let worker = storage
        .start(of_old().evict_after(Duration::from_secs(3_600)))
        .await;
    let client = worker.client();
    client.start(old::answer, "fits", 0).await.unwrap();
    client.start(old::steps, "differs", 1).await.unwrap();
    waits(&client, "fits").await;
    waits(&client, "differs").await;
    // A run in the memory of a worker stays there.
    let held = move_to_new(&storage).await;
    assert_eq!((held.moved, held.held, held.of_others.different), (0, 1, 1));
    worker.shutdown().await;
    let report = move_to_new(&storage).await;
    assert_eq!((report.moved, report.held), (1, 0), "{report}");
    assert_eq!((report.replayed, report.different), (2, 1), "{report}");
    assert_eq!(report.differences[0].workflow_id.as_str(), "differs");
    let build = report.differences[0].build.as_ref().unwrap();
    assert_eq!(build.as_str(), "old");
    let again = move_to_new(&storage).await;
    assert_eq!((again.moved, again.of_others.replayed), (0, 1), "{again}");

    let new = storage.start(of_new()).await;
    let client = new.client();
    go_on(&client, "differs").await;
    go_on(&client, "fits").await;
    let fits = client.handle(new::answer, "fits").await.unwrap();
    assert_eq!(fits.result().await.unwrap(), "new");
    let differs = client.describe("differs").await.unwrap();
    assert_eq!(differs.status, RunStatus::Pending, "it stayed");
    let old = storage.start(of_old()).await;
    let differs = client.handle(old::steps, "differs").await.unwrap();
    assert_eq!(differs.result().await.unwrap(), 2);
    old.shutdown().await;
    new.shutdown().await;
}

async fn a_run_that_does_not_fit_where_an_operator_moves_it_is_parked(storage: Storage) {
    begin_both(&storage).await;
    let new = storage.start(of_new()).await;
    let client = new.client();
    let of_build = |build| RunFilter {
        build: Some(BuildId::new(build).unwrap()),
        ..RunFilter::default()
    };
    let to = |build| BulkAction::MoveToBuild {
        build: BuildId::new(build).unwrap(),
    };
    let moved = client.bulk(&of_build("old"), &to("new")).await.unwrap();
    assert_eq!((moved.found, moved.changed), (2, 2));
    go_on(&client, "fits").await;
    go_on(&client, "differs").await;
    let fits = client.handle(new::answer, "fits").await.unwrap();
    assert_eq!(fits.result().await.unwrap(), "new");
    eventually("parked", async || {
        client.describe("differs").await.unwrap().status == RunStatus::Parked
    })
    .await;
    // Nothing is lost: where it came from it goes on.
    client.bulk(&of_build("new"), &to("old")).await.unwrap();
    client.unpark("differs").await.unwrap();
    let old = storage.start(of_old()).await;
    let differs = client.handle(old::steps, "differs").await.unwrap();
    assert_eq!(differs.result().await.unwrap(), 2);
    old.shutdown().await;
    new.shutdown().await;
}

async fn a_check_before_a_deployment_leaves_other_builds_their_runs(storage: Storage) {
    begin_both(&storage).await;
    let journal = &*storage.journal;
    let report = of_new().replay_check(journal).await.unwrap();
    assert!(report.holds(), "the old build keeps what differs: {report}");
    assert_eq!((report.different, report.of_others.different), (1, 1));
    assert!(matches!(report.differences[0].outcome, Outcome::Parked(_)));
    assert!(
        report.to_string().contains("2 are of other builds"),
        "{report}"
    );
    // The same code that is to replace the old build would park it.
    let in_place = of_new()
        .build_id("old")
        .replay_check(journal)
        .await
        .unwrap();
    assert!(!in_place.holds(), "{in_place}");
    let elsewhere = ReplayScope {
        build: Some(BuildId::new("none of these").unwrap()),
        ..ReplayScope::default()
    };
    let none = of_new()
        .replay_check_within(journal, &elsewhere, &mut |_| {})
        .await
        .unwrap();
    assert_eq!(none.replayed, 0);
    let refused = quick()
        .workflow(new::answer)
        .move_what_replays(journal, &elsewhere, &mut |_| {})
        .await;
    assert!(
        refused.is_err(),
        "a worker without a build has none to move to"
    );
}

async fn a_worker_without_a_build_goes_on_as_ever(storage: Storage) {
    let plain = || quick().workflow(new::answer);
    let worker: Worker = storage.start(plain()).await;
    let client = worker.client();
    let handle = client.start(new::answer, "plain", 0).await.unwrap();
    waits(&client, "plain").await;
    at_rest(&client, "plain").await;
    assert_eq!(build_of(&client, "plain").await, None);
    assert_eq!(listed(&client).await, []);
    // Also where a build is current.
    client.builds("default").set_current("new").await.unwrap();
    go_on(&client, "plain").await;
    assert_eq!(handle.result().await.unwrap(), "new");
    worker.shutdown().await;
    let refused = quick().build_id("").start_on(storage.journal.clone()).await;
    assert!(refused.is_err());
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn the_command_moves_what_fits_and_tells_whether_anything_stays() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("journal.db").display());
    let storage = Storage {
        journal: sync_workflow::journal::connect(&url).await.unwrap(),
        _keep: Box::new(directory),
    };
    begin_both(&storage).await;
    let run = async |worker: WorkerBuilder, more: &[&str]| {
        let arguments = [url.as_str()].into_iter().chain(more.iter().copied());
        let command = ReplayCheckCommand::new(worker);
        command.run(arguments.map(str::to_owned)).await
    };
    assert_eq!(run(of_new(), &["--quiet"]).await, Verdict::Holds);
    assert_eq!(run(of_new(), &["--move"]).await, Verdict::Differs);
    assert_eq!(run(of_new(), &["--build", "new"]).await, Verdict::Holds);
    let client = Client::new(storage.journal.clone());
    assert_eq!(build_of(&client, "fits").await.as_deref(), Some("new"));
    assert_eq!(build_of(&client, "differs").await.as_deref(), Some("old"));
    client
        .terminate("differs", "nobody needs it")
        .await
        .unwrap();
    assert_eq!(run(of_new(), &["--move", "--json"]).await, Verdict::Holds);
    // What only one of two workers of a queue knows is known.
    let both = ReplayCheckCommand::new(quick().workflow(new::answer));
    let both = both.worker(quick().workflow(new::steps));
    let arguments = [url.clone(), "--deny-unregistered".into()];
    assert_eq!(both.run(arguments.clone()).await, Verdict::Holds);
    let neither = ReplayCheckCommand::new(quick().workflow(new::steps));
    assert_eq!(neither.run(arguments).await, Verdict::Differs);
    let without = quick().workflow(new::answer);
    assert_eq!(run(without, &["--move"]).await, Verdict::Unknown);
    let nameless = quick().workflow(new::answer).workflow(new::answer);
    assert_eq!(run(nameless, &[]).await, Verdict::Unknown);
}
