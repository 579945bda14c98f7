//! What a step costs in allocations: it does not depend on the machine, and grows only when somebody adds one.

use std::sync::Arc;

use sync_workflow::{
    Client, Worker,
    journal::{Journal, memory::MemoryJournal},
};

use super::counted::{run, steps, trivial};

/// Allocations of one more sequential activity of a run, from the call to the next one.
const A_STEP: f64 = 22.0;
/// Allocations of a workflow of one activity, from its start to its result.
const A_WORKFLOW: f64 = 58.0;

/// Allocations of this thread while a run of so many steps goes from its start to its result.
fn allocations(runtime: &tokio::runtime::Runtime, client: &Client, name: &str, count: u32) -> f64 {
    let counted = allocation_counter::measure(|| runtime.block_on(run(client, name, count)));
    counted.count_total as f64
}

/// A worker in memory, and the one thread that it runs on: so that the thread's count is the worker's.
fn worker() -> (tokio::runtime::Runtime, Worker) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let worker = runtime.block_on(async {
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::new());
        let builder = Worker::builder().workflow(steps).activity(trivial);
        builder.start_on(journal).await.unwrap()
    });
    (runtime, worker)
}

#[test]
fn a_step_allocates_no_more_than_it_did() {
    let (runtime, worker) = worker();
    let client = worker.client();
    allocations(&runtime, &client, "warm-up", 100);
    let few = allocations(&runtime, &client, "few", 100);
    let many = allocations(&runtime, &client, "many", 1_100);
    let each = (many - few) / 1_000.0;
    assert!(each <= A_STEP, "a step took {each} allocations");
    runtime.block_on(worker.shutdown());
}

#[test]
fn a_workflow_allocates_no_more_than_it_did() {
    const MANY: u32 = 1_000;
    let (runtime, worker) = worker();
    let client = worker.client();
    let workflows = |name: &str| {
        let all =
            (0..MANY).map(|index| allocations(&runtime, &client, &format!("{name}-{index}"), 1));
        all.sum::<f64>() / f64::from(MANY)
    };
    workflows("warm-up");
    let each = workflows("counted");
    assert!(each <= A_WORKFLOW, "a workflow took {each} allocations");
    runtime.block_on(worker.shutdown());
}
