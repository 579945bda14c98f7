//! Starts and signals inside the application's own transactions.

use std::{future::Future, time::Duration};

use sqlx::{Connection, Database, PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};
use sync_workflow::{
    Client, Context, Failure, Worker, client, journal::StepTransaction, worker::WorkerBuilder,
};

use super::{eventually, quick};

async fn greets(_ctx: Context, name: String) -> Result<String, Failure> {
    Ok(format!("hello, {name}"))
}

async fn listens(ctx: Context, count: u32) -> Result<Vec<u32>, Failure> {
    let mut heard = Vec::new();
    for _ in 0..count {
        heard.push(ctx.wait::<u32>("number").await?);
    }
    Ok(heard)
}

/// A worker that looks around by itself so rarely that only a hint can have told it.
fn deaf() -> WorkerBuilder {
    quick()
        .poll_interval(Duration::from_secs(3_600))
        .workflow(greets)
        .workflow(listens)
}

/// Fails long before the next look around.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(100), future)
        .await
        .expect("nobody was told")
}

/// An application with a table of orders beside the journal.
struct Application<DB: Database> {
    url: String,
    connection: DB::Connection,
    _keep: Box<dyn std::any::Any + Send>,
}

/// What an application does with its database.
trait Orders: Database<Connection: Connection<Database = Self>> {
    /// How a transaction that writes begins.
    const BEGIN: &'static str;

    async fn open() -> Application<Self>;
    async fn place(connection: &mut Self::Connection);
    async fn count(connection: &mut Self::Connection) -> i64;
}

const CREATE: &str = "create table orders (number integer)";
const PLACE: &str = "insert into orders values (1)";
const COUNT: &str = "select count(*) from orders";

impl Orders for Postgres {
    const BEGIN: &'static str = "BEGIN";

    async fn open() -> Application<Self> {
        let database = throwaway_postgres::Database::create().unwrap();
        let mut connection = PgConnection::connect(database.url()).await.unwrap();
        sqlx::query(CREATE).execute(&mut connection).await.unwrap();
        Application {
            url: database.url().to_owned(),
            connection,
            _keep: Box::new(database),
        }
    }

    async fn place(connection: &mut PgConnection) {
        sqlx::query(PLACE).execute(connection).await.unwrap();
    }

    async fn count(connection: &mut PgConnection) -> i64 {
        sqlx::query_scalar(COUNT)
            .fetch_one(connection)
            .await
            .unwrap()
    }
}

impl Orders for Sqlite {
    const BEGIN: &'static str = "BEGIN IMMEDIATE";

    async fn open() -> Application<Self> {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("app.db").display());
        // The journal creates the file.
        drop(sync_workflow::journal::connect(&url).await.unwrap());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        sqlx::query(CREATE).execute(&mut connection).await.unwrap();
        Application {
            url,
            connection,
            _keep: Box::new(directory),
        }
    }

    async fn place(connection: &mut SqliteConnection) {
        sqlx::query(PLACE).execute(connection).await.unwrap();
    }

    async fn count(connection: &mut SqliteConnection) -> i64 {
        sqlx::query_scalar(COUNT)
            .fetch_one(connection)
            .await
            .unwrap()
    }
}

impl<DB: Orders> Application<DB> {
    async fn begin(&mut self) -> Transaction<'_, DB> {
        self.connection.begin_with(DB::BEGIN).await.unwrap()
    }

    async fn worker(&self) -> Worker {
        deaf().start(&self.url).await.unwrap()
    }
}

async fn a_start_happens_with_its_transaction_or_not_at_all<DB: Orders>()
where
    for<'a> &'a mut DB::Connection: Into<StepTransaction<'a>>,
{
    let mut application = DB::open().await;
    let worker = application.worker().await;
    // The worker's own client, and one of a process without a worker.
    let stranger = Client::connect(&application.url).await.unwrap();
    for (client, id) in [(worker.client(), "here"), (stranger, "elsewhere")] {
        let before = DB::count(&mut application.connection).await;

        let mut transaction = application.begin().await;
        DB::place(&mut transaction).await;
        let start = client.start(greets, id, "nobody".into());
        assert!(start.start_in(&mut *transaction).await.unwrap().is_new());
        transaction.rollback().await.unwrap();
        assert!(matches!(
            client.describe(id).await,
            Err(client::Error::NotFound)
        ));
        assert_eq!(DB::count(&mut application.connection).await, before);

        let mut transaction = application.begin().await;
        DB::place(&mut transaction).await;
        let start = client.start(greets, id, "world".into());
        let handle = start.start_in(&mut *transaction).await.unwrap();
        assert!(handle.is_new());
        transaction.commit().await.unwrap();
        client.wake_up("default").await;
        assert_eq!(soon(handle.result()).await.unwrap(), "hello, world");
        assert_eq!(DB::count(&mut application.connection).await, before + 1);
    }
    worker.shutdown().await;
}

async fn starts_of_one_workflow_id_share_one_run<DB: Orders>()
where
    for<'a> &'a mut DB::Connection: Into<StepTransaction<'a>>,
{
    let mut application = DB::open().await;
    let worker = application.worker().await;
    let client = worker.client();
    let mut transaction = application.begin().await;
    let start = |name: &str| client.start(greets, "once", name.into());
    let first = start("one").start_in(&mut *transaction).await.unwrap();
    let second = start("two").start_in(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let mut transaction = application.begin().await;
    let third = start("three").start_in(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(first.is_new() && !second.is_new() && !third.is_new());
    assert_eq!(second.run_id(), first.run_id());
    assert_eq!(third.run_id(), first.run_id());
    client.wake_up("default").await;
    assert_eq!(soon(third.result()).await.unwrap(), "hello, one");
    worker.shutdown().await;
}

async fn a_signal_happens_with_its_transaction_or_not_at_all<DB: Orders>()
where
    for<'a> &'a mut DB::Connection: Into<StepTransaction<'a>>,
{
    let mut application = DB::open().await;
    let worker = application.worker().await;
    let stranger = Client::connect(&application.url).await.unwrap();
    let handle = worker.client().start(listens, "a", 2).await.unwrap();
    eventually("the run sleeps", || async { worker.resident_runs() == 0 }).await;
    for (client, number) in [(worker.client(), 1_u32), (stranger, 2)] {
        let id = number.to_string();
        let mut transaction = application.begin().await;
        let lost = client
            .signal_in(&mut *transaction, "a", "number", &id, &99)
            .await;
        assert!(lost.is_ok(), "{lost:?}");
        transaction.rollback().await.unwrap();

        // Twice, and received once.
        let mut transaction = application.begin().await;
        for _ in 0..2 {
            DB::place(&mut transaction).await;
            let news = client
                .signal_in(&mut *transaction, "a", "number", &id, &number)
                .await
                .unwrap();
            drop(news);
        }
        let news = client
            .signal_in(&mut *transaction, "a", "noise", &format!("noise {id}"), &())
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        news.announce().await;
        eventually("the run has seen the signal and sleeps again", || async {
            let records = client.history(handle.run_id(), 0, 10).await.unwrap().items;
            records.len() > number as usize && worker.resident_runs() == 0
        })
        .await;
    }
    assert_eq!(soon(handle.result()).await.unwrap(), [1, 2]);
    assert_eq!(DB::count(&mut application.connection).await, 4);
    worker.shutdown().await;
}

async fn a_run_in_memory_is_told_of_a_committed_signal<DB: Orders>()
where
    for<'a> &'a mut DB::Connection: Into<StepTransaction<'a>>,
{
    let mut application = DB::open().await;
    let stays = deaf().evict_after(Duration::from_secs(3_600));
    let worker = stays.start(&application.url).await.unwrap();
    let stranger = Client::connect(&application.url).await.unwrap();
    let handle = worker.client().start(listens, "a", 2).await.unwrap();
    for (client, number) in [(worker.client(), 1_u32), (stranger, 2)] {
        let id = number.to_string();
        let mut transaction = application.begin().await;
        let news = client
            .signal_in(&mut *transaction, "a", "number", &id, &number)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        news.announce().await;
    }
    assert_eq!(soon(handle.result()).await.unwrap(), [1, 2]);
    worker.shutdown().await;
}

async fn a_signal_to_nobody_is_an_error_and_spoils_nothing<DB: Orders>()
where
    for<'a> &'a mut DB::Connection: Into<StepTransaction<'a>>,
{
    let mut application = DB::open().await;
    let worker = application.worker().await;
    let client = worker.client();
    let mut transaction = application.begin().await;
    DB::place(&mut transaction).await;
    let nobody = client
        .signal_in(&mut *transaction, "a", "number", "1", &1)
        .await;
    assert!(matches!(nobody, Err(client::Error::NotOpen)), "{nobody:?}");
    // A run that the same transaction starts hears it.
    let handle = client
        .start(listens, "a", 1)
        .start_in(&mut *transaction)
        .await
        .unwrap();
    client
        .signal_in(&mut *transaction, "a", "number", "1", &1)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    client.wake_up("default").await;
    assert_eq!(soon(handle.result()).await.unwrap(), [1]);
    assert_eq!(DB::count(&mut application.connection).await, 1);
    worker.shutdown().await;
}

async fn a_signal_with_start_happens_with_its_transaction_or_not_at_all<DB: Orders>()
where
    for<'a> &'a mut DB::Connection: Into<StepTransaction<'a>>,
{
    let mut application = DB::open().await;
    let worker = application.worker().await;
    let stranger = Client::connect(&application.url).await.unwrap();
    for (client, id) in [(worker.client(), "here"), (stranger, "elsewhere")] {
        let signalled = |number: u32| {
            let start = client.start(listens, id, 2);
            start.signal_once("number", &number.to_string(), &number)
        };
        let mut transaction = application.begin().await;
        signalled(1).start_in(&mut *transaction).await.unwrap();
        transaction.rollback().await.unwrap();
        assert!(matches!(
            client.describe(id).await,
            Err(client::Error::NotFound)
        ));

        let mut transaction = application.begin().await;
        let (handle, first) = signalled(1).start_in(&mut *transaction).await.unwrap();
        let (same, second) = signalled(2).start_in(&mut *transaction).await.unwrap();
        let (again, none) = signalled(2).start_in(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
        assert!(handle.is_new() && !same.is_new() && !again.is_new());
        assert_eq!(same.run_id(), handle.run_id());
        assert_eq!(again.run_id(), handle.run_id());
        for news in [first, second, none] {
            news.announce().await;
        }
        assert_eq!(soon(handle.result()).await.unwrap(), [1, 2]);
    }
    worker.shutdown().await;
}

macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        mod postgres { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name::<sqlx::Postgres>().await }
        )* }
        mod sqlite { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name::<sqlx::Sqlite>().await }
        )* }
    };
}

on_both_databases![
    a_start_happens_with_its_transaction_or_not_at_all,
    starts_of_one_workflow_id_share_one_run,
    a_signal_happens_with_its_transaction_or_not_at_all,
    a_run_in_memory_is_told_of_a_committed_signal,
    a_signal_to_nobody_is_an_error_and_spoils_nothing,
    a_signal_with_start_happens_with_its_transaction_or_not_at_all,
];
