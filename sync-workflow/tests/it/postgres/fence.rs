//! Nodes that are declared dead, and what they were writing meanwhile.

use jiff::Timestamp;
use sqlx::Connection;
use sync_workflow::journal::{Attempt, Batch, Error, Journal};

use super::*;

#[tokio::test]
async fn an_append_that_meets_an_uncommitted_reap_waits_and_then_writes_nothing() {
    let bench = Bench::new().await;
    let run = bench.born("waits").await;
    let mut reaper = bench.connect().await;
    let mut observer = bench.connect().await;

    let mut reaping = reaper.begin().await.unwrap();
    sqlx::query("DELETE FROM sync_workflow.nodes WHERE node_id = $1")
        .bind(bench.node.as_uuid())
        .execute(&mut *reaping)
        .await
        .unwrap();
    let append = batch(vec![goes_on(run, vec![record(1)])]);
    let (committed, ()) = tokio::join!(bench.journal.commit(bench.node, &append), async {
        until_somebody_waits(&mut observer).await;
        reaping.commit().await.unwrap();
    });

    assert!(matches!(committed, Err(Error::Fenced)), "{committed:?}");
    assert_eq!(bench.length(run).await, 1);
}

#[tokio::test]
async fn an_append_that_meets_a_reap_which_is_rolled_back_goes_on() {
    let bench = Bench::new().await;
    let run = bench.born("goes on").await;
    let mut reaper = bench.connect().await;
    let mut observer = bench.connect().await;

    let mut reaping = reaper.begin().await.unwrap();
    sqlx::query("DELETE FROM sync_workflow.nodes WHERE node_id = $1")
        .bind(bench.node.as_uuid())
        .execute(&mut *reaping)
        .await
        .unwrap();
    let append = batch(vec![goes_on(run, vec![record(1)])]);
    let (committed, ()) = tokio::join!(bench.journal.commit(bench.node, &append), async {
        until_somebody_waits(&mut observer).await;
        reaping.rollback().await.unwrap();
    });

    assert_eq!(outcomes(&committed.unwrap()), [RunOutcome::Committed]);
    assert_eq!(bench.length(run).await, 2);
}

#[tokio::test]
async fn a_reaper_waits_for_a_commit_in_flight_and_frees_the_runs_that_it_started() {
    let bench = Bench::new().await;
    bench
        .journal
        .renew(bench.node, Duration::ZERO)
        .await
        .unwrap();
    let mut zombie = bench.connect().await;
    let mut observer = bench.connect().await;

    // The commit has taken the lock on its node and started a run, and is not through.
    let mut in_flight = zombie.begin().await.unwrap();
    sqlx::query("SELECT FROM sync_workflow.nodes WHERE node_id = $1 FOR KEY SHARE")
        .bind(bench.node.as_uuid())
        .execute(&mut *in_flight)
        .await
        .unwrap();
    let run = RunId::from_uuid(Uuid::now_v7());
    sqlx::query(
        "INSERT INTO sync_workflow.runs
             (run_id, chain_id, node_id, wake_at, sequence, status, workflow_id, workflow, queue)
         VALUES ($1, $1, $2, now(), 0, 1, 'late', 'greet', 'default')",
    )
    .bind(run.as_uuid())
    .bind(bench.node.as_uuid())
    .execute(&mut *in_flight)
    .await
    .unwrap();
    let (reaped, ()) = tokio::join!(bench.journal.reap(10), async {
        until_somebody_waits(&mut observer).await;
        in_flight.commit().await.unwrap();
    });

    assert_eq!(reaped.unwrap(), [bench.node]);
    assert_eq!(bench.status(run).await, RunStatus::Pending);
}

#[tokio::test]
async fn a_node_that_renews_while_its_reaper_waits_is_spared() {
    let bench = Bench::new().await;
    bench
        .journal
        .renew(bench.node, Duration::ZERO)
        .await
        .unwrap();
    let mut heart = bench.connect().await;
    let mut observer = bench.connect().await;

    let mut beat = heart.begin().await.unwrap();
    sqlx::query(
        "UPDATE sync_workflow.nodes SET expires_at = clock_timestamp() + interval '1 hour'",
    )
    .execute(&mut *beat)
    .await
    .unwrap();
    let (reaped, ()) = tokio::join!(bench.journal.reap(10), async {
        until_somebody_waits(&mut observer).await;
        beat.commit().await.unwrap();
    });

    assert!(reaped.unwrap().is_empty());
    bench.journal.renew(bench.node, LEASE).await.unwrap();
}

#[tokio::test]
async fn a_heartbeat_does_not_wait_for_a_commit_in_flight() {
    let bench = Bench::new().await;
    let mut writer = bench.connect().await;
    let mut in_flight = writer.begin().await.unwrap();
    sqlx::query("SELECT FROM sync_workflow.nodes WHERE node_id = $1 FOR KEY SHARE")
        .bind(bench.node.as_uuid())
        .execute(&mut *in_flight)
        .await
        .unwrap();
    bench.journal.renew(bench.node, LEASE).await.unwrap();
    in_flight.rollback().await.unwrap();
}

#[tokio::test]
async fn a_dead_node_can_neither_claim_nor_start() {
    let bench = Bench::new().await;
    bench.journal.retire(bench.node).await.unwrap();
    let start = Batch {
        starts: vec![new_run("dead")],
        ..Batch::default()
    };
    let committed = bench.journal.commit(bench.node, &start).await;
    assert!(matches!(committed, Err(Error::Fenced)), "{committed:?}");
    let latest = RunSelector::Latest(WorkflowId::new("dead").unwrap());
    assert!(bench.journal.describe(&latest).await.unwrap().is_none());
    let renewed = bench.journal.renew(bench.node, LEASE).await;
    assert!(matches!(renewed, Err(Error::Fenced)), "{renewed:?}");
}

#[tokio::test]
async fn a_commit_in_doubt_is_waited_out_before_it_is_read_back() {
    let bench = Bench::new().await;
    let run = bench.born("doubt").await;
    let mut writer = bench.connect().await;
    let mut observer = bench.connect().await;

    // What is stored beside such a record.
    let sent = record(1);
    bench
        .commit(batch(vec![goes_on(run, vec![sent.clone()])]))
        .await;
    let stored: i64 = sqlx::query_scalar(
        "DELETE FROM sync_workflow.journal WHERE run_id = $1 AND position = 1 RETURNING fingerprint",
    )
    .bind(run.as_uuid())
    .fetch_one(&mut writer)
    .await
    .unwrap();

    let mut in_flight = writer.begin().await.unwrap();
    sqlx::query("SELECT FROM sync_workflow.nodes WHERE node_id = $1 FOR KEY SHARE")
        .bind(bench.node.as_uuid())
        .execute(&mut *in_flight)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO sync_workflow.journal
             (run_id, position, kind, command, name, fingerprint, payload)
         VALUES ($1, 1, $2, $3, $4, $5, $6)",
    )
    .bind(run.as_uuid())
    .bind(sent.kind.code())
    .bind(sent.command.0.cast_signed())
    .bind(&*sent.name)
    .bind(stored)
    .bind(&sent.payload[..])
    .execute(&mut *in_flight)
    .await
    .unwrap();
    let doubted = batch(vec![goes_on(run, vec![sent])]);
    let (happened, ()) = tokio::join!(bench.journal.was_committed(bench.node, &doubted), async {
        until_somebody_waits(&mut observer).await;
        in_flight.commit().await.unwrap();
    });
    assert_eq!(happened.unwrap(), Some(true));

    let other = batch(vec![goes_on(
        run,
        vec![Record {
            payload: Bytes::new(),
            ..record(1)
        }],
    )]);
    let happened = bench
        .journal
        .was_committed(bench.node, &other)
        .await
        .unwrap();
    assert_eq!(happened, Some(false), "another record stands there");
}

/// A commit that keeps an attempt of one run, which no record guards, and appends to another.
fn keeps_and_appends(keeps: RunId, appends: RunId) -> Batch {
    let attempt = Attempt {
        command: CommandId(0),
        failed: 1,
        next_at: None,
        scheduled_at: Timestamp::UNIX_EPOCH,
        failure: Bytes::new(),
        details: Bytes::new(),
    };
    let keeps = RunCommit {
        attempts: vec![attempt],
        ..goes_on(keeps, Vec::new())
    };
    batch(vec![keeps, goes_on(appends, vec![record(1)])])
}

#[tokio::test]
async fn a_commit_that_was_not_there_when_it_was_looked_for_never_happens() {
    let bench = Bench::new().await;
    let (keeps, appends) = (bench.born("keeps").await, bench.born("appends").await);
    let doubted = keeps_and_appends(keeps, appends);
    let mut holder = bench.connect().await;
    let mut observer = bench.connect().await;

    // The look comes before the commit, whose caller has gone away and whose statement goes on.
    let mut holding = holder.begin().await.unwrap();
    sqlx::query("SELECT FROM sync_workflow.nodes WHERE node_id = $1 FOR UPDATE")
        .bind(bench.node.as_uuid())
        .execute(&mut *holding)
        .await
        .unwrap();
    let look = bench.journal.was_committed(bench.node, &doubted);
    let (happened, ()) = tokio::join!(look, async {
        until_waiting(&mut observer, 1).await;
        tokio::select! {
            answer = bench.journal.commit(bench.node, &doubted) => panic!("{answer:?}"),
            () = until_waiting(&mut observer, 2) => {}
        }
        holding.rollback().await.unwrap();
    });
    assert_eq!(happened.unwrap(), Some(false));
    until_idle(&mut observer).await;

    assert_eq!(bench.length(appends).await, 1);
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM sync_workflow.attempts")
        .fetch_one(&mut observer)
        .await
        .unwrap();
    assert_eq!(kept, 0);
    bench.commit(doubted).await;
    assert_eq!(bench.length(appends).await, 2);
}

#[tokio::test]
async fn a_commit_that_meets_a_look_at_another_one_is_sent_again() {
    let bench = Bench::new().await;
    let (keeps, appends) = (bench.born("keeps").await, bench.born("appends").await);
    let mut holder = bench.connect().await;
    let mut observer = bench.connect().await;

    let mut holding = holder.begin().await.unwrap();
    sqlx::query("SELECT FROM sync_workflow.nodes WHERE node_id = $1 FOR UPDATE")
        .bind(bench.node.as_uuid())
        .execute(&mut *holding)
        .await
        .unwrap();
    let nothing = Batch::default();
    let sent = keeps_and_appends(keeps, appends);
    let (looked, committed, ()) = tokio::join!(
        bench.journal.was_committed(bench.node, &nothing),
        async {
            until_waiting(&mut observer, 1).await;
            bench.journal.commit(bench.node, &sent).await
        },
        async {
            let mut observer = bench.connect().await;
            until_waiting(&mut observer, 2).await;
            holding.rollback().await.unwrap();
        }
    );
    assert_eq!(looked.unwrap(), None);
    assert_eq!(outcomes(&committed.unwrap()), [RunOutcome::Committed; 2]);
    assert_eq!(bench.length(appends).await, 2);

    // Another journal of the process has heard of no doubt.
    let other = PostgresJournal::connect(bench.database.url())
        .await
        .unwrap();
    let again = batch(vec![goes_on(appends, vec![record(2)])]);
    let committed = other.commit(bench.node, &again).await.unwrap();
    assert_eq!(outcomes(&committed), [RunOutcome::Committed]);
}
