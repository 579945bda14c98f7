//! Bad input gives one clear line.

use crate::program::Program;

#[track_caller]
fn check(arguments: &[&str], expected: &str) {
    let ended = Program::new("full_sync").run(arguments);
    let complaint = ended.complaint();
    assert!(
        complaint.contains(expected),
        "{complaint:?} does not say {expected:?}"
    );
}

#[test]
fn an_unknown_adapter_is_named_with_the_known_ones() {
    check(
        &["--adapter", "nope"],
        "there is no adapter \"nope\"; there is: pco",
    );
}

#[test]
fn an_unreachable_source_is_named() {
    check(
        &["--source", "http://127.0.0.1:1"],
        "the source at http://127.0.0.1:1 cannot be reached",
    );
}

#[test]
fn a_source_that_is_no_address_is_refused() {
    check(&["--source", "nonsense"], "--source");
}

#[test]
fn an_unreachable_destination_is_told() {
    check(
        &[
            "--people",
            "5",
            "--journal",
            "sqlite:j.db",
            "--destination",
            "postgres://x:hush@127.0.0.1:1/z",
        ],
        "the destination at 127.0.0.1:1 cannot be reached",
    );
}

#[test]
fn a_password_is_never_shown() {
    let ended = Program::new("full_sync").run(&[
        "--people",
        "5",
        "--journal",
        "postgres://x:hush@127.0.0.1:1/z",
    ]);
    assert!(!ended.complaint().contains("hush"));
}

#[test]
fn an_unwritable_database_is_told() {
    check(
        &["--people", "5", "--journal", "sqlite:/proc/none/j.db"],
        "cannot",
    );
}

#[test]
fn an_unknown_kind_of_database_is_told() {
    check(
        &["--people", "5", "--journal", "carrier-pigeon:x"],
        "carrier-pigeon",
    );
}

#[test]
fn an_invalid_organisation_is_told() {
    check(&["--people", "5", "--org", "a:b"], "--org");
}
