//! The rules of the workspace.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dependencies;
mod house;
mod purity;
mod repository;
mod supply;

/// Fails with one line for each offence.
fn check(rule: &str, offences: impl IntoIterator<Item = String>) {
    let offences: Vec<_> = offences.into_iter().collect();
    assert!(
        offences.is_empty(),
        "{rule}:\n  {}\n",
        offences.join("\n  ")
    );
}
