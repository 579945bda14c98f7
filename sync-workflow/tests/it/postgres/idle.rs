//! What a worker that has nothing to do asks of the database.

use std::time::{Duration, Instant};

use sync_workflow::{Context, Failure, Worker};
use throwaway_postgres::{Cluster, Database};

use crate::engine::eventually;

async fn nothing(_ctx: Context, (): ()) -> Result<(), Failure> {
    Ok(())
}

/// Statements so far with a text like this, those of this test apart.
fn statements(database: &Database, like: &str) -> u32 {
    let calls = format!(
        "SELECT coalesce(sum(calls), 0)
         FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
         WHERE d.datname = current_database() AND query LIKE '{like}'
           AND query NOT SIMILAR TO '%pg_(stat|current|get)%'"
    );
    database.psql(&calls).unwrap().parse().unwrap()
}

/// A heartbeat that looks.
const LOOKS: &str = "%UPDATE sync_workflow.nodes%known(workflow)%";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_asks_once_in_a_poll_interval() {
    const POLL_INTERVAL: Duration = Duration::from_millis(500);
    /// As by default.
    const LEASE: Duration = Duration::from_millis(1_500);
    const MANY: u32 = 8;
    let cluster = Cluster::builder()
        .fsync(false)
        .setting("shared_preload_libraries", "pg_stat_statements")
        .setting("autovacuum", "off")
        .start()
        .unwrap();
    let database = cluster.create_database().unwrap();
    database
        .psql("CREATE EXTENSION pg_stat_statements")
        .unwrap();
    let builder = Worker::builder().workflow(nothing);
    let builder = builder.lease(LEASE).poll_interval(POLL_INTERVAL);
    let worker = builder.start(database.url()).await.unwrap();
    let ran = worker.client().start(nothing, "a", ()).await.unwrap();
    ran.result().await.unwrap();
    // Until its heartbeat has looked, it looks by itself.
    let looked = async || statements(&database, LOOKS) >= 2;
    eventually("its heartbeat looks", looked).await;

    let (before, began) = (statements(&database, "%"), Instant::now());
    let asked = async || statements(&database, "%") >= before + MANY;
    eventually("it goes on asking", asked).await;
    let took = began.elapsed();
    // The first may come at once, and a machine that stalls may let one more come.
    let least = POLL_INTERVAL * (MANY - 2);
    assert!(
        took >= least,
        "{MANY} statements in {took:?}, less than {least:?}"
    );
    worker.shutdown().await;
}
