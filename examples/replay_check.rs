//! A gate before a deployment: do the runs that yesterday's code began go on with today's? Three commands:
//!
//! - `begin URL` lets yesterday's worker begin an order, which then waits for its delivery;
//! - `check URL` replays it against today's worker, which knows what is open;
//! - `check-careless URL` replays it against the worker of somebody who forgot.

use std::process::ExitCode;

use anyhow::Context as _;
use sync_workflow::{Failure, Worker, WorkerBuilder, worker::ReplayCheckCommand};

async fn reserve(cents: u64) -> Result<u64, Failure> {
    Ok(cents)
}

async fn charge(cents: u64) -> Result<u64, Failure> {
    Ok(cents)
}

mod yesterday {
    use sync_workflow::{Context, Failure};

    /// Charges, and waits for the delivery.
    pub(crate) async fn order(ctx: Context, cents: u64) -> Result<u64, Failure> {
        let charged = ctx.activity(super::charge, cents).await?;
        ctx.publish("stage", "charged")?;
        ctx.wait::<()>("delivered").await?;
        Ok(charged)
    }
}

mod today {
    use sync_workflow::{Context, Failure};

    /// Reserves before it charges, unless the run was here before that was so.
    pub(crate) async fn order(ctx: Context, cents: u64) -> Result<u64, Failure> {
        if ctx.version("reserve-first", 0..=1) >= 1 {
            ctx.activity(super::reserve, cents).await?;
        }
        super::yesterday::order(ctx, cents).await
    }
}

mod careless {
    use sync_workflow::{Context, Failure};

    /// Reserves before it charges, whatever the run has done already.
    pub(crate) async fn order(ctx: Context, cents: u64) -> Result<u64, Failure> {
        ctx.activity(super::reserve, cents).await?;
        super::yesterday::order(ctx, cents).await
    }
}

fn worker() -> WorkerBuilder {
    Worker::builder().activity(reserve).activity(charge)
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let worker = match &*command {
        "begin" => return examples::exit_code(begin(arguments.next())).await,
        "check" => worker().workflow(today::order),
        "check-careless" => worker().workflow(careless::order),
        _ => {
            eprintln!("error: no command {command:?}; there are begin, check, check-careless");
            return ExitCode::from(2);
        }
    };
    ReplayCheckCommand::new(worker).run(arguments).await.into()
}

/// Leaves an order behind that waits for its delivery.
async fn begin(url: Option<String>) -> anyhow::Result<bool> {
    let url = url.context("begin needs the URL of a journal")?;
    let worker = worker().workflow(yesterday::order).start(&url).await?;
    let client = worker.client();
    client.start(yesterday::order, "order-7", 100).await?;
    let mut stages = client.watch::<String>("order-7", "stage").await?;
    let is_charged = stages.next().await?.is_some();
    worker.shutdown().await;
    Ok(is_charged)
}
