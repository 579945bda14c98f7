//! Migrations, and what a person with psql sees.

use sync_workflow::{
    journal::{Error, postgres::PostgresJournal},
    record::RecordKind,
};

use super::*;

#[tokio::test]
async fn processes_that_start_at_once_migrate_once() {
    let database = Database::create().unwrap();
    let opened =
        futures::future::join_all((0..6).map(|_| PostgresJournal::connect(database.url()))).await;
    for journal in opened {
        journal.unwrap();
    }
    let applied = database
        .psql("SELECT count(*), count(DISTINCT version) FROM sync_workflow.migrations")
        .unwrap();
    assert_eq!(applied, "14|14");
}

#[tokio::test]
async fn every_kind_of_record_has_a_name_for_a_person() {
    let database = Database::create().unwrap();
    PostgresJournal::connect(database.url()).await.unwrap();
    let codes: Vec<_> = RecordKind::ALL
        .iter()
        .map(|kind| kind.code().to_string())
        .collect();
    let nameless = database
        .psql(&format!(
            "SELECT count(*) FROM unnest('{{{}}}'::smallint[]) AS k(code)
             WHERE sync_workflow.kind_name(code) LIKE 'kind %'",
            codes.join(",")
        ))
        .unwrap();
    assert_eq!(nameless, "0");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let database = Database::create().unwrap();
    PostgresJournal::connect(database.url()).await.unwrap();
    database
        .psql("INSERT INTO sync_workflow.migrations VALUES (9999, 'from the future')")
        .unwrap();
    let refused = PostgresJournal::connect(database.url()).await;
    assert!(
        matches!(refused, Err(Error::NewerSchema { found: 9999, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_applications_own_migrations_are_left_alone() {
    let database = Database::create().unwrap();
    database
        .psql("CREATE TABLE _sqlx_migrations (version bigint)")
        .unwrap();
    PostgresJournal::connect(database.url()).await.unwrap();
    let schemas = database
        .psql(
            "SELECT string_agg(DISTINCT schemaname, ',') FROM pg_tables
             WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
        )
        .unwrap();
    assert_eq!(schemas, "public,sync_workflow");
}

#[tokio::test]
async fn a_person_reads_payloads_as_text() {
    let bench = Bench::new().await;
    let run = bench.born("readable").await;
    let binary = Record {
        payload: Bytes::from_static(b"\xff\0"),
        ..record(2)
    };
    let compressed = Record {
        payload: Bytes::from_static(b"\x02\x05\0\0\0frame"),
        ..record(3)
    };
    let encrypted = Record {
        payload: Bytes::from_static(b"\x03\x04a-id\xff\0"),
        ..record(4)
    };
    bench
        .commit(batch(vec![goes_on(
            run,
            vec![record(1), binary, compressed, encrypted],
        )]))
        .await;
    let seen = bench
        .database
        .psql(
            "SELECT string_agg(kind || ' ' || payload, ', ' ORDER BY position)
             FROM sync_workflow.history WHERE workflow_id = 'readable'",
        )
        .unwrap();
    assert_eq!(
        seen,
        "started \"input\", activity completed {\"at\":1}, activity completed /wA=, \
         activity completed (10 bytes, compressed with zstd), \
         activity completed (8 bytes, encrypted with the key a-id)"
    );
}

#[tokio::test]
async fn a_damaged_journal_is_reported_with_its_place() {
    let bench = Bench::new().await;
    let run = bench.born("damaged").await;
    bench
        .commit(batch(vec![goes_on(run, vec![record(1), record(2)])]))
        .await;
    let damage = |sql: &str| bench.database.psql(sql).unwrap();
    damage("UPDATE sync_workflow.journal SET kind = 999 WHERE position = 2");
    let loaded = bench.journal.load(run, Position(0), 100).await;
    assert!(
        matches!(
            loaded,
            Err(Error::Corrupt {
                position: Position(2),
                ..
            })
        ),
        "{loaded:?}"
    );
    damage("DELETE FROM sync_workflow.journal WHERE position = 1");
    let loaded = bench.journal.load(run, Position(0), 100).await;
    assert!(
        matches!(
            loaded,
            Err(Error::Corrupt {
                position: Position(1),
                ..
            })
        ),
        "{loaded:?}"
    );
}
