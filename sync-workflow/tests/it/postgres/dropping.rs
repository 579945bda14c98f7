//! Calls that are dropped at each of their awaits, where there is one connection: one that were left inside a
//! transaction, or never given back, would be missed at once.

use std::sync::Arc;

use sync_workflow::journal::{Journal, Result, conformance::dropping, postgres::PostgresJournal};

use super::*;

macro_rules! with_one_connection {
    ($($case:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $case() {
            with_one_connection(dropping::$case).await;
        })*
    };
}

with_one_connection![
    a_dropped_commit_has_happened_or_not,
    a_dropped_start_has_happened_or_not,
    a_dropped_signal_is_delivered_once,
    a_dropped_request_of_an_operator_has_happened_or_not,
    a_dropped_claim_leaves_its_runs_to_the_node_or_to_others,
    a_dropped_step_has_happened_or_not,
    a_dropped_word_of_a_node_has_happened_or_not,
    a_dropped_question_changes_nothing,
    a_dropped_change_of_a_schedule_or_a_queue_has_happened_or_not,
    a_dropped_deletion_deletes_all_of_a_run_or_nothing,
];

async fn with_one_connection(case: impl AsyncFnOnce(Arc<dyn Journal>) -> Result<()>) {
    let bench = Bench::new().await;
    let journal = PostgresJournal::builder(bench.database.url())
        .max_connections(1)
        .open()
        .await
        .unwrap();
    case(Arc::new(journal)).await.unwrap();
    let mut observer = bench.connect().await;
    let left = async {
        // A connection that was closed a moment ago may still be there.
        while left_inside_a_transaction(&mut observer).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), left)
        .await
        .expect("no connection is left inside a transaction");
}

async fn left_inside_a_transaction(observer: &mut PgConnection) -> i64 {
    sqlx::query(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
    )
    .fetch_one(observer)
    .await
    .unwrap()
    .get(0)
}
