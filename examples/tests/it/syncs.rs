//! The sync examples, into SQLite and into Postgres.

use mock_api::MockApi;
use serde_json::Value;

use crate::program::Program;

fn entity<'s>(summary: &'s Value, name: &str) -> &'s Value {
    let entities = summary["entities"].as_array().unwrap();
    entities
        .iter()
        .find(|entity| entity["entity"] == name)
        .unwrap()
}

#[test]
fn a_full_sync_tells_what_became_of_every_record() {
    let full_sync = Program::new("full_sync");
    let summary = full_sync.run(&["--people", "60", "--json"]).summary();
    assert_eq!(summary["status"], "succeeded");
    let person = entity(&summary, "Person");
    assert_eq!(person["inserted"], 60);
    for count in ["updated", "unchanged", "deleted", "quarantined"] {
        assert_eq!(person[count], 0, "{count}");
    }
    assert!(person["pages"].as_u64() >= Some(1) && person["requests"].as_u64() >= Some(1));
    assert!(person["seconds"].is_number());
    let again = full_sync.run(&["--people", "60", "--json"]).summary();
    assert_eq!(entity(&again, "Person")["unchanged"], 60);
}

#[test]
fn a_full_sync_ends_with_a_table() {
    let ended = Program::new("full_sync").run(&["--people", "20"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("quarantined") && ended.out.contains("PhoneNumber"));
}

#[test]
fn a_delta_finds_what_changed() {
    let summary = Program::new("delta_sync")
        .run(&["--people", "200", "--json"])
        .summary();
    assert_eq!(summary["sync_type"], "delta");
    assert_eq!(entity(&summary, "Person")["updated"], 2);
    assert_eq!(entity(&summary, "Person")["inserted"], 0);
}

#[test]
fn a_reconciliation_finds_what_is_gone() {
    let summary = Program::new("reconciliation")
        .run(&["--people", "200", "--json"])
        .summary();
    assert_eq!(summary["status"], "succeeded");
    assert_eq!(entity(&summary, "Person")["deleted"], 4);
}

#[test]
fn a_sync_that_is_killed_loses_nothing_on_sqlite() {
    let ended =
        Program::new("crash_and_resume").run(&["--people", "400", "--kills", "3", "--json"]);
    let _report = ended.summary();
    assert!(ended.err.contains("killed 3 times"), "{}", ended.err);
}

#[test]
fn a_sync_that_is_killed_loses_nothing_on_postgres() {
    let database = throwaway_postgres::Database::create().unwrap();
    let program = Program::new("crash_and_resume").on(database.url());
    let ended = program.run(&["--people", "400", "--kills", "3", "--json"]);
    let _report = ended.summary();
    assert!(ended.err.contains("killed 3 times"), "{}", ended.err);
}

/// A child may be killed when its sync is over and before its report is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_nobody_read_is_printed_by_the_next_child() {
    let api = MockApi::builder().people(20).rate_limit(None).start();
    let api = api.await.unwrap();
    let (source, token) = (api.base_url(), api.token());
    let program = Program::new("crash_and_resume");
    let child = |after: &[&str]| {
        let database = "sqlite:sync.db";
        let arguments = [
            &["--child", "--source", &source, "--token", &token][..],
            &["--journal", database, "--destination", database],
            &["--org", "acme"],
            after,
        ];
        program.run(&arguments.concat()).summary()
    };
    let first = child(&[]);
    assert_eq!(entity(&first["report"], "Person")["inserted"], 20);
    assert_eq!(child(&[]), first);
    let next = child(&["--after", first["run"].as_str().unwrap()]);
    assert_ne!(next["run"], first["run"]);
    assert_eq!(entity(&next["report"], "Person")["unchanged"], 20);
}

#[test]
fn journal_and_destination_may_be_two_databases() {
    let database = throwaway_postgres::Database::create().unwrap();
    let program = Program::new("full_sync");
    let summary = program
        .run(&[
            "--people",
            "30",
            "--json",
            "--journal",
            "sqlite:j.db",
            "--destination",
            database.url(),
        ])
        .summary();
    assert_eq!(summary["status"], "succeeded");
    assert_eq!(
        database
            .psql("select count(*) from pco_person")
            .unwrap()
            .trim(),
        "30"
    );
}
