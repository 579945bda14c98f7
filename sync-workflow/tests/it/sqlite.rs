//! The journal in a SQLite file.

use std::{sync::Arc, time::Duration};

use sqlx::{Connection, SqliteConnection};
use sync_workflow::{
    id::{CommandId, NodeId, Position, RunId, WorkflowId},
    journal::{
        Batch, Error, Hint, IdReuse, Journal, NewRun, NewSignal, OpenTransaction, Placement,
        RunFilter, RunSelector, SignalOutcome, StartOutcome, StepTransaction, Ticket,
        TransactionCommit, sqlite::SqliteJournal,
    },
    record::{Record, RecordKind},
    tag::Tags,
};
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(3_600);
const DEADLINE: Duration = Duration::from_secs(30);

/// A directory with one database file.
pub(crate) struct Scratch {
    directory: TempDir,
}

impl Scratch {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            directory: tempfile::tempdir()?,
        })
    }

    fn url(&self) -> String {
        format!(
            "sqlite:{}",
            self.directory.path().join("journal.db").display()
        )
    }

    pub(crate) async fn open(&self) -> anyhow::Result<SqliteJournal> {
        Ok(SqliteJournal::connect(&self.url()).await?)
    }

    /// A connection of the application's own.
    async fn connection(&self) -> anyhow::Result<SqliteConnection> {
        Ok(SqliteConnection::connect(&self.url()).await?)
    }
}

async fn fresh() -> (Arc<dyn Journal>, Scratch) {
    let scratch = Scratch::new().expect("a directory");
    let journal = scratch.open().await.expect("a journal");
    (Arc::new(journal), scratch)
}

sync_workflow::journal_conformance!(fresh);

fn new_run(id: &str) -> NewRun {
    let run = RunId::from_uuid(Uuid::now_v7());
    NewRun {
        run,
        chain: run,
        workflow_id: WorkflowId::new(id).expect("a valid id"),
        workflow: "order".into(),
        queue: "main".into(),
        input: "{}".into(),
        reuse: IdReuse::ReturnExisting,
        parent: None,
        trace: None,
        placement: Placement::Here,
        ticket: Ticket::default(),
        tags: Tags::new(),
        carried_over: Vec::new(),
    }
}

async fn enlisted(journal: &SqliteJournal) -> anyhow::Result<NodeId> {
    let node = NodeId::from_uuid(Uuid::new_v4());
    journal.enlist(node, LONG).await?;
    Ok(node)
}

/// A run that the node holds.
async fn born(journal: &SqliteJournal, node: NodeId) -> anyhow::Result<RunId> {
    let new = new_run("a");
    journal
        .commit(
            node,
            &Batch {
                runs: Vec::new(),
                starts: vec![new.clone()],
            },
        )
        .await?;
    Ok(new.run)
}

fn step(node: NodeId, run: RunId) -> TransactionCommit {
    let record = Record {
        position: Position(1),
        kind: RecordKind::TransactionCompleted,
        command: CommandId(0),
        name: "write".into(),
        fingerprint: 0,
        payload: "1".into(),
    };
    TransactionCommit {
        node,
        run,
        record,
        settled_attempt: None,
    }
}

#[tokio::test]
async fn what_was_committed_is_there_when_the_file_is_opened_again() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let journal = scratch.open().await?;
    let node = enlisted(&journal).await?;
    let run = born(&journal, node).await?;
    drop(journal);
    let journal = scratch.open().await?;
    assert_eq!(journal.owned(node).await?[0].run, run);
    let mut connection = scratch.connection().await?;
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(mode, "wal");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_open_a_new_file_at_once() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let url = scratch.url();
        opening.spawn(async move { SqliteJournal::connect(&url).await });
    }
    for journal in opening.join_all().await {
        enlisted(&journal?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_newer_schema_is_refused() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    drop(scratch.open().await?);
    let mut connection = scratch.connection().await?;
    sqlx::raw_sql("INSERT INTO sync_workflow_migrations VALUES (1000, 0)")
        .execute(&mut connection)
        .await?;
    let refused = SqliteJournal::connect(&scratch.url()).await;
    assert!(
        matches!(refused, Err(Error::NewerSchema { found: 1000, .. })),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_named() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let missing = scratch.directory.path().join("missing").join("journal.db");
    let error = SqliteJournal::connect(&format!("sqlite:{}", missing.display()))
        .await
        .expect_err("no directory");
    assert!(matches!(error, Error::Refused(_)));
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.contains("missing/journal.db"), "{text}");

    let garbage = scratch.directory.path().join("garbage");
    std::fs::write(&garbage, vec![b'x'; 10_000])?;
    let refused = SqliteJournal::connect(&format!("sqlite:{}", garbage.display())).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn the_writes_of_a_step_commit_with_its_record_or_not_at_all() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let journal = scratch.open().await?;
    let node = enlisted(&journal).await?;
    let run = born(&journal, node).await?;
    let mut connection = scratch.connection().await?;
    sqlx::raw_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        .execute(&mut connection)
        .await?;
    let write = async |commit: &TransactionCommit| -> anyhow::Result<Result<(), Error>> {
        let mut open = journal.begin().await?;
        let OpenTransaction::Sqlite(transaction, _) = &mut open else {
            anyhow::bail!("a SQLite transaction")
        };
        sqlx::query("INSERT INTO orders DEFAULT VALUES")
            .execute(&mut **transaction)
            .await?;
        Ok(journal.commit_step(open, commit).await)
    };
    let mut orders = async || -> sqlx::Result<i64> {
        sqlx::query_scalar("SELECT count(*) FROM orders")
            .fetch_one(&mut connection)
            .await
    };

    let stranger = NodeId::from_uuid(Uuid::new_v4());
    assert!(matches!(
        write(&step(stranger, run)).await?,
        Err(Error::Fenced)
    ));
    let unknown = RunId::from_uuid(Uuid::nil());
    assert!(matches!(
        write(&step(node, unknown)).await?,
        Err(Error::RunLost { .. })
    ));
    assert_eq!(orders().await?, 0);
    write(&step(node, run)).await??;
    assert_eq!(orders().await?, 1);
    assert!(matches!(
        write(&step(node, run)).await?,
        Err(Error::RunLost { .. })
    ));
    assert_eq!(orders().await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_step_whose_transaction_has_ended_records_nothing() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let journal = scratch.open().await?;
    let node = enlisted(&journal).await?;
    let run = born(&journal, node).await?;
    let mut open = journal.begin().await?;
    let OpenTransaction::Sqlite(transaction, _) = &mut open else {
        anyhow::bail!("a SQLite transaction")
    };
    // As SQLite does by itself when the disk is full.
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut **transaction)
        .await?;
    let refused = journal.commit_step(open, &step(node, run)).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    // The connection is as good as new.
    journal
        .commit_step(journal.begin().await?, &step(node, run))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_start_and_a_signal_share_the_application_s_own_transaction() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let journal = scratch.open().await?;
    let mut connection = scratch.connection().await?;
    let new = new_run("a");
    let signal = NewSignal {
        to: RunSelector::Run(new.run),
        id: "one".into(),
        name: "approve".into(),
        payload: "1".into(),
    };
    for commits in [false, true] {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let started = journal
            .start_in(StepTransaction::from(&mut *transaction), &new)
            .await?;
        assert_eq!(started, StartOutcome::Started);
        let signalled = journal
            .signal_in(StepTransaction::from(&mut *transaction), &signal)
            .await?;
        assert!(matches!(signalled, SignalOutcome::Delivered(_)));
        assert!(
            journal
                .describe(&RunSelector::Run(new.run))
                .await?
                .is_none()
        );
        if commits {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        assert_eq!(
            journal
                .describe(&RunSelector::Run(new.run))
                .await?
                .is_some(),
            commits
        );
    }
    assert_eq!(journal.inbox(new.run, &[], 10).await?.signals.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_leaves_no_transaction_behind() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let journal = scratch.open().await?;
    let node = enlisted(&journal).await?;
    for number in 0..200_u32 {
        let new = new_run(&format!("run {number}"));
        let batch = Batch {
            runs: Vec::new(),
            starts: vec![new.clone()],
        };
        // Polled a few times and dropped, wherever it is.
        let commit = journal.commit(node, &batch);
        let polls = async {
            for _ in 0..number % 20 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { biased; _ = commit => {}, () = polls => {} }
        let begun = journal.begin();
        tokio::select! { biased; _ = begun => {}, () = tokio::task::yield_now() => {} }
        let stored = timeout(DEADLINE, journal.start(&new)).await??;
        assert!(matches!(stored, StartOutcome::Started), "{stored:?}");
    }
    assert_eq!(
        journal
            .list(&RunFilter {
                limit: 1_000,
                ..RunFilter::default()
            })
            .await?
            .items
            .len(),
        200
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journals_on_one_file_wake_each_other() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let (journal, neighbour) = (scratch.open().await?, scratch.open().await?);
    let reader = tokio::spawn(async move { journal.hints().await });
    timeout(DEADLINE, async {
        while !reader.is_finished() {
            neighbour.notify(&[Hint::Ready("main".into())]).await?;
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await??;
    let hints = reader.await?;
    assert!(
        hints == [Hint::Ready("main".into())] || hints == [Hint::LookAgain],
        "{hints:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commit_of_a_stranger_is_noticed() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let journal = scratch.open().await?;
    // A connection that the journal knows nothing of, as another process has one.
    let mut stranger = scratch.connection().await?;
    sqlx::raw_sql("CREATE TABLE noise (number INTEGER)")
        .execute(&mut stranger)
        .await?;
    let reader = tokio::spawn(async move { journal.hints().await });
    timeout(DEADLINE, async {
        while !reader.is_finished() {
            sqlx::query("INSERT INTO noise VALUES (1)")
                .execute(&mut stranger)
                .await?;
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await??;
    assert_eq!(reader.await?, [Hint::LookAgain]);
    Ok(())
}

#[tokio::test]
async fn a_transaction_of_another_process_is_waited_for() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let journal = scratch.open().await?;
    let node = enlisted(&journal).await?;
    let mut stranger = scratch.connection().await?;
    let transaction = stranger.begin_with("BEGIN IMMEDIATE").await?;
    let renewal = journal.renew(node, LONG);
    tokio::pin!(renewal);
    tokio::select! { biased; _ = &mut renewal => panic!("the file is locked"), () = tokio::task::yield_now() => {} }
    transaction.rollback().await?;
    renewal.await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_separate_journal_renews_while_the_turn_is_taken() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let journal = scratch.open().await?;
    let node = enlisted(&journal).await?;
    let heartbeat = journal.separate().await?.expect("SQLite has one");
    // A step holds the file for a moment; the heartbeat's turn comes with its end at the latest.
    let step = journal.begin().await?;
    let renewal = tokio::spawn(async move { heartbeat.renew(node, LONG).await });
    tokio::task::yield_now().await;
    drop(step);
    timeout(DEADLINE, renewal).await???;
    Ok(())
}

#[tokio::test]
async fn a_damaged_journal_is_not_replayed() -> anyhow::Result<()> {
    let damages = [
        "DELETE FROM sync_workflow_records WHERE position = 0",
        "UPDATE sync_workflow_records SET position = 9 WHERE position = 1",
        "UPDATE sync_workflow_records SET kind = 99 WHERE position = 1",
    ];
    for damage in damages {
        let scratch = Scratch::new()?;
        let journal = scratch.open().await?;
        let node = enlisted(&journal).await?;
        let run = born(&journal, node).await?;
        journal
            .commit_step(journal.begin().await?, &step(node, run))
            .await?;
        assert_eq!(journal.load(run, Position(0), 10).await?.records.len(), 2);
        sqlx::raw_sql(damage)
            .execute(&mut scratch.connection().await?)
            .await?;
        let loaded = journal.load(run, Position(0), 10).await;
        assert!(
            matches!(loaded, Err(Error::Corrupt { run: found, .. }) if found == run),
            "{damage}: {loaded:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_application_s_own_migrations_are_left_alone() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    drop(scratch.open().await?);
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
            .fetch_all(&mut scratch.connection().await?)
            .await?;
    assert!(tables.len() > 5);
    for table in tables {
        assert!(
            table.starts_with("sync_workflow_") || table == "sqlite_sequence",
            "{table}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn hot_statements_find_their_rows_by_an_index() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    drop(scratch.open().await?);
    let mut connection = scratch.connection().await?;
    let searches = [
        (
            "SELECT run FROM sync_workflow_runs
             WHERE queue = ? AND status = 0 AND wake_at <= ? ORDER BY wake_at, run LIMIT ?",
            "sync_workflow_runs_asleep",
        ),
        (
            "SELECT run FROM sync_workflow_runs WHERE node = ?",
            "sync_workflow_runs_held",
        ),
        (
            "SELECT run FROM sync_workflow_runs WHERE parent_run IN (?, ?)",
            "sync_workflow_runs_by_parent",
        ),
        (
            "SELECT name FROM sync_workflow_signals WHERE chain = ? AND consumed = 0 ORDER BY sequence LIMIT ?",
            "sync_workflow_signals_waiting",
        ),
    ];
    for (statement, index) in searches {
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "EXPLAIN QUERY PLAN {statement}"
        )))
        .fetch_all(&mut connection)
        .await?;
        let plan: Vec<_> = plan.into_iter().map(|step| step.3).collect();
        assert!(
            plan.len() == 1 && plan[0].contains(index),
            "{statement}: {plan:?}"
        );
    }
    Ok(())
}
