//! Transactional steps, and starts and signals in a transaction of the caller's.

use sync_workflow::journal::{
    Error, Journal, NewSignal, OpenTransaction, SignalOutcome, StartOutcome, StepTransaction,
    TransactionCommit,
};

use super::*;

async fn open(bench: &Bench) -> sqlx::Transaction<'static, sqlx::Postgres> {
    match bench.journal.begin().await.unwrap() {
        OpenTransaction::Postgres(transaction) => transaction,
        other => panic!("{other:?}"),
    }
}

fn step(bench: &Bench, run: RunId, position: u32) -> TransactionCommit {
    TransactionCommit {
        node: bench.node,
        run,
        record: Record {
            kind: RecordKind::TransactionCompleted,
            ..record(position)
        },
        settled_attempt: None,
    }
}

async fn write(transaction: &mut sqlx::Transaction<'static, sqlx::Postgres>) {
    sqlx::query("INSERT INTO effect VALUES (1)")
        .execute(&mut **transaction)
        .await
        .unwrap();
}

async fn with_table() -> Bench {
    let bench = Bench::new().await;
    bench
        .database
        .psql("CREATE TABLE effect (value int)")
        .unwrap();
    bench
}

fn effects(bench: &Bench) -> String {
    bench.database.psql("SELECT count(*) FROM effect").unwrap()
}

#[tokio::test]
async fn a_step_commits_the_users_writes_with_its_record() {
    let bench = with_table().await;
    let run = bench.born("step").await;
    let mut transaction = open(&bench).await;
    write(&mut transaction).await;
    bench
        .journal
        .commit_step(
            OpenTransaction::Postgres(transaction),
            &step(&bench, run, 1),
        )
        .await
        .unwrap();
    assert_eq!(effects(&bench), "1");
    assert_eq!(bench.length(run).await, 2);
}

#[tokio::test]
async fn a_step_of_a_dead_node_writes_nothing() {
    let bench = with_table().await;
    let run = bench.born("step").await;
    let mut transaction = open(&bench).await;
    write(&mut transaction).await;
    bench.journal.retire(bench.node).await.unwrap();
    let committed = bench
        .journal
        .commit_step(
            OpenTransaction::Postgres(transaction),
            &step(&bench, run, 1),
        )
        .await;
    assert!(matches!(committed, Err(Error::Fenced)), "{committed:?}");
    assert_eq!(effects(&bench), "0");
}

#[tokio::test]
async fn a_step_at_a_position_that_is_not_the_next_one_writes_nothing() {
    let bench = with_table().await;
    let run = bench.born("step").await;
    for position in [0, 2] {
        let mut transaction = open(&bench).await;
        write(&mut transaction).await;
        let committed = bench
            .journal
            .commit_step(
                OpenTransaction::Postgres(transaction),
                &step(&bench, run, position),
            )
            .await;
        assert!(
            matches!(committed, Err(Error::RunLost { .. })),
            "{committed:?}"
        );
    }
    assert_eq!(effects(&bench), "0");
}

#[tokio::test]
async fn a_step_that_swallowed_an_error_is_not_reported_as_committed() {
    let bench = with_table().await;
    let run = bench.born("step").await;
    let mut transaction = open(&bench).await;
    write(&mut transaction).await;
    sqlx::query("SELECT 1 / 0")
        .execute(&mut *transaction)
        .await
        .unwrap_err();
    let committed = bench
        .journal
        .commit_step(
            OpenTransaction::Postgres(transaction),
            &step(&bench, run, 1),
        )
        .await;
    assert!(matches!(committed, Err(Error::Refused(_))), "{committed:?}");
    assert_eq!(
        (effects(&bench).as_str(), bench.length(run).await),
        ("0", 1)
    );
}

#[tokio::test]
async fn a_constraint_that_is_checked_at_commit_refuses_the_step() {
    let bench = with_table().await;
    bench
        .database
        .psql("ALTER TABLE effect ADD UNIQUE (value) DEFERRABLE INITIALLY DEFERRED")
        .unwrap();
    let run = bench.born("step").await;
    let mut transaction = open(&bench).await;
    write(&mut transaction).await;
    write(&mut transaction).await;
    let committed = bench
        .journal
        .commit_step(
            OpenTransaction::Postgres(transaction),
            &step(&bench, run, 1),
        )
        .await;
    assert!(matches!(committed, Err(Error::Refused(_))), "{committed:?}");
    assert_eq!(
        (effects(&bench).as_str(), bench.length(run).await),
        ("0", 1)
    );
}

#[tokio::test]
async fn the_users_sql_is_planned_as_the_server_is_set_up() {
    let bench = Bench::new().await;
    let mut transaction = open(&bench).await;
    let settings: String = sqlx::query_scalar(
        "SELECT concat_ws(' ', current_setting('enable_seqscan'), current_setting('plan_cache_mode'),
                          current_setting('transaction_isolation'))",
    )
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    assert_eq!(settings, "on auto read committed");
}

#[tokio::test]
async fn a_start_and_a_signal_share_the_fate_of_the_callers_transaction() {
    let bench = Bench::new().await;
    let waiting = bench.born("waiting").await;
    let new = new_run("outbox");
    let signal = NewSignal {
        to: RunSelector::Latest(WorkflowId::new("waiting").unwrap()),
        id: "paid".into(),
        name: "paid".into(),
        payload: Bytes::from_static(b"true"),
    };
    for commits in [false, true] {
        let mut transaction = bench.journal.pool().begin().await.unwrap();
        let connection = StepTransaction::from(&mut *transaction);
        let started = bench.journal.start_in(connection, &new).await.unwrap();
        assert_eq!(started, StartOutcome::Started);
        let connection = StepTransaction::from(&mut *transaction);
        let sent = bench.journal.signal_in(connection, &signal).await.unwrap();
        assert!(matches!(sent, SignalOutcome::Delivered(_)), "{sent:?}");
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        let inbox = bench.journal.inbox(waiting, &[], 10).await.unwrap();
        assert_eq!(inbox.signals.len(), usize::from(commits));
        assert_eq!(bench.length(new.run).await, usize::from(commits));
    }
}
