//! Workers that come back too late, and workers side by side.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sync_workflow::{Activity, ActivityContext, Context, Failure};

use super::{
    Storage,
    code::{Counter, steps},
    eventually, on_every_journal, quick,
};

on_every_journal![
    a_fenced_worker_commits_nothing_and_goes_on_as_a_new_node,
    two_workers_share_runs_and_each_step_is_journaled_once,
];

async fn a_fenced_worker_commits_nothing_and_goes_on_as_a_new_node(storage: Storage) {
    let calls = Arc::new(AtomicU32::new(0));
    let gate = Gate::default();
    let counter = Gated {
        calls: Arc::clone(&calls),
        gate: gate.clone(),
    };
    let worker = storage
        .start(quick().workflow(gated_steps).activity(counter))
        .await;
    let handle = worker.client().start(gated_steps, "a", 4).await.unwrap();
    gate.open(2);
    eventually("the third step waits", || async {
        calls.load(Ordering::SeqCst) == 3
    })
    .await;
    let zombie = handle.describe().await.unwrap().node.unwrap();

    // Declared dead behind its back, as a reaper does after a pause.
    storage.journal.retire(zombie).await.unwrap();
    gate.open(100);
    assert_eq!(handle.result().await.unwrap(), 6);
    let after = storage.journal.enlist(zombie, Duration::from_secs(1)).await;
    assert!(
        after.is_ok(),
        "the zombie's lease is gone for good until somebody enlists it"
    );
    let history = worker
        .client()
        .history(handle.run_id(), 0, 100)
        .await
        .unwrap();
    assert_eq!(history.items.len(), 6, "a start, four steps and an end");
    worker.shutdown().await;
}

/// Lets a number of calls through.
#[derive(Clone)]
struct Gate(Arc<tokio::sync::Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(tokio::sync::Semaphore::new(0)))
    }
}

impl Gate {
    fn open(&self, calls: usize) {
        self.0.add_permits(calls);
    }
}

struct Gated {
    calls: Arc<AtomicU32>,
    gate: Gate,
}

impl Activity for Gated {
    const NAME: &'static str = "gated";
    type Input = u32;
    type Output = u32;
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, n: u32) -> Result<u32, Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.gate.0.acquire().await?.forget();
        Ok(n)
    }
}

async fn gated_steps(ctx: Context, count: u32) -> Result<u32, Failure> {
    let mut sum = 0;
    for n in 0..count {
        sum += ctx.activity(Gated::activity(), n).await?;
    }
    Ok(sum)
}

async fn two_workers_share_runs_and_each_step_is_journaled_once(storage: Storage) {
    let calls = Arc::new(AtomicU32::new(0));
    let build = || {
        let counter = Counter {
            calls: Arc::clone(&calls),
            hang_at: 0,
        };
        quick()
            .max_resident_runs(4)
            .workflow(steps)
            .activity(counter)
    };
    let first = storage.start(build()).await;
    let second = storage.start(build()).await;
    let client = sync_workflow::Client::new(Arc::clone(&storage.journal));
    let mut handles = Vec::new();
    for n in 0..30 {
        handles.push(client.start(steps, &format!("run-{n}"), 5).await.unwrap());
    }
    for handle in &handles {
        assert_eq!(handle.result().await.unwrap(), 10);
        let history = client.history(handle.run_id(), 0, 100).await.unwrap();
        assert_eq!(history.items.len(), 7);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 150);
    first.shutdown().await;
    second.shutdown().await;
}
