//! Processes that die, and those that go on in their place.

use std::{collections::HashMap, time::Duration};

use mock_api::{Control, Effect, Entity, Fault};
use sync_core::{SyncStatus, SyncType};
use sync_engine::SyncEngine;
use tokio::runtime::{Builder, Runtime};

use crate::world::{Database, ENTITIES, World, adapter, eventually, in_every_world, org, run};

in_every_world![
    a_successor_goes_on_without_fetching_finished_pages_again,
    a_sync_that_is_shut_down_goes_on_in_the_next_process,
    a_report_that_nobody_read_is_found_by_the_next_process,
];

/// A process of its own, as far as one process can tell: when its runtime is gone, nothing of it runs on.
struct Victim {
    runtime: Option<Runtime>,
    engine: Option<SyncEngine>,
}

impl Victim {
    async fn start(world: &World) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let builder = world
            .builder()
            .lease(Duration::from_millis(600))
            .records_per_step(100)
            .pages_ahead(1);
        let engine = runtime.spawn(builder.start()).await.unwrap().unwrap();
        Self {
            runtime: Some(runtime),
            engine: Some(engine),
        }
    }

    fn engine(&self) -> &SyncEngine {
        self.engine.as_ref().unwrap()
    }

    /// Ends it without a word.
    fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
        std::mem::forget(self.engine.take());
    }
}

/// Holds back every request for people after the first `pages`, until the fault is disarmed.
fn hold_people_after(control: &Control, pages: u64) -> u64 {
    control.arm(Fault::new(Effect::Hold).entity(Entity::Person).skip(pages))
}

async fn has_pages(engine: &SyncEngine, name: &str, pages: u64) -> bool {
    let progress = engine.progress(&org(), &adapter()).await.unwrap();
    progress
        .iter()
        .any(|entity| entity.entity.as_str() == name && entity.counts.pages >= pages)
}

/// How many requests asked for what had been asked for before.
fn asked_again(control: &Control) -> u64 {
    let mut asked: HashMap<(String, String), u64> = HashMap::new();
    for request in control.log().recent {
        *asked.entry((request.path, request.query)).or_default() += 1;
    }
    asked.values().map(|times| times - 1).sum()
}

async fn a_successor_goes_on_without_fetching_finished_pages_again(database: Database) {
    let world = World::of(900, database).await;
    let held = hold_people_after(&world.control(), 6);
    let victim = Victim::start(&world).await;
    let started = victim
        .engine()
        .start(&org(), &adapter(), SyncType::Full)
        .await
        .unwrap();
    assert!(started.is_new());
    eventually("some people are written", || {
        has_pages(victim.engine(), "Person", 4)
    })
    .await;
    drop(started);
    victim.kill();
    world.control().disarm(held);

    // Its own lease is long: were it lost on a busy machine, its steps would be taken twice as well.
    let successor = world.engine().await;
    let handle = successor
        .start(&org(), &adapter(), SyncType::Full)
        .await
        .unwrap();
    assert!(!handle.is_new());
    let report = handle.report().await.unwrap();
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:#?}");
    world.assert_equal().await;
    // Each record was inserted once, although two processes wrote.
    let counts = world.control().counts();
    let records: usize = ENTITIES.iter().map(|(_, kind)| counts[kind]).sum();
    assert_eq!(report.totals().changes.inserted, records as u64);
    // Of each of the nine entities at most what was in flight and in an uncommitted step.
    assert!(
        asked_again(&world.control()) <= 9 * 3,
        "{}",
        asked_again(&world.control())
    );
    successor.shutdown().await;
}

async fn a_sync_that_is_shut_down_goes_on_in_the_next_process(database: Database) {
    let world = World::of(700, database).await;
    let held = hold_people_after(&world.control(), 5);
    let first = world
        .builder()
        .records_per_step(100)
        .pages_ahead(1)
        .start()
        .await
        .unwrap();
    let _handle = first
        .start(&org(), &adapter(), SyncType::Full)
        .await
        .unwrap();
    eventually("some people are written", || has_pages(&first, "Person", 3)).await;
    // The step under way gets its page, ends, and is the last one of this process.
    let release = async {
        world.control().disarm(held);
    };
    tokio::join!(first.shutdown(), release);
    let second = world.engine().await;
    let report = run(&second, SyncType::Full).await;
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:#?}");
    world.assert_equal().await;
    second.shutdown().await;
}

async fn a_report_that_nobody_read_is_found_by_the_next_process(database: Database) {
    let world = World::of(30, database).await;
    let victim = Victim::start(&world).await;
    let none = victim
        .engine()
        .latest(&org(), &adapter(), SyncType::Full)
        .await;
    assert!(none.unwrap().is_none());
    let started = victim
        .engine()
        .start(&org(), &adapter(), SyncType::Full)
        .await
        .unwrap();
    started.report().await.unwrap();
    victim.kill();

    let successor = world.engine().await;
    let found = successor
        .latest(&org(), &adapter(), SyncType::Full)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.workflow().run_id(), started.workflow().run_id());
    assert!(!found.is_new());
    let report = found.report().await.unwrap();
    assert_eq!(report.entity("Person").unwrap().counts.changes.inserted, 30);
    successor.shutdown().await;
}
