//! One scenario in many orders.

use std::{
    any::Any,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use sync_workflow::{
    Context, Failure, Worker, WorkerBuilder,
    testing::{Explored, TestEnvironment, explore},
};

use super::code::double;

/// What the workflow saw, in its order.
async fn race(ctx: Context, calls: u64) -> Result<Vec<String>, Failure> {
    let mut open: FuturesUnordered<_> = (0..calls).map(|n| ctx.activity(double, n)).collect();
    let (mut seen, mut signals) = (Vec::new(), 0);
    while !open.is_empty() || signals < 2 {
        tokio::select! {
            biased;
            Some(doubled) = open.next() => seen.push(doubled?.to_string()),
            signal = ctx.wait::<String>("news"), if signals < 2 => {
                signals += 1;
                seen.push(signal?);
            }
        }
    }
    ctx.sleep(Duration::from_secs(60)).await?;
    Ok(seen)
}

fn racing(_: &Arc<Seen>) -> WorkerBuilder {
    Worker::builder().workflow(race).activity(double)
}

/// What came of every play.
type Seen = Mutex<Vec<Vec<String>>>;

async fn raced(env: &TestEnvironment) -> Vec<String> {
    let client = env.client();
    let handle = client.start(race, "race", 4).await.unwrap();
    let (one, other) = tokio::join!(
        client.signal("race", "news", "one"),
        client.signal("race", "news", "other"),
    );
    one.and(other).unwrap();
    let seen = handle.result().await.unwrap();
    // A hint to a client takes ten milliseconds, and chance takes no time.
    assert_eq!(env.now().to_string(), "2026-01-01T00:01:00.01Z");
    seen
}

fn explored(seeds: std::ops::Range<u64>) -> (Explored, Vec<Vec<String>>) {
    let all = Seen::default();
    let explored = explore(seeds, racing, async |env, _| {
        let seen = raced(env).await;
        all.lock().unwrap().push(seen);
    });
    (explored, all.into_inner().unwrap())
}

#[test]
fn seeds_bring_many_orders() {
    let (explored, seen) = explored(0..60);
    assert_eq!(explored.schedules, 60);
    let orders: BTreeSet<_> = seen.iter().collect();
    assert!(orders.len() > 20, "{orders:?}");
    // Which of the signals came first is no part of the shape of a journal.
    assert!(explored.journals > 20, "{explored:?}");
    let first: BTreeSet<_> = seen.iter().map(|seen| &seen[0]).collect();
    assert!(
        first.contains(&"one".to_string()),
        "a signal may come first: {first:?}"
    );
    assert!(
        first.contains(&"other".to_string()),
        "either of them: {first:?}"
    );
    for activity in ["0", "2", "4", "6"] {
        assert!(
            first.contains(&activity.to_string()),
            "{activity} of {first:?}"
        );
    }
    for seen in seen {
        let mut sorted = seen.clone();
        sorted.sort();
        assert_eq!(sorted, ["0", "2", "4", "6", "one", "other"], "{seen:?}");
    }
}

#[test]
fn a_seed_plays_the_same_again() {
    for seed in 0..10 {
        assert_eq!(explored(seed..seed + 1), explored(seed..seed + 1));
    }
}

fn words(panic: Box<dyn Any + Send>) -> String {
    *panic.downcast::<String>().unwrap()
}

#[test]
fn a_race_is_found_and_found_again_by_its_seed() {
    let careless = |seeds| {
        catch_unwind(AssertUnwindSafe(|| {
            explore(seeds, racing, async |env, _| {
                let seen = raced(env).await;
                assert!(seen[1] != "other" || seen[0] == "one", "found: {seen:?}");
            })
        }))
    };
    let found: Vec<u64> = (0..60)
        .filter(|seed| careless(*seed..seed + 1).is_err())
        .collect();
    assert!((1..50).contains(&found.len()), "{found:?}");
    let all = words(careless(0..60).unwrap_err());
    assert!(all.contains("found: "), "{all}");
    assert_eq!(all, words(careless(found[0]..found[0] + 1).unwrap_err()));
}

#[test]
fn runs_leave_memory_and_come_back() {
    let claims = Mutex::new(BTreeSet::new());
    explore(0..30, racing, async |env, _| {
        let handle = env.client().start(race, "race", 0).await.unwrap();
        for _ in 0..2 {
            env.skip(Duration::from_millis(1)).await;
            env.client().signal("race", "news", "x").await.unwrap();
        }
        env.skip(Duration::from_millis(1)).await;
        let info = env.client().describe("race").await.unwrap();
        claims.lock().unwrap().insert(info.status.to_string());
        assert_eq!(handle.result().await.unwrap(), ["x", "x"]);
    });
    let claims = claims.into_inner().unwrap();
    assert_eq!(
        claims.len(),
        2,
        "asleep in some, in memory in others: {claims:?}"
    );
}
