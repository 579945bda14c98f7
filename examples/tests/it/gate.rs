//! The check before a deployment, as CI runs it.

use serde_json::Value;

use crate::program::Program;

fn check(program: &Program, url: &str) {
    assert_eq!(program.run(&["begin", url]).code, Some(0));

    let fits = program.run(&["check", url]);
    assert_eq!(fits.code, Some(0), "{}\n{}", fits.out, fits.err);
    assert!(fits.out.contains("1 open runs replayed, 0 of them differ"));
    assert!(fits.out.contains("order: 1 replayed"), "{}", fits.out);
    assert_eq!(
        fits.err.trim_end(),
        "replay-check: queue \"default\", 1 replayed"
    );

    let careless = program.run(&["check-careless", url, "--quiet"]);
    assert_eq!(careless.code, Some(1), "{}\n{}", careless.out, careless.err);
    assert_eq!(careless.err, "");
    for words in [
        "order: 1 replayed, 1 nondeterministic",
        "order order-7",
        "nondeterministic at position 1",
        "journal  command 0 ActivityCompleted \"charge\"",
        "code     command 0 ActivityCompleted \"reserve\"",
        "hint: ",
    ] {
        assert!(
            careless.out.contains(words),
            "{words:?} is not in\n{}",
            careless.out
        );
    }

    let told = program.run(&["check-careless", url, "--json", "--workflow", "order"]);
    assert_eq!(told.code, Some(1));
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(told["holds"], false);
    let report = &told["reports"][0];
    assert_eq!(report["queue"], "default");
    assert_eq!(
        report["workflows"]["order"]["different"]["nondeterministic"],
        1
    );
    let difference = &report["differences"][0];
    assert_eq!(difference["position"], 1);
    assert_eq!(difference["journal"]["name"], "charge");
    assert_eq!(difference["journal"]["kind"], "activity_completed");
    assert_eq!(difference["code"]["name"], "reserve");

    // Nothing was written: today's code still fits.
    assert_eq!(program.run(&["check", url]).code, Some(0));
}

#[test]
fn the_check_before_a_deployment_tells_ci_what_differs_on_sqlite() {
    check(&Program::new("replay_check"), "sqlite:orders.db");
}

#[test]
fn the_check_before_a_deployment_tells_ci_what_differs_on_postgres() {
    let database = throwaway_postgres::Database::create().unwrap();
    check(&Program::new("replay_check"), database.url());
}

#[test]
fn the_journal_may_be_named_by_the_environment() {
    let database = throwaway_postgres::Database::create().unwrap();
    let program = Program::new("replay_check").on(database.url());
    let ended = program.run(&["check"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.contains("0 open runs replayed"), "{}", ended.out);
}

#[test]
fn what_could_not_be_checked_is_neither_good_nor_bad() {
    let program = Program::new("replay_check");
    let refused = |arguments: &[&str], expected: &str| {
        let ended = program.run(arguments);
        assert_eq!(ended.code, Some(2), "{}\n{}", ended.out, ended.err);
        assert_eq!(ended.out, "");
        assert_eq!(ended.err.trim_end().lines().count(), 1, "{}", ended.err);
        assert!(ended.err.contains(expected), "{}", ended.err);
    };
    refused(&["check"], "which journal?");
    refused(&["check", "sqlite:typo.db"], "there is no file \"typo.db\"");
    refused(&["check", "sqlite:typo.db", "--jsn"], "no option --jsn");
    refused(&["check", "pigeon:x"], "pigeon");
    refused(
        &["check", "memory:", "--queue", "slow"],
        "serves the queue \"slow\"",
    );
    refused(
        &["check", "memory:", "--workflow", "ordr"],
        "knows the workflow \"ordr\"",
    );
    refused(
        &["check", "postgres://x:hush@127.0.0.1:1/z"],
        "journal cannot be read",
    );
    let unreachable = program.run(&["check", "postgres://x:hush@127.0.0.1:1/z"]);
    assert!(!unreachable.err.contains("hush"), "{}", unreachable.err);
}
