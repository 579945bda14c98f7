//! Runs that begin again from a place of a history: forks, resets, restarts.

mod children;
mod forks;
mod messages;
mod resets;

use sync_workflow::{
    Client, Failure,
    id::{Position, RunId},
    journal::HistoryRecord,
    record::RecordKind,
};

use super::{Storage, code, eventually, on_every_journal, quick};

async fn history(client: &Client, run: RunId) -> Vec<HistoryRecord> {
    client.history(run, 0, 1_000).await.unwrap().items
}

async fn position_of(client: &Client, run: RunId, kind: RecordKind) -> Position {
    let records = history(client, run).await;
    let found = records.iter().find(|item| item.kind() == kind);
    found.unwrap().position()
}

async fn echo(n: u64) -> Result<u64, Failure> {
    Ok(n)
}

async fn fails(_: u64) -> Result<u64, Failure> {
    Err(Failure::final_error("no"))
}
