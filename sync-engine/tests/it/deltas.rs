//! Deltas.

use std::collections::BTreeSet;

use mock_api::{Effect, Entity, Fault};
use serde_json::json;
use sync_core::{SyncStatus, SyncType};

use crate::world::{Database, World, entity, in_every_world, run};

in_every_world![
    a_delta_picks_up_exactly_what_changed,
    the_first_delta_reads_everything,
    a_delta_reads_little,
    a_source_that_ignores_the_filter_is_found_out,
    a_source_that_ignores_the_order_is_found_out,
    rows_that_move_during_a_walk_are_not_lost,
];

async fn a_delta_picks_up_exactly_what_changed(database: Database) {
    let world = World::of(250, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    world.control().advance(3_600);
    let people = world
        .control()
        .change_share(Entity::Person, 4.0)
        .unwrap()
        .len() as u64;
    let addresses = world
        .control()
        .change_share(Entity::Address, 3.0)
        .unwrap()
        .len() as u64;
    let groups = world
        .control()
        .change_share(Entity::Group, 20.0)
        .unwrap()
        .len() as u64;
    let new = world
        .control()
        .create(Entity::Campus, json!({ "name": "North" }))
        .unwrap();
    let report = run(&engine, SyncType::Delta).await;
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:#?}");
    let updated = |name| entity(&report, name).counts.changes.updated;
    assert_eq!(updated("Person"), people);
    assert_eq!(updated("Address"), addresses);
    assert_eq!(updated("Group"), groups);
    assert_eq!((updated("Email"), updated("Household")), (0, 0));
    assert_eq!(entity(&report, "Campus").counts.changes.inserted, 1);
    assert!(
        world
            .database
            .live("Campus")
            .await
            .contains_key(&new.to_string())
    );
    world.assert_equal().await;
    engine.shutdown().await;
}

async fn the_first_delta_reads_everything(database: Database) {
    let world = World::of(80, database).await;
    let engine = world.engine().await;
    let report = run(&engine, SyncType::Delta).await;
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:#?}");
    world.assert_equal().await;
    engine.shutdown().await;
}

async fn a_delta_reads_little(database: Database) {
    let world = World::of(500, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    world.control().advance(3_600);
    world.control().change_share(Entity::Person, 1.0).unwrap();
    world.control().clear_log();
    let report = run(&engine, SyncType::Delta).await;
    for name in [
        "Campus",
        "Household",
        "Person",
        "Email",
        "PhoneNumber",
        "Address",
    ] {
        assert_eq!(entity(&report, name).counts.requests, 1, "{name}");
    }
    engine.shutdown().await;
}

async fn a_source_that_ignores_the_filter_is_found_out(database: Database) {
    let world = World::of(250, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    world.control().advance(3_600);
    world
        .control()
        .arm(Fault::new(Effect::IgnoreFilters).entity(Entity::Person));
    let report = run(&engine, SyncType::Delta).await;
    let person = entity(&report, "Person");
    assert_eq!(person.status, SyncStatus::Failed);
    assert!(
        person.reason.as_deref().unwrap().contains("filter"),
        "{person:?}"
    );
    assert_eq!(report.status, SyncStatus::Failed);
    engine.shutdown().await;
}

async fn a_source_that_ignores_the_order_is_found_out(database: Database) {
    let world = World::of(250, database).await;
    let engine = world.engine().await;
    world
        .control()
        .arm(Fault::new(Effect::IgnoreOrder).entity(Entity::Person));
    let report = run(&engine, SyncType::Full).await;
    let person = entity(&report, "Person");
    assert_eq!(person.status, SyncStatus::Failed);
    assert!(
        person.reason.as_deref().unwrap().contains("order"),
        "{person:?}"
    );
    engine.shutdown().await;
}

/// Rows are deleted behind the walk and changed before it, in an order by change and in one by position.
async fn rows_that_move_during_a_walk_are_not_lost(database: Database) {
    let world = World::of(600, database).await;
    let control = world.control();
    let first = |entity: Entity, many: usize| {
        let rows = control.dump(entity).into_iter().take(many);
        rows.map(|row| row.id.parse().unwrap())
            .collect::<Vec<u64>>()
    };
    let mut oldest = control.dump(Entity::Person);
    oldest.sort_by_key(|row| row.updated_at);
    let gone: Vec<u64> = oldest
        .iter()
        .take(30)
        .map(|row| row.id.parse().unwrap())
        .collect();
    let touched: Vec<u64> = oldest
        .iter()
        .rev()
        .take(30)
        .map(|row| row.id.parse().unwrap())
        .collect();
    let delete = |entity, ids| mock_api::Mutation::Delete { entity, ids };
    control.advance(60);
    control.mutate_before_page(
        Entity::Person,
        2,
        vec![
            delete(Entity::Person, gone.clone()),
            mock_api::Mutation::Touch {
                entity: Entity::Person,
                ids: touched,
            },
        ],
    );
    control.mutate_before_page(
        Entity::Address,
        3,
        vec![delete(Entity::Address, first(Entity::Address, 40))],
    );
    let engine = world.builder().pages_ahead(0).start().await.unwrap();
    let report = run(&engine, SyncType::Full).await;
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:#?}");
    for (name, kind) in [("Person", Entity::Person), ("Address", Entity::Address)] {
        let stored = world.database.live(name).await;
        let stored: BTreeSet<&String> = stored.keys().collect();
        for row in control.dump(kind) {
            assert!(stored.contains(&row.id), "{name} {} was lost", row.id);
        }
    }
    engine.shutdown().await;
}
