//! Reconciliations.

use mock_api::{Effect, Entity, Fault, Mutation};
use sync_core::{SyncStatus, SyncType};

use crate::world::{Database, World, entity, in_every_world, org, run};

in_every_world![
    a_reconciliation_buries_exactly_what_is_gone,
    a_reconciliation_finds_what_deltas_missed,
    an_empty_answer_waits_for_a_person,
    too_many_deletions_wait_for_a_person,
    a_list_that_ends_early_proves_nothing,
    a_record_that_the_source_still_has_is_not_buried,
    a_record_that_comes_back_lives_again,
    neither_a_full_sync_nor_a_delta_deletes,
    approved_deletions_are_made,
    an_approval_of_a_walk_that_was_replaced_deletes_nothing,
];

async fn a_reconciliation_buries_exactly_what_is_gone(database: Database) {
    let world = World::of(300, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    world.control().advance(3_600);
    let mut gone: Vec<String> = world
        .control()
        .delete_share(Entity::Person, 2.0)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    let groups = world.control().dump(Entity::Group);
    world
        .control()
        .delete(Entity::Group, groups[0].id.parse().unwrap())
        .unwrap();
    let report = run(&engine, SyncType::Reconciliation).await;
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:#?}");
    gone.sort();
    assert_eq!(world.database.tombstones("Person").await, gone);
    assert_eq!(
        world.database.tombstones("Group").await,
        [groups[0].id.clone()]
    );
    assert_eq!(
        entity(&report, "Person").counts.changes.deleted,
        gone.len() as u64
    );
    world.assert_equal().await;
    engine.shutdown().await;
}

async fn a_reconciliation_finds_what_deltas_missed(database: Database) {
    let world = World::of(200, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    world.control().advance(3_600);
    let touched = world.control().dump(Entity::Person);
    world
        .control()
        .touch(Entity::Person, touched[0].id.parse().unwrap())
        .unwrap();
    let silent = Mutation::ChangeShare {
        entity: Entity::Person,
        percent: 3.0,
        silent: true,
    };
    let changed = world.control().mutate(silent).unwrap();
    let delta = run(&engine, SyncType::Delta).await;
    assert!(entity(&delta, "Person").counts.changes.updated <= 1);
    let report = run(&engine, SyncType::Reconciliation).await;
    let stale = entity(&report, "Person").stale;
    // One of them may have been touched as well, so that the delta saw it.
    assert!(
        stale >= changed.len() as u64 - 1 && stale <= changed.len() as u64,
        "{stale}"
    );
    world.assert_equal().await;
    engine.shutdown().await;
}

async fn an_empty_answer_waits_for_a_person(database: Database) {
    let world = World::of(60, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    let before = world.database.live("Email").await.len();
    world.control().delete_share(Entity::Email, 100.0).unwrap();
    let report = run(&engine, SyncType::Reconciliation).await;
    let email = entity(&report, "Email");
    assert_eq!(
        email.status,
        SyncStatus::SucceededWithQuarantine,
        "{email:?}"
    );
    assert_eq!(email.pending_deletions, before as u64);
    assert_eq!(report.status, SyncStatus::SucceededWithQuarantine);
    assert_eq!(world.database.live("Email").await.len(), before);
    engine.shutdown().await;
}

async fn too_many_deletions_wait_for_a_person(database: Database) {
    let world = World::of(150, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    world.control().delete_share(Entity::Email, 50.0).unwrap();
    world.control().clear_log();
    let report = run(&engine, SyncType::Reconciliation).await;
    let email = entity(&report, "Email");
    assert_eq!(
        email.status,
        SyncStatus::SucceededWithQuarantine,
        "{email:?}"
    );
    assert_eq!(email.counts.changes.deleted, 0);
    // Nobody was asked for records that may not be deleted anyway.
    assert!(email.counts.requests < 5, "{email:?}");
    engine.shutdown().await;
}

async fn a_list_that_ends_early_proves_nothing(database: Database) {
    let world = World::of(250, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    let before = world.database.live("Person").await.len();
    world
        .control()
        .arm(Fault::new(Effect::DropNext).entity(Entity::Person).page(0));
    let report = run(&engine, SyncType::Reconciliation).await;
    let person = entity(&report, "Person");
    assert_eq!(person.status, SyncStatus::Partial, "{person:?}");
    assert_eq!(person.counts.changes.deleted, 0);
    assert_eq!(world.database.live("Person").await.len(), before);
    engine.shutdown().await;
}

/// The list leaves rows out, and says that it is complete.
async fn a_record_that_the_source_still_has_is_not_buried(database: Database) {
    let world = World::of(100, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    let before = world.database.live("Person").await.len();
    world
        .control()
        .arm(Fault::new(Effect::CapTotal { rows: 95 }).entity(Entity::Person));
    let report = run(&engine, SyncType::Reconciliation).await;
    assert_eq!(
        entity(&report, "Person").counts.changes.deleted,
        0,
        "{report:#?}"
    );
    assert_eq!(world.database.live("Person").await.len(), before);
    engine.shutdown().await;
}

async fn a_record_that_comes_back_lives_again(database: Database) {
    let world = World::of(100, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    // A group that is archived leaves a list that does not ask for archived ones; here it leaves every list.
    world
        .control()
        .arm(Fault::new(Effect::status(404)).path("/groups/v2/groups/"));
    world
        .control()
        .arm(Fault::new(Effect::CapTotal { rows: 3 }).entity(Entity::Group));
    let groups = world.database.live("Group").await.len();
    assert!(groups > 3);
    let report = run(&engine, SyncType::Reconciliation).await;
    assert_eq!(
        entity(&report, "Group").counts.changes.deleted,
        groups as u64 - 3,
        "{report:#?}"
    );
    world.control().disarm_all();
    let report = run(&engine, SyncType::Full).await;
    assert_eq!(
        entity(&report, "Group").counts.changes.updated,
        groups as u64 - 3
    );
    world.assert_equal().await;
    engine.shutdown().await;
}

async fn neither_a_full_sync_nor_a_delta_deletes(database: Database) {
    let world = World::of(100, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    let before = world.database.live("Person").await.len();
    world.control().delete_share(Entity::Person, 3.0).unwrap();
    run(&engine, SyncType::Full).await;
    run(&engine, SyncType::Delta).await;
    assert_eq!(world.database.live("Person").await.len(), before);
    engine.shutdown().await;
}

async fn approved_deletions_are_made(database: Database) {
    let world = World::of(150, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    let gone = world.control().delete_share(Entity::Email, 50.0).unwrap();
    run(&engine, SyncType::Reconciliation).await;
    // A delta in between changes nothing about what waits.
    run(&engine, SyncType::Delta).await;
    let pending = engine.pending_deletions(&org()).await.unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].candidates, gone.len() as u64);
    let report = engine
        .approve_deletions(&org(), &pending[0], "ada")
        .await
        .unwrap();
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:?}");
    assert_eq!(report.counts.changes.deleted, gone.len() as u64);
    assert!(engine.pending_deletions(&org()).await.unwrap().is_empty());
    assert!(
        engine
            .approve_deletions(&org(), &pending[0], "ada")
            .await
            .is_err()
    );
    world.assert_equal().await;
    engine.shutdown().await;
}

async fn an_approval_of_a_walk_that_was_replaced_deletes_nothing(database: Database) {
    let world = World::of(100, database).await;
    let engine = world.engine().await;
    run(&engine, SyncType::Full).await;
    let before = world.database.live("Email").await.len();
    world.control().delete_share(Entity::Email, 50.0).unwrap();
    run(&engine, SyncType::Reconciliation).await;
    let pending = engine.pending_deletions(&org()).await.unwrap();
    run(&engine, SyncType::Full).await;
    let report = engine
        .approve_deletions(&org(), &pending[0], "ada")
        .await
        .unwrap();
    assert_eq!(report.status, SyncStatus::Failed, "{report:?}");
    assert_eq!(world.database.live("Email").await.len(), before);
    engine.shutdown().await;
}
