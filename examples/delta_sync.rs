//! A delta: only what changed since the last sync.
//!
//! With the built-in source, a full sync comes first; then one in a hundred records changes, and the delta finds
//! them. With a source of your own, the first delta reads everything and the next ones what changed.

use std::process::ExitCode;

use clap::Parser;
use examples::{Arguments, Session, Source};
use mock_api::{Entity, MockApi};
use sync_core::SyncType;

/// Syncs what changed.
#[derive(Parser)]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
    /// How many of a hundred records change at the built-in source between full sync and delta.
    #[arg(long, default_value_t = 1.0)]
    change_percent: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Command::parse();
    examples::exit_code(sync(command)).await
}

async fn sync(command: Command) -> anyhow::Result<bool> {
    let Command {
        arguments,
        change_percent,
    } = command;
    let source = Source::open(&arguments).await?;
    let session = Session::start(&arguments, &source, "delta_sync").await?;
    if let Some(api) = &source.builtin {
        let full = session.run(SyncType::Full).await?;
        if !examples::is_success(&full) {
            examples::print(&full, arguments.json)?;
            return Ok(false);
        }
        change(api, change_percent)?;
    }
    let report = session.run(SyncType::Delta).await?;
    session.end().await;
    examples::print(&report, arguments.json)?;
    Ok(examples::is_success(&report))
}

/// An hour passes, and a share of the records changes.
fn change(api: &MockApi, percent: f64) -> anyhow::Result<()> {
    let control = api.control();
    control.advance(3_600);
    for entity in [
        Entity::Person,
        Entity::Email,
        Entity::Address,
        Entity::Group,
    ] {
        control.change_share(entity, percent)?;
    }
    Ok(())
}
