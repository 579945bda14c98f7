//! `duroxide` with `duroxide-pg`: orchestrations and activities travel through queues in tables.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use duroxide::{
    ActivityContext, Client, OrchestrationContext, OrchestrationRegistry, OrchestrationStatus,
    runtime::{Runtime, RuntimeOptions, registry::ActivityRegistry},
};
use duroxide_pg::PostgresProvider;

use super::{Engine, Work};
use crate::step::Step;

/// The variable that the provider takes the size of its pool from.
pub(crate) const POOL_VARIABLE: &str = "DUROXIDE_PG_POOL_MAX";
/// What its guide recommends at least for a local PostgreSQL.
const POLL: Duration = Duration::from_millis(10);
/// Turns, and activities, that run at once.
const DISPATCHERS: usize = 8;
/// Shorter than the defaults of 5 s and 30 s, for a quick take-over.
const LOCK: Duration = Duration::from_secs(2);
/// Longer than any job: the limit of a job ends the wait.
const PATIENCE: Duration = Duration::from_secs(3_600);

pub(crate) struct Duroxide {
    runtime: Arc<Runtime>,
    client: Client,
    work: Work,
}

impl Engine for Duroxide {
    async fn start(url: &str, work: Work, step: Step) -> anyhow::Result<Self> {
        let store = Arc::new(PostgresProvider::new(url).await?);
        let activities = ActivityRegistry::builder()
            .register("trivial", move |_: ActivityContext, input: String| {
                let step = step.clone();
                async move { Ok(step.run(number(&input)?).await.to_string()) }
            })
            .build();
        let orchestrations = OrchestrationRegistry::builder()
            .register("steps", steps)
            .register("parent", parent)
            .register("nap", nap)
            .build();
        let mut options = RuntimeOptions {
            dispatcher_min_poll_interval: POLL,
            orchestration_concurrency: DISPATCHERS,
            worker_concurrency: DISPATCHERS,
            ..RuntimeOptions::default()
        };
        if let Work::LongRun(_) = work {
            options.orchestrator_lock_timeout = LOCK;
            options.worker_lock_timeout = LOCK;
        }
        let runtime =
            Runtime::start_with_options(store.clone(), activities, orchestrations, options).await;
        Ok(Self {
            runtime,
            client: Client::new(store),
            work,
        })
    }

    async fn run(&self, id: &str) -> anyhow::Result<()> {
        let (name, input) = match self.work {
            Work::Steps(count) | Work::LongRun(count) => ("steps", count.into()),
            Work::Children(count) => ("parent", count.into()),
            Work::Sleep(length) => ("nap", length.as_secs()),
        };
        self.client
            .start_orchestration(id, name, input.to_string())
            .await?;
        if let Work::Sleep(_) = self.work {
            return Ok(());
        }
        match self.client.wait_for_orchestration(id, PATIENCE).await? {
            OrchestrationStatus::Completed { .. } => Ok(()),
            other => bail!("an orchestration ended as {other:?}"),
        }
    }

    async fn stop(self) {
        self.runtime.shutdown(None).await;
    }
}

async fn steps(ctx: OrchestrationContext, input: String) -> Result<String, String> {
    let count = number(&input)?;
    let mut passed = 0;
    while passed < count {
        passed = trivial(&ctx, passed).await?;
    }
    Ok(passed.to_string())
}

async fn parent(ctx: OrchestrationContext, input: String) -> Result<String, String> {
    let children = (0..number(&input)?)
        .map(|_| ctx.schedule_sub_orchestration("steps", "1"))
        .collect();
    let mut sum = 0;
    for result in ctx.join(children).await {
        sum += number(&result?)?;
    }
    Ok(sum.to_string())
}

async fn nap(ctx: OrchestrationContext, input: String) -> Result<String, String> {
    let passed = trivial(&ctx, 0).await?;
    ctx.schedule_timer(Duration::from_secs(number(&input)?))
        .await;
    Ok(passed.to_string())
}

async fn trivial(ctx: &OrchestrationContext, passed: u64) -> Result<u64, String> {
    let output = ctx.schedule_activity("trivial", passed.to_string()).await?;
    number(&output)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}
