//! Giving up a place in memory, on a clock that moves only when nothing can run.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use jiff::Timestamp;
use sync_workflow::{
    Context, Failure, Worker,
    journal::memory::MemoryJournal,
    worker::{Simulation, WorkerBuilder},
};
use tokio::time::Instant;

use super::faults::Faulty;

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

/// What it took to run naps.
#[derive(Debug)]
struct Took {
    time: Duration,
    /// Until all had begun.
    claims: usize,
}

/// Runs naps of these lengths side by side; how long that takes. A driver that polls instead of
/// waiting keeps the clock from moving, and the deadline passes.
fn naps_take(builder: WorkerBuilder, millis: &[u64]) -> Duration {
    take_naps(builder, millis.to_vec()).time
}

fn take_naps(builder: WorkerBuilder, millis: Vec<u64>) -> Took {
    on_a_paused_clock(async move {
        let began = Instant::now();
        let clock = move || Timestamp::UNIX_EPOCH + began.elapsed();
        let journal = Faulty::new(Arc::new(MemoryJournal::with_clock(clock)));
        let worker = builder.start_on(journal.clone()).await.unwrap();
        let client = worker.client();
        let mut naps = Vec::new();
        for (index, millis) in millis.iter().enumerate() {
            let id = format!("nap-{index}");
            naps.push(client.start(nap, &id, *millis).await.unwrap());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let claims = journal.claimed();
        for nap in naps {
            nap.result().await.unwrap();
        }
        Took {
            time: began.elapsed(),
            claims,
        }
    })
}

/// Runs a test on a clock that moves only when nothing can run, on a thread of its own.
fn on_a_paused_clock<T: Send + 'static>(test: impl Future<Output = T> + Send + 'static) -> T {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let _too_late = done.send(runtime.block_on(test));
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

#[test]
fn runs_that_fall_asleep_one_after_the_other_do_not_keep_their_worker_claiming() {
    let builder = simulated()
        .evict_after(Duration::from_millis(1))
        .poll_interval(Duration::from_secs(3_600));
    // Each falls asleep while the worker may be claiming, and all are due at about the same time.
    let starts_take = 500;
    let took = take_naps(builder, vec![600_000; starts_take]);
    assert!(took.claims < starts_take / 5, "{} claims", took.claims);
}

#[test]
fn a_run_that_is_claimed_while_another_is_born_finds_a_place() {
    let builder = simulated()
        .max_resident_runs(1)
        .evict_after(Duration::from_secs(3_600))
        .poll_interval(Duration::from_secs(3_600));
    let took = on_a_paused_clock(async move {
        let began = Instant::now();
        let clock = move || Timestamp::UNIX_EPOCH + began.elapsed();
        let journal = Faulty::new(Arc::new(MemoryJournal::with_clock(clock)));
        let worker = builder.start_on(journal).await.unwrap();
        let client = worker.client();
        let due = client
            .start(nap, "due", 1_000)
            .not_before(clock() + Duration::from_millis(10));
        let due = due.await.unwrap();
        // The claim of the first is under way.
        tokio::time::sleep(Duration::from_millis(11)).await;
        let born = client.start(nap, "born", 1_000).await.unwrap();
        due.result().await.unwrap();
        born.result().await.unwrap();
        began.elapsed()
    });
    assert!(took < Duration::from_secs(10), "it took {took:?}");
}
