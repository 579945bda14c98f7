//! Payloads that are offloaded, in the tables of a database: what is damaged is found, and what nobody wants is gone.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use sync_workflow::{
    Client, Context, Failure, RunError,
    id::{Position, RunId, WorkflowId},
    journal::{
        self, IdReuse, Journal, NewRun, Piece, PiecePlace, Placement, Ticket,
        memory::MemoryJournal, sqlite::SqliteJournal,
    },
    payload::{CodecError, Codecs},
    tag::Tags,
};
use throwaway_postgres::Database;
use uuid::Uuid;

use crate::engine::quick;

const DAY: Duration = Duration::from_secs(86_400);

async fn tells(_ctx: Context, text: String) -> Result<usize, Failure> {
    Ok(text.len())
}

/// A piece for a run that is about to be started.
fn before_birth() -> Piece {
    Piece {
        run: RunId::from_uuid(Uuid::now_v7()),
        place: PiecePlace {
            digest: 7,
            number: 0,
        },
        bytes: vec![1; 10].into(),
        is_before_birth: true,
    }
}

fn born(run: RunId) -> NewRun {
    NewRun {
        run,
        chain: run,
        workflow_id: WorkflowId::new("born").unwrap(),
        workflow: "tells".into(),
        queue: "default".into(),
        input: "1".into(),
        reuse: IdReuse::ReturnExisting,
        parent: None,
        trace: None,
        placement: Placement::Anywhere,
        ticket: Ticket::default(),
        tags: Tags::new(),
        carried_over: Vec::new(),
    }
}

/// Two runs were about to be started, one was, and both their starters died. A day later somebody keeps something.
async fn what_was_never_started_is_forgotten_a_day_later(
    journal: Arc<dyn Journal>,
    pass_a_day: impl AsyncFn(),
) {
    let (lost, started) = (before_birth(), before_birth());
    for piece in [&lost, &started] {
        journal.keep_piece(piece).await.unwrap();
    }
    journal.start(&born(started.run)).await.unwrap();
    journal.keep_piece(&before_birth()).await.unwrap();
    assert!(journal.piece(lost.run, lost.place).await.unwrap().is_some());
    pass_a_day().await;
    journal.keep_piece(&before_birth()).await.unwrap();
    assert_eq!(journal.piece(lost.run, lost.place).await.unwrap(), None);
    let kept = journal.piece(started.run, started.place).await.unwrap();
    assert_eq!(kept, Some(started.bytes));
}

/// A clock that a test moves.
fn movable() -> (
    Arc<std::sync::Mutex<Timestamp>>,
    impl Fn() -> Timestamp + Send + Sync + 'static,
) {
    let now = Arc::new(std::sync::Mutex::new(Timestamp::UNIX_EPOCH));
    let clock = Arc::clone(&now);
    (now, move || *clock.lock().unwrap())
}

#[tokio::test]
async fn what_was_never_started_is_forgotten_in_memory() {
    let (now, clock) = movable();
    let journal = Arc::new(MemoryJournal::with_clock(clock));
    what_was_never_started_is_forgotten_a_day_later(journal, async || {
        *now.lock().unwrap() += DAY + Duration::from_secs(1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_started_is_forgotten_in_sqlite() {
    let (now, clock) = movable();
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("journal.db").display());
    let journal = SqliteJournal::connect_with_clock(&url, clock)
        .await
        .unwrap();
    what_was_never_started_is_forgotten_a_day_later(Arc::new(journal), async || {
        *now.lock().unwrap() += DAY + Duration::from_secs(1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_started_is_forgotten_in_postgres() {
    let database = Database::create().unwrap();
    let journal = journal::connect(database.url()).await.unwrap();
    what_was_never_started_is_forgotten_a_day_later(journal, async || {
        database
            .psql("UPDATE sync_workflow.payload_births SET kept_at = kept_at - interval '25 hours'")
            .unwrap();
    })
    .await;
}

/// Damages the input of a run in each way, and looks whether the run is parked, and whether it goes on once it is mended.
async fn damage_is_found_before_any_effect(
    url: &str,
    table: &str,
    execute: impl AsyncFn(&str, String),
) {
    let journal = journal::connect(url).await.unwrap();
    let codecs = Codecs::json().offload().offload_from(1_000);
    let client = Client::new(Arc::clone(&journal)).codecs(&codecs);
    let input = "x".repeat(3 * Piece::BYTES);
    let damages = [
        ("missing", format!("DELETE FROM {table} WHERE number = 2")),
        // The same length, and other bytes.
        (
            "damaged",
            format!(
                "UPDATE {table} SET bytes = (SELECT other.bytes FROM {table} AS other WHERE other.number = 1) WHERE number = 0"
            ),
        ),
    ];
    for (what, damage) in damages {
        let handle = client.start(tells, what, input.clone()).await.unwrap();
        execute(url, damage).await;
        let loaded = codecs
            .on(Arc::clone(&journal))
            .load(handle.run_id(), Position(0), 10)
            .await;
        let found = matches!(
            (&loaded, what),
            (
                Err(journal::Error::Codec(CodecError::Missing { piece: 2 })),
                "missing"
            ) | (
                Err(journal::Error::Codec(CodecError::Damaged { .. })),
                "damaged"
            )
        );
        assert!(found, "{what}: {loaded:?}");
        let worker = quick()
            .codecs(codecs.clone())
            .workflow(tells)
            .start_on(Arc::clone(&journal))
            .await
            .unwrap();
        let ended = handle.result().await;
        assert!(
            matches!(&ended, Err(RunError::Parked { reason }) if reason.contains("offloaded") || reason.contains("damaged")),
            "{ended:?}"
        );
        worker.shutdown().await;
        execute(url, format!("DELETE FROM {table}")).await;
    }
}

/// Executes a statement that changes pieces.
async fn change<C: Connection>(url: &str, statement: String)
where
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
{
    let mut connection = C::connect(url).await.unwrap();
    let statement = AssertSqlSafe(statement + " RETURNING number");
    assert!(!connection.fetch_all(statement).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_in_postgres() {
    let database = Database::create().unwrap();
    let url = database.url();
    let table = "sync_workflow.payload_pieces";
    damage_is_found_before_any_effect(url, table, change::<PgConnection>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_in_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("journal.db").display());
    let table = "sync_workflow_payload_pieces";
    damage_is_found_before_any_effect(&url, table, change::<SqliteConnection>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_with_psql_sees_what_is_offloaded() {
    let database = Database::create().unwrap();
    let journal = journal::connect(database.url()).await.unwrap();
    let client = Client::new(journal).codecs(&Codecs::json().offload());
    let input = "x".repeat(300_000);
    client.start(tells, "a", input).await.unwrap();
    let shown = database
        .psql("SELECT payload FROM sync_workflow.history")
        .unwrap();
    assert_eq!(shown, "(300002 bytes, offloaded)");
}
