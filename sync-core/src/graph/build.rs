//! From entities and edges to an order.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::{
    algo::{astar, has_path_connecting, tarjan_scc},
    graph::{DiGraph, NodeIndex},
};

use super::{DependencyGraph, Edge, Error, GaveWay, Unmet, Why};
use crate::{manifest::Entity, names::EntityName, schema::Strength};

pub(super) fn from_entities(entities: &[Entity]) -> Result<DependencyGraph, Error> {
    let (enabled, disabled): (Vec<&Entity>, Vec<&Entity>) =
        entities.iter().partition(|entity| entity.enabled);
    let names = |some: Vec<&Entity>| some.into_iter().map(|entity| entity.name.clone()).collect();
    let edges = enabled.iter().flat_map(|entity| edges_of(entity)).collect();
    let disabled: Vec<EntityName> = names(disabled);
    from_edges(names(enabled), &disabled, edges)
}

fn edges_of(entity: &Entity) -> Vec<Edge> {
    let edge = |dependency: &EntityName, strength, why| {
        Edge::new(entity.name.clone(), dependency.clone(), strength, why)
    };
    let keys = entity.schema.foreign_keys().filter_map(|(field, key)| {
        let why = Why::ForeignKey {
            column: field.name.clone(),
            nullable: !field.required,
        };
        let strength = match key.strength {
            None if key.entity == entity.name => Strength::Deferred,
            _ => field.strength()?,
        };
        Some(edge(&key.entity, strength, why))
    });
    let parent = entity.parent.iter();
    let parent = parent.map(|walk| edge(&walk.entity, Strength::Hard, Why::ParentWalk));
    let declared = entity.depends_on.iter().map(|dependency| {
        let why = Why::Declared {
            why: dependency.why.clone(),
        };
        edge(&dependency.entity, dependency.strength, why)
    });
    keys.chain(parent).chain(declared).collect()
}

pub(super) fn from_edges(
    entities: Vec<EntityName>,
    disabled: &[EntityName],
    edges: Vec<Edge>,
) -> Result<DependencyGraph, Error> {
    let mut names = BTreeSet::new();
    for entity in entities {
        if let Some(entity) = names.replace(entity) {
            return Err(Error::DuplicateEntity { entity });
        }
    }
    let (mut edges, unmet) = meet(edges, &names, disabled)?;
    sort(&mut edges);
    defer_self_references(&mut edges)?;
    break_cycles(&names, &mut edges)?;
    Ok(assemble(&names, edges, unmet))
}

/// Strongest first, those before their equals that no foreign key can make up for later, then by name:
/// the order in which the edges of a cycle may stay.
fn sort(edges: &mut [Edge]) {
    edges.sort_by(|a, b| {
        let weight = |edge: &Edge| (edge.strength, edge.is_deferrable());
        let ends = |edge: &Edge| (edge.dependent.clone(), edge.dependency.clone());
        weight(a)
            .cmp(&weight(b))
            .then_with(|| ends(a).cmp(&ends(b)))
            .then_with(|| a.why.cmp(&b.why))
    });
}

/// Separates the edges whose dependency is not synced.
fn meet(
    edges: Vec<Edge>,
    names: &BTreeSet<EntityName>,
    disabled: &[EntityName],
) -> Result<(Vec<Edge>, Vec<Unmet>), Error> {
    let (mut met, mut unmet) = (Vec::new(), Vec::new());
    for edge in edges {
        if !names.contains(&edge.dependent) {
            return Err(Error::UnknownDependent {
                entity: edge.dependent,
            });
        }
        if names.contains(&edge.dependency) {
            met.push(edge);
            continue;
        }
        let is_disabled = disabled.contains(&edge.dependency);
        if edge.strength == Strength::Hard && !is_disabled {
            let Edge {
                dependent,
                dependency,
                why,
                ..
            } = edge;
            return Err(Error::MissingDependency {
                dependent,
                dependency,
                why,
            });
        }
        unmet.push(Unmet {
            edge,
            disabled: is_disabled,
        });
    }
    Ok((met, unmet))
}

/// A reference of an entity to itself is filled later. Where it is said to be hard, it is a cycle.
fn defer_self_references(edges: &mut [Edge]) -> Result<(), Error> {
    for edge in edges
        .iter_mut()
        .filter(|edge| edge.dependent == edge.dependency)
    {
        if edge.strength == Strength::Hard && !edge.is_deferrable() {
            return Err(Error::HardCycle {
                path: vec![edge.clone()],
            });
        }
        edge.strength = Strength::Deferred;
        edge.gave_way = Some(GaveWay::SelfReference);
    }
    Ok(())
}

/// Inside each strongly connected component, the edges are put back one by one, the strongest first;
/// one that would close a cycle gives way, if it may.
fn break_cycles(names: &BTreeSet<EntityName>, edges: &mut [Edge]) -> Result<(), Error> {
    let mut graph: DiGraph<(), usize> = DiGraph::new();
    let nodes: BTreeMap<&EntityName, NodeIndex> = names
        .iter()
        .map(|name| (name, graph.add_node(())))
        .collect();
    let mut all = graph.clone();
    for (index, edge) in edges.iter().enumerate().filter(|(_, edge)| edge.orders()) {
        all.add_edge(nodes[&edge.dependent], nodes[&edge.dependency], index);
    }
    let component = components(&all);
    for index in 0..edges.len() {
        let edge = &edges[index];
        let (from, to) = (nodes[&edge.dependent], nodes[&edge.dependency]);
        if !edge.orders() || component[from.index()] != component[to.index()] {
            continue;
        }
        if !has_path_connecting(&graph, to, from, None) {
            graph.add_edge(from, to, index);
        } else if edge.strength == Strength::Soft || edge.is_deferrable() {
            edges[index].strength = Strength::Deferred;
            edges[index].gave_way = Some(GaveWay::Cycle);
        } else {
            return Err(Error::HardCycle {
                path: cycle(&graph, edges, index, from, to),
            });
        }
    }
    Ok(())
}

/// The component of each node, by the node's index.
fn components(graph: &DiGraph<(), usize>) -> Vec<usize> {
    let mut component = vec![0; graph.node_count()];
    for (number, members) in tarjan_scc(graph).into_iter().enumerate() {
        for node in members {
            component[node.index()] = number;
        }
    }
    component
}

/// The shortest way back from `to` to `from`, behind the edge that closes it.
fn cycle(
    graph: &DiGraph<(), usize>,
    edges: &[Edge],
    closing: usize,
    from: NodeIndex,
    to: NodeIndex,
) -> Vec<Edge> {
    let (_, way) =
        astar(graph, to, |node| node == from, |_| 1_u32, |_| 0).expect("a path was found before");
    let back = way.windows(2).map(|pair| {
        let mut between = graph
            .edges_connecting(pair[0], pair[1])
            .map(|edge| *edge.weight());
        edges[between.next().expect("the path follows edges")].clone()
    });
    std::iter::once(edges[closing].clone())
        .chain(back)
        .collect()
}

fn assemble(
    names: &BTreeSet<EntityName>,
    sorted: Vec<Edge>,
    mut unmet: Vec<Unmet>,
) -> DependencyGraph {
    unmet.sort_by_key(|unmet| (unmet.edge.dependent.clone(), unmet.edge.dependency.clone()));
    let mut edges: BTreeMap<EntityName, Vec<Edge>> = BTreeMap::new();
    for edge in sorted {
        edges.entry(edge.dependent.clone()).or_default().push(edge);
    }
    for edges in edges.values_mut() {
        edges.sort_by(|a, b| {
            a.dependency
                .cmp(&b.dependency)
                .then_with(|| a.why.cmp(&b.why))
        });
    }
    let mut depths = BTreeMap::new();
    let mut order = Vec::with_capacity(names.len());
    for name in names {
        visit(name, &edges, &mut depths, &mut order);
    }
    let mut layers = vec![Vec::new(); depths.values().max().map_or(0, |depth| depth + 1)];
    for (name, depth) in depths {
        layers[depth].push(name);
    }
    DependencyGraph {
        order,
        layers,
        edges,
        unmet,
    }
}

/// Depth first, so that an entity follows its dependencies at once; recursion is bounded by the number
/// of entities of a manifest. Gives the entity's layer.
fn visit(
    name: &EntityName,
    edges: &BTreeMap<EntityName, Vec<Edge>>,
    depths: &mut BTreeMap<EntityName, usize>,
    order: &mut Vec<EntityName>,
) -> usize {
    if let Some(depth) = depths.get(name) {
        return *depth;
    }
    let ordering = edges
        .get(name)
        .into_iter()
        .flatten()
        .filter(|edge| edge.orders());
    let depth = ordering
        .map(|edge| visit(&edge.dependency, edges, depths, order) + 1)
        .max();
    let depth = depth.unwrap_or(0);
    depths.insert(name.clone(), depth);
    order.push(name.clone());
    depth
}
