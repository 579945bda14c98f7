//! Runs that start many children at once.

use std::sync::{Arc, Mutex, atomic::Ordering};

use sync_workflow::{
    Activity, Context, Failure,
    journal::{Journal, memory::MemoryJournal},
    record::RecordKind,
    worker::Simulation,
};

use super::{
    code::Counter,
    faults::{Fault, Faulty},
    quick,
};

async fn child(ctx: Context, n: u32) -> Result<u32, Failure> {
    Ok(ctx.activity(Counter::activity(), n).await?)
}

async fn parent(ctx: Context, children: u32) -> Result<u32, Failure> {
    let started: Vec<_> = (0..children).map(|n| ctx.child(child, n).start()).collect();
    let mut sum = 0;
    for child in started {
        sum += child.await?;
    }
    Ok(sum)
}

#[tokio::test(start_paused = true)]
async fn the_first_children_run_before_the_last_ones_are_born() {
    let journal = Faulty::new(Arc::new(MemoryJournal::new()));
    let shared: Arc<dyn Journal> = Arc::<Faulty>::clone(&journal);
    let count = Counter::default();
    let build = quick()
        .workflow(parent)
        .workflow(child)
        .activity(count.clone());
    let build = build.simulated(Simulation::new().births(2));
    let worker = build.start_on(shared).await.unwrap();
    let births = Arc::new(Mutex::new(Vec::new()));
    let (born, ran) = (Arc::clone(&births), Arc::clone(&count.calls));
    journal.plan(move |batch| {
        let children: usize = batch.runs.iter().map(|commit| commit.children.len()).sum();
        let mut born = born.lock().unwrap();
        // The third pair waits for the first, whose ends need no other commit first.
        if children > 0 && born.len() == 2 && ran.load(Ordering::SeqCst) < 2 {
            return Fault::NotCommitted;
        }
        if children > 0 {
            born.push(children);
        }
        Fault::None
    });
    let client = worker.client();
    let handle = client.start(parent, "a", 7).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 21);
    assert_eq!(*births.lock().unwrap(), [2, 2, 2, 1]);
    let history = client.history(handle.run_id(), 0, 100).await.unwrap();
    let kinds = history.items.iter().map(|item| item.kind());
    let of = |kind| kinds.clone().filter(|of| *of == kind).count();
    assert_eq!(of(RecordKind::ChildStarted), 7);
    assert_eq!(of(RecordKind::ChildCompleted), 7);
    assert_eq!(count.calls.load(Ordering::SeqCst), 7);
    worker.shutdown().await;
}
