//! A SQLite file that cannot grow.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use sync_workflow::{
    Activity, ActivityContext, Context, Failure,
    journal::{Journal, OpenTransaction, sqlite::SqliteJournal},
    status::RunStatus,
};

use super::{eventually, faults::Faulty, quick};

/// Bounds the file for the connection that writes, as a full disk does; what is in use stays.
async fn bound_pages(journal: SqliteJournal, pages: u32) {
    let mut open = journal.begin().await.unwrap();
    let OpenTransaction::Sqlite(transaction, _) = &mut open else {
        panic!("a SQLite transaction")
    };
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::raw_sql(pragma)
        .execute(&mut **transaction)
        .await
        .unwrap();
}

/// Returns more than the file has room for.
#[derive(Clone, Default)]
struct Verbose(Arc<AtomicU32>);

impl Activity for Verbose {
    const NAME: &'static str = "verbose";
    type Input = usize;
    type Output = String;
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, bytes: usize) -> Result<String, Failure> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok("x".repeat(bytes))
    }
}

async fn says(ctx: Context, bytes: usize) -> Result<usize, Failure> {
    Ok(ctx.activity(Verbose::activity(), bytes).await?.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_waits_while_the_disk_is_full_and_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("journal.db").display());
    let sqlite = SqliteJournal::connect(&url).await.unwrap();
    let journal = Faulty::new(Arc::new(sqlite.clone()));
    let shared: Arc<dyn Journal> = Arc::<Faulty>::clone(&journal);
    let verbose = Verbose::default();
    let worker = quick()
        .workflow(says)
        .activity(verbose.clone())
        .start_on(shared)
        .await
        .unwrap();
    let client = worker.client();
    let small = client.start(says, "small", 10).await.unwrap();
    assert_eq!(small.result().await.unwrap(), 10);
    assert_eq!(journal.failed(), 0);

    // SQLite ends a transaction that finds no room, and the connection is replaced: the next one has
    // no room either.
    let full = sqlite.clone();
    journal.before_commits(move || Box::pin(bound_pages(full.clone(), 1)));
    let large = client.start(says, "large", 1_000_000).await.unwrap();
    eventually("some commits have failed", || async {
        journal.failed() >= 3
    })
    .await;
    let described = large.describe().await.unwrap();
    assert_eq!(described.status, RunStatus::Running, "{described:?}");
    let history = client.history(large.run_id(), 0, 10).await.unwrap();
    assert_eq!(history.items.len(), 1, "something was written");

    journal.before_commits(move || Box::pin(bound_pages(sqlite.clone(), u32::MAX >> 1)));
    assert_eq!(large.result().await.unwrap(), 1_000_000);
    assert_eq!(
        verbose.0.load(Ordering::SeqCst),
        2,
        "the finished activity did not run again"
    );
    worker.shutdown().await;
}
