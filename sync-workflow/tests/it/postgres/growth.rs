//! What a statement costs must not grow with what lies in the tables: blocks are counted, not seconds.

use std::fmt::Write as _;

use std::time::Duration;

use sync_workflow::{
    id::BuildId,
    journal::{ClaimRequest, Deletion, NewSignal, RunFilter},
    tag::Tags,
};
use throwaway_postgres::Cluster;

use super::*;

/// How many runs of each sort lie in the tables.
const FEW: u32 = 500;
const MANY: u32 = 50_000;
/// How often each statement runs. The first time on a connection fills the session's own tables, and which of its
/// connections the journal takes is its own affair: the least of all times counts.
const TIMES: u32 = 4;

/// Runs that sleep, runs that are ready and that nobody here knows, and runs that have ended, each with two
/// records and a signal that was received.
fn fill(runs: u32) -> String {
    let sort = |sort: &str, status: u32, workflow: &str, wake_at: &str| {
        format!(
            "WITH new AS (
                 INSERT INTO sync_workflow.runs (run_id, chain_id, wake_at, created_at, closed_at, sequence, status,
                                                 workflow_id, workflow, queue)
                 SELECT id, id, {wake_at}, now() - interval '1 day',
                        CASE WHEN {status} >= 10 THEN now() END, 0, {status},
                        '{sort}-' || n, '{workflow}', 'default'
                 FROM (SELECT n, gen_random_uuid() AS id FROM generate_series(1, {runs}) AS n) AS numbered
                 RETURNING run_id
             ), signals AS (
                 INSERT INTO sync_workflow.signals (chain_id, signal_id, name, payload, consumed)
                 SELECT run_id, 'old', 'go', '1', true FROM new
             ), tags AS (
                 INSERT INTO sync_workflow.tags (run_id, name, value)
                 SELECT run_id, 'sort', '{sort}' FROM new
                 UNION ALL
                 (SELECT run_id, 'tenant', '42' FROM new LIMIT 50)
             )
             INSERT INTO sync_workflow.journal (run_id, position, kind, command, name, fingerprint, payload)
             SELECT run_id, position, CASE position WHEN 0 THEN 0 ELSE 60 END, -1, 'greet', 0, '\"payload\"'
             FROM new CROSS JOIN generate_series(0, 1) AS position;"
        )
    };
    // Ready, and of a build that nobody serves.
    let stranded =
        "UPDATE sync_workflow.runs SET build = 'gone' WHERE workflow_id LIKE 'stranded-%';"
            .to_owned();
    [
        sort("asleep", 0, "greet", "now() + interval '1 hour'"),
        sort("waits", 0, "greet", "'infinity'"),
        sort("unknown", 0, "stranger", "now() - interval '1 minute'"),
        sort("ended", 10, "greet", "'infinity'"),
        sort("stranded", 0, "greet", "now() - interval '1 minute'"),
        stranded,
    ]
    .concat()
}

fn request() -> ClaimRequest {
    ClaimRequest {
        queue: "default".into(),
        workflows: vec!["greet".into(), "another".into()],
        build: None,
        limit: 10,
    }
}

/// A queue with limits, in which runs of many keys wait, and as many are admitted as may be.
fn fill_limited(runs: u32) -> String {
    format!(
        "INSERT INTO sync_workflow.queues (queue, max_running, max_running_per_key, running, turn)
         VALUES ('limited', {TIMES}, 2, {TIMES}, 1);
         INSERT INTO sync_workflow.queue_keys (queue, key, turn) SELECT 'limited', 'key-' || n, n % 2
         FROM generate_series(0, {runs} / 5) AS n;
         INSERT INTO sync_workflow.runs (run_id, chain_id, wake_at, sequence, status, workflow_id, workflow, queue,
                                         queue_key, admission)
         SELECT id, id, 'infinity'::timestamptz, 0, 0, 'waits for its turn-' || n, 'greet', 'limited', 'key-' || n / 5, 3
         FROM (SELECT n, gen_random_uuid() AS id FROM generate_series(1, {runs}) AS n) AS numbered
         UNION ALL
         SELECT id, id, 'infinity'::timestamptz, 0, 0, 'admitted-' || n, 'greet', 'limited', 'full', 1
         FROM (SELECT n, gen_random_uuid() AS id FROM generate_series(0, {TIMES}) AS n) AS numbered;"
    )
}

fn limited() -> ClaimRequest {
    ClaimRequest {
        queue: "limited".into(),
        ..request()
    }
}

fn signal(to: &str, id: u32) -> NewSignal {
    NewSignal {
        to: RunSelector::Latest(WorkflowId::new(to).unwrap()),
        id: id.to_string().into(),
        name: "go".into(),
        payload: Bytes::from_static(b"1"),
    }
}

/// How many blocks each statement looks at in a database of this many runs of each sort.
async fn blocks(cluster: &Cluster, runs: u32) -> Vec<(&'static str, i64)> {
    let database = cluster.create_database().unwrap();
    let bench = Bench::on(database).await;
    bench
        .database
        .psql("CREATE EXTENSION pg_stat_statements")
        .unwrap();
    bench.database.psql(&fill(runs)).unwrap();
    bench.database.psql(&fill_limited(runs / 10)).unwrap();
    bench.database.psql("VACUUM ANALYZE").unwrap();
    let mut observer = bench.connect().await;
    let mut costs = Vec::new();
    let journal = &bench.journal;
    macro_rules! measure {
        ($what:literal, |$n:ident| $call:expr) => {
            measure!($what, prepare |_round| (), |$n| $call)
        };
        ($what:literal, prepare |$p:ident| $prepare:expr, |$n:ident| $call:expr) => {{
            let mut least = i64::MAX;
            for round in 0..TIMES {
                let $p = round;
                let prepared = $prepare;
                sqlx::query("SELECT pg_stat_statements_reset()")
                    .execute(&mut observer)
                    .await
                    .unwrap();
                let $n = (round, prepared);
                let _answer = $call;
                let looked_at: i64 = sqlx::query(
                    "SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint
                     FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
                     WHERE d.datname = current_database() AND query NOT LIKE '%pg_stat_statements%'",
                )
                .fetch_one(&mut observer)
                .await
                .unwrap()
                .get(0);
                least = least.min(looked_at);
            }
            costs.push(($what, least));
        }};
    }
    measure!("claim nothing", |_n| journal
        .claim(bench.node, &request())
        .await
        .unwrap());
    measure!(
        "claim",
        prepare | n | {
            let new = NewRun {
                placement: Placement::Anywhere,
                ..new_run(&format!("due-{n}"))
            };
            journal.start(&new).await.unwrap();
        },
        |_n| {
            let claim = journal.claim(bench.node, &request()).await.unwrap();
            assert_eq!(claim.runs.len(), 1);
        }
    );
    measure!(
        "claim as a build",
        prepare | n | {
            let new = NewRun {
                placement: Placement::Anywhere,
                ..new_run(&format!("built-{n}"))
            };
            journal.start(&new).await.unwrap();
        },
        |_n| {
            let request = ClaimRequest {
                build: Some(BuildId::new("new").unwrap()),
                ..request()
            };
            let claim = journal.claim(bench.node, &request).await.unwrap();
            assert_eq!(claim.runs.len(), 1);
        }
    );
    measure!(
        "admit and claim",
        prepare | n | {
            let end = Record {
                kind: RecordKind::Terminated,
                ..record(0)
            };
            let ended = RunSelector::Latest(WorkflowId::new(format!("admitted-{n}")).unwrap());
            journal.terminate(&ended, &end).await.unwrap();
        },
        |_n| {
            let claim = journal.claim(bench.node, &limited()).await.unwrap();
            assert_eq!(claim.runs.len(), 1);
        }
    );
    measure!("start", |n| journal
        .start(&new_run(&format!("start-{}", n.0)))
        .await
        .unwrap());
    measure!(
        "a record",
        prepare | n | bench.born(&format!("record-{n}")).await,
        |n| {
            let outcome = bench
                .commit(batch(vec![goes_on(n.1, vec![record(1)])]))
                .await;
            assert_eq!(outcomes(&outcome), [RunOutcome::Committed]);
        }
    );
    measure!(
        "an end",
        prepare | n | bench.born(&format!("end-{n}")).await,
        |n| {
            let outcome = bench.commit(batch(vec![closes(n.1, 1)])).await;
            assert_eq!(outcomes(&outcome), [RunOutcome::Committed]);
        }
    );
    measure!("signal", |n| journal
        .signal(&signal("asleep-1", n.0))
        .await
        .unwrap());
    measure!("send a signal", |n| journal
        .send_signal(bench.node, &signal("asleep-2", n.0))
        .await
        .unwrap());
    measure!("describe", |_n| journal
        .describe(&signal("asleep-3", 0).to)
        .await
        .unwrap());
    measure!(
        "inbox",
        prepare | n | bench.born(&format!("inbox-{n}")).await,
        |n| journal.inbox(n.1, &[], 10).await.unwrap()
    );
    measure!(
        "outcome",
        prepare | n | bench.born(&format!("outcome-{n}")).await,
        |n| journal.outcome(n.1).await.unwrap()
    );
    measure!(
        "load",
        prepare | n | bench.born(&format!("load-{n}")).await,
        |n| journal.load(n.1, Position(0), 100).await.unwrap()
    );
    measure!("owned", |_n| journal.owned(bench.node).await.unwrap());
    measure!("reap", |_n| journal.reap(10).await.unwrap());
    measure!("renew", |_n| journal
        .renew(bench.node, LEASE)
        .await
        .unwrap());
    measure!("cancel", |n| journal
        .request_cancel(&signal(&format!("waits-{}", n.0 + 1), 0).to)
        .await
        .unwrap());
    measure!("list the newest", |_n| journal
        .list(&RunFilter::default())
        .await
        .unwrap());
    measure!("list a prefix that one run has", |_n| {
        let last = format!("ended-{runs}");
        let found = journal.list(&named(&last)).await.unwrap();
        assert_eq!(found.items.len(), 1);
    });
    measure!("list a prefix that many runs have", |_n| {
        let found = journal.list(&named("ended-")).await.unwrap();
        assert_eq!(found.items.len(), 100);
    });
    measure!("list those that run", |_n| journal
        .list(&RunFilter {
            statuses: vec![RunStatus::Running],
            ..RunFilter::default()
        })
        .await
        .unwrap());
    measure!("list what is parked", |_n| journal
        .list(&RunFilter {
            parked_for: Some("declined".into()),
            ..RunFilter::parked()
        })
        .await
        .unwrap());
    measure!("list by a tag that many runs have", |_n| {
        let found = journal.list(&tagged([("sort", "ended")])).await.unwrap();
        assert_eq!(found.items.len(), 100);
    });
    measure!("list by a tag that few runs have", |_n| {
        let found = journal.list(&tagged([("tenant", "42")])).await.unwrap();
        assert_eq!(found.items.len(), 100);
    });
    measure!("list by two tags", |_n| {
        let both = tagged([("sort", "ended"), ("tenant", "42")]);
        let found = journal.list(&both).await.unwrap();
        assert_eq!(found.items.len(), 50);
    });
    measure!("delete what ended", |_n| {
        let deletion = Deletion {
            workflow: "greet".into(),
            closed_for: Duration::ZERO,
            after: None,
        };
        let deleted = journal.delete_closed(&deletion).await.unwrap();
        assert_eq!(deleted.runs, Deletion::MAX_RUNS);
    });
    costs
}

fn named(prefix: &str) -> RunFilter {
    RunFilter {
        workflow_id_prefix: Some(prefix.to_owned()),
        ..RunFilter::default()
    }
}

fn tagged<const N: usize>(tags: [(&str, &str); N]) -> RunFilter {
    RunFilter {
        tags: tags.iter().fold(Tags::new(), |tags, (name, value)| {
            tags.with(name, value).unwrap()
        }),
        ..RunFilter::default()
    }
}

#[tokio::test]
async fn no_statement_costs_more_the_more_runs_there_are() {
    let cluster = Cluster::builder()
        .fsync(false)
        .setting("shared_preload_libraries", "pg_stat_statements")
        // It would make the sessions forget what they know of the tables.
        .setting("autovacuum", "off")
        .start()
        .unwrap();
    let few = blocks(&cluster, FEW).await;
    let many = blocks(&cluster, MANY).await;
    let mut grown = String::new();
    for ((what, few), (_, many)) in few.iter().zip(&many) {
        // An index of a hundred times as many entries is a level or two deeper.
        if *many > few * 2 + 12 {
            let _ = writeln!(grown, "{what}: {few} blocks, and {many} with {MANY} runs");
        }
    }
    assert!(grown.is_empty(), "{grown}");
}
