//! A database that is further away.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::{Connection, PgConnection};
use sync_workflow::{Activity, ActivityContext, Client, Context, Failure, Worker};
use tokio::sync::mpsc;

use super::{
    Ground,
    proxy::Proxy,
    series::{Axis, Database, Figures, Panel, Scale, Series},
};
use crate::{
    jobs::{w1, w2},
    report::percentile,
};

const ROUND_TRIP: &str = "round trip of a statement, p50";
const W2: &str = "w2, p50";
const FIRST_CLAIM: &str = "worker, from start to first run, p50";
const W2_TRIPS: &str = "w2";
const FIRST_CLAIM_TRIPS: &str = "worker, from start to first run";
const W1: &str = "w1";

pub(super) const SERIES: Series = Series {
    name: "distance",
    what: "So many milliseconds between the engine and the database, in each direction (any number of bytes may be under way): the \
           round trip of `SELECT 1`, w2 (one workflow of one step from start to result), a worker from its start until the first step of \
           a run that waited for it, and w1 (500 workflows at once of 10 steps). The round trips are what a time grew by, divided by \
           what a round trip grew by.",
    grows: Axis {
        label: "one-way delay, ms",
        scale: Scale::Linear,
    },
    panels: &[
        Panel {
            unit: "ms",
            scale: Scale::Log,
            quantities: &[ROUND_TRIP, W2, FIRST_CLAIM],
        },
        Panel {
            unit: "round trips",
            scale: Scale::Linear,
            quantities: &[W2_TRIPS, FIRST_CLAIM_TRIPS],
        },
        Panel {
            unit: "steps/s",
            scale: Scale::Log,
            quantities: &[W1],
        },
    ],
};

/// What was measured at one distance, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Times {
    round_trip: f64,
    w2: f64,
    first_claim: f64,
}

pub(super) async fn round(ground: &Ground, figures: &mut Figures) -> anyhow::Result<()> {
    let mut near = None;
    let delays: &[u64] = ground.pick(&[0, 1, 5, 25], &[0, 1]);
    for &delay in delays {
        let at = (Database::Postgres, delay);
        let storage = ground.database(Database::Postgres)?;
        let proxy = Proxy::start(storage.url(), Duration::from_millis(delay))?;
        let url = proxy.url(storage.url());
        let times = Times {
            round_trip: round_trip(&url, ground.pick(100, 10)).await?,
            first_claim: first_claim(storage.url(), &url, ground.pick(5, 1)).await?,
            w2: measure_jobs(ground, at, &url, figures).await?,
        };
        figures.add(at, ROUND_TRIP, times.round_trip);
        figures.add(at, W2, times.w2);
        figures.add(at, FIRST_CLAIM, times.first_claim);
        let near = near.get_or_insert(times);
        if delay > 0 {
            let trip = times.round_trip - near.round_trip;
            figures.add(at, W2_TRIPS, (times.w2 - near.w2) / trip);
            let first_claim = times.first_claim - near.first_claim;
            figures.add(at, FIRST_CLAIM_TRIPS, first_claim / trip);
        }
    }
    Ok(())
}

async fn round_trip(url: &str, count: u32) -> anyhow::Result<f64> {
    let mut connection = PgConnection::connect(url).await?;
    let mut times = Vec::new();
    for _ in 0..count {
        let started = Instant::now();
        sqlx::query("SELECT 1").execute(&mut connection).await?;
        times.push(started.elapsed());
    }
    connection.close().await?;
    // The first one is prepared.
    Ok(percentile(&w2::milliseconds(&times[1..]), 0.5))
}

/// Measures w1, and returns the time of w2.
async fn measure_jobs(
    ground: &Ground,
    at: (Database, u64),
    url: &str,
    figures: &mut Figures,
) -> anyhow::Result<f64> {
    let worker = super::worker().start(url).await?;
    let client = worker.client();
    w2::start_to_result(&client, "warm-up", ground.pick(20, 2)).await?;
    let times = w2::start_to_result(&client, "w2", ground.pick(100, 5)).await?;
    let all = w1::Size {
        workflows: ground.pick(500, 10),
        waves: ground.pick(6, 1),
    };
    w1::wave(&client, "w1-warm-up", all.workflows).await?;
    let seconds = w1::waves(&client, "w1", all).await?;
    figures.add(at, W1, all.steps() / seconds);
    worker.shutdown().await;
    Ok(percentile(&w2::milliseconds(&times), 0.5))
}

/// Starts a run, and then a worker from afar: how long until that one works on the run.
async fn first_claim(near: &str, far: &str, count: u32) -> anyhow::Result<f64> {
    let client = Client::connect(near).await?;
    let mut times = Vec::new();
    for index in 0..count {
        client
            .start(arrives, &format!("arrives-{index}"), ())
            .await?;
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let started = Instant::now();
        let worker = Worker::builder()
            .workflow(arrives)
            .activity(Arrival(arrived))
            .start(far)
            .await?;
        let at = arrivals.recv().await.context("the run did not work")?;
        times.push(at - started);
        worker.shutdown().await;
    }
    Ok(percentile(&w2::milliseconds(&times), 0.5))
}

async fn arrives(ctx: Context, (): ()) -> Result<(), Failure> {
    Ok(ctx.activity(Arrival::activity(), ()).await?)
}

/// A step that tells when it ran.
struct Arrival(mpsc::UnboundedSender<Instant>);

impl Activity for Arrival {
    const NAME: &'static str = "arrival";
    type Input = ();
    type Output = ();
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, (): ()) -> Result<(), Failure> {
        let told = self.0.send(Instant::now());
        told.map_err(|_gone| Failure::new("nobody waits for the run"))
    }
}
