//! Step `plan-run`: which entities, in which order. The plan is journaled, so that a run keeps it.

use serde::{Deserialize, Serialize};
use sync_core::{
    DependencyGraph, EntityName, Strength,
    graph::{self, Edge, Why},
};
use sync_workflow::{Activity, ActivityContext};

use super::Shared;
use crate::{catalogue::Adapter, failure::StepFailure, orchestrator::RunRequest};

pub(crate) struct PlanRun(pub(crate) Shared);

/// The plan of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The manifest that it was made from.
    pub(crate) manifest: String,
    pub(crate) entities: Vec<EntityName>,
    pub(crate) edges: Vec<PlannedEdge>,
    pub(crate) warnings: Vec<String>,
}

/// A dependency that orders.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PlannedEdge {
    dependent: EntityName,
    dependency: EntityName,
    strength: Strength,
    why: String,
}

impl Activity for PlanRun {
    const NAME: &'static str = "plan-run";
    type Input = RunRequest;
    type Output = Plan;
    type Error = StepFailure;

    async fn run(
        &self,
        _context: ActivityContext,
        request: RunRequest,
    ) -> Result<Plan, StepFailure> {
        let adapter = self.0.catalogue.connected(&request.org, &request.adapter);
        let adapter = adapter.map_err(|error| StepFailure::Unconfigured {
            detail: error.to_string(),
        })?;
        Ok(Plan::of(adapter))
    }
}

impl Plan {
    fn of(adapter: &Adapter) -> Self {
        let graph = &adapter.graph;
        let edges = graph
            .edges()
            .filter(|edge| edge.orders())
            .map(|edge| PlannedEdge {
                dependent: edge.dependent.clone(),
                dependency: edge.dependency.clone(),
                strength: edge.strength,
                why: edge.why.to_string(),
            });
        Self {
            manifest: adapter.fingerprint.clone(),
            entities: graph.order().to_vec(),
            edges: edges.collect(),
            warnings: graph.unmet().iter().map(ToString::to_string).collect(),
        }
    }

    /// The graph that was planned.
    pub(crate) fn graph(&self) -> Result<DependencyGraph, graph::Error> {
        let edges = self.edges.iter().map(|edge| {
            let why = Why::Declared {
                why: edge.why.clone(),
            };
            Edge::new(
                edge.dependent.clone(),
                edge.dependency.clone(),
                edge.strength,
                why,
            )
        });
        DependencyGraph::from_edges(self.entities.iter().cloned(), edges)
    }
}
