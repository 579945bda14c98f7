//! Full syncs.

use sync_core::{EntityName, SyncStatus, SyncType};

use crate::world::{
    Database, ENTITIES, World, adapter, entity, eventually, in_every_world, org, run,
};

in_every_world![
    a_full_sync_makes_the_destination_equal_to_the_source,
    a_step_of_several_statements_loses_nothing,
    a_second_full_sync_writes_nothing_again,
    a_workflow_that_continues_as_new_loses_nothing,
    progress_is_read_from_the_destination,
];

async fn a_full_sync_makes_the_destination_equal_to_the_source(database: Database) {
    let world = World::of(400, database).await;
    let engine = world.engine().await;
    assert!(engine.commits_together());
    let report = run(&engine, SyncType::Full).await;
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:#?}");
    let counts = world.control().counts();
    for (name, kind) in ENTITIES {
        let changes = entity(&report, name).counts.changes;
        assert_eq!(changes.inserted, counts[&kind] as u64, "{name}");
        assert_eq!((changes.updated, changes.unchanged), (0, 0), "{name}");
    }
    assert_eq!(report.totals().requests, world.control().log().requests);
    assert!(report.unresolved.is_empty(), "{:?}", report.unresolved);
    world.assert_equal().await;
    engine.shutdown().await;
}

async fn a_step_of_several_statements_loses_nothing(database: Database) {
    let world = World::of(2_600, database).await;
    let names = ["Campus", "Household", "Person"].map(|name| EntityName::new(name).unwrap());
    let manifest = world.manifest().with_only(&names).unwrap();
    let builder = world.builder_with(manifest, &world.api.token());
    let engine = builder.start().await.unwrap();
    let first = run(&engine, SyncType::Full).await;
    assert_eq!(first.status, SyncStatus::Succeeded, "{first:#?}");
    assert_eq!(entity(&first, "Person").counts.changes.inserted, 2_600);
    let second = run(&engine, SyncType::Reconciliation).await;
    assert_eq!(second.status, SyncStatus::Succeeded, "{second:#?}");
    assert_eq!(entity(&second, "Person").counts.changes.unchanged, 2_600);
    assert_eq!(world.database.live("Person").await.len(), 2_600);
    engine.shutdown().await;
}

async fn a_second_full_sync_writes_nothing_again(database: Database) {
    let world = World::of(120, database).await;
    let engine = world.engine().await;
    let first = run(&engine, SyncType::Full).await;
    let second = run(&engine, SyncType::Full).await;
    let (first, second) = (first.totals().changes, second.totals().changes);
    assert_eq!(second.unchanged, first.inserted);
    assert_eq!((second.inserted, second.updated), (0, 0));
    engine.shutdown().await;
}

async fn a_workflow_that_continues_as_new_loses_nothing(database: Database) {
    let world = World::of(450, database).await;
    let engine = world
        .builder()
        .steps_per_run(2)
        .records_per_step(100)
        .start()
        .await
        .unwrap();
    let report = run(&engine, SyncType::Full).await;
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:#?}");
    world.assert_equal().await;
    engine.shutdown().await;
}

async fn progress_is_read_from_the_destination(database: Database) {
    let world = World::of(60, database).await;
    let engine = world.engine().await;
    let handle = engine
        .start(&org(), &adapter(), SyncType::Full)
        .await
        .unwrap();
    eventually("all entities are over", || async {
        let progress = engine.progress(&org(), &adapter()).await.unwrap();
        progress.len() == ENTITIES.len() && progress.iter().all(|entity| entity.status.is_some())
    })
    .await;
    let report = handle.report().await.unwrap();
    let progress = engine.progress(&org(), &adapter()).await.unwrap();
    for entity in progress {
        let reported = report.entity(entity.entity.as_str()).unwrap();
        assert_eq!(entity.counts, reported.counts);
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journal_and_destination_may_be_two_databases() {
    let world = World::of(150, Database::postgres()).await;
    let journal = Database::sqlite();
    let engine = world
        .builder()
        .journal_url(journal.url())
        .start()
        .await
        .unwrap();
    assert!(!engine.commits_together());
    let report = run(&engine, SyncType::Full).await;
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:#?}");
    world.assert_equal().await;
    engine.shutdown().await;
}
