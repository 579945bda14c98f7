//! Which entity needs which: the graph that decides the order of a sync.
//!
//! Edges are [hard, soft or deferred](Strength). They come from foreign keys, from nested lists and from
//! declared dependencies, and each carries its reason. Where edges form a cycle, soft ones give way
//! first (those of a foreign key before declared ones, since a key can be filled later), then hard ones
//! whose foreign key may be null; what is left of a cycle is an error that names its path. Only edges
//! that would close a cycle give way. A reference of an entity to itself is deferred.
//!
//! A hard dependency on an entity that does not exist is an error: it is a mistake in the manifest. On
//! one that is merely disabled it is only [`Unmet`]: leaving an entity out is the operator's choice, and
//! its rows may be there from an earlier sync. Soft and deferred edges to either are unmet too.

mod build;
mod export;

use std::{collections::BTreeMap, fmt};

use crate::{
    manifest::Manifest,
    names::{ColumnName, EntityName},
    schema::Strength,
};

/// Why one entity needs another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Why {
    /// A column holds the other's ids.
    ForeignKey {
        /// The column.
        column: ColumnName,
        /// Whether it may be null.
        nullable: bool,
    },
    /// Its list exists only under each record of the other.
    ParentWalk,
    /// The manifest says so.
    Declared {
        /// In these words.
        why: String,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignKey {
                column,
                nullable: true,
            } => write!(f, "{column} (nullable)"),
            Self::ForeignKey {
                column,
                nullable: false,
            } => write!(f, "{column}"),
            Self::ParentWalk => f.write_str("listed under it"),
            Self::Declared { why } => f.write_str(why),
        }
    }
}

/// Why an edge does not order, although it was soft or hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GaveWay {
    /// It points at its own entity.
    SelfReference,
    /// It would have closed a cycle.
    Cycle,
}

/// One dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The entity that needs the other.
    pub dependent: EntityName,
    /// The entity that is needed.
    pub dependency: EntityName,
    /// How strongly, as the graph stands.
    pub strength: Strength,
    /// How strongly, as the manifest says.
    pub declared: Strength,
    /// Why.
    pub why: Why,
    /// Why it no longer orders, if it gave way.
    pub gave_way: Option<GaveWay>,
}

impl Edge {
    /// An edge as a manifest declares it.
    pub fn new(
        dependent: EntityName,
        dependency: EntityName,
        strength: Strength,
        why: Why,
    ) -> Self {
        Self {
            dependent,
            dependency,
            strength,
            declared: strength,
            why,
            gave_way: None,
        }
    }

    /// Whether the dependency comes first.
    pub fn orders(&self) -> bool {
        self.strength != Strength::Deferred
    }

    /// Whether a hard edge may give way in a cycle: its foreign key can be filled later.
    fn is_deferrable(&self) -> bool {
        matches!(self.why, Why::ForeignKey { nullable: true, .. })
    }
}

/// A dependency on an entity that is not synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// The dependency.
    pub edge: Edge,
    /// Whether the entity exists, but is disabled.
    pub disabled: bool,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Edge {
            dependent,
            dependency,
            strength,
            why,
            ..
        } = &self.edge;
        let reason = if self.disabled {
            "disabled"
        } else {
            "not in the manifest"
        };
        let strength = strength.as_str();
        write!(
            f,
            "{dependent} has a {strength} dependency on {dependency} ({why}), which is {reason}"
        )
    }
}

/// A graph that cannot be ordered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Entities need each other, and no edge may give way.
    #[error("hard dependencies form a cycle: {}", describe(.path))]
    HardCycle {
        /// The edges, each one's dependency being the next one's dependent; the last leads to the first.
        path: Vec<Edge>,
    },
    /// An entity cannot do without one that does not exist.
    #[error("{dependent} has a hard dependency on {dependency} ({why}), which does not exist")]
    MissingDependency {
        /// The entity.
        dependent: EntityName,
        /// The one that does not exist.
        dependency: EntityName,
        /// Why it is needed.
        why: Why,
    },
    /// The same entity is listed twice.
    #[error("entity {entity} is listed twice")]
    DuplicateEntity {
        /// The entity.
        entity: EntityName,
    },
    /// An edge begins at an entity that is not listed.
    #[error("a dependency of {entity} is given, which is not listed")]
    UnknownDependent {
        /// The entity.
        entity: EntityName,
    },
}

fn describe(path: &[Edge]) -> String {
    let mut text = String::new();
    for edge in path {
        text.push_str(&format!("{} -[{}]-> ", edge.dependent, edge.why));
    }
    text + path.first().map_or("", |edge| edge.dependent.as_str())
}

/// The dependencies of the enabled entities, and the order that respects them.
///
/// ```
/// # use sync_core::{EntityName, graph::{DependencyGraph, Edge, Why}, Strength};
/// let [group, event] = ["Group", "Event"].map(|name| EntityName::new(name).unwrap());
/// let why = Why::Declared { why: "events belong to groups".to_owned() };
/// let edge = Edge::new(event.clone(), group.clone(), Strength::Hard, why);
/// let graph = DependencyGraph::from_edges([event.clone(), group.clone()], [edge])?;
/// assert_eq!(graph.order(), [group, event]);
/// # Ok::<(), sync_core::graph::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DependencyGraph {
    order: Vec<EntityName>,
    layers: Vec<Vec<EntityName>>,
    edges: BTreeMap<EntityName, Vec<Edge>>,
    unmet: Vec<Unmet>,
}

impl DependencyGraph {
    /// The graph of a manifest's enabled entities.
    ///
    /// # Errors
    /// A cycle of hard dependencies, by its path; or a hard dependency on an entity that does not exist.
    pub fn new(manifest: &Manifest) -> Result<Self, Error> {
        build::from_entities(manifest.entities())
    }

    /// The graph of these entities and dependencies.
    ///
    /// # Errors
    /// As [`DependencyGraph::new`]; and an entity listed twice, or an edge of an unlisted one.
    pub fn from_edges(
        entities: impl IntoIterator<Item = EntityName>,
        edges: impl IntoIterator<Item = Edge>,
    ) -> Result<Self, Error> {
        build::from_edges(
            entities.into_iter().collect(),
            &[],
            edges.into_iter().collect(),
        )
    }

    /// Every enabled entity, each after all that it has a hard or soft dependency on; among equals the
    /// first by name, followed at once by what it unlocks alone.
    pub fn order(&self) -> &[EntityName] {
        &self.order
    }

    /// The entities in layers: each needs only entities of earlier layers.
    pub fn layers(&self) -> &[Vec<EntityName>] {
        &self.layers
    }

    /// All edges between enabled entities, by dependent.
    pub fn edges(&self) -> impl Iterator<Item = &Edge> {
        self.edges.values().flatten()
    }

    /// The edges of one entity to those that it needs.
    pub fn edges_of(&self, entity: &EntityName) -> &[Edge] {
        self.edges.get(entity).map_or(&[], Vec::as_slice)
    }

    /// The entities without which this one cannot sync, by name.
    pub fn hard_dependencies(&self, entity: &EntityName) -> Vec<&EntityName> {
        self.dependencies(entity, Strength::Hard)
    }

    /// The entities that come before this one if they can, by name; none that is also a hard one.
    pub fn soft_dependencies(&self, entity: &EntityName) -> Vec<&EntityName> {
        let hard = self.hard_dependencies(entity);
        let mut soft = self.dependencies(entity, Strength::Soft);
        soft.retain(|name| !hard.contains(name));
        soft
    }

    /// The references of this entity that are resolved in a final pass: those declared so, those that
    /// gave way, and those to the entity itself.
    pub fn deferred(
        &self,
        entity: &EntityName,
    ) -> impl Iterator<Item = (&ColumnName, &EntityName)> {
        self.edges_of(entity)
            .iter()
            .filter_map(|edge| match &edge.why {
                Why::ForeignKey { column, .. } if !edge.orders() => {
                    Some((column, &edge.dependency))
                }
                _ => None,
            })
    }

    /// Dependencies on entities that are not synced: warnings for whoever starts the sync.
    pub fn unmet(&self) -> &[Unmet] {
        &self.unmet
    }

    /// The graph in Graphviz's language.
    pub fn to_dot(&self) -> String {
        export::dot(self)
    }

    /// The graph as a Mermaid flowchart.
    pub fn to_mermaid(&self) -> String {
        export::mermaid(self)
    }

    fn dependencies(&self, entity: &EntityName, strength: Strength) -> Vec<&EntityName> {
        let edges = self
            .edges_of(entity)
            .iter()
            .filter(|edge| edge.strength == strength);
        let mut names: Vec<_> = edges.map(|edge| &edge.dependency).collect();
        names.sort();
        names.dedup();
        names
    }
}
