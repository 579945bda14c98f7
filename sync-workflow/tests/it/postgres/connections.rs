//! Few connections, lost connections, callers that go away, hints.

use futures::FutureExt;
use sync_workflow::journal::{ClaimRequest, Error, Hint, Journal, postgres::PostgresJournal};

use super::*;

fn request(limit: u32) -> ClaimRequest {
    ClaimRequest {
        queue: "default".into(),
        workflows: vec!["greet".into()],
        build: None,
        limit,
    }
}

#[tokio::test]
async fn a_step_that_holds_the_only_connection_holds_up_no_commit_and_no_heartbeat() {
    let bench = Bench::new().await;
    let run = bench.born("busy").await;
    let journal = PostgresJournal::builder(bench.database.url())
        .max_connections(1)
        .open()
        .await
        .unwrap();
    let held = journal.begin().await.unwrap();
    let append = batch(vec![goes_on(run, vec![record(1)])]);
    let outcome = journal.commit(bench.node, &append).await.unwrap();
    assert_eq!(outcomes(&outcome), [RunOutcome::Committed]);
    journal.renew(bench.node, LEASE).await.unwrap();
    journal.notify(&[Hint::LookAgain]).await.unwrap();
    drop(held);
    assert!(
        journal
            .claim(bench.node, &request(1))
            .await
            .unwrap()
            .runs
            .is_empty()
    );
}

pub(super) async fn poll_and_drop<T>(future: impl Future<Output = T>, polls: usize) {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if future.as_mut().now_or_never().is_some() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn lost_connections_are_replaced() {
    let bench = Bench::new().await;
    let run = bench.born("survivor").await;
    let mut position = 1;
    for _ in 0..3 {
        bench
            .database
            .psql(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .unwrap();
        let append = batch(vec![goes_on(run, vec![record(position)])]);
        let happened = match bench.journal.commit(bench.node, &append).await {
            Ok(_) => true,
            Err(Error::Unknown(_)) => until_answered(&bench, &append).await,
            Err(error) => panic!("{error:?}"),
        };
        position += u32::from(happened);
        assert_eq!(bench.length(run).await, position as usize);
    }
}

/// Asks what became of a batch, through connections that may be lost themselves.
async fn until_answered(bench: &Bench, batch: &Batch) -> bool {
    for _ in 0..100 {
        match bench.journal.was_committed(bench.node, batch).await {
            Ok(answer) => return answer.unwrap(),
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
    }
    panic!("the journal never answered");
}

#[tokio::test]
async fn hints_reach_other_processes_and_a_lost_listener_says_look_again() {
    let bench = Bench::new().await;
    let listening = PostgresJournal::connect(bench.database.url())
        .await
        .unwrap();
    assert_eq!(listening.hints().await, [Hint::LookAgain]);
    let run = RunId::from_uuid(Uuid::now_v7());
    bench.journal.notify(&[Hint::Closed(run)]).await.unwrap();
    assert_eq!(listening.hints().await, [Hint::Closed(run)]);
    bench
        .database
        .psql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        )
        .unwrap();
    assert_eq!(listening.hints().await, [Hint::LookAgain]);
}

#[tokio::test]
async fn every_reader_of_one_journal_hears_every_hint() {
    let bench = Bench::new().await;
    let journal = std::sync::Arc::new(
        PostgresJournal::connect(bench.database.url())
            .await
            .unwrap(),
    );
    let run = RunId::from_uuid(Uuid::now_v7());
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let journal = std::sync::Arc::clone(&journal);
            tokio::spawn(
                async move { while !journal.hints().await.contains(&Hint::Closed(run)) {} },
            )
        })
        .collect();
    let told = async {
        while !readers.iter().all(tokio::task::JoinHandle::is_finished) {
            bench.journal.notify(&[Hint::Closed(run)]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), told).await;
    assert!(in_time.is_ok(), "some reader heard nothing");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_unavailable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let refused =
        PostgresJournal::connect(&format!("postgres://nobody@127.0.0.1:{port}/none")).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_wrong_database_is_refused_without_a_second_try() {
    let database = Database::create().unwrap();
    let url = database
        .url()
        .replace(database.name(), "there_is_no_such_database");
    let refused = PostgresJournal::connect(&url).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused:?}");
    let words = format!("{:#}", anyhow::Error::from(refused));
    assert_eq!(
        words.matches("does not exist").count(),
        1,
        "a cause is said once: {words}"
    );
}

#[tokio::test]
async fn a_payload_over_the_bound_is_refused_before_it_is_sent() {
    let bench = Bench::new().await;
    let run = bench.born("large").await;
    let large = Record {
        payload: Bytes::from(vec![0; sync_workflow::journal::MAX_PAYLOAD_BYTES + 1]),
        ..record(1)
    };
    let refused = bench
        .journal
        .commit(bench.node, &batch(vec![goes_on(run, vec![large])]))
        .await;
    assert!(
        matches!(refused, Err(Error::PayloadTooLarge { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_claim_takes_each_run_once_and_counts_the_attempt() {
    let bench = Bench::new().await;
    for number in 0..20 {
        let new = NewRun {
            placement: Placement::Anywhere,
            ..new_run(&format!("claim {number}"))
        };
        bench.journal.start(&new).await.unwrap();
    }
    let ten = request(10);
    let claims =
        futures::future::join_all((0..4).map(|_| bench.journal.claim(bench.node, &ten))).await;
    let mut runs: Vec<_> = claims
        .into_iter()
        .flat_map(|claim| claim.unwrap().runs)
        .collect();
    assert!(runs.iter().all(|run| run.attempts == 1));
    runs.sort_by_key(|run| run.run);
    runs.dedup_by_key(|run| run.run);
    assert_eq!(runs.len(), 20);
    assert_eq!(bench.journal.owned(bench.node).await.unwrap().len(), 20);
}
