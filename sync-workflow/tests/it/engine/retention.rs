//! Runs that are deleted some time after they ended.

use std::time::Duration;

use sync_workflow::client::Error;

use super::{
    Storage,
    code::{collects, double, doubled},
    eventually, on_every_journal, quick,
};

on_every_journal![
    runs_of_a_workflow_are_deleted_after_its_retention,
    a_workflow_id_is_free_again_after_the_retention,
];

async fn runs_of_a_workflow_are_deleted_after_its_retention(storage: Storage) {
    let worker = storage
        .start(
            quick()
                .workflow(doubled)
                .workflow(collects)
                .workflow_named("kept", doubled)
                .activity(double)
                .retention("doubled", Duration::from_millis(1))
                .retention("collects", Duration::from_secs(3_600)),
        )
        .await;
    let client = worker.client();
    let kept = client.start(collects, "kept", 0).await.unwrap();
    kept.result().await.unwrap();
    let open = client.start(collects, "open", 1).await.unwrap();
    for n in 0..20 {
        client.start(doubled, &n.to_string(), n).await.unwrap();
    }
    for n in 0..20 {
        let is_gone = async || {
            let described = client.describe(&n.to_string()).await;
            matches!(described, Err(Error::NotFound))
        };
        eventually("it is deleted", is_gone).await;
    }
    assert_eq!(kept.result().await.unwrap(), Vec::<u32>::new());
    client.signal("open", "number", &7).await.unwrap();
    assert_eq!(open.result().await.unwrap(), [7]);
    worker.shutdown().await;
}

async fn a_workflow_id_is_free_again_after_the_retention(storage: Storage) {
    let builder = quick().workflow(doubled).activity(double);
    let worker = storage
        .start(builder.retention("doubled", Duration::ZERO))
        .await;
    let client = worker.client();
    for n in 0..3 {
        // A start meets the run before, or room for a new one.
        let starts_anew = async || {
            let handle = client.start(doubled, "a", n).await.unwrap();
            handle.is_new()
        };
        eventually("it starts anew", starts_anew).await;
    }
    worker.shutdown().await;
}
