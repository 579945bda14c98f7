//! Results that are larger.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use sync_workflow::{Client, Context, Failure, Worker};

use super::{
    Ground,
    series::{Axis, Database, Figures, Panel, Scale, Series},
};
use crate::process::megabytes;

const STEPS: &str = "steps";
const BYTES: &str = "results";

pub(super) const SERIES: Series = Series {
    name: "payload",
    what: "50 workflows at once of 10 steps, each of which returns a text of so many bytes that does not compress well.",
    grows: Axis {
        label: "bytes in a result",
        scale: Scale::Log,
    },
    panels: &[
        Panel {
            unit: "steps/s",
            scale: Scale::Log,
            quantities: &[STEPS],
        },
        Panel {
            unit: "MB/s",
            scale: Scale::Log,
            quantities: &[BYTES],
        },
    ],
};

const STEPS_EACH: u64 = 10;
const AT_ONCE: usize = 50;

pub(super) async fn round(ground: &Ground, figures: &mut Figures) -> anyhow::Result<()> {
    let sizes: &[u64] = ground.pick(&[100, 1_000, 10_000, 100_000, 1_000_000], &[100, 1_000]);
    for database in Database::BOTH {
        for size in sizes {
            let storage = ground.database(database)?;
            let worker = Worker::builder()
                .workflow(carries)
                .activity(load)
                .start(storage.url())
                .await?;
            let client = worker.client();
            carry(&client, "warm-up", 10, *size).await?;
            // As many as a hundred megabytes hold, within what takes a few seconds.
            let most = ground.pick(100_000_000, 10_000) / size / STEPS_EACH;
            let workflows = most.clamp(10, 4_000);
            let started = Instant::now();
            carry(&client, "carries", workflows, *size).await?;
            let rate = (workflows * STEPS_EACH) as f64 / started.elapsed().as_secs_f64();
            worker.shutdown().await;
            let at = (database, *size);
            figures.add(at, STEPS, rate);
            figures.add(at, BYTES, rate * megabytes(*size));
        }
    }
    Ok(())
}

async fn carry(client: &Client, name: &str, workflows: u64, size: u64) -> anyhow::Result<()> {
    stream::iter(0..workflows)
        .map(async |index| {
            let handle = client
                .start(carries, &format!("{name}-{index}"), size)
                .await?;
            let carried = handle.result().await?;
            anyhow::ensure!(carried == STEPS_EACH * size, "{carried} bytes were carried");
            Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn carries(ctx: Context, size: u64) -> Result<u64, Failure> {
    let mut carried = 0;
    for number in 0..STEPS_EACH {
        carried += ctx.activity(load, (number, size)).await?.len() as u64;
    }
    Ok(carried)
}

/// A text in which no part is like another.
async fn load((number, size): (u64, u64)) -> Result<String, Failure> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = number ^ 0x9e37_79b9_7f4a_7c15;
    let mut text = String::with_capacity(size as usize);
    while text.len() < size as usize {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for shift in [0, 6, 12, 18, 24, 30, 36, 42, 48, 54] {
            text.push(char::from(LETTERS[(state >> shift & 63) as usize]));
        }
    }
    text.truncate(size as usize);
    Ok(text)
}
