//! A little of the torture, as a user runs it.

use std::process::Command;

use serde_json::Value;

/// Runs some faults, and returns what came of each.
fn outcomes(arguments: &[&str]) -> Vec<Value> {
    let evidence = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(env!("CARGO_BIN_EXE_torture"))
        .args(arguments)
        .arg("--json")
        .arg("--evidence")
        .arg(evidence.path())
        .output()
        .expect("the program starts");
    let (told, trouble) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{told}\n{trouble}");
    serde_json::from_str(&told).expect("it tells JSON")
}

fn check(arguments: &[&str], campaigns: usize) {
    let outcomes = outcomes(arguments);
    assert_eq!(outcomes.len(), campaigns);
    for outcome in outcomes {
        assert_eq!(outcome["violations"], Value::Array(Vec::new()));
        assert!(outcome["struck"].as_u64() > Some(0), "{outcome}");
    }
}

#[test]
fn workers_that_are_killed_lose_nothing_on_sqlite() {
    check(
        &[
            "long",
            "--cycles",
            "6",
            "--only",
            "kill",
            "--database",
            "sqlite",
        ],
        1,
    );
}

#[test]
fn workers_that_are_killed_or_replaced_lose_nothing_on_postgres() {
    check(
        &[
            "long",
            "--cycles",
            "6",
            "--only",
            "kill,rolling",
            "--database",
            "postgres",
        ],
        2,
    );
}

#[test]
fn a_fault_that_nobody_knows_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_torture"))
        .args(["short", "--only", "bad-weather"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("bad-weather"));
}
