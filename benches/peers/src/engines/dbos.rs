//! `dbos`: workflows run where they were started; steps are checkpointed one by one.

use std::time::Duration;

use dbos::{Config, DBOS, Error, RunOptions, StartOptions, WorkflowRef};
use futures::future::try_join_all;

use super::{CONNECTIONS, Engine, Work};
use crate::step::Step;

pub(crate) struct Dbos {
    instance: DBOS,
    workflow: WorkflowRef<u64, u64>,
    work: Work,
}

impl Engine for Dbos {
    async fn start(url: &str, work: Work, step: Step) -> anyhow::Result<Self> {
        let instance = DBOS::new(Config {
            max_connections: CONNECTIONS,
            app_version: Some("1".into()),
            // Only asked where another process runs the workflow, as after a recovery.
            outcome_poll_interval: Some(Duration::from_millis(10)),
            ..Config::new("peers", url)
        });
        let workflow = register(&instance, work, step)?;
        instance.launch().await?;
        Ok(Self {
            instance,
            workflow,
            work,
        })
    }

    async fn run(&self, id: &str) -> anyhow::Result<()> {
        let input = match self.work {
            Work::Steps(count) | Work::LongRun(count) | Work::Children(count) => count.into(),
            Work::Sleep(length) => length.as_secs(),
        };
        if let Work::Sleep(_) = self.work {
            let options = StartOptions {
                workflow_id: Some(id),
                ..StartOptions::default()
            };
            self.workflow.start_with(input, options).await?;
        } else {
            let options = RunOptions {
                workflow_id: Some(id),
                ..RunOptions::default()
            };
            self.workflow.run_with(input, options).await?;
        }
        Ok(())
    }

    async fn stop(self) {
        self.instance.shutdown().await;
    }
}

fn register(instance: &DBOS, work: Work, step: Step) -> dbos::Result<WorkflowRef<u64, u64>> {
    let steps = instance.register_workflow("steps", {
        let step = step.clone();
        move |count| steps(step.clone(), count)
    })?;
    match work {
        Work::Steps(_) | Work::LongRun(_) => Ok(steps),
        Work::Children(_) => {
            instance.register_workflow("parent", move |children| parent(steps.clone(), children))
        }
        Work::Sleep(_) => {
            instance.register_workflow("nap", move |seconds| nap(step.clone(), seconds))
        }
    }
}

async fn steps(step: Step, count: u64) -> dbos::Result<u64> {
    let mut number = 0;
    while number < count {
        number = trivial(&step, number).await?;
    }
    Ok(number)
}

async fn parent(child: WorkflowRef<u64, u64>, children: u64) -> dbos::Result<u64> {
    let started = try_join_all((0..children).map(|_| child.start(1))).await?;
    let results = try_join_all(started.into_iter().map(|handle| handle.result())).await?;
    Ok(results.into_iter().sum())
}

async fn nap(step: Step, seconds: u64) -> dbos::Result<u64> {
    let number = trivial(&step, 0).await?;
    dbos::sleep(Duration::from_secs(seconds)).await?;
    Ok(number)
}

async fn trivial(step: &Step, number: u64) -> dbos::Result<u64> {
    dbos::step("trivial", || async {
        Ok::<_, Error>(step.run(number).await)
    })
    .await
}
