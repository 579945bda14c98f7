//! This project's engine.

use std::time::Duration;

use sync_workflow::{Activity, ActivityContext, Context, Failure, Worker};

use super::{Engine, Work};
use crate::step::Step;

/// Shorter than the default, for a quick take-over.
const LEASE: Duration = Duration::from_secs(2);

pub(crate) struct SyncWorkflow {
    worker: Worker,
    work: Work,
}

impl Engine for SyncWorkflow {
    async fn start(url: &str, work: Work, step: Step) -> anyhow::Result<Self> {
        let mut worker = Worker::builder();
        if let Work::LongRun(_) = work {
            worker = worker.lease(LEASE);
        }
        let worker = worker
            .workflow(steps)
            .workflow(parent)
            .workflow(nap)
            .activity(Trivial(step))
            .start(url)
            .await?;
        Ok(Self { worker, work })
    }

    async fn run(&self, id: &str) -> anyhow::Result<()> {
        let client = self.worker.client();
        match self.work {
            Work::Steps(count) | Work::LongRun(count) => {
                client
                    .start(steps, id, count.into())
                    .await?
                    .result()
                    .await?;
            }
            Work::Children(count) => {
                client
                    .start(parent, id, count.into())
                    .await?
                    .result()
                    .await?;
            }
            Work::Sleep(length) => {
                client.start(nap, id, length).await?;
            }
        }
        Ok(())
    }

    async fn stop(self) {
        self.worker.shutdown().await;
    }
}

async fn steps(ctx: Context, count: u64) -> Result<u64, Failure> {
    let mut number = 0;
    while number < count {
        number = ctx.activity(Trivial::activity(), number).await?;
    }
    Ok(number)
}

async fn parent(ctx: Context, children: u64) -> Result<u64, Failure> {
    let started: Vec<_> = (0..children).map(|_| ctx.child(steps, 1).start()).collect();
    let mut sum = 0;
    for child in started {
        sum += child.await?;
    }
    Ok(sum)
}

async fn nap(ctx: Context, length: Duration) -> Result<u64, Failure> {
    let number = ctx.activity(Trivial::activity(), 0).await?;
    ctx.sleep(length).await?;
    Ok(number)
}

struct Trivial(Step);

impl Activity for Trivial {
    const NAME: &'static str = "trivial";
    type Input = u64;
    type Output = u64;
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, number: u64) -> Result<u64, Failure> {
        Ok(self.0.run(number).await)
    }
}
