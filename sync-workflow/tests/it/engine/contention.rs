//! Transactions that are rolled back in favour of others, and are tried again.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use sync_workflow::{
    ActivityContext, Context, Failure, RetryPolicy, RunError, Tx, Worker,
    journal::{Journal, memory::MemoryJournal},
    record::RecordKind,
    status::RunStatus,
    worker::WorkerBuilder,
};

use super::{eventually, faults::Faulty, quick};

/// More than a step is tried in a minute.
const OFTEN: usize = 60;

async fn start(journal: &Arc<Faulty>, builder: WorkerBuilder) -> Worker {
    let journal: Arc<dyn Journal> = Arc::<Faulty>::clone(journal);
    builder.start_on(journal).await.unwrap()
}

async fn books(ctx: Context, amount: u32) -> Result<u32, Failure> {
    let book = async move |tx: Tx| {
        drop(tx);
        Ok::<_, Failure>(amount)
    };
    Ok(ctx.transaction("book", book).await?)
}

#[tokio::test(start_paused = true)]
async fn a_step_is_tried_until_nobody_is_in_its_way() {
    let journal = Faulty::new(Arc::new(MemoryJournal::new()));
    let worker = start(&journal, quick().workflow(books)).await;
    let client = worker.client();
    for (id, begins, commits) in [("begin", OFTEN, 0), ("commit", 0, OFTEN)] {
        journal.contend(begins, commits);
        let handle = client.start(books, id, 7).await.unwrap();
        assert_eq!(handle.result().await.unwrap(), 7, "{id}");
        assert_eq!(journal.to_contend(), 0, "{id}");
        let history = client.history(handle.run_id(), 0, 10).await.unwrap();
        let kinds: Vec<_> = history.items.iter().map(|item| item.kind()).collect();
        let once = [
            RecordKind::Started,
            RecordKind::TransactionCompleted,
            RecordKind::Completed,
        ];
        assert_eq!(kinds, once, "{id}");
    }
    worker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_step_never_comes_through_can_be_cancelled() {
    let journal = Faulty::new(Arc::new(MemoryJournal::new()));
    let worker = start(&journal, quick().workflow(books)).await;
    let client = worker.client();
    journal.contend(0, usize::MAX);
    let handle = client.start(books, "a", 7).await.unwrap();
    let often = async || usize::MAX - journal.to_contend() >= OFTEN;
    eventually("it was tried often", often).await;
    client.cancel("a").await.unwrap();
    let ended = handle.result().await;
    assert!(matches!(ended, Err(RunError::Ended(_))), "{ended:?}");
    let info = handle.describe().await.unwrap();
    assert_eq!(info.status, RunStatus::Cancelled);
    worker.shutdown().await;
}

/// How often the step below was tried.
static SPOILED: AtomicU32 = AtomicU32::new(0);

/// A step that spoils its own transaction each time.
async fn spoils(ctx: Context, (): ()) -> Result<(), Failure> {
    let spoil = async |tx: Tx| {
        drop(tx);
        SPOILED.fetch_add(1, Ordering::SeqCst);
        Err::<(), _>(Failure::from(sqlx::Error::WorkerCrashed))
    };
    Ok(ctx.transaction("spoil", spoil).await?)
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_own_code_is_always_rolled_back_fails() {
    let journal = Faulty::new(Arc::new(MemoryJournal::new()));
    let worker = start(&journal, quick().workflow(spoils)).await;
    let client = worker.client();
    let handle = client.start(spoils, "a", ()).await.unwrap();
    let ended = handle.result().await;
    assert!(matches!(ended, Err(RunError::Failed(_))), "{ended:?}");
    assert_eq!(SPOILED.load(Ordering::SeqCst), 20);
    worker.shutdown().await;
}

/// Writes in a transaction of its own, and tells which attempt it is.
async fn writes(ctx: ActivityContext, _: u32) -> Result<u32, Failure> {
    drop(ctx.begin().await?);
    Ok(ctx.attempt())
}

async fn writes_once(ctx: Context, at_most_once: bool) -> Result<u32, Failure> {
    let call = ctx.activity(writes, 1).retry(RetryPolicy::none());
    let call = match at_most_once {
        true => call.at_most_once(),
        false => call,
    };
    Ok(call.await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_whose_transaction_gives_way_has_used_no_attempt() {
    let journal = Faulty::new(Arc::new(MemoryJournal::new()));
    let worker = start(&journal, quick().workflow(writes_once).activity(writes)).await;
    let client = worker.client();
    journal.contend(0, 4);
    let handle = client.start(writes_once, "a", false).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 1);
    assert_eq!(journal.to_contend(), 0);
    // Its code ran, which may happen once.
    journal.contend(0, 1);
    let once = client.start(writes_once, "once", true).await.unwrap();
    let ended = once.result().await;
    assert!(matches!(ended, Err(RunError::Failed(_))), "{ended:?}");
    worker.shutdown().await;
}
