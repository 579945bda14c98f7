//! A network that stops carrying bytes and tells nobody.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use sync_workflow::{
    Activity, ActivityContext, Client, Context, Failure, Worker,
    journal::{Error, TransactionCommit},
};

use super::{
    proxy::{Path, Proxy},
    *,
};
use crate::engine::{eventually, quick};

/// How long an operation waits for its answer: longer than any answer takes on a slow machine,
/// since those that come must come in time.
const DEADLINE: Duration = Duration::from_secs(3);

/// A database, the path to it, and a journal on that path.
struct Distant {
    bench: Bench,
    proxy: Proxy,
    url: String,
}

impl Distant {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let mut url = url::Url::parse(bench.database.url()).unwrap();
        let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        let proxy = Proxy::to(server).await;
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(proxy.port())).unwrap();
        Self {
            bench,
            proxy,
            url: url.into(),
        }
    }

    async fn journal(&self, max_connections: u32) -> PostgresJournal {
        PostgresJournal::builder(&self.url)
            .max_connections(max_connections)
            .deadline(DEADLINE)
            .open()
            .await
            .unwrap()
    }

    /// Waits until all connections but `held`, which transactions hold, lie in their pools: a release
    /// takes a round trip.
    async fn until_idle(&self, journal: &PostgresJournal, held: usize) {
        let (steps, statements) = (journal.pool(), journal.statement_pool());
        eventually("the connections are given back", || async {
            steps.num_idle() + held == steps.size() as usize
                && statements.num_idle() == statements.size() as usize
        })
        .await;
    }

    async fn until_all_are_closed(&self) {
        eventually("the journal has closed its connections", || async {
            self.proxy.connections() == 0
        })
        .await;
    }
}

fn anywhere(workflow_id: &str) -> NewRun {
    NewRun {
        placement: Placement::Anywhere,
        ..new_run(workflow_id)
    }
}

fn step_of(node: NodeId, run: RunId, position: u32) -> TransactionCommit {
    TransactionCommit {
        node,
        run,
        record: Record {
            kind: RecordKind::TransactionCompleted,
            ..record(position)
        },
        settled_attempt: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_without_an_answer_ends_with_its_deadline_and_its_connection_is_closed() {
    let distant = Distant::new().await;
    let (node, run) = (distant.bench.node, distant.bench.born("a").await);
    let journal = distant.journal(4).await;
    let append = |position| batch(vec![goes_on(run, vec![record(position)])]);
    // Each operation below has a connection that was good a moment ago, and there are no others.
    journal.commit(node, &append(1)).await.unwrap();
    journal.renew(node, LEASE).await.unwrap();
    let open = journal.begin().await.unwrap();
    drop(journal.begin().await.unwrap());
    let warm = futures::future::join_all((0..2).map(|_| journal.owned(node))).await;
    assert!(warm.iter().all(Result::is_ok));
    distant.until_idle(&journal, 1).await;
    distant.proxy.becomes(Path::Gone);

    let selector = RunSelector::Run(run);
    let (new, lost, last) = (anywhere("lost"), append(2), step_of(node, run, 2));
    let (commit, renewal, start, read, begun, step) = tokio::join!(
        journal.commit(node, &lost),
        journal.renew(node, LEASE),
        journal.start(&new),
        journal.describe(&selector),
        journal.begin(),
        journal.commit_step(open, &last),
    );
    for (what, result) in [
        ("commit", commit.map(drop)),
        ("renew", renewal.map(drop)),
        ("start", start.map(drop)),
        ("commit_step", step),
    ] {
        assert!(
            matches!(result, Err(Error::Unknown(_))),
            "{what}: {result:?}"
        );
    }
    for (what, result) in [("describe", read.map(drop)), ("begin", begun.map(drop))] {
        assert!(
            matches!(result, Err(Error::Unavailable(_))),
            "{what}: {result:?}"
        );
    }
    // A new connection is not made either, and nothing was sent over it.
    let refused = journal.commit(node, &append(2)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    distant.until_all_are_closed().await;

    distant.proxy.becomes(Path::Open);
    let happened = journal.was_committed(node, &append(2)).await.unwrap();
    assert_eq!(happened, Some(false));
    journal.commit(node, &append(2)).await.unwrap();
    assert_eq!(
        journal.start(&new).await.unwrap(),
        sync_workflow::journal::StartOutcome::Started
    );
    assert_eq!(distant.bench.length(run).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_begin_came_too_late_holds_no_later_write() {
    let distant = Distant::new().await;
    distant
        .bench
        .database
        .psql("CREATE TABLE later (n integer)")
        .unwrap();
    let journal = distant.journal(1).await;
    drop(journal.begin().await.unwrap());
    distant.until_idle(&journal, 0).await;
    // The BEGIN is on its way when its caller gives up, and arrives later.
    distant.proxy.becomes(Path::Slow);
    let late = journal.begin().await;
    assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
    distant.proxy.becomes(Path::Open);
    for number in 0..4 {
        let insert = sqlx::query("INSERT INTO later VALUES ($1)").bind(number);
        insert.execute(journal.pool()).await.unwrap();
        let seen = distant
            .bench
            .database
            .psql(&format!("SELECT count(*) FROM later WHERE n = {number}"));
        assert_eq!(
            seen.unwrap().trim(),
            "1",
            "the insert was acknowledged and is not there"
        );
    }
}

/// Waits at a gate, step by step.
struct Gated {
    calls: Arc<AtomicU32>,
    gate: Arc<tokio::sync::Semaphore>,
}

impl Activity for Gated {
    const NAME: &'static str = "gated";
    type Input = u32;
    type Output = u32;
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, n: u32) -> Result<u32, Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await?.forget();
        Ok(n)
    }
}

async fn steps(ctx: Context, count: u32) -> Result<u32, Failure> {
    let mut sum = 0;
    for n in 0..count {
        sum += ctx.activity(Gated::activity(), n).await?;
    }
    Ok(sum)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_on_when_the_path_to_its_database_is_back() {
    let distant = Distant::new().await;
    let calls = Arc::new(AtomicU32::new(0));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let gated = Gated {
        calls: Arc::clone(&calls),
        gate: Arc::clone(&gate),
    };
    let worker: Worker = quick()
        .lease(Duration::from_secs(4))
        .workflow(steps)
        .activity(gated)
        .start_on(Arc::new(distant.journal(4).await))
        .await
        .unwrap();
    let observer = Client::new(Arc::new(
        PostgresJournal::connect(distant.bench.database.url())
            .await
            .unwrap(),
    ));
    let handle = observer.start(steps, "a", 4).await.unwrap();
    gate.add_permits(2);
    eventually("the third step waits", || async {
        calls.load(Ordering::SeqCst) == 3
    })
    .await;
    let before = handle.describe().await.unwrap().node.unwrap();

    distant.proxy.becomes(Path::Gone);
    gate.add_permits(100);
    eventually("the worker gives up what it holds", || async {
        worker.resident_runs() == 0
    })
    .await;
    distant.proxy.becomes(Path::Open);
    assert_eq!(handle.result().await.unwrap(), 6);
    let history = observer.history(handle.run_id(), 0, 100).await.unwrap();
    assert_eq!(history.items.len(), 6, "a start, four steps and an end");
    let enlisted = observer.start(steps, "b", 1).await.unwrap();
    assert_eq!(enlisted.result().await.unwrap(), 0);
    assert_ne!(handle.describe().await.unwrap().node, Some(before));
    worker.shutdown().await;
}
