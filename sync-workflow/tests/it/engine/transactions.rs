//! Transactional steps.

use std::sync::atomic::{AtomicU32, Ordering};

use sync_workflow::{ActivityContext, Context, Failure, Tx, status::RunStatus};

use super::{eventually, quick};

async fn debit(ctx: Context, amount: i64) -> Result<i64, Failure> {
    let balance: i64 = ctx
        .transaction("debit", async move |mut tx: Tx| {
            let sql = "update account set balance = balance - $1 returning balance";
            let balance: i64 = sqlx::query_scalar(sql)
                .bind(amount)
                .fetch_one(tx.postgres()?)
                .await?;
            Ok::<_, Failure>(balance)
        })
        .await?;
    let refused = ctx
        .transaction::<(), _, _, _>("refused", async move |mut tx: Tx| {
            sqlx::query("update account set balance = -1")
                .execute(tx.postgres()?)
                .await?;
            Err(Failure::new("no"))
        })
        .await;
    assert!(refused.is_err());
    ctx.activity(credit, 1).await?;
    ctx.wait::<()>("go").await?;
    Ok(balance)
}

/// The first time, its server is one that cannot be written to, as a standby is.
async fn meets_a_standby(ctx: Context, (): ()) -> Result<(), Failure> {
    static TRIES: AtomicU32 = AtomicU32::new(0);
    Ok(ctx
        .transaction("write", async move |mut tx: Tx| {
            if TRIES.fetch_add(1, Ordering::SeqCst) == 0 {
                sqlx::query("set transaction read only")
                    .execute(tx.postgres()?)
                    .await?;
            }
            sqlx::query("insert into account values (1)")
                .execute(tx.postgres()?)
                .await?;
            Ok::<_, Failure>(())
        })
        .await?)
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_meets_a_standby_is_repeated() {
    let database = throwaway_postgres::Database::create().unwrap();
    database
        .psql("create table account (balance bigint not null)")
        .unwrap();
    let worker = quick()
        .workflow(meets_a_standby)
        .start(database.url())
        .await
        .unwrap();
    let handle = worker
        .client()
        .start(meets_a_standby, "a", ())
        .await
        .unwrap();
    handle.result().await.unwrap();
    assert_eq!(
        database
            .psql("select count(*) from account")
            .unwrap()
            .trim(),
        "1"
    );
    worker.shutdown().await;
}

/// An activity whose writes commit with its record.
async fn credit(ctx: ActivityContext, amount: i64) -> Result<(), Failure> {
    let mut tx = ctx.begin().await?;
    sqlx::query("update account set balance = balance + $1")
        .bind(amount)
        .execute(tx.postgres()?)
        .await?;
    if ctx.attempt() == 1 {
        return Err(Failure::new("the first attempt is rolled back"));
    }
    Ok(())
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transactional_step_happens_once() {
    let database = throwaway_postgres::Database::create().unwrap();
    database
        .psql("create table account (balance bigint not null); insert into account values (100)")
        .unwrap();
    let build = || quick().workflow(debit).activity(credit);
    let worker = build().start(database.url()).await.unwrap();
    let handle = worker.client().start(debit, "a", 30).await.unwrap();
    eventually("the run sleeps", || async {
        handle.describe().await.unwrap().status == RunStatus::Pending
    })
    .await;
    worker.shutdown().await;

    let worker = build().start(database.url()).await.unwrap();
    worker.client().signal("a", "go", &()).await.unwrap();
    assert_eq!(
        worker
            .client()
            .handle(debit, "a")
            .await
            .unwrap()
            .result()
            .await
            .unwrap(),
        70
    );
    assert_eq!(
        database.psql("select balance from account").unwrap().trim(),
        "71"
    );
    worker.shutdown().await;
}
