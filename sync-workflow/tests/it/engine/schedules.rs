//! Runs that are started at times of a calendar, or at intervals.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::{Timestamp, ToSpan};
use sync_workflow::{
    Activity, Client, Context, Failure, Worker,
    journal::{RunFilter, RunInfo},
    schedule::{Error, InvalidSchedule, Overlap, Schedule, Tick, Timing},
    status::RunStatus,
    tag::Tags,
    worker::WorkerBuilder,
};

use super::{
    Storage,
    code::{Counter, collects, crash, steps},
    eventually, on_every_journal, quick,
};

on_every_journal![
    each_tick_starts_one_run_for_all_workers,
    ticks_survive_the_workers_that_start_them,
    a_run_that_is_open_keeps_the_next_from_starting,
    what_is_buffered_starts_when_the_run_before_has_ended,
    a_tick_cancels_the_run_before,
    a_paused_schedule_is_triggered_and_resumed,
    a_range_that_is_past_is_made_up_for_once,
    schedules_are_created_changed_listed_and_deleted,
];

/// Tells for which time it was started.
async fn ticked(ctx: Context, (): ()) -> Result<Timestamp, Failure> {
    ctx.activity(Counter::activity(), 0).await?;
    let Tick(tick) = Tick::of(&ctx.workflow_id()).ok_or_else(|| Failure::new("no tick"))?;
    Ok(tick)
}

fn builder(counter: &Counter) -> WorkerBuilder {
    quick()
        .workflow(ticked)
        .workflow(collects)
        .workflow(steps)
        .activity(counter.clone())
}

fn every(millis: u64) -> Timing {
    Timing::every(Duration::from_millis(millis)).unwrap()
}

fn ticking(millis: u64) -> Schedule {
    Schedule::new(ticked, &(), every(millis)).unwrap()
}

/// Starts runs that wait for a signal, at an interval that no test lives to see twice.
fn waiting(overlap: Overlap) -> Schedule {
    let yearly = every(365 * 24 * 3_600 * 1_000);
    Schedule::new(collects, &1, yearly)
        .unwrap()
        .overlap(overlap)
}

/// The runs of a schedule, the earliest tick first.
async fn runs(client: &Client, id: &str) -> Vec<RunInfo> {
    let filter = RunFilter {
        tags: Tags::new().with("schedule", id).unwrap(),
        limit: RunFilter::MAX_LIMIT,
        ..RunFilter::default()
    };
    let mut runs = client.list(&filter).await.unwrap().items;
    runs.sort_by_key(tick_of);
    runs
}

fn tick_of(run: &RunInfo) -> Timestamp {
    Tick::of(&run.workflow_id).unwrap().0
}

async fn has_runs(client: &Client, id: &str, count: usize) {
    let has = async || runs(client, id).await.len() >= count;
    eventually(&format!("{id} has {count} runs"), has).await;
}

async fn each_tick_starts_one_run_for_all_workers(storage: Storage) {
    let counter = Counter::default();
    let mut workers: Vec<Worker> = Vec::new();
    for _ in 0..3 {
        workers.push(storage.start(builder(&counter)).await);
    }
    let client = workers[0].client();
    let schedule = ticking(40).overlap(Overlap::AllowAll);
    client.schedules().create("often", schedule).await.unwrap();
    has_runs(&client, "often", 25).await;
    client.schedules().pause("often", "enough").await.unwrap();
    for worker in workers {
        worker.shutdown().await;
    }
    let worker = storage.start(builder(&counter)).await;
    let client = worker.client();
    let all_closed = async || {
        runs(&client, "often")
            .await
            .iter()
            .all(|run| run.status.is_closed())
    };
    eventually("all have ended", all_closed).await;

    let runs = runs(&client, "often").await;
    let ticks: Vec<_> = runs.iter().map(tick_of).collect();
    // None twice, none left out.
    for (one, next) in ticks.iter().zip(&ticks[1..]) {
        assert_eq!(next.as_millisecond() - one.as_millisecond(), 40);
    }
    for run in &runs {
        let handle = client
            .handle(ticked, run.workflow_id.as_str())
            .await
            .unwrap();
        assert_eq!(handle.result().await.unwrap(), tick_of(run));
        assert!(run.created_at >= tick_of(run), "{run:?}");
    }
    let state = client.schedules().describe("often").await.unwrap().state;
    assert_eq!((state.started, state.skipped), (runs.len() as u64, 0));
    assert_eq!(state.missed_before, None);
    worker.shutdown().await;
}

async fn ticks_survive_the_workers_that_start_them(storage: Storage) {
    let counter = Counter::default();
    let client = Client::new(Arc::clone(&storage.journal));
    let schedule = ticking(30).overlap(Overlap::AllowAll);
    client.schedules().create("often", schedule).await.unwrap();
    for round in 1..=4 {
        let worker = storage.start(builder(&counter)).await;
        has_runs(&client, "often", round * 8).await;
        crash(worker).await;
    }
    let runs = runs(&client, "often").await;
    let ticks: BTreeSet<_> = runs.iter().map(tick_of).collect();
    assert_eq!(ticks.len(), runs.len());
    let (first, last) = (ticks.first().unwrap(), ticks.last().unwrap());
    let expected = (last.as_millisecond() - first.as_millisecond()) / 30 + 1;
    assert_eq!(i64::try_from(ticks.len()).unwrap(), expected);
}

async fn a_run_that_is_open_keeps_the_next_from_starting(storage: Storage) {
    let worker = storage.start(builder(&Counter::default())).await;
    let client = worker.client();
    let schedules = client.schedules();
    let schedule = Schedule::new(collects, &1, every(20)).unwrap();
    schedules.create("one", schedule).await.unwrap();
    let has_skipped = async || schedules.describe("one").await.unwrap().state.skipped > 5;
    eventually("some are skipped", has_skipped).await;
    let open = runs(&client, "one").await;
    assert_eq!(open.len(), 1);
    client
        .signal(open[0].workflow_id.as_str(), "number", &1)
        .await
        .unwrap();
    has_runs(&client, "one", 2).await;
    worker.shutdown().await;
}

async fn what_is_buffered_starts_when_the_run_before_has_ended(storage: Storage) {
    let worker = storage.start(builder(&Counter::default())).await;
    let client = worker.client();
    let schedules = client.schedules();
    let schedule = Schedule::new(collects, &1, every(3_600_000)).unwrap();
    let schedule = schedule.overlap(Overlap::BufferAll);
    schedules.create("turns", schedule).await.unwrap();
    let now = Timestamp::now();
    let hours = (now - 3.hours() + 1.millisecond())..=now;
    assert_eq!(schedules.backfill("turns", hours).await.unwrap(), 3);
    for turn in 1..=3 {
        has_runs(&client, "turns", turn).await;
        let runs = runs(&client, "turns").await;
        assert_eq!(runs.len(), turn);
        let open: Vec<_> = runs.iter().filter(|run| !run.status.is_closed()).collect();
        assert_eq!((open.len(), &open[0].run), (1, &runs[turn - 1].run));
        client
            .signal(open[0].workflow_id.as_str(), "number", &1)
            .await
            .unwrap();
    }
    worker.shutdown().await;
}

async fn a_tick_cancels_the_run_before(storage: Storage) {
    let worker = storage.start(builder(&Counter::default())).await;
    let client = worker.client();
    let schedule = Schedule::new(collects, &1, every(50)).unwrap();
    let schedule = schedule.overlap(Overlap::CancelOther);
    client.schedules().create("latest", schedule).await.unwrap();
    has_runs(&client, "latest", 3).await;
    client.schedules().delete("latest").await.unwrap();
    let runs = runs(&client, "latest").await;
    let (_, earlier) = runs.split_last().unwrap();
    assert!(earlier.iter().all(|run| run.status == RunStatus::Cancelled));
    worker.shutdown().await;
}

async fn a_paused_schedule_is_triggered_and_resumed(storage: Storage) {
    let counter = Counter::default();
    let worker = storage.start(builder(&counter)).await;
    // What another process changes is found by a look of the worker's.
    let client = Client::new(Arc::clone(&storage.journal));
    let schedules = client.schedules();
    schedules.create("a", waiting(Overlap::Skip)).await.unwrap();
    schedules.pause("a", "the printer burns").await.unwrap();
    let id = schedules.trigger("a").await.unwrap();
    has_runs(&client, "a", 1).await;
    assert_eq!(runs(&client, "a").await[0].workflow_id, id);
    schedules.update("a", ticking(20)).await.unwrap();
    let paused = async || schedules.describe("a").await.unwrap();
    let why = paused().await.state.paused;
    assert_eq!(why.as_deref(), Some("the printer burns"));
    // The run exists before its schedule says so.
    eventually("the schedule has counted it", async || {
        let paused = paused().await;
        (paused.next_at, paused.state.started) == (None, 1)
    })
    .await;
    client.signal(id.as_str(), "number", &1).await.unwrap();
    schedules.resume("a").await.unwrap();
    has_runs(&client, "a", 4).await;
    assert!(counter.calls.load(Ordering::SeqCst) > 0);
    worker.shutdown().await;
}

async fn a_range_that_is_past_is_made_up_for_once(storage: Storage) {
    let worker = storage.start(builder(&Counter::default())).await;
    let client = worker.client();
    let schedules = client.schedules();
    let daily = Timing::cron("0 9 * * *", "Europe/Berlin").unwrap();
    let schedule = Schedule::new(ticked, &(), daily)
        .unwrap()
        .overlap(Overlap::AllowAll);
    schedules.create("daily", schedule).await.unwrap();
    let range =
        || "2027-03-26T00:00:00Z".parse().unwrap()..="2027-03-30T07:00:00Z".parse().unwrap();
    for _ in 0..2 {
        assert_eq!(schedules.backfill("daily", range()).await.unwrap(), 5);
        let is_done = async || {
            schedules
                .describe("daily")
                .await
                .unwrap()
                .state
                .starting
                .is_empty()
        };
        eventually("all are started", is_done).await;
    }
    let runs = runs(&client, "daily").await;
    let ticks: Vec<_> = runs.iter().map(|run| tick_of(run).to_string()).collect();
    assert_eq!(
        ticks,
        [
            "2027-03-26T08:00:00Z",
            "2027-03-27T08:00:00Z",
            "2027-03-28T07:00:00Z",
            "2027-03-29T07:00:00Z",
            "2027-03-30T07:00:00Z",
        ]
    );
    assert_eq!(schedules.describe("daily").await.unwrap().state.started, 10);
    let too_many = Timestamp::UNIX_EPOCH..=Timestamp::now();
    assert!(matches!(
        schedules.backfill("daily", too_many).await,
        Err(Error::TooManyTicks { limit: 1_000 })
    ));
    worker.shutdown().await;
}

async fn schedules_are_created_changed_listed_and_deleted(storage: Storage) {
    let client = Client::new(Arc::clone(&storage.journal));
    let schedules = client.schedules();
    for id in ["b", "a", "c"] {
        schedules
            .create(id, waiting(Overlap::BufferOne))
            .await
            .unwrap();
    }
    let again = schedules.create("a", waiting(Overlap::Skip)).await;
    assert!(matches!(again, Err(Error::Exists)));
    let page = schedules.list(None, 2).await.unwrap();
    let ids: Vec<_> = page.items.iter().map(|info| &*info.id).collect();
    assert_eq!((ids, page.more), (vec!["a", "b"], true));
    let page = schedules.list(Some("b"), 2).await.unwrap();
    assert_eq!((page.items.len(), page.more), (1, false));
    let minutely = Timing::cron("* * * * *", "UTC").unwrap();
    let changed = Schedule::new(ticked, &(), minutely).unwrap();
    schedules.update("a", changed).await.unwrap();
    let times = schedules.preview("a", 3).await.unwrap();
    assert_eq!(times[2].duration_since(times[0]).as_secs(), 120);
    assert_eq!(
        schedules.describe("a").await.unwrap().next_at,
        Some(times[0])
    );
    schedules.delete("a").await.unwrap();
    assert!(matches!(
        schedules.describe("a").await,
        Err(Error::NotFound)
    ));
    assert!(matches!(
        schedules.pause("a", "").await,
        Err(Error::NotFound)
    ));
    assert!(matches!(schedules.delete("a").await, Err(Error::NotFound)));
    let long = "x".repeat(Schedule::MAX_ID_BYTES + 1);
    assert!(matches!(
        schedules.create(&long, waiting(Overlap::Skip)).await,
        Err(Error::Invalid(InvalidSchedule::Id))
    ));
}
