//! Every series of `growth` runs through, at a small size.

use std::process::Command;

use serde_json::Value;

/// Runs a series and returns its section.
fn section(series: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_benches"))
        .args(["growth", "--only", series, "--rounds", "1"])
        .args(["--sizes", "tiny", "--json"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{series}: {errors}");
    let mut sections: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    sections.pop().unwrap()
}

/// Checks that a series measured everything that it draws, on these databases.
fn check(series: &str, databases: &[&str]) {
    let section = section(series);
    let figures = section["figures"].as_array().unwrap();
    for database in databases {
        for panel in section["series"]["panels"].as_array().unwrap() {
            for quantity in panel["quantities"].as_array().unwrap() {
                let is_measured = figures.iter().any(|figure| {
                    figure["quantity"] == *quantity
                        && figure["database"] == *database
                        && figure["median"].is_number()
                });
                assert!(is_measured, "{quantity} on {database}: {section:#}");
            }
        }
    }
}

macro_rules! series {
    ($($name:ident: $series:literal on $databases:expr),* $(,)?) => {
        $(#[test] fn $name() { check($series, &$databases) })*
    };
}

series! {
    waiting_runs_are_measured: "waiting" on ["Postgres", "Sqlite"],
    workers_are_measured: "workers" on ["Postgres", "Sqlite"],
    a_distance_is_measured: "distance" on ["Postgres"],
    histories_are_measured: "history" on ["Postgres", "Sqlite"],
    payloads_are_measured: "payload" on ["Postgres", "Sqlite"],
    sleepers_are_measured: "sleepers" on ["Postgres", "Sqlite"],
    fan_outs_are_measured: "fan-out" on ["Postgres", "Sqlite"],
}
