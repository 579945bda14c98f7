//! The configuration of clippy that the guide offers.

use std::{path::Path, process::Command};

/// Code that breaks its rules, each named at the end of its line.
const CARELESS: &str = include_str!("samples/careless.rs");

#[test]
fn clippy_finds_what_no_replay_repeats() {
    let Some(found) = found_by_clippy() else {
        eprintln!("SKIPPED: clippy is not installed");
        return;
    };
    let expected: Vec<_> = CARELESS
        .lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index + 1, line.split_once(" // ")?.1.to_string())))
        .collect();
    assert_eq!(found, expected);
}

/// The numbers of the lines that clippy complains of, with the rules; `None` without clippy.
fn found_by_clippy() -> Option<Vec<(usize, String)>> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("clippy-driver")
        .args([
            "--crate-type",
            "lib",
            "--edition",
            "2024",
            "--emit",
            "metadata",
        ])
        .args(["--cap-lints", "warn", "--error-format", "short"])
        .args([
            "-W",
            "clippy::disallowed_methods",
            "-W",
            "clippy::iter_over_hash_type",
        ])
        .arg("--out-dir")
        .arg(env!("CARGO_TARGET_TMPDIR"))
        .arg(crate_folder.join("tests/it/samples/careless.rs"))
        .env("CLIPPY_CONF_DIR", crate_folder.join("../../docs/guide"))
        .env("CLIPPY_DISABLE_DOCS_LINKS", "1")
        .output()
        .ok()?;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        !said.contains("clippy.toml"),
        "every rule is understood: {said}"
    );
    Some(said.lines().filter_map(complaint).collect())
}

/// The place and the rule in a line such as `careless.rs:9:17: warning: use of a disallowed method …`.
fn complaint(line: &str) -> Option<(usize, String)> {
    let (_, place) = line.split_once("careless.rs:")?;
    let number = place.split(':').next()?.parse().ok()?;
    let rule = match line.split_once("disallowed method `") {
        Some((_, method)) => method.split('`').next()?.to_string(),
        None => line
            .contains("iteration over")
            .then(|| "iteration".to_string())?,
    };
    Some((number, rule))
}
