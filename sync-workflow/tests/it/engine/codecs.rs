//! Payloads that are compressed and encrypted.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sync_workflow::{
    Client, Context, Failure, RunError, Worker,
    client::{Error, ExportedPayload},
    id::{Position, RunId},
    journal::{self, Journal, MAX_PAYLOAD_BYTES},
    payload::{CodecError, Codecs, EncryptionKeys},
    status::RunStatus,
    worker::WorkerBuilder,
};

use super::{Storage, eventually, on_every_journal, quick};

on_every_journal![
    nothing_that_a_workflow_handles_is_stored_in_the_clear,
    a_run_goes_on_while_its_keys_are_replaced,
    a_run_whose_key_is_not_known_is_parked_and_goes_on_with_it,
    a_journal_from_before_is_read_and_goes_on,
    a_value_at_the_limit_is_stored_and_a_larger_one_is_refused,
];

const SECRET: &str = "4000-1234-5678-9010";

fn key(number: u8) -> [u8; 32] {
    [number; 32]
}

fn codecs(newest: u8, known: &[u8]) -> Codecs {
    let keys = EncryptionKeys::new(&format!("key {newest}"), key(newest)).unwrap();
    let keys = known.iter().fold(keys, |keys, number| {
        keys.and_known(&format!("key {number}"), key(*number))
            .unwrap()
    });
    Codecs::json().zstd(3).aes_256_gcm(keys)
}

async fn echo(text: String) -> Result<String, Failure> {
    Ok(text)
}

async fn declines(text: String) -> Result<(), Failure> {
    Err(Failure::final_error(text))
}

async fn child(_ctx: Context, text: String) -> Result<String, Failure> {
    Ok(text)
}

/// Has a payload of every kind, and waits in the middle.
async fn secretive(ctx: Context, text: String) -> Result<String, Failure> {
    let text = ctx.activity(echo, text).await?;
    let refused = ctx.activity(declines, text.clone()).await;
    assert!(refused.is_err(), "it declines");
    let text = ctx.child(child, text).await?;
    ctx.publish("shown", &text)?;
    let sent: String = ctx.wait("sent").await?;
    ctx.sleep(Duration::from_millis(1)).await?;
    let drawn: String = ctx.side_effect("drawn", move || sent);
    Ok(ctx.activity(echo, format!("{text}{drawn}")).await?)
}

fn builder() -> WorkerBuilder {
    let builder = quick().workflow(secretive).workflow(child);
    builder.activity(echo).activity(declines)
}

async fn started(worker: &Worker, id: &str) -> RunId {
    let client = worker.client();
    let handle = client.start(secretive, id, SECRET.into()).await;
    handle.unwrap().run_id()
}

async fn asleep(client: &Client, id: &str) {
    eventually("it sleeps", || async {
        client.describe(id).await.unwrap().status == RunStatus::Pending
    })
    .await;
}

async fn finished(client: &Client, id: &str) {
    client.signal(id, "sent", SECRET).await.unwrap();
    let handle = client.handle(secretive, id).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), SECRET.repeat(2));
}

/// The payloads of a run as they are stored.
async fn stored(journal: &dyn Journal, run: RunId) -> Vec<Bytes> {
    let history = journal.load(run, Position(0), 1_000).await.unwrap();
    let records = history.records.into_iter();
    records.map(|record| record.payload).collect()
}

fn holds_secret(payload: &[u8]) -> bool {
    payload
        .windows(SECRET.len())
        .any(|part| part == SECRET.as_bytes())
}

async fn nothing_that_a_workflow_handles_is_stored_in_the_clear(storage: Storage) {
    let worker = storage.start(builder().codecs(codecs(1, &[]))).await;
    let client = worker.client();
    let run = started(&worker, "a").await;
    let shown = async || {
        let selector = client_selector("a");
        let shown = storage.journal.published(&selector, "shown").await;
        shown.unwrap()
    };
    eventually("it shows something", async || shown().await.is_some()).await;
    asleep(&client, "a").await;
    assert!(!holds_secret(&shown().await.unwrap().payload));
    let other = Client::new(Arc::clone(&storage.journal)).codecs(&codecs(1, &[]));
    assert_eq!(
        other
            .published::<String>("a", "shown")
            .await
            .unwrap()
            .unwrap(),
        SECRET
    );
    finished(&other, "a").await;
    let payloads = stored(&*storage.journal, run).await;
    assert!(payloads.len() > 8, "{payloads:?}");
    for payload in payloads.iter().filter(|payload| !payload.is_empty()) {
        assert!(payload.starts_with(b"\x03\x05key 1"), "{payload:?}");
        assert!(!holds_secret(payload));
    }

    let blind = Client::new(Arc::clone(&storage.journal));
    let exported = blind.export(run).await.unwrap();
    let is_encoded = |payload: &ExportedPayload| matches!(payload, ExportedPayload::Encoded(_));
    assert!(is_encoded(&exported.records[0].payload));
    let failed = blind.handle(secretive, "a").await.unwrap().result().await;
    let Err(RunError::Ended(failure)) = failed else {
        panic!("{failed:?}");
    };
    assert!(
        failure.message.contains("no codecs were given"),
        "{failure:?}"
    );
    let exported = other.export(run).await.unwrap();
    assert!(
        exported
            .records
            .iter()
            .all(|record| !is_encoded(&record.payload))
    );
    let wrong = Client::new(Arc::clone(&storage.journal)).codecs(&codecs(2, &[]));
    assert!(is_encoded(
        &wrong.export(run).await.unwrap().records[0].payload
    ));
    let unknown = wrong.handle(secretive, "a").await.unwrap().result().await;
    let Err(RunError::Client(Error::Journal(journal::Error::Codec(error)))) = unknown else {
        panic!("{unknown:?}");
    };
    let key = "key 1".to_owned();
    assert_eq!(error, CodecError::UnknownKey { key });
    worker.shutdown().await;
}

fn client_selector(id: &str) -> journal::RunSelector {
    journal::RunSelector::Latest(sync_workflow::id::WorkflowId::new(id).unwrap())
}

async fn a_run_goes_on_while_its_keys_are_replaced(storage: Storage) {
    let worker = storage.start(builder().codecs(codecs(1, &[2]))).await;
    let run = started(&worker, "a").await;
    asleep(&worker.client(), "a").await;
    worker.shutdown().await;
    let worker = storage.start(builder().codecs(codecs(2, &[1]))).await;
    finished(&worker.client(), "a").await;
    worker.shutdown().await;
    let payloads = stored(&*storage.journal, run).await;
    let count = |key: &str| {
        let key = [b"\x03\x05", key.as_bytes()].concat();
        payloads
            .iter()
            .filter(|payload| payload.starts_with(&key))
            .count()
    };
    assert!(count("key 1") > 3 && count("key 2") > 3, "{payloads:?}");
}

async fn a_run_whose_key_is_not_known_is_parked_and_goes_on_with_it(storage: Storage) {
    let worker = storage.start(builder().codecs(codecs(1, &[]))).await;
    started(&worker, "a").await;
    asleep(&worker.client(), "a").await;
    worker.shutdown().await;

    let worker = storage.start(builder().codecs(codecs(2, &[]))).await;
    let client = worker.client();
    client.signal("a", "sent", SECRET).await.unwrap();
    let handle = client.handle(secretive, "a").await.unwrap();
    let Err(RunError::Parked { reason }) = handle.result().await else {
        panic!("it cannot be read");
    };
    assert!(
        reason.contains("encrypted with the key \"key 1\""),
        "{reason}"
    );
    worker.shutdown().await;

    let worker = storage.start(builder().codecs(codecs(2, &[1]))).await;
    worker.client().unpark("a").await.unwrap();
    let handle = worker.client().handle(secretive, "a").await.unwrap();
    assert_eq!(handle.result().await.unwrap(), SECRET.repeat(2));
    worker.shutdown().await;
}

async fn a_journal_from_before_is_read_and_goes_on(storage: Storage) {
    let worker = storage.start(builder()).await;
    let run = started(&worker, "a").await;
    asleep(&worker.client(), "a").await;
    worker.shutdown().await;
    let worker = storage.start(builder().codecs(codecs(1, &[]))).await;
    finished(&worker.client(), "a").await;
    worker.shutdown().await;
    let payloads = stored(&*storage.journal, run).await;
    let in_the_clear = payloads.iter().filter(|payload| holds_secret(payload));
    assert!(in_the_clear.count() >= 3, "what was stored stays as it was");
    assert!(!holds_secret(payloads.last().unwrap()));
}

async fn large(_ctx: Context, text: String) -> Result<usize, Failure> {
    Ok(text.len())
}

async fn a_value_at_the_limit_is_stored_and_a_larger_one_is_refused(storage: Storage) {
    let worker = storage
        .start(builder().workflow(large).codecs(codecs(1, &[])))
        .await;
    let client = worker.client();
    // It does not compress, so that what is stored is longer than the value.
    let mut random = fastrand::Rng::with_seed(7);
    let mut text: String = std::iter::repeat_with(|| random.alphanumeric())
        .take(MAX_PAYLOAD_BYTES - 2)
        .collect();
    let handle = client
        .start(large, "at the limit", text.clone())
        .await
        .unwrap();
    assert_eq!(handle.result().await.unwrap(), text.len());
    text.push('a');
    let refused = client.start(large, "over the limit", text).await;
    assert!(
        matches!(
            refused,
            Err(Error::Journal(journal::Error::PayloadTooLarge { .. }))
        ),
        "{refused:?}"
    );
    worker.shutdown().await;
}
