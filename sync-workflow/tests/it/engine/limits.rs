//! Queues with limits, with real workers.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use sync_workflow::{
    Client, Context, Failure,
    journal::{RunFilter, RunInfo},
    worker::WorkerBuilder,
};

use super::{Storage, eventually, on_every_journal, quick};

on_every_journal![
    runs_of_a_key_go_one_after_the_other,
    a_tenant_with_few_runs_does_not_wait_for_one_with_many,
    a_run_that_sleeps_keeps_its_turn,
    children_wait_for_their_turn,
    a_paused_queue_goes_on_where_it_was,
    a_worker_holds_no_more_than_its_share,
    a_chain_of_runs_keeps_its_turn,
];

/// What happened, by test: a run's workflow id, and whether it began or ended.
type Log = Arc<Mutex<Vec<(String, bool)>>>;

static LOGS: LazyLock<Mutex<HashMap<u64, Log>>> = LazyLock::new(Mutex::default);

fn log(test: u64) -> Log {
    LOGS.lock().unwrap().entry(test).or_default().clone()
}

fn new_test() -> (u64, Log) {
    let test = fastrand::u64(..);
    (test, log(test))
}

async fn note((test, id, begins): (u64, String, bool)) -> Result<(), Failure> {
    log(test).lock().unwrap().push((id, begins));
    Ok(())
}

/// Takes three steps and a nap between its begin and its end.
async fn job(ctx: Context, (test, id): (u64, String)) -> Result<(), Failure> {
    ctx.activity(note, (test, id.clone(), true)).await?;
    ctx.sleep(Duration::from_millis(2)).await?;
    ctx.activity(note, (test, id, false)).await?;
    Ok(())
}

async fn until_told(ctx: Context, (test, id): (u64, String)) -> Result<(), Failure> {
    ctx.activity(note, (test, id, true)).await?;
    let _go: () = ctx.wait("go").await?;
    Ok(())
}

fn worker() -> WorkerBuilder {
    // Only hints make it look for work in time.
    quick()
        .poll_interval(Duration::from_secs(3_600))
        .evict_after(Duration::from_millis(1))
        .workflow(job)
        .workflow(until_told)
        .activity(note)
}

/// The most that were under way at once, of those that a test chooses.
fn most_at_once(log: &Log, chosen: impl Fn(&str) -> bool) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for (_, begins) in log.lock().unwrap().iter().filter(|(id, _)| chosen(id)) {
        now = if *begins { now + 1 } else { now - 1 };
        most = most.max(now);
    }
    most
}

async fn limited(storage: &Storage, builder: WorkerBuilder) -> (sync_workflow::Worker, Client) {
    let worker = storage.start(builder).await;
    let client = worker.client();
    (worker, client)
}

async fn runs_of_a_key_go_one_after_the_other(storage: Storage) {
    let (test, log) = new_test();
    let (one, client) = limited(&storage, worker()).await;
    let queue = client.queue("default");
    queue.limit().max_running_per_key(1).await.unwrap();
    let another = storage.start(worker()).await;
    eventually("the workers know of the limit", || async {
        // A worker that does not know it yet runs what it starts itself.
        let probe = client.start(job, "probe", (0, String::new()));
        let probe = probe.reuse(sync_workflow::client::IdReuse::StartNew).await;
        probe.unwrap().result().await.unwrap();
        client.describe("probe").await.unwrap().ticket.admission
            == sync_workflow::journal::Admission::Admitted
    })
    .await;
    let mut handles = Vec::new();
    for number in 0..30 {
        let id = format!("{}-{number}", ["a", "b", "c"][number % 3]);
        let start = client.start(job, &id, (test, id.clone()));
        handles.push(start.key(&id[..1]).await.unwrap());
    }
    for handle in handles {
        handle.result().await.unwrap();
    }
    for key in ["a", "b", "c"] {
        assert_eq!(most_at_once(&log, |id| id.starts_with(key)), 1);
    }
    assert_eq!(log.lock().unwrap().len(), 60);
    let info = queue.describe().await.unwrap();
    assert_eq!((info.running, info.waiting), (0, 0));
    one.shutdown().await;
    another.shutdown().await;
}

async fn a_tenant_with_few_runs_does_not_wait_for_one_with_many(storage: Storage) {
    let (test, log) = new_test();
    // Before there is a worker, so that all of them wait.
    let client = Client::new(Arc::clone(&storage.journal));
    client
        .queue("default")
        .limit()
        .max_running(2)
        .await
        .unwrap();
    let start = async |key: &str, number: usize| {
        let id = format!("{key}-{number}");
        let start = client.start(job, &id, (test, id.clone()));
        start.key(key).await.unwrap()
    };
    let mut handles = Vec::new();
    for number in 0..60 {
        handles.push(start("many", number).await);
    }
    for number in 0..5 {
        handles.push(start("few", number).await);
    }
    let worker = storage.start(worker()).await;
    for handle in handles {
        handle.result().await.unwrap();
    }
    let log = log.lock().unwrap().clone();
    let last_of_few = log
        .iter()
        .rposition(|(id, _)| id.starts_with("few"))
        .unwrap();
    let many_before = log[..last_of_few]
        .iter()
        .filter(|(id, _)| id.starts_with("many"))
        .count();
    // Two entries a run; each of the few waits for about one of the many.
    assert!(
        many_before <= 2 * 10,
        "{many_before} of the many went before"
    );
    worker.shutdown().await;
}

async fn a_run_that_sleeps_keeps_its_turn(storage: Storage) {
    let (test, log) = new_test();
    let client = Client::new(Arc::clone(&storage.journal));
    client
        .queue("default")
        .limit()
        .max_running(1)
        .await
        .unwrap();
    let input = |id: &str| (test, id.to_owned());
    let first = client
        .start(until_told, "first", input("first"))
        .await
        .unwrap();
    let second = client.start(job, "second", input("second")).await.unwrap();
    let worker = storage.start(worker()).await;
    eventually("the first sleeps", || async {
        worker.resident_runs() == 0 && log.lock().unwrap().len() == 1
    })
    .await;
    let info = client.describe("second").await.unwrap();
    assert!(info.waits_for_turn());
    client.signal("first", "go", &()).await.unwrap();
    first.result().await.unwrap();
    second.result().await.unwrap();
    worker.shutdown().await;
}

async fn parent(ctx: Context, (test, children): (u64, usize)) -> Result<(), Failure> {
    let calls = (0..children).map(|number| {
        let id = format!("child-{number}");
        ctx.child(job, (test, id))
            .queue("narrow")
            .key("same")
            .start()
    });
    for result in futures::future::join_all(calls).await {
        result?;
    }
    Ok(())
}

async fn children_wait_for_their_turn(storage: Storage) {
    let (test, log) = new_test();
    let (wide, client) = limited(&storage, worker().workflow(parent)).await;
    client.queue("narrow").limit().max_running(2).await.unwrap();
    let narrow = storage.start(worker().queue("narrow")).await;
    let handle = client.start(parent, "parent", (test, 12)).await.unwrap();
    handle.result().await.unwrap();
    assert!(most_at_once(&log, |_| true) <= 2);
    assert_eq!(log.lock().unwrap().len(), 24);
    wide.shutdown().await;
    narrow.shutdown().await;
}

async fn a_paused_queue_goes_on_where_it_was(storage: Storage) {
    let (test, log) = new_test();
    let client = Client::new(Arc::clone(&storage.journal));
    let queue = client.queue("default");
    queue.pause().await.unwrap();
    let worker = storage.start(worker()).await;
    let mut handles = Vec::new();
    for number in 0..5 {
        let id = format!("run-{number}");
        handles.push(client.start(job, &id, (test, id.clone())).await.unwrap());
    }
    eventually("all wait", || async {
        queue.describe().await.unwrap().waiting == 5
    })
    .await;
    assert!(log.lock().unwrap().is_empty());
    queue.resume().await.unwrap();
    for handle in handles {
        handle.result().await.unwrap();
    }
    worker.shutdown().await;
}

async fn busy((test, id): (u64, String)) -> Result<(), Failure> {
    note((test, id.clone(), true)).await?;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    note((test, id, false)).await
}

async fn is_busy(ctx: Context, input: (u64, String)) -> Result<(), Failure> {
    Ok(ctx.activity(busy, input).await?)
}

async fn a_worker_holds_no_more_than_its_share(storage: Storage) {
    let (test, log) = new_test();
    let client = Client::new(Arc::clone(&storage.journal));
    let queue = client.queue("default");
    queue.limit().max_in_worker(2).await.unwrap();
    let mut handles = Vec::new();
    for number in 0..20 {
        let id = format!("run-{number}");
        let start = client.start(is_busy, &id, (test, id.clone()));
        handles.push(start.await.unwrap());
    }
    let worker = storage
        .start(worker().workflow(is_busy).activity(busy))
        .await;
    for handle in handles {
        handle.result().await.unwrap();
    }
    assert!(most_at_once(&log, |_| true) <= 2);
    worker.shutdown().await;
}

async fn counts_down(ctx: Context, (test, left): (u64, u32)) -> Result<(), Failure> {
    let name = format!("link-{left}");
    ctx.activity(note, (test, name.clone(), true)).await?;
    ctx.activity(note, (test, name, false)).await?;
    match left {
        0 => Ok(()),
        _ => ctx.continue_as_new(counts_down, (test, left - 1)).await,
    }
}

async fn a_chain_of_runs_keeps_its_turn(storage: Storage) {
    let (test, log) = new_test();
    let client = Client::new(Arc::clone(&storage.journal));
    client
        .queue("default")
        .limit()
        .max_running(1)
        .await
        .unwrap();
    let chain = client.start(counts_down, "chain", (test, 4)).await.unwrap();
    let other = client
        .start(job, "other", (test, "other".into()))
        .await
        .unwrap();
    let worker = storage.start(worker().workflow(counts_down)).await;
    chain.result().await.unwrap();
    other.result().await.unwrap();
    let order: Vec<_> = log
        .lock()
        .unwrap()
        .iter()
        .map(|(id, _)| id.clone())
        .collect();
    assert_eq!(
        order.iter().position(|id| id == "other"),
        Some(10),
        "{order:?}"
    );
    let runs = client.list(&RunFilter::default()).await.unwrap().items;
    assert!(runs.iter().all(|run: &RunInfo| run.status.is_closed()));
    worker.shutdown().await;
}
