//! Payloads that are offloaded from their records.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use sync_workflow::{
    Activity, ActivityContext, Client, Context, Failure, RunError, Worker,
    client::{Error, ExportedPayload, ForkPoint},
    id::Position,
    journal::{self, MAX_PAYLOAD_BYTES, memory::MemoryJournal},
    payload::Codecs,
    testing::{ReplayCheck, crash_sweep},
};

use super::{Storage, eventually, on_every_journal, quick};

on_every_journal![
    large_payloads_are_offloaded_on_all_their_ways,
    a_large_payload_is_exported_and_imported_whole,
    what_is_larger_than_the_limit_is_refused,
    what_stays_in_its_row_keeps_its_limit,
];

const MIB: usize = 1024 * 1024;

fn codecs() -> Codecs {
    Codecs::json().offload()
}

/// A text of so many bytes, in which no piece is like another.
fn text(bytes: usize) -> String {
    let mut text: String = (0_u64..)
        .map(|number| format!("{number:x},"))
        .scan(0, |length, part| {
            let is_within = *length < bytes;
            *length += part.len();
            is_within.then_some(part)
        })
        .collect();
    text.truncate(bytes);
    text
}

async fn longer(text: String) -> Result<String, Failure> {
    Ok(text + "!")
}

async fn child(_ctx: Context, text: String) -> Result<String, Failure> {
    Ok(text + "?")
}

/// Takes its input through an activity and a child, and another run.
async fn grows(ctx: Context, (is_second, text): (bool, String)) -> Result<String, Failure> {
    let text = ctx.activity(longer, text).await?;
    ctx.wait::<()>("go on").await?;
    let text = ctx.child(child, text).await?;
    match is_second {
        true => Ok(text),
        false => ctx.continue_as_new(grows, (true, text)).await,
    }
}

async fn twice(text: String) -> Result<String, Failure> {
    Ok(text.repeat(2))
}

async fn repeats(ctx: Context, text: String) -> Result<String, Failure> {
    Ok(ctx.activity(twice, text).await?)
}

async fn started(storage: &Storage, codecs: Codecs) -> Worker {
    let builder = quick()
        .codecs(codecs)
        .workflow(grows)
        .workflow(child)
        .workflow(repeats)
        .activity(longer)
        .activity(twice);
    storage.start(builder).await
}

async fn large_payloads_are_offloaded_on_all_their_ways(storage: Storage) {
    let worker = started(&storage, codecs()).await;
    let stranger = Client::new(Arc::clone(&storage.journal)).codecs(&codecs());
    let input = text(MAX_PAYLOAD_BYTES + MIB);
    for (client, id) in [(worker.client(), "here"), (stranger, "elsewhere")] {
        let start = client.start(grows, id, (false, input.clone()));
        let handle = start.await.unwrap();
        for _ in 0..2 {
            eventually("the run leaves memory", || async {
                let info = client.describe(id).await.unwrap();
                worker.resident_runs() == 0 && !info.status.is_closed()
            })
            .await;
            let run = client.describe(id).await.unwrap().run;
            client.signal(id, "go on", &()).await.unwrap();
            eventually("the run has ended", || async {
                client.describe_run(run).await.unwrap().status.is_closed()
            })
            .await;
            // The rows are small, whatever they refer to.
            let journal = &storage.journal;
            let records = journal.history(run, Position(0), 100).await.unwrap().items;
            let stored = records.iter().map(|item| item.record.payload.len());
            assert!(stored.max().unwrap() < 200, "{records:?}");
        }
        let result = handle.result().await.unwrap();
        assert!(result == format!("{input}!?!?"), "{} bytes", result.len());
    }
    worker.shutdown().await;
}

async fn a_large_payload_is_exported_and_imported_whole(storage: Storage) {
    let worker = started(&storage, codecs()).await;
    let client = worker.client();
    let input = text(MIB);
    let start = client.start(grows, "a", (false, input.clone()));
    let handle = start.await.unwrap();
    eventually("the activity has ended", || async {
        let run = handle.run_id();
        client.history(run, 0, 10).await.unwrap().items.len() == 2
    })
    .await;
    let history = client.export(handle.run_id()).await.unwrap();
    let is_whole = |payload: &ExportedPayload| matches!(payload, ExportedPayload::Json(json) if json.get().len() > MIB);
    assert!(
        history
            .records
            .iter()
            .all(|record| is_whole(&record.payload))
    );
    // A fork has its own copies.
    let copy = client
        .fork(handle.run_id(), ForkPoint::End, "copy")
        .await
        .unwrap();
    let copied = client.export(copy).await.unwrap().records;
    assert!(
        copied
            .iter()
            .take(2)
            .all(|record| is_whole(&record.payload))
    );
    // Without the chain it is told that there is something.
    let plain = Client::new(Arc::clone(&storage.journal));
    let unread = plain.export(handle.run_id()).await.unwrap();
    assert!(
        matches!(&unread.records[0].payload, ExportedPayload::Encoded(digits) if digits.len() == 50)
    );
    worker.shutdown().await;

    let check = ReplayCheck::of_history(grows, &history).unwrap();
    check.whole().unwrap();
    let elsewhere = Client::new(Arc::new(MemoryJournal::new())).codecs(&codecs());
    let run = elsewhere.import(&history).await.unwrap();
    let again = elsewhere.export(run).await.unwrap();
    let json = |history| serde_json::to_string(history).unwrap();
    assert!(json(&again.records) == json(&history.records));
}

async fn what_is_larger_than_the_limit_is_refused(storage: Storage) {
    let limit = MAX_PAYLOAD_BYTES + MIB;
    let worker = started(&storage, codecs().offload_up_to(limit)).await;
    let client = worker.client();
    let too_long = (false, text(limit));
    let refused = client.start(grows, "a", too_long).await;
    assert!(
        matches!(
            &refused,
            Err(Error::Journal(journal::Error::PayloadTooLarge { limit: known, .. })) if *known == limit
        ),
        "{refused:?}"
    );
    assert!(matches!(client.describe("a").await, Err(Error::NotFound)));
    // What an activity returns is refused where it is returned.
    let half = text(limit / 2);
    let handle = client.start(repeats, "b", half).await.unwrap();
    let ended = handle.result().await;
    let said = format!("more than the limit of {limit} bytes");
    assert!(
        matches!(&ended, Err(RunError::Failed(failure)) if failure.message.contains(&said)),
        "{ended:?}"
    );
    worker.shutdown().await;
}

async fn what_stays_in_its_row_keeps_its_limit(storage: Storage) {
    let worker = started(&storage, codecs()).await;
    let client = worker.client();
    let large = text(MAX_PAYLOAD_BYTES);
    let start = client.start(grows, "a", (false, large.clone()));
    let debounced = start.debounce(std::time::Duration::ZERO, std::time::Duration::ZERO);
    let refused = |error: &Error| matches!(error, Error::Journal(journal::Error::PayloadTooLarge { limit, .. }) if *limit == MAX_PAYLOAD_BYTES);
    assert!(debounced.await.is_err_and(|error| refused(&error)));
    let handle = client
        .start(grows, "a", (false, large.clone()))
        .await
        .unwrap();
    let signalled = handle.signal("go on", &large).await;
    assert!(signalled.is_err_and(|error| refused(&error)));
    handle.terminate("enough").await.unwrap();
    worker.shutdown().await;
}

/// What was written, by idempotency key.
type Ledger = Mutex<BTreeMap<String, String>>;

struct Note(Arc<Ledger>);

impl Activity for Note {
    const NAME: &'static str = "note";
    type Input = String;
    type Output = String;
    type Error = Failure;

    async fn run(&self, ctx: ActivityContext, text: String) -> Result<String, Failure> {
        let key = ctx.idempotency_key();
        self.0.lock().unwrap().insert(key, text.clone());
        Ok(text + "!")
    }
}

async fn notes(ctx: Context, (left, text): (u32, String)) -> Result<String, Failure> {
    let text = ctx.activity(Note::activity(), text).await?;
    let text = ctx.child(child, text).await?;
    match left {
        0 => Ok(text),
        _ => ctx.continue_as_new(notes, (left - 1, text)).await,
    }
}

/// Pieces are kept before what refers to them: whatever dies in between, nothing refers to what is not there.
#[test]
fn whatever_dies_between_a_piece_and_its_record_nothing_is_missing() {
    fn codecs() -> Codecs {
        Codecs::json().offload().offload_from(1)
    }
    let sweep = crash_sweep(
        |ledger: &Arc<Ledger>| {
            let builder = Worker::builder().codecs(codecs());
            let builder = builder.workflow(notes).workflow(child);
            builder.activity(Note(Arc::clone(ledger)))
        },
        async |client: &Client| {
            let client = client.clone().codecs(&codecs());
            let start = client.start(notes, "notes", (1, "text".into()));
            start.await.unwrap().result().await.unwrap()
        },
        |ledger| {
            let written: Vec<_> = ledger.lock().unwrap().values().cloned().collect();
            assert_eq!(written, ["text", "text!?"]);
        },
    );
    assert!(sweep.crashes > 0);
}
