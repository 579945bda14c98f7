//! Runs that an operator pauses and lets go on.

use std::time::Duration;

use async_trait::async_trait;
use sync_workflow::{
    Client,
    client::Error,
    id::RunId,
    journal::{RunFilter, RunInfo},
    status::RunStatus,
};
use tokio::time::{Instant, sleep};

use super::{Fault, Field, Held, Proof, Strike, now, processes::kill_anyone};
use crate::load::again;

/// Pauses some runs, kills a worker meanwhile, and lets them go on.
pub(super) struct Holding;

/// The most runs that are paused at the same time.
const MOST: usize = 6;
/// How long a run may take to end what is under way.
const PAUSES_WITHIN: Duration = Duration::from_secs(3);

#[async_trait]
impl Fault for Holding {
    fn workers(&self) -> usize {
        4
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(Duration::from_millis(300)).await;
        let client = field.store.client().clone();
        let mut open = open_runs(&client).await?;
        field.rng.shuffle(&mut open);
        open.truncate(field.rng.usize(1..=MOST));
        for run in &open {
            ask(&client, run, true).await?;
        }
        if field.rng.bool() {
            kill_anyone(field).await?;
        }
        let held = paused(&client, &open).await?;
        field.wait_up_to(Duration::from_millis(400)).await;
        for (run, records) in &held {
            // Whoever cancels a run ends its pause: so the records are counted first.
            let went_on = length(&client, *run).await? != *records;
            if went_on && status(&client, *run).await? == RunStatus::Paused {
                let what = format!("run {run} went on while it was paused");
                field.fleet.misdeeds.push(what);
            }
        }
        let at = now();
        for run in &open {
            ask(&client, run, false).await?;
        }
        let strikes = held.into_iter().map(|(run, _)| Strike {
            at,
            proof: Proof::Seen,
            held: Held::Runs(vec![run]),
        });
        Ok(strikes.collect())
    }

    async fn heal(&mut self, field: &mut Field) -> anyhow::Result<()> {
        let client = field.store.client();
        for run in open_runs(client).await? {
            if run.pause_requested {
                ask(client, &run, false).await?;
            }
        }
        Ok(())
    }
}

async fn open_runs(client: &Client) -> anyhow::Result<Vec<RunInfo>> {
    let filter = RunFilter {
        statuses: RunStatus::OPEN.to_vec(),
        limit: RunFilter::MAX_LIMIT,
        ..RunFilter::default()
    };
    Ok(again(|| client.list(&filter)).await?.items)
}

/// Pauses the latest run of a workflow id, or lets it go on, unless it has ended.
async fn ask(client: &Client, run: &RunInfo, pauses: bool) -> anyhow::Result<()> {
    let id = run.workflow_id.as_str();
    again(|| async {
        let asked = match pauses {
            true => client.pause(id).await,
            false => client.resume(id).await,
        };
        match asked {
            Err(Error::NotOpen) => Ok(()),
            asked => asked,
        }
    })
    .await
}

/// Those of the runs that are paused soon, and how many records they have then.
async fn paused(client: &Client, runs: &[RunInfo]) -> anyhow::Result<Vec<(RunId, usize)>> {
    let deadline = Instant::now() + PAUSES_WITHIN;
    let mut held = Vec::new();
    for run in runs {
        loop {
            match status(client, run.run).await? {
                RunStatus::Paused => {
                    held.push((run.run, length(client, run.run).await?));
                    break;
                }
                status if !status.is_closed() && Instant::now() < deadline => {
                    sleep(Duration::from_millis(5)).await;
                }
                _ => break,
            }
        }
    }
    Ok(held)
}

async fn status(client: &Client, run: RunId) -> anyhow::Result<RunStatus> {
    Ok(again(|| client.describe_run(run)).await?.status)
}

async fn length(client: &Client, run: RunId) -> anyhow::Result<usize> {
    let page = again(|| client.history(run, 0, 1_000)).await?;
    Ok(page.items.len())
}
