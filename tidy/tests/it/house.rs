use std::fs;

use tidy::{Workspace, sources};

use crate::check;

/// What is not written in this house, and what is written instead.
const UNWRITTEN: [(&str, &str); 3] = [
    (
        "#[allow(",
        "#[expect(lint, reason = \"…\")] tells when it is no longer needed",
    ),
    (
        "#![allow(",
        "#![expect(lint, reason = \"…\")] tells when it is no longer needed",
    ),
    (
        "#[ignore",
        "a test that does not run is no test: make it fast, or make it a benchmark",
    ),
];

#[test]
fn no_lint_is_silenced_for_good_and_no_test_is_left_out() {
    let workspace = Workspace::load().unwrap();
    let mut offences = Vec::new();
    // This very file names what it forbids.
    for package in workspace.members().filter(|package| package.name != "tidy") {
        for source in sources(package.folder()).unwrap() {
            for (index, line) in source.text.lines().enumerate() {
                let found = UNWRITTEN
                    .iter()
                    .filter(|(word, _)| line.trim_start().starts_with(word));
                offences.extend(found.map(|(word, instead)| {
                    format!("{}:{}: {word}: {instead}", source.path.display(), index + 1)
                }));
            }
        }
    }
    check("lines against the style of the house", offences);
}

#[test]
fn every_crate_inherits_the_lints_and_the_version() {
    const LINES: [&str; 4] = [
        "[lints]\nworkspace = true",
        "version.workspace = true",
        "rust-version.workspace = true",
        "license.workspace = true",
    ];
    let workspace = Workspace::load().unwrap();
    let mut offences = Vec::new();
    for package in workspace.members() {
        let manifest = fs::read_to_string(package.folder().join("Cargo.toml")).unwrap();
        let missing = LINES.iter().filter(|lines| !manifest.contains(**lines));
        offences.extend(missing.map(|lines| format!("{}: {lines:?} is missing", package.name)));
    }
    check("manifests that go their own way", offences);
}

#[test]
fn versions_are_declared_once_in_the_workspace() {
    let workspace = Workspace::load().unwrap();
    let mut offences = Vec::new();
    for package in workspace.members() {
        let manifest = fs::read_to_string(package.folder().join("Cargo.toml")).unwrap();
        let dependencies = manifest
            .split("\n[")
            .filter(|section| {
                section
                    .split(']')
                    .next()
                    .is_some_and(|name| name.ends_with("dependencies"))
            })
            .flat_map(|section| section.lines().skip(1))
            .filter(|line| line.contains('=') && !line.starts_with('#'));
        // A neighbour's folder is no version; only its own manifest can leave its default features out.
        let is_declared =
            |line: &&str| line.contains("workspace = true") || line.contains("path = \"..\"");
        let own = dependencies.filter(|line| !is_declared(line));
        offences.extend(own.map(|line| format!("{}: {line}", package.name)));
    }
    check("versions outside the workspace's table", offences);
}
