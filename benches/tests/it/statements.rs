//! What a workflow and a step cost in statements and commits: counts that do not depend on the machine, and
//! grow only when somebody adds one.

use std::time::Duration;

use sync_workflow::Worker;
use throwaway_postgres::{Cluster, Database};

use super::counted::{run, steps, trivial};

/// A statement takes one round trip once it is prepared. A lone workflow of one activity is started, and its step is
/// written together with its end.
const STATEMENTS_OF_A_WORKFLOW: f64 = 2.0;
/// Each of them is a transaction of its own, whose commit waits for the disk.
const COMMITS_OF_A_WORKFLOW: f64 = 2.0;
/// One more sequential step of a lone run.
const STATEMENTS_OF_A_STEP: f64 = 1.0;
const COMMITS_OF_A_STEP: f64 = 1.0;
/// For what happens beside, whatever is measured: heartbeats, and claims that find nothing.
const MARGIN: f64 = 0.1;

/// A server that counts statements, and in whose log of changes only the engine's transactions are.
struct Counting {
    _cluster: Cluster,
    database: Database,
}

/// Where the counters stand.
struct Counters {
    statements: u32,
    /// The end of the log of changes.
    position: String,
}

impl Counting {
    fn start() -> Self {
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
        database.psql("CREATE EXTENSION pg_walinspect").unwrap();
        Self {
            _cluster: cluster,
            database,
        }
    }

    fn read(&self) -> Counters {
        let statements = "SELECT coalesce(sum(calls), 0)
                          FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
                          WHERE d.datname = current_database() AND query NOT SIMILAR TO '%pg_(stat|current|get)%'
                            -- A connection that is opened meanwhile is none of a workflow's.
                            AND query NOT SIMILAR TO '(SET|BEGIN|COMMIT)%'";
        Counters {
            statements: self.database.psql(statements).unwrap().parse().unwrap(),
            position: self
                .database
                .psql("SELECT pg_current_wal_flush_lsn()")
                .unwrap(),
        }
    }

    /// Statements and commits, for each of so many things that happened since.
    fn each(&self, since: &Counters, count: u32) -> [f64; 2] {
        let now = self.read();
        let commits = format!(
            "SELECT count(*) FROM pg_get_wal_records_info('{}', '{}')
             WHERE resource_manager = 'Transaction' AND record_type LIKE 'COMMIT%'",
            since.position, now.position
        );
        let commits: u32 = self.database.psql(&commits).unwrap().parse().unwrap();
        [now.statements - since.statements, commits].map(|all| f64::from(all) / f64::from(count))
    }
}

fn check(what: &str, each: [f64; 2], bounds: [f64; 2]) {
    for (unit, (each, bound)) in ["statements", "commits"]
        .iter()
        .zip(each.iter().zip(bounds))
    {
        assert!(
            *each <= bound + MARGIN,
            "{what} took {each} {unit}, more than {bound}"
        );
        // A counter that counts nothing would hold every bound.
        assert!(
            *each >= bound - MARGIN,
            "{what} took {each} {unit}, less than {bound}: lower the bound"
        );
    }
}

#[tokio::test]
async fn a_workflow_and_a_step_take_no_more_round_trips_and_commits_than_they_did() {
    const MANY: u32 = 300;
    let server = Counting::start();
    let worker = Worker::builder()
        .workflow(steps)
        .activity(trivial)
        // Nothing beats meanwhile.
        .lease(Duration::from_secs(600))
        .poll_interval(Duration::from_secs(600))
        .start(server.database.url())
        .await
        .unwrap();
    let client = worker.client();
    run(&client, "warm-up", 20).await;
    let before = server.read();
    for index in 0..MANY {
        run(&client, &format!("workflow-{index}"), 1).await;
    }
    check(
        "a workflow of one activity",
        server.each(&before, MANY),
        [STATEMENTS_OF_A_WORKFLOW, COMMITS_OF_A_WORKFLOW],
    );
    let before = server.read();
    run(&client, "steps", MANY).await;
    check(
        "a step",
        server.each(&before, MANY),
        [STATEMENTS_OF_A_STEP, COMMITS_OF_A_STEP],
    );
    worker.shutdown().await;
}
