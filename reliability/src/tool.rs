//! The tools, as a person would run them.

use std::{
    ffi::OsString,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;

/// What a tool prints as one value. A tool that found something wrong says so in its output, so that its
/// exit code does not matter here.
pub(crate) fn one<T: DeserializeOwned>(package: &str, arguments: &[&str]) -> anyhow::Result<T> {
    let output = output(package, arguments)?;
    serde_json::from_str(&output).with_context(|| format!("what {package} prints: {output:?}"))
}

/// What a tool prints as a value on each line.
pub(crate) fn lines<T: DeserializeOwned>(
    package: &str,
    arguments: &[&str],
) -> anyhow::Result<Vec<T>> {
    let output = output(package, arguments)?;
    let values: Result<Vec<T>, _> = output.lines().map(serde_json::from_str).collect();
    values.with_context(|| format!("what {package} prints: {output:?}"))
}

fn output(package: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--package", package, "--"])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{package} cannot be run"))?;
    let text = String::from_utf8(output.stdout).with_context(|| package.to_owned())?;
    ensure!(
        !text.trim().is_empty(),
        "{package} found nothing: {}",
        output.status
    );
    Ok(text)
}
