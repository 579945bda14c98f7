//! Who awaits the end of a run, while it is in memory in the same process.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sync_workflow::{
    Client, Context, Failure, FailureKind, RunError, Worker,
    id::WorkflowId,
    journal::{Hint, Journal, NewSignal, RunSelector, memory::MemoryJournal},
};

use super::{eventually, faults::Faulty, quick};

const HOUR: Duration = Duration::from_secs(3_600);

async fn waits(ctx: Context, _: ()) -> Result<u32, Failure> {
    Ok(ctx.wait("go").await?)
}

/// A worker with one run in memory that waits for a signal.
async fn start() -> (Arc<Faulty>, Worker, Client) {
    let journal = Faulty::new(Arc::new(MemoryJournal::new()));
    let shared: Arc<dyn Journal> = Arc::<Faulty>::clone(&journal);
    let build = quick()
        .workflow(waits)
        .poll_interval(HOUR)
        .evict_after(HOUR);
    let worker = build.start_on(shared).await.unwrap();
    let client = worker.client();
    client.start(waits, "a", ()).await.unwrap();
    eventually("the run is in memory", || async {
        worker.resident_runs() == 1
    })
    .await;
    (journal, worker, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_does_not_note_that_a_run_is_awaited_whose_end_will_be_told() {
    let (journal, worker, client) = start().await;
    let handle = client.handle(waits, "a").await.unwrap();
    let result = tokio::spawn(async move { handle.result().await });
    let asked = journal.asked();
    let inboxes = asked.inboxes.load(Ordering::SeqCst);
    let descriptions = asked.descriptions.load(Ordering::SeqCst);
    let looks = journal.looked_at_owned();
    eventually("the client has looked again", || async {
        journal.notify(&[Hint::LookAgain]).await.unwrap();
        asked.descriptions.load(Ordering::SeqCst) > descriptions
    })
    .await;
    eventually("the worker has looked again", || async {
        journal.looked_at_owned() > looks
    })
    .await;
    assert_eq!(asked.outcomes.load(Ordering::SeqCst), 0);
    assert_eq!(asked.inboxes.load(Ordering::SeqCst), inboxes);
    client.signal("a", "go", &7).await.unwrap();
    assert_eq!(result.await.unwrap().unwrap(), 7);
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_in_memory_that_was_terminated_elsewhere_is_found_closed() {
    let (journal, worker, client) = start().await;
    let handle = client.handle(waits, "a").await.unwrap();
    let result = tokio::spawn(async move { handle.result().await });
    let elsewhere = Client::new(journal.behind());
    elsewhere.terminate("a", "as planned").await.unwrap();
    // Of what happened there is known here that something did.
    journal.notify(&[Hint::LookAgain]).await.unwrap();
    match result.await.unwrap() {
        Err(RunError::Ended(failure) | RunError::Failed(failure)) => {
            assert_eq!(failure.kind, FailureKind::Terminated);
        }
        other => panic!("{other:?}"),
    }
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_for_news_that_fails_is_repeated() {
    let (journal, worker, client) = start().await;
    let handle = client.handle(waits, "a").await.unwrap();
    journal.refuse_looks(3);
    // Nobody tells the worker of it but the hint that follows.
    let signal = NewSignal {
        to: RunSelector::Latest(WorkflowId::new("a").unwrap()),
        id: "first".into(),
        name: "go".into(),
        payload: "7".into(),
    };
    journal.behind().signal(&signal).await.unwrap();
    journal.notify(&[Hint::LookAgain]).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 7);
    assert!(journal.looked_at_owned() > 3);
    worker.shutdown().await;
}
