use std::collections::BTreeSet;

use proptest::prelude::*;
use sync_core::{
    ColumnName, DependencyGraph, EntityName, Strength,
    graph::{Edge, Error, GaveWay, Why},
};

pub(crate) fn name(text: &str) -> EntityName {
    EntityName::new(text).unwrap()
}

fn key(column: &str, nullable: bool) -> Why {
    Why::ForeignKey {
        column: ColumnName::new(column).unwrap(),
        nullable,
    }
}

fn declared() -> Why {
    Why::Declared {
        why: "because".to_owned(),
    }
}

pub(crate) fn edge(dependent: &str, dependency: &str, strength: Strength, why: Why) -> Edge {
    Edge::new(name(dependent), name(dependency), strength, why)
}

pub(crate) fn hard(dependent: &str, dependency: &str) -> Edge {
    let column = format!("{}_id", name(dependency).snake_case());
    edge(dependent, dependency, Strength::Hard, key(&column, false))
}

pub(crate) fn soft(dependent: &str, dependency: &str) -> Edge {
    edge(dependent, dependency, Strength::Soft, declared())
}

pub(crate) fn graph(edges: Vec<Edge>) -> Result<DependencyGraph, Error> {
    let ends = edges
        .iter()
        .flat_map(|edge| [edge.dependent.clone(), edge.dependency.clone()]);
    let names: BTreeSet<EntityName> = ends.collect();
    DependencyGraph::from_edges(names, edges)
}

fn check_order(edges: Vec<Edge>, expected: &[&str]) -> DependencyGraph {
    let graph = graph(edges).unwrap();
    let order: Vec<&str> = graph.order().iter().map(EntityName::as_str).collect();
    assert_eq!(order, expected);
    graph
}

pub(crate) fn six_entities() -> Vec<Edge> {
    vec![
        hard("Address", "Person"),
        hard("Event", "Group"),
        soft("Person", "Campus"),
        soft("Person", "Household"),
    ]
}

#[test]
fn six_entities_come_out_in_their_natural_order() {
    let expected = ["Campus", "Household", "Person", "Address", "Group", "Event"];
    let graph = check_order(six_entities(), &expected);
    let layers: Vec<Vec<&str>> = graph
        .layers()
        .iter()
        .map(|layer| layer.iter().map(EntityName::as_str).collect())
        .collect();
    assert_eq!(
        layers,
        [
            vec!["Campus", "Group", "Household"],
            vec!["Event", "Person"],
            vec!["Address"]
        ]
    );
}

#[test]
fn in_a_cycle_a_soft_edge_gives_way_to_a_hard_one() {
    let graph = check_order(
        vec![hard("Person", "Household"), soft("Household", "Person")],
        &["Household", "Person"],
    );
    let given: Vec<_> = graph
        .edges()
        .filter(|edge| edge.gave_way.is_some())
        .collect();
    assert_eq!(given.len(), 1);
    assert_eq!(given[0].declared, Strength::Soft);
    assert_eq!(given[0].gave_way, Some(GaveWay::Cycle));
}

#[test]
fn of_two_soft_edges_the_one_gives_way_that_a_foreign_key_makes_up_for() {
    let contact = edge(
        "Household",
        "Person",
        Strength::Soft,
        key("primary_contact_id", true),
    );
    let graph = check_order(
        vec![contact, soft("Person", "Household")],
        &["Household", "Person"],
    );
    assert_eq!(graph.deferred(&name("Household")).count(), 1);
}

#[test]
fn only_the_soft_edges_that_close_a_cycle_give_way() {
    let edges = vec![
        hard("B", "A"),
        soft("A", "B"),
        soft("C", "B"),
        soft("A", "C"),
    ];
    let graph = check_order(edges, &["C", "A", "B"]);
    assert_eq!(graph.soft_dependencies(&name("A")), [&name("C")]);
    assert!(graph.soft_dependencies(&name("C")).is_empty());
}

#[test]
fn in_a_cycle_of_hard_edges_a_nullable_foreign_key_is_deferred() {
    let nullable = edge(
        "Household",
        "Person",
        Strength::Hard,
        key("primary_contact_id", true),
    );
    let graph = check_order(
        vec![hard("Person", "Household"), nullable],
        &["Household", "Person"],
    );
    let household = name("Household");
    let deferred: Vec<_> = graph.deferred(&household).collect();
    assert_eq!(deferred.len(), 1);
    assert_eq!(deferred[0].0.as_str(), "primary_contact_id");
    assert!(graph.hard_dependencies(&household).is_empty());
}

#[test]
fn a_hard_cycle_is_an_error_that_names_its_path() {
    let error = graph(vec![
        hard("A", "B"),
        hard("B", "C"),
        hard("C", "A"),
        hard("D", "A"),
    ]);
    let error = error.unwrap_err();
    let Error::HardCycle { path } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(path.len(), 3);
    let text = error.to_string();
    assert!(
        text.contains("A -[b_id]-> B -[c_id]-> C -[a_id]-> A")
            || text.contains("C -[a_id]-> A -[b_id]-> B"),
        "{text}"
    );
}

#[test]
fn a_reference_to_itself_is_deferred() {
    let parent = edge(
        "Category",
        "Category",
        Strength::Soft,
        key("parent_id", true),
    );
    let graph = check_order(vec![parent], &["Category"]);
    let category = name("Category");
    assert_eq!(graph.deferred(&category).count(), 1);
    assert_eq!(
        graph.edges_of(&category)[0].gave_way,
        Some(GaveWay::SelfReference)
    );
}

#[test]
fn an_entity_that_is_said_to_need_itself_first_is_a_cycle() {
    assert!(matches!(
        graph(vec![edge("A", "A", Strength::Hard, declared())]),
        Err(Error::HardCycle { path }) if path.len() == 1
    ));
}

#[test]
fn a_deferred_edge_orders_nothing() {
    let edges = vec![
        edge(
            "Household",
            "Person",
            Strength::Deferred,
            key("primary_contact_id", true),
        ),
        soft("Person", "Household"),
    ];
    let graph = check_order(edges, &["Household", "Person"]);
    assert!(graph.edges().all(|edge| edge.gave_way.is_none()));
}

#[test]
fn a_hard_dependency_on_nothing_is_an_error_and_a_soft_one_a_warning() {
    let only = [name("Person")];
    let missing = DependencyGraph::from_edges(only.clone(), [hard("Person", "Campus")]);
    assert!(
        matches!(missing, Err(Error::MissingDependency { dependency, .. }) if dependency == name("Campus"))
    );
    let graph = DependencyGraph::from_edges(only, [soft("Person", "Campus")]).unwrap();
    assert_eq!(
        graph.unmet()[0].to_string(),
        "Person has a soft dependency on Campus (because), which is not in the manifest"
    );
}

#[test]
fn pictures_carry_the_reason_of_each_edge() {
    let mut edges = six_entities();
    edges.push(edge(
        "Household",
        "Person",
        Strength::Soft,
        key("primary_contact_id", true),
    ));
    edges.push(edge(
        "Group",
        "Group",
        Strength::Soft,
        Why::Declared {
            why: "a \"tree\" | of\n groups".to_owned(),
        },
    ));
    let graph = graph(edges).unwrap();
    insta::assert_snapshot!("dot", graph.to_dot());
    insta::assert_snapshot!("mermaid", graph.to_mermaid());
}

const NAMES: [&str; 8] = ["A", "B", "C", "D", "E", "F", "G", "H"];

fn any_edge() -> impl Strategy<Value = Edge> {
    let strength = prop_oneof![
        Just(Strength::Hard),
        Just(Strength::Soft),
        Just(Strength::Deferred)
    ];
    (
        0..NAMES.len(),
        0..NAMES.len(),
        strength,
        any::<bool>(),
        0..3,
    )
        .prop_map(|(from, to, strength, nullable, column)| {
            edge(
                NAMES[from],
                NAMES[to],
                strength,
                key(&format!("column_{column}"), nullable),
            )
        })
}

fn build(edges: Vec<Edge>) -> Result<DependencyGraph, Error> {
    DependencyGraph::from_edges(NAMES.map(name), edges)
}

fn is_rigid(edge: &Edge) -> bool {
    edge.declared == Strength::Hard && !matches!(edge.why, Why::ForeignKey { nullable: true, .. })
}

proptest! {
    #[test]
    fn every_edge_that_orders_is_respected(edges in prop::collection::vec(any_edge(), 0..24)) {
        let rigid_before = edges.iter().filter(|edge| is_rigid(edge)).count();
        let count = edges.len();
        let Ok(graph) = build(edges) else { return Ok(()) };
        let place = |name: &EntityName| graph.order().iter().position(|it| it == name).unwrap();
        let layer = |name: &EntityName| graph.layers().iter().position(|it| it.contains(name)).unwrap();
        prop_assert_eq!(graph.order().len(), NAMES.len());
        prop_assert_eq!(graph.edges().count(), count);
        for edge in graph.edges().filter(|edge| edge.orders()) {
            prop_assert!(place(&edge.dependency) < place(&edge.dependent));
            prop_assert!(layer(&edge.dependency) < layer(&edge.dependent));
        }
        let rigid = graph.edges().filter(|edge| is_rigid(edge) && edge.strength == Strength::Hard);
        prop_assert_eq!(rigid.count(), rigid_before, "a rigid edge never gives way");
    }

    #[test]
    fn an_edge_gives_way_only_where_it_would_close_a_cycle(edges in prop::collection::vec(any_edge(), 0..24)) {
        let Ok(graph) = build(edges) else { return Ok(()) };
        for given in graph.edges().filter(|edge| edge.gave_way == Some(GaveWay::Cycle)) {
            prop_assert!(reaches(&graph, &given.dependency, &given.dependent));
        }
    }

    #[test]
    fn the_same_edges_in_any_order_give_the_same_graph(
        (edges, shuffled) in prop::collection::vec(any_edge(), 0..24)
            .prop_flat_map(|edges| (Just(edges.clone()), Just(edges).prop_shuffle()))
    ) {
        match (build(edges), build(shuffled)) {
            (Ok(one), Ok(other)) => prop_assert_eq!(one.to_dot(), other.to_dot()),
            (Err(one), Err(other)) => prop_assert_eq!(one, other),
            (one, other) => prop_assert!(false, "{one:?} and {other:?}"),
        }
    }

    #[test]
    fn a_cycle_that_is_named_really_is_one(edges in prop::collection::vec(any_edge(), 0..24)) {
        let Err(error) = build(edges.clone()) else { return Ok(()) };
        let Error::HardCycle { path } = error else { return Err(TestCaseError::fail("no cycle")) };
        for (at, step) in path.iter().enumerate() {
            let next = &path[(at + 1) % path.len()];
            prop_assert_eq!(&step.dependency, &next.dependent);
            prop_assert!(edges.contains(step) && is_rigid(step));
        }
    }
}

/// Whether `from` leads to `to` over edges that order.
fn reaches(graph: &DependencyGraph, from: &EntityName, to: &EntityName) -> bool {
    let mut seen = BTreeSet::from([from.clone()]);
    let mut next = vec![from.clone()];
    while let Some(name) = next.pop() {
        for edge in graph.edges_of(&name).iter().filter(|edge| edge.orders()) {
            if seen.insert(edge.dependency.clone()) {
                next.push(edge.dependency.clone());
            }
        }
    }
    seen.contains(to)
}
