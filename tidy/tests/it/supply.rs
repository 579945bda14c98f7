use tidy::Workspace;

use crate::check;

/// Licences that may be linked into a program of any licence.
const LICENCES: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages that must not be in the tree, and why.
const BANNED: [(&str, &str); 6] = [
    (
        "ring",
        "a second cryptography provider beside aws-lc-rs makes rustls panic at run time",
    ),
    ("openssl-sys", "TLS is rustls"),
    ("native-tls", "TLS is rustls"),
    ("backoff", "unmaintained: backon is its successor"),
    ("serde_yaml", "unmaintained: serde_norway is its successor"),
    ("instant", "unmaintained"),
];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[test]
fn every_licence_in_the_tree_is_permissive() {
    let workspace = Workspace::load().unwrap();
    let offences = workspace
        .packages()
        .iter()
        .filter(|package| !package.license.as_deref().is_some_and(is_permissive))
        .map(|package| {
            format!(
                "{} {}: {:?}",
                package.name, package.version, package.license
            )
        });
    check("licences to look at", offences);
}

#[test]
fn every_package_comes_from_the_registry_or_from_this_workspace() {
    let workspace = Workspace::load().unwrap();
    let offences = workspace
        .packages()
        .iter()
        .filter(|package| {
            package
                .source
                .as_deref()
                .is_some_and(|source| source != CRATES_IO)
        })
        .map(|package| format!("{}: {:?}", package.name, package.source));
    check("packages from elsewhere", offences);
}

#[test]
fn no_banned_package_is_linked_in() {
    let linked = Workspace::load().unwrap().linked().unwrap();
    assert!(
        linked.contains("serde"),
        "the tree was not understood: {linked:?}"
    );
    let offences = BANNED
        .iter()
        .filter(|(name, _)| linked.contains(*name))
        .map(|(name, why)| format!("{name}: {why}"));
    check("banned packages", offences);
}

/// Whether an SPDX expression can be met with permissive licences alone. Alternatives are split
/// last, so an expression with unusual brackets is at worst refused.
fn is_permissive(expression: &str) -> bool {
    let flat = expression.replace('/', " OR ");
    let trimmed = flat.trim();
    if let Some(parts) = split_outside_brackets(trimmed, " AND ") {
        return parts.iter().all(|part| is_permissive(part));
    }
    if let Some(parts) = split_outside_brackets(trimmed, " OR ") {
        return parts.iter().any(|part| is_permissive(part));
    }
    match trimmed
        .strip_prefix('(')
        .and_then(|inner| inner.strip_suffix(')'))
    {
        Some(inner) => is_permissive(inner),
        None => LICENCES.contains(&trimmed),
    }
}

fn split_outside_brackets<'a>(text: &'a str, separator: &str) -> Option<Vec<&'a str>> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && text[index..].starts_with(separator) => {
                parts.push(&text[start..index]);
                start = index + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (parts.len() > 1).then_some(parts)
}

#[test]
fn licence_expressions_are_understood() {
    let check = |expression, permissive| {
        assert_eq!(is_permissive(expression), permissive, "{expression}");
    };
    check("MIT", true);
    check("MIT/Apache-2.0", true);
    check("GPL-3.0", false);
    check("GPL-3.0 OR MIT", true);
    check("MIT AND GPL-3.0", false);
    check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
    check("ISC AND (GPL-2.0 OR AGPL-3.0)", false);
    check("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true);
}
