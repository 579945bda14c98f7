//! What the sync examples share: their command line, the built-in source, the engine, and what they print.

mod arguments;
mod bars;
mod session;
mod source;
mod summary;

pub use self::{
    arguments::{Arguments, manifest_of},
    session::Session,
    source::Source,
    summary::{is_success, print},
};

use std::process::ExitCode;

/// Runs an example to its exit code: an error becomes one line on the standard error.
pub async fn exit_code(example: impl Future<Output = anyhow::Result<bool>>) -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match example.await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            // The chain of causes in one line.
            eprintln!("error: {}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}
