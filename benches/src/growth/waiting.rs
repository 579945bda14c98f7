//! Runs that wait: nothing else may become slower because there are many of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sync_workflow::{
    Client, Context, Failure,
    id::NodeId,
    journal::{self, ClaimRequest, Journal},
};
use uuid::Uuid;

use super::{
    Ground,
    series::{Axis, Database, Figures, Panel, Scale, Series},
};
use crate::{
    bare::Bare,
    jobs::{w1, w2},
    report::percentile,
    server::{Dialects, Storage},
};

const CLAIM: [&str; 2] = ["claim, p50", "claim, p99"];
const LOOK_UP: [&str; 2] = ["look-up of timers, p50", "look-up of timers, p99"];
const W2: [&str; 2] = ["w2, p50", "w2, p99"];
const BARE: &str = "bare commit of one row, p50";
const W1: &str = "w1";

pub(super) const SERIES: Series = Series {
    name: "waiting",
    what: "While so many runs of the same workflows are asleep on far timers: a claim of one run that is ready, a claim that finds \
           nothing and looks up the next timer, w2 (one workflow of one step from start to result) and w1 (500 workflows at once of 10 steps). The bare commit tells what the disk did \
           meanwhile: a claim waits for it once, w2 twice.",
    grows: Axis {
        label: "runs waiting",
        scale: Scale::Steps,
    },
    panels: &[
        Panel {
            unit: "ms",
            scale: Scale::Linear,
            quantities: &[CLAIM[0], CLAIM[1], LOOK_UP[0], LOOK_UP[1]],
        },
        Panel {
            unit: "ms",
            scale: Scale::Linear,
            quantities: &[W2[0], W2[1], BARE],
        },
        Panel {
            unit: "steps/s",
            scale: Scale::Linear,
            quantities: &[W1],
        },
    ],
};

/// How many rows are inserted by one statement.
const ROWS: u64 = 250_000;
const LEASE: Duration = Duration::from_secs(600);

pub(super) async fn round(ground: &Ground, figures: &mut Figures) -> anyhow::Result<()> {
    let sizes: &[u64] = ground.pick(&[0, 100_000, 1_000_000], &[0, 100]);
    for database in Database::BOTH {
        let storage = ground.database(database)?;
        let mut bare = Bare::create(storage.url()).await?;
        let mut waiting = 0;
        for &size in sizes {
            fill(&storage, waiting, size).await?;
            waiting = size;
            let at = (database, size);
            let commits = bare.lone_appends(ground.pick(500, 10)).await?;
            figures.add(at, BARE, percentile(&w2::milliseconds(&commits), 0.5));
            measure(ground, &storage, at, figures).await?;
        }
    }
    Ok(())
}

async fn measure(
    ground: &Ground,
    storage: &Storage,
    at: (Database, u64),
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let (_, size) = at;
    let mut add = |quantities: [&'static str; 2], times: &[Duration]| {
        let times = w2::milliseconds(times);
        figures.add(at, quantities[0], percentile(&times, 0.5));
        figures.add(at, quantities[1], percentile(&times, 0.99));
    };
    let (claims, look_ups) = claims(storage.url(), size, ground.pick(500, 10)).await?;
    add(CLAIM, &claims);
    add(LOOK_UP, &look_ups);
    let worker = super::worker().start(storage.url()).await?;
    let client = worker.client();
    let name = |job: &str| format!("{job}-{size}");
    w2::start_to_result(&client, &name("warm-up"), ground.pick(50, 5)).await?;
    let times = w2::start_to_result(&client, &name("w2"), ground.pick(500, 10)).await?;
    add(W2, &times);
    let all = w1::Size {
        workflows: ground.pick(500, 10),
        waves: ground.pick(8, 1),
    };
    w1::wave(&client, &name("w1-warm-up"), all.workflows).await?;
    let seconds = w1::waves(&client, &name("w1"), all).await?;
    figures.add(at, W1, all.steps() / seconds);
    worker.shutdown().await;
    Ok(())
}

/// How long claims took that found one run, and claims that found none.
async fn claims(
    url: &str,
    size: u64,
    count: u32,
) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
    let journal = journal::connect(url).await?;
    let client = Client::new(Arc::clone(&journal));
    let node = NodeId::from_uuid(Uuid::new_v4());
    journal.enlist(node, LEASE).await?;
    let (mut claims, mut look_ups) = (Vec::new(), Vec::new());
    // The first of them prepare statements.
    const WARM_UP: u32 = 10;
    for index in 0..WARM_UP + count {
        let handle = client
            .start(claimed, &format!("claimed-{size}-{index}"), ())
            .await?;
        let (found, claim) = timed_claim(&*journal, node).await?;
        anyhow::ensure!(found == (1, size > 0), "a claim found {found:?}");
        let (found, look_up) = timed_claim(&*journal, node).await?;
        anyhow::ensure!(found == (0, size > 0), "a claim found {found:?}");
        handle.terminate("it was claimed").await?;
        if index >= WARM_UP {
            claims.push(claim);
            look_ups.push(look_up);
        }
    }
    journal.retire(node).await?;
    Ok((claims, look_ups))
}

/// How many runs a claim found and whether another one is asleep, and how long it took.
async fn timed_claim(
    journal: &dyn Journal,
    node: NodeId,
) -> anyhow::Result<((usize, bool), Duration)> {
    let request = ClaimRequest {
        queue: "default".into(),
        workflows: vec!["claimed".into(), "one_step".into(), "ten_steps".into()],
        build: None,
        limit: 256,
    };
    let started = Instant::now();
    let claim = journal.claim(node, &request).await?;
    let elapsed = started.elapsed();
    Ok(((claim.runs.len(), claim.next_wake.is_some()), elapsed))
}

/// A workflow that no worker runs.
async fn claimed(_ctx: Context, (): ()) -> Result<(), Failure> {
    Ok(())
}

/// Adds runs that sleep, each with the two records that it would have, by few statements.
async fn fill(storage: &Storage, from: u64, to: u64) -> anyhow::Result<()> {
    // Brings the schema up to date.
    drop(journal::connect(storage.url()).await?);
    let mut first = from + 1;
    while first <= to {
        let last = (first + ROWS - 1).min(to);
        storage
            .execute(Dialects {
                postgres: &postgres_rows(first, last),
                sqlite: &sqlite_rows(first, last),
            })
            .await?;
        first = last + 1;
    }
    for (postgres, sqlite) in [
        ("VACUUM ANALYZE", "ANALYZE"),
        ("CHECKPOINT", "PRAGMA wal_checkpoint(TRUNCATE)"),
    ] {
        storage.execute(Dialects { postgres, sqlite }).await?;
    }
    Ok(())
}

fn postgres_rows(first: u64, last: u64) -> String {
    format!(
        "WITH new AS (
             INSERT INTO sync_workflow.runs (run_id, chain_id, wake_at, sequence, status, workflow_id, workflow, queue)
             SELECT id, id, now() + interval '30 days' + n * interval '1 s', 0, 0, 'waiting-' || n,
                    CASE n % 2 WHEN 0 THEN 'one_step' ELSE 'ten_steps' END, 'default'
             FROM (SELECT n, ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS id
                   FROM generate_series({first}, {last}) AS n) AS numbered
             RETURNING run_id
         )
         INSERT INTO sync_workflow.journal (run_id, position, kind, command, name, fingerprint, payload)
         SELECT run_id, position, CASE position WHEN 0 THEN 0 ELSE 20 END, position - 1, '', 0, '1795280000000000'
         FROM new CROSS JOIN generate_series(0, 1) AS position"
    )
}

fn sqlite_rows(first: u64, last: u64) -> String {
    let numbers = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last}),
              named (n, id) AS (SELECT n, unhex(printf('01900000000070008000%012x', n)) FROM numbers)"
    );
    format!(
        "BEGIN;
         {numbers}
         INSERT INTO sync_workflow_runs (run, chain, workflow_id, sequence, workflow, queue, status, wake_at, inbox,
                                         claims, progress, cancel_requested, awaited, created_at)
         SELECT id, id, 'waiting-' || n, 0, CASE n % 2 WHEN 0 THEN 'one_step' ELSE 'ten_steps' END, 'default', 0,
                (unixepoch() + 30 * 86400 + n) * 1000000, 0, 0, 0, 0, 0, unixepoch() * 1000000
         FROM named;
         {numbers}
         INSERT INTO sync_workflow_records (run, position, kind, command, name, fingerprint, payload, recorded_at)
         SELECT named.id, value, CASE value WHEN 0 THEN 0 ELSE 20 END, value - 1, '', 0, x'31373935', unixepoch() * 1000000
         FROM named CROSS JOIN json_each('[0, 1]');
         COMMIT;"
    )
}
