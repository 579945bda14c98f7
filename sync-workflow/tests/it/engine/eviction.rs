//! Giving up a place in memory, on a clock that moves only when nothing can run.

use std::{sync::mpsc, time::Duration};

use jiff::Timestamp;
use sync_workflow::{
    Context, Failure, Worker,
    journal::memory::MemoryJournal,
    worker::{Simulation, WorkerBuilder},
};
use tokio::time::Instant;

/// Longer than the test takes, which waits for nothing.
const DEADLINE: Duration = Duration::from_secs(30);

async fn nap(ctx: Context, millis: u64) -> Result<(), Failure> {
    ctx.sleep(Duration::from_millis(millis)).await?;
    Ok(())
}

fn simulated() -> WorkerBuilder {
    Worker::builder()
        .simulated(Simulation::new())
        .lease(Duration::from_secs(60))
        .workflow(nap)
}

/// Runs naps of these lengths side by side; how long that takes. A driver that polls instead of
/// waiting keeps the clock from moving, and the deadline passes.
fn naps_take(builder: WorkerBuilder, millis: &'static [u64]) -> Duration {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let took = runtime.block_on(async move {
            let began = Instant::now();
            let clock = move || Timestamp::UNIX_EPOCH + began.elapsed();
            let journal = std::sync::Arc::new(MemoryJournal::with_clock(clock));
            let worker = builder.start_on(journal).await.unwrap();
            let client = worker.client();
            let mut naps = Vec::new();
            for (index, millis) in millis.iter().enumerate() {
                let id = format!("nap-{index}");
                naps.push(client.start(nap, &id, *millis).await.unwrap());
            }
            for nap in naps {
                nap.result().await.unwrap();
            }
            began.elapsed()
        });
        let _too_late = done.send(took);
    });
    is_done
        .recv_timeout(DEADLINE)
        .expect("no driver polls without end")
}

#[test]
fn a_run_that_stays_for_a_timer_waits_without_polling() {
    let builder = simulated().evict_after(Duration::from_secs(1));
    // After a second it would leave, but for the timer that is due half a second later.
    assert!(naps_take(builder, &[1_500]) >= Duration::from_millis(1_500));
}

#[test]
fn where_places_are_short_a_run_that_sleeps_long_makes_room() {
    let builder = simulated()
        .evict_after(Duration::from_secs(3_600))
        .max_resident_runs(1);
    let took = naps_take(builder, &[600_000, 600_000]);
    assert!(took < Duration::from_secs(700), "it took {took:?}");
}

#[test]
fn a_run_that_sleeps_wakes_in_time_however_rarely_its_worker_looks_around() {
    let rarely = simulated()
        .evict_after(Duration::from_secs(1))
        .poll_interval(Duration::from_secs(3_600));
    // Another run is due much later, and is what the worker waits for.
    let took = naps_take(rarely, &[1_000_000, 30_000]);
    assert!(took < Duration::from_millis(1_000_100), "it took {took:?}");
    let soon = simulated().evict_after(Duration::from_millis(10));
    let took = naps_take(soon, &[500, 700, 900]);
    assert!(took < Duration::from_millis(1_000), "it took {took:?}");
}
