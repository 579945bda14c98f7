//! Every job of the program runs through, at a small size.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod allocations;
mod counted;
mod growth;
mod statements;

use std::{path::Path, process::Command};

use serde_json::Value;

/// Runs a job at a small size and returns its report.
fn report(job: &str, database: &str) -> Value {
    let program = env!("CARGO_BIN_EXE_benches");
    let output = Command::new(program)
        .args([
            job,
            "--json",
            "--rounds",
            "1",
            "--scale",
            "0.01",
            "--database",
            database,
        ])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{job} on {database}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Checks that a job measured something for every figure and goal that it names.
fn check(job: &str, database: &str) {
    let report = report(job, database);
    let figures = report["figures"].as_array().unwrap();
    assert!(figures.len() >= 3, "{report:#}");
    for figure in figures {
        let measured = figure["median"].as_f64();
        let what = figure["what"].as_str().unwrap();
        // Processor time is counted in ticks of ten milliseconds.
        let may_be_small = what == "asleep, above idle" || what.starts_with("processor time");
        assert!(
            measured.is_some_and(|value| value > 0.0 || may_be_small),
            "{report:#}"
        );
    }
    let goals = report["goals"].as_array().unwrap();
    assert!(
        !goals.is_empty() && goals.iter().all(|goal| goal["reached"].is_boolean()),
        "{report:#}"
    );
}

fn on_postgres(job: &str) {
    let database = throwaway_postgres::Database::create().unwrap();
    check(job, database.url());
}

fn on_sqlite(job: &str) {
    let directory = tempfile::tempdir().unwrap();
    check(job, &format!("sqlite:{}", directory.path().display()));
    assert!(is_empty(directory.path()), "files were left");
}

fn is_empty(directory: &Path) -> bool {
    directory.read_dir().unwrap().next().is_none()
}

macro_rules! on_both {
    ($($name:ident: $job:literal),* $(,)?) => {
        mod postgres {
            $(#[test] fn $name() { super::on_postgres($job) })*
        }
        mod sqlite {
            $(#[test] fn $name() { super::on_sqlite($job) })*
        }
    };
}

on_both! {
    w1_compares_many_workflows_with_the_bare_loop: "w1",
    w2_times_single_workflows: "w2",
    w3_times_children: "w3",
    w4_survives_the_kill_of_the_other_process: "w4",
    w5_measures_sleepers: "w5",
    sync_writes_what_the_bare_loop_writes: "sync",
}

#[test]
fn a_database_of_another_kind_is_refused_in_one_line() {
    let output = Command::new(env!("CARGO_BIN_EXE_benches"))
        .args(["w1", "--database", "mysql://localhost"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
}
