//! One writer per entity.

use mock_api::{Control, Effect, Entity, Fault};
use sync_core::{SyncStatus, SyncType};
use sync_engine::{SyncEngine, SyncHandle};
use sync_workflow::journal::RunFilter;

use crate::world::{Database, World, adapter, entity, eventually, in_every_world, org, run};

in_every_world![
    a_second_start_returns_the_open_sync,
    a_delta_joins_a_running_full_sync,
    a_full_sync_waits_for_a_running_delta,
    a_walk_that_was_taken_over_writes_nothing_more,
    a_cancelled_sync_says_so_and_the_next_one_begins_anew,
];

async fn start(engine: &SyncEngine, sync_type: SyncType) -> SyncHandle {
    engine.start(&org(), &adapter(), sync_type).await.unwrap()
}

/// Holds back every request for people after the first `pages`, until the fault is disarmed.
fn hold_people_after(control: &Control, pages: u64) -> u64 {
    control.arm(Fault::new(Effect::Hold).entity(Entity::Person).skip(pages))
}

/// Waits until a request for people is held back: everything before it is written.
async fn people_are_held(control: &Control, fault: u64) {
    eventually("people are held", || async {
        let armed = control.faults();
        armed
            .iter()
            .any(|armed| armed.id == fault && armed.struck > 0)
    })
    .await;
}

/// Waits until a sync of people has asked who writes them, and has the answer in its journal.
async fn people_wait_for_the_writer(engine: &SyncEngine, sync_type: SyncType) {
    let filter = RunFilter {
        workflow_id_prefix: Some(format!("entity-sync:acme:pco:Person:{sync_type}:")),
        ..RunFilter::default()
    };
    eventually("people wait for their writer", || async {
        let runs = engine.client().list(&filter).await.unwrap().items;
        let Some(run) = runs.first() else {
            return false;
        };
        let history = engine.client().history(run.run, 0, 10).await.unwrap();
        !history.items.is_empty()
    })
    .await;
}

async fn people_are_under_way(engine: &SyncEngine) {
    eventually("people are under way", || async {
        let progress = engine.progress(&org(), &adapter()).await.unwrap();
        let is_open = |name: &str| name == "Person";
        progress
            .iter()
            .any(|entity| is_open(entity.entity.as_str()) && entity.status.is_none())
    })
    .await;
}

async fn a_second_start_returns_the_open_sync(database: Database) {
    let world = World::of(300, database).await;
    let held = hold_people_after(&world.control(), 0);
    let engine = world.engine().await;
    let first = start(&engine, SyncType::Full).await;
    let second = start(&engine, SyncType::Full).await;
    assert!(first.is_new() && !second.is_new());
    world.control().disarm(held);
    assert_eq!(
        first.report().await.unwrap(),
        second.report().await.unwrap()
    );
    let third = start(&engine, SyncType::Full).await;
    assert!(third.is_new());
    third.report().await.unwrap();
    engine.shutdown().await;
}

async fn a_delta_joins_a_running_full_sync(database: Database) {
    let world = World::of(400, database).await;
    let held = hold_people_after(&world.control(), 0);
    let engine = world.engine().await;
    let full = start(&engine, SyncType::Full).await;
    people_are_under_way(&engine).await;
    let delta = start(&engine, SyncType::Delta).await;
    people_wait_for_the_writer(&engine, SyncType::Delta).await;
    world.control().disarm(held);
    let delta = delta.report().await.unwrap();
    let person = entity(&delta, "Person");
    assert!(
        person.joined.as_deref().unwrap().contains(":Person:full:"),
        "{person:?}"
    );
    assert_eq!(person.status, SyncStatus::Succeeded, "{person:?}");
    let full = full.report().await.unwrap();
    assert_eq!(full.status, SyncStatus::Succeeded, "{full:?}");
    world.assert_equal().await;
    engine.shutdown().await;
}

async fn a_full_sync_waits_for_a_running_delta(database: Database) {
    let world = World::of(200, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    world.control().advance(3_600);
    world.control().change_share(Entity::Person, 100.0).unwrap();
    let held = hold_people_after(&world.control(), 0);
    let delta = start(&engine, SyncType::Delta).await;
    people_are_under_way(&engine).await;
    let full = start(&engine, SyncType::Full).await;
    people_wait_for_the_writer(&engine, SyncType::Full).await;
    world.control().disarm(held);
    let full = full.report().await.unwrap();
    let person = entity(&full, "Person");
    assert_eq!(
        (person.joined.as_deref(), person.status),
        (None, SyncStatus::Succeeded)
    );
    assert_eq!(person.counts.changes.unchanged, 200);
    let delta = delta.report().await.unwrap();
    assert_eq!(entity(&delta, "Person").counts.changes.updated, 200);
    engine.shutdown().await;
}

async fn a_walk_that_was_taken_over_writes_nothing_more(database: Database) {
    let world = World::of(500, database).await;
    let held = hold_people_after(&world.control(), 2);
    let engine = world
        .builder()
        .records_per_step(100)
        .pages_ahead(0)
        .start()
        .await
        .unwrap();
    let full = start(&engine, SyncType::Full).await;
    people_are_held(&world.control(), held).await;
    let table = match world.database {
        Database::Sqlite(_) => "sync_entity_syncs",
        Database::Postgres(_) => "sync.entity_syncs",
    };
    let take =
        format!("update {table} set walk = 'another' where entity = 'Person' returning entity");
    assert_eq!(world.database.texts(take).await, ["Person"]);
    let written = world.database.live("Person").await.len();
    assert!(written > 0);
    world.control().disarm(held);
    let report = full.report().await.unwrap();
    let person = entity(&report, "Person");
    assert_eq!(person.status, SyncStatus::Failed);
    assert!(
        person.reason.as_deref().unwrap().contains("taken over"),
        "{person:?}"
    );
    assert_eq!(world.database.live("Person").await.len(), written);
    engine.shutdown().await;
}

async fn a_cancelled_sync_says_so_and_the_next_one_begins_anew(database: Database) {
    let world = World::of(500, database).await;
    let held = hold_people_after(&world.control(), 2);
    let engine = world
        .builder()
        .records_per_step(100)
        .pages_ahead(0)
        .start()
        .await
        .unwrap();
    let full = start(&engine, SyncType::Full).await;
    people_are_held(&world.control(), held).await;
    engine
        .cancel(&org(), &adapter(), SyncType::Full)
        .await
        .unwrap();
    let ended = full.report().await;
    assert!(
        ended.as_ref().is_err()
            || ended
                .as_ref()
                .is_ok_and(|report| report.status == SyncStatus::Cancelled),
        "{ended:?}"
    );
    world.control().disarm(held);
    let report = run(&engine, SyncType::Full).await;
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:#?}");
    world.assert_equal().await;
    engine.shutdown().await;
}
