//! Sources that fail, and what is said of it.

use mock_api::{Effect, Entity, Fault, MockApi, RateLimit, Token};
use sync_core::{SyncStatus, SyncType};

use crate::world::{Database, World, entity, in_every_world, run};

in_every_world![
    a_source_that_fails_now_and_then_is_read_completely,
    a_forbidden_entity_is_no_success_and_blocks_those_that_need_it,
    a_revoked_token_fails_every_entity,
    a_soft_dependency_that_fails_only_warns,
    a_used_up_budget_is_waited_for,
    a_broken_document_does_not_fail_its_page,
];

async fn a_source_that_fails_now_and_then_is_read_completely(database: Database) {
    let world = World::of(300, database).await;
    let control = world.control();
    control.arm(
        Fault::new(Effect::status(500))
            .entity(Entity::Person)
            .page(1)
            .once(),
    );
    control.arm(
        Fault::new(Effect::Html { status: 502 })
            .entity(Entity::Email)
            .page(2)
            .once(),
    );
    control.arm(
        Fault::new(Effect::Truncate)
            .entity(Entity::Address)
            .page(1)
            .once(),
    );
    control.arm(
        Fault::new(Effect::Cut)
            .entity(Entity::PhoneNumber)
            .page(1)
            .once(),
    );
    control.arm(
        Fault::new(Effect::Html { status: 200 })
            .entity(Entity::Group)
            .once(),
    );
    control.arm(
        Fault::new(Effect::status(503))
            .entity(Entity::Membership)
            .skip(2)
            .once(),
    );
    let engine = world.engine().await;
    let report = run(&engine, SyncType::Full).await;
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:#?}");
    world.assert_equal().await;
    engine.shutdown().await;
}

async fn a_forbidden_entity_is_no_success_and_blocks_those_that_need_it(database: Database) {
    let world = World::of(60, database).await;
    world
        .control()
        .arm(Fault::new(Effect::status(403)).entity(Entity::Person));
    let engine = world.engine().await;
    let report = run(&engine, SyncType::Full).await;
    let person = entity(&report, "Person");
    assert_eq!(person.status, SyncStatus::Failed);
    assert!(
        person.reason.as_deref().unwrap().contains("lacks a right"),
        "{person:?}"
    );
    for name in ["Email", "PhoneNumber", "Address", "Membership"] {
        let blocked = entity(&report, name);
        assert_eq!(blocked.status, SyncStatus::Blocked, "{name}");
        assert_eq!(blocked.reason.as_deref(), Some("Person is failed"));
    }
    // An event can do without the person who took attendance.
    assert_eq!(entity(&report, "Event").status, SyncStatus::Succeeded);
    assert_eq!(report.status, SyncStatus::Failed);
    engine.shutdown().await;
}

async fn a_revoked_token_fails_every_entity(database: Database) {
    let world = World::of(30, database).await;
    let engine = world.engine().await;
    let token = world.api.tokens().remove(0);
    world.control().revoke_token(&token.name);
    let report = run(&engine, SyncType::Full).await;
    assert_eq!(report.status, SyncStatus::Failed);
    assert_eq!(entity(&report, "Campus").status, SyncStatus::Failed);
    let reason = entity(&report, "Campus").reason.clone().unwrap();
    assert!(!reason.contains(&world.api.token()), "{reason}");
    engine.shutdown().await;
}

async fn a_soft_dependency_that_fails_only_warns(database: Database) {
    let world = World::of(30, database).await;
    world
        .control()
        .arm(Fault::new(Effect::status(403)).entity(Entity::Campus));
    let engine = world.engine().await;
    let report = run(&engine, SyncType::Full).await;
    assert_eq!(entity(&report, "Person").status, SyncStatus::Succeeded);
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("Campus is failed")),
        "{report:#?}"
    );
    assert!(
        report
            .unresolved
            .iter()
            .any(|found| found.column == "primary_campus_id"),
        "{report:#?}"
    );
    engine.shutdown().await;
}

async fn a_used_up_budget_is_waited_for(database: Database) {
    let limit = RateLimit {
        requests: 15,
        period_seconds: 1,
    };
    let source = MockApi::builder()
        .seed(7)
        .people(100)
        .rate_limit(Some(limit));
    let world = World::with(source, database).await;
    let engine = world
        .builder()
        .longest_wait(std::time::Duration::ZERO)
        .start()
        .await
        .unwrap();
    let report = run(&engine, SyncType::Full).await;
    assert_eq!(report.status, SyncStatus::Succeeded, "{report:#?}");
    world.assert_equal().await;
    engine.shutdown().await;
}

async fn a_broken_document_does_not_fail_its_page(database: Database) {
    let world = World::of(60, database).await;
    let person = world.control().dump(Entity::Person)[3].id.parse().unwrap();
    let bad = serde_json::json!({ "birthdate": "no date at all" });
    world.control().update(Entity::Person, person, bad).unwrap();
    let engine = world.engine().await;
    let report = run(&engine, SyncType::Full).await;
    let people = entity(&report, "Person");
    assert_eq!(
        people.status,
        SyncStatus::SucceededWithQuarantine,
        "{people:?}"
    );
    assert_eq!(people.counts.changes.quarantined, 1);
    assert_eq!(people.counts.changes.inserted, 59);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_one_product_syncs_what_it_may() {
    let world = World::of(40, Database::sqlite()).await;
    let mut token: Token = world.api.tokens().remove(0);
    token.name = "groups-only".to_owned();
    token.bearer = "groups-only-token".to_owned();
    token.app_id = "groups-only".to_owned();
    token.products = Some([mock_api::Product::Groups].into());
    world.control().add_token(token).unwrap();
    let engine = world
        .builder_with(world.manifest(), "groups-only-token")
        .start()
        .await
        .unwrap();
    let report = run(&engine, SyncType::Full).await;
    assert_eq!(entity(&report, "Group").status, SyncStatus::Succeeded);
    assert_eq!(entity(&report, "Campus").status, SyncStatus::Failed);
    assert_eq!(report.status, SyncStatus::Failed);
    engine.shutdown().await;
}
