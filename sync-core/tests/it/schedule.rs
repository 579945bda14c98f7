use proptest::prelude::*;
use sync_core::{EntityName, Schedule, SyncStatus, schedule::Standing};

use super::graph::{graph, hard, name, six_entities, soft};

fn texts(names: &[EntityName]) -> Vec<&str> {
    names.iter().map(EntityName::as_str).collect()
}

#[test]
fn an_entity_starts_as_soon_as_its_own_dependencies_have_finished() {
    let graph = graph(six_entities()).unwrap();
    let mut schedule = Schedule::new(&graph);
    assert_eq!(
        texts(&schedule.start_ready()),
        ["Campus", "Household", "Group"]
    );
    assert!(
        schedule.start_ready().is_empty(),
        "nothing is handed out twice"
    );
    schedule.finish(&name("Group"), SyncStatus::Succeeded);
    assert_eq!(texts(&schedule.start_ready()), ["Event"]);
    schedule.finish(&name("Campus"), SyncStatus::Succeeded);
    assert!(
        schedule.start_ready().is_empty(),
        "a person still waits for households"
    );
    schedule.finish(&name("Household"), SyncStatus::SucceededWithQuarantine);
    assert_eq!(texts(&schedule.start_ready()), ["Person"]);
    schedule.finish(&name("Event"), SyncStatus::Succeeded);
    schedule.finish(&name("Person"), SyncStatus::Succeeded);
    assert_eq!(texts(&schedule.start_ready()), ["Address"]);
    assert!(!schedule.is_done());
    schedule.finish(&name("Address"), SyncStatus::Succeeded);
    assert!(schedule.is_done());
    assert_eq!(schedule.status(), SyncStatus::SucceededWithQuarantine);
}

#[test]
fn a_failed_hard_dependency_blocks_all_behind_it_and_a_soft_one_only_warns() {
    let graph = graph(vec![hard("B", "A"), hard("C", "B"), soft("D", "A")]).unwrap();
    let mut schedule = Schedule::new(&graph);
    assert_eq!(texts(&schedule.start_ready()), ["A"]);
    schedule.finish(&name("A"), SyncStatus::Failed);
    assert_eq!(texts(&schedule.start_ready()), ["D"]);
    assert_eq!(schedule.blocker(&name("B")).unwrap().dependency, name("A"));
    assert_eq!(
        schedule.blocker(&name("C")).unwrap().status,
        SyncStatus::Blocked
    );
    assert_eq!(schedule.soft_failures(&name("D")).len(), 1);
    schedule.finish(&name("D"), SyncStatus::Succeeded);
    assert!(schedule.is_done());
    assert_eq!(schedule.status(), SyncStatus::Failed);
}

#[test]
fn a_late_word_about_an_entity_that_is_not_running_changes_nothing() {
    let graph = graph(vec![hard("B", "A")]).unwrap();
    let mut schedule = Schedule::new(&graph);
    schedule.finish(&name("B"), SyncStatus::Succeeded);
    assert_eq!(schedule.standings()[&name("B")], Standing::Waiting);
    schedule.start_ready();
    schedule.finish(&name("A"), SyncStatus::Succeeded);
    schedule.finish(&name("A"), SyncStatus::Failed);
    assert_eq!(schedule.status(), SyncStatus::Succeeded);
}

proptest! {
    /// Whatever fails and in whatever order, every run comes to its end and hands out each entity once.
    #[test]
    fn every_run_ends(
        ends in prop::collection::vec((0..8_usize, 0..8_usize, any::<bool>()), 0..20),
        outcomes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 8),
    ) {
        let entity = |index: usize| format!("E{index}");
        let edges = ends.into_iter().filter(|(from, to, _)| from > to).map(|(from, to, is_hard)| {
            if is_hard { hard(&entity(from), &entity(to)) } else { soft(&entity(from), &entity(to)) }
        });
        let graph = graph(edges.collect()).unwrap();
        let mut schedule = Schedule::new(&graph);
        let (mut running, mut started) = (Vec::new(), Vec::new());
        for (which, succeeds) in outcomes {
            let ready = schedule.start_ready();
            started.extend(ready.clone());
            running.extend(ready);
            if running.is_empty() {
                break;
            }
            let entity = running.swap_remove(which.index(running.len()));
            let status = if succeeds { SyncStatus::Succeeded } else { SyncStatus::Failed };
            schedule.finish(&entity, status);
        }
        started.extend(schedule.start_ready());
        prop_assert!(schedule.is_done());
        let blocked = graph.order().iter().filter(|name| schedule.blocker(name).is_some()).count();
        let once: std::collections::BTreeSet<_> = started.iter().collect();
        prop_assert_eq!(once.len(), started.len());
        prop_assert_eq!(started.len() + blocked, graph.order().len());
    }
}
