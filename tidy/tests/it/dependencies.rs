use std::collections::BTreeMap;

use tidy::{Kind, Package, Workspace, sources};

use crate::check;

/// Which houses a house may build on. A new edge is a decision: its reason is in ARCHITECTURE.md.
const MAY_USE: [(&str, &[&str]); 16] = [
    ("sync-core", &[]),
    ("sync-workflow", &[]),
    ("sync-workflow-macros", &[]),
    ("sync-adapters", &["sync-core"]),
    (
        "sync-engine",
        &["sync-core", "sync-workflow", "sync-adapters"],
    ),
    (
        "sync-server",
        &["sync-core", "sync-workflow", "sync-adapters", "sync-engine"],
    ),
    ("simulator", &["sync-workflow"]),
    ("protocol-model", &[]),
    // It runs the others as programs.
    ("reliability", &["this-machine"]),
    ("this-machine", &[]),
    ("mock-api", &[]),
    ("throwaway-postgres", &[]),
    ("tidy", &[]),
    ("examples", LEAF),
    ("benches", LEAF),
    ("torture", &["sync-workflow", "throwaway-postgres"]),
];

/// Nothing builds on examples and benches, so they may use everything.
const LEAF: &[&str] = &[
    "sync-core",
    "sync-workflow",
    "sync-adapters",
    "sync-engine",
    "mock-api",
    "this-machine",
    "throwaway-postgres",
];

/// What any house may use in its tests, beside what it builds on.
const TESTS_MAY_USE: [&str; 2] = ["mock-api", "throwaway-postgres"];

/// Libraries that would make a house more than it is, and the houses that may use them.
const RESERVED: [(&str, &[&str]); 7] = [
    (
        "tokio",
        &[
            "sync-workflow",
            "sync-adapters",
            "sync-engine",
            "sync-server",
            "simulator",
            "mock-api",
            "examples",
            "benches",
            "torture",
        ],
    ),
    (
        "sqlx",
        &[
            "sync-workflow",
            "sync-adapters",
            "sync-engine",
            "sync-server",
            "examples",
            "benches",
            "torture",
        ],
    ),
    ("axum", &["mock-api", "sync-server"]),
    (
        "reqwest",
        &[
            "sync-adapters",
            "sync-engine",
            "sync-server",
            "examples",
            "benches",
        ],
    ),
    ("petgraph", &["sync-core"]),
    (
        "clap",
        &[
            "protocol-model",
            "reliability",
            "simulator",
            "mock-api",
            "throwaway-postgres",
            "sync-server",
            "examples",
            "benches",
            "torture",
        ],
    ),
    (
        "anyhow",
        &[
            "reliability",
            "simulator",
            "mock-api",
            "sync-server",
            "examples",
            "benches",
            "torture",
        ],
    ),
];

/// Dependencies that no line of code names, and what they are for.
const UNNAMED: [(&str, &str, &str); 1] = [(
    "sync-workflow",
    "libsqlite3-sys",
    "pins the SQLite that sqlx bundles",
)];

#[test]
fn no_arrow_runs_back() {
    let workspace = Workspace::load().unwrap();
    let may_use = BTreeMap::from(MAY_USE);
    let mut offences = Vec::new();
    for package in workspace.members() {
        let Some(allowed) = may_use.get(package.name.as_str()) else {
            offences.push(format!(
                "{} has no row in the table of directions",
                package.name
            ));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.path.is_some())
        {
            let name = dependency.name.as_str();
            let in_tests = dependency.kind == Kind::Dev && TESTS_MAY_USE.contains(&name);
            // Macros live in a folder of the crate that they belong to.
            let own_macros = name == format!("{}-macros", package.name);
            // And are tested with it.
            let own_crate =
                dependency.kind == Kind::Dev && package.name == format!("{name}-macros");
            if !allowed.contains(&name) && !in_tests && !own_macros && !own_crate {
                offences.push(format!("{} -> {name}", package.name));
            }
        }
    }
    check("edges against the direction of dependency", offences);
}

#[test]
fn reserved_libraries_stay_in_their_houses() {
    let workspace = Workspace::load().unwrap();
    let mut offences = Vec::new();
    for (library, houses) in RESERVED {
        for package in workspace.members() {
            let uses = package
                .needs(Kind::Normal)
                .any(|dependency| dependency.name == library);
            if uses && !houses.contains(&package.name.as_str()) {
                offences.push(format!("{} -> {library}", package.name));
            }
        }
    }
    check("libraries outside their houses", offences);
}

#[test]
fn every_declared_dependency_is_used() {
    let workspace = Workspace::load().unwrap();
    check(
        "dependencies that no code names",
        workspace.members().flat_map(unused),
    );
}

fn unused(package: &Package) -> Vec<String> {
    let sources = sources(package.folder()).unwrap();
    let is_used = |name: &str| {
        let word = name.replace('-', "_");
        sources.iter().any(|source| source.names(&word))
    };
    let is_excused = |name: &str| {
        UNNAMED
            .iter()
            .any(|(house, library, _)| *house == package.name && *library == name)
    };
    package
        .dependencies
        .iter()
        .map(|dependency| dependency.name.as_str())
        .filter(|name| !is_used(name) && !is_excused(name))
        .map(|name| format!("{} -> {name}", package.name))
        .collect()
}
