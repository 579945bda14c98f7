//! Which entities may start now: the state of one run over a dependency graph.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{graph::DependencyGraph, names::EntityName, status::SyncStatus};

/// Where one entity stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standing {
    /// Some dependency has not finished.
    Waiting,
    /// It has been handed out.
    Running,
    /// It finished, or is blocked and never starts.
    Finished(SyncStatus),
}

/// Why an entity never starts: a hard dependency that did not finish well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// The hard dependency.
    pub dependency: EntityName,
    /// How it ended.
    pub status: SyncStatus,
}

/// The progress of a run: hand out what [`Schedule::start_ready`] gives, tell [`Schedule::finish`] how it
/// ended, until [`Schedule::is_done`]. Deterministic: the same answers give the same order.
///
/// ```
/// # use sync_core::{EntityName, Strength, SyncStatus, graph::{DependencyGraph, Edge, Why}, schedule::Schedule};
/// # let [group, event] = ["Group", "Event"].map(|name| EntityName::new(name).unwrap());
/// # let edge = Edge::new(event.clone(), group.clone(), Strength::Hard, Why::ParentWalk);
/// # let graph = DependencyGraph::from_edges([event.clone(), group.clone()], [edge])?;
/// let mut schedule = Schedule::new(&graph);
/// assert_eq!(schedule.start_ready(), [group.clone()]);
/// schedule.finish(&group, SyncStatus::Failed);
/// assert!(schedule.start_ready().is_empty());
/// assert_eq!(schedule.blocker(&event).unwrap().dependency, group);
/// assert!(schedule.is_done());
/// # Ok::<(), sync_core::graph::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Schedule<'g> {
    graph: &'g DependencyGraph,
    standings: BTreeMap<EntityName, Standing>,
    blockers: BTreeMap<EntityName, Blocker>,
}

impl<'g> Schedule<'g> {
    /// A run in which nothing has started.
    pub fn new(graph: &'g DependencyGraph) -> Self {
        let waiting = |name: &EntityName| (name.clone(), Standing::Waiting);
        let standings = graph.order().iter().map(waiting).collect();
        Self {
            graph,
            standings,
            blockers: BTreeMap::new(),
        }
    }

    /// Hands out every entity whose dependencies have all finished, in the graph's order, and marks it as
    /// running. Those that have lost a hard dependency become blocked, and so do those that need them.
    pub fn start_ready(&mut self) -> Vec<EntityName> {
        let mut ready = Vec::new();
        for name in self.graph.order() {
            if self.standings[name] != Standing::Waiting {
                continue;
            }
            if let Some(blocker) = self.find_blocker(name) {
                self.blockers.insert(name.clone(), blocker);
                self.standings
                    .insert(name.clone(), Standing::Finished(SyncStatus::Blocked));
            } else if self.is_ready(name) {
                self.standings.insert(name.clone(), Standing::Running);
                ready.push(name.clone());
            }
        }
        ready
    }

    /// Takes how a running entity ended. Of an entity that is not running it changes nothing.
    pub fn finish(&mut self, entity: &EntityName, status: SyncStatus) {
        if let Some(standing @ Standing::Running) = self.standings.get_mut(entity) {
            *standing = Standing::Finished(status);
        }
    }

    /// Whether every entity has finished or is blocked.
    pub fn is_done(&self) -> bool {
        self.standings
            .values()
            .all(|standing| matches!(standing, Standing::Finished(_)))
    }

    /// Where each entity stands.
    pub fn standings(&self) -> &BTreeMap<EntityName, Standing> {
        &self.standings
    }

    /// What keeps a blocked entity from starting.
    pub fn blocker(&self, entity: &EntityName) -> Option<&Blocker> {
        self.blockers.get(entity)
    }

    /// The soft dependencies of an entity that did not finish well: warnings.
    pub fn soft_failures(&self, entity: &EntityName) -> Vec<Blocker> {
        let soft = self.graph.soft_dependencies(entity).into_iter();
        soft.filter_map(|name| self.ended_badly(name)).collect()
    }

    /// The status of the run so far: the worst of what has finished.
    pub fn status(&self) -> SyncStatus {
        SyncStatus::worst(
            self.standings
                .values()
                .filter_map(|standing| match standing {
                    Standing::Finished(status) => Some(*status),
                    Standing::Waiting | Standing::Running => None,
                }),
        )
    }

    fn is_ready(&self, name: &EntityName) -> bool {
        let mut needed = self
            .graph
            .edges_of(name)
            .iter()
            .filter(|edge| edge.orders());
        needed.all(|edge| matches!(self.standings[&edge.dependency], Standing::Finished(_)))
    }

    fn find_blocker(&self, name: &EntityName) -> Option<Blocker> {
        self.graph
            .hard_dependencies(name)
            .into_iter()
            .find_map(|name| self.ended_badly(name))
    }

    fn ended_badly(&self, name: &EntityName) -> Option<Blocker> {
        match self.standings[name] {
            Standing::Finished(status) if !status.lets_dependents_start() => Some(Blocker {
                dependency: name.clone(),
                status,
            }),
            Standing::Waiting | Standing::Running | Standing::Finished(_) => None,
        }
    }
}
