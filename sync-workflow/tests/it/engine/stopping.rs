//! A worker that stops while it is given something.

use std::{sync::Arc, time::Duration};

use sync_workflow::{Client, status::RunStatus};

use super::{
    Storage,
    code::{double, doubled},
    eventually,
    faults::Faulty,
    on_every_journal, quick,
};

on_every_journal![a_worker_that_stops_takes_over_what_it_has_claimed];

async fn a_worker_that_stops_takes_over_what_it_has_claimed(storage: Storage) {
    let journal = Faulty::new(Arc::clone(&storage.journal));
    let builder = quick().workflow(doubled).activity(double);
    let builder = builder
        .lease(Duration::from_secs(3_600))
        .drain_timeout(Duration::from_secs(60));
    let worker = builder.start_on(journal.clone()).await.unwrap();
    journal.hold_claims(true);
    let elsewhere = Client::new(Arc::clone(&storage.journal));
    let handle = elsewhere.start(doubled, "a", 21).await.unwrap();
    eventually("it is claimed", async || {
        handle.describe().await.unwrap().status == RunStatus::Running
    })
    .await;
    let stopping = tokio::spawn(worker.shutdown());
    // A worker that did not wait for its claim would have ended long before.
    let ended = async {
        while journal.retired() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_millis(200), ended);
    assert!(
        ended.await.is_err(),
        "it ended before it was told of the run"
    );
    journal.hold_claims(false);
    stopping.await.unwrap();
    assert!(!journal.retired_while_claiming());
    assert_eq!(journal.retired(), 1);
    // It gave the run back, unless it came to its end with it.
    let other = storage
        .start(quick().workflow(doubled).activity(double))
        .await;
    assert_eq!(handle.result().await.unwrap(), 42);
    other.shutdown().await;
}
