//! A reconciliation: everything is read, compared by content, and what is gone becomes a tombstone, with proof.
//!
//! With the built-in source, a full sync comes first; then some people vanish with all that belongs to them, and
//! some records change without moving their timestamps, which no delta would see.

use std::process::ExitCode;

use clap::Parser;
use examples::{Arguments, Session, Source};
use mock_api::{Entity, MockApi, Mutation};
use sync_core::SyncType;

/// Compares everything, and finds what is gone.
#[derive(Parser)]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
    /// How many of a hundred people vanish from the built-in source before the reconciliation.
    #[arg(long, default_value_t = 2.0)]
    delete_percent: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Command::parse();
    examples::exit_code(sync(command)).await
}

async fn sync(command: Command) -> anyhow::Result<bool> {
    let Command {
        arguments,
        delete_percent,
    } = command;
    let source = Source::open(&arguments).await?;
    let session = Session::start(&arguments, &source, "reconciliation").await?;
    if let Some(api) = &source.builtin {
        let full = session.run(SyncType::Full).await?;
        if !examples::is_success(&full) {
            examples::print(&full, arguments.json)?;
            return Ok(false);
        }
        change(api, delete_percent)?;
    }
    let report = session.run(SyncType::Reconciliation).await?;
    session.end().await;
    examples::print(&report, arguments.json)?;
    Ok(examples::is_success(&report))
}

/// An hour passes; people vanish, and others change behind the back of their timestamps.
fn change(api: &MockApi, percent: f64) -> anyhow::Result<()> {
    let control = api.control();
    control.advance(3_600);
    control.delete_share(Entity::Person, percent)?;
    control.mutate(Mutation::ChangeShare {
        entity: Entity::Person,
        percent: 1.0,
        silent: true,
    })?;
    Ok(())
}
