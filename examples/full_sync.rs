//! A full sync of a whole organisation, in the order of its dependencies.
//!
//! Without flags: from the built-in source into the SQLite file `full_sync.db`. Kill it at any moment and run it
//! again: it goes on where it stopped.

use std::process::ExitCode;

use clap::Parser;
use examples::{Arguments, Session, Source};
use sync_core::SyncType;

/// Syncs a whole organisation.
#[derive(Parser)]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command { arguments } = Command::parse();
    examples::exit_code(sync(arguments)).await
}

async fn sync(arguments: Arguments) -> anyhow::Result<bool> {
    let source = Source::open(&arguments).await?;
    let session = Session::start(&arguments, &source, "full_sync").await?;
    let report = session.run(SyncType::Full).await?;
    session.end().await;
    examples::print(&report, arguments.json)?;
    Ok(examples::is_success(&report))
}
