//! Builds, and which runs a node takes.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;

use super::{MemoryJournal, state::State};
use crate::{
    id::{BuildId, NodeId, RunId},
    journal::{BuildInfo, BuildMove, BuildMoved, BuildStore, ClaimRequest, Result},
};

#[async_trait]
impl BuildStore for MemoryJournal {
    async fn declare_build(&self, node: NodeId, queue: &str, build: &BuildId) -> Result<()> {
        let mut state = self.lock();
        state.check_lease(node)?;
        let State {
            declared, nodes, ..
        } = &mut *state;
        declared.retain(|node, _| nodes.contains_key(node));
        declared.insert(node, (queue.into(), build.clone()));
        Ok(())
    }

    async fn set_current_build(&self, queue: &str, build: Option<&BuildId>) -> Result<()> {
        let current = &mut self.lock().current_builds;
        match build {
            Some(build) => current.insert(queue.into(), build.clone()),
            None => current.remove(queue),
        };
        Ok(())
    }

    async fn list_builds(&self, queue: &str) -> Result<Vec<BuildInfo>> {
        let now = self.now();
        let state = self.lock();
        let live = |(node, _): &(&NodeId, _)| state.nodes.get(*node).is_some_and(|end| *end > now);
        let workers: Vec<&BuildId> = state
            .declared
            .iter()
            .filter(|(_, (of, _))| &**of == queue)
            .filter(live)
            .map(|(_, (_, build))| build)
            .collect();
        let open: Vec<&BuildId> = state
            .runs
            .values()
            .filter(|run| &*run.queue == queue && run.is_open())
            .filter_map(|run| run.build.as_ref())
            .collect();
        let current = state.current_builds.get(queue);
        let all: BTreeSet<_> = workers
            .iter()
            .chain(&open)
            .copied()
            .chain(current)
            .collect();
        let info = |build: &BuildId| BuildInfo {
            build: build.clone(),
            is_current: current == Some(build),
            workers: count(&workers, build),
            open_runs: count(&open, build).min(BuildInfo::MOST_COUNTED.into()),
        };
        Ok(all.into_iter().map(info).collect())
    }

    async fn move_to_build(&self, run: RunId, to: &BuildMove) -> Result<BuildMoved> {
        self.turn().await;
        let mut state = self.lock();
        let Some(run) = state.runs.get_mut(&run).filter(|run| run.is_open()) else {
            return Ok(BuildMoved::NotOpen);
        };
        if let Some(length) = to.if_length {
            if run.node().is_some() {
                return Ok(BuildMoved::Held);
            }
            if run.next_position().0 != length {
                return Ok(BuildMoved::Grown);
            }
        }
        run.build.clone_from(&to.to);
        Ok(BuildMoved::Moved)
    }
}

fn count(builds: &[&BuildId], build: &BuildId) -> u64 {
    builds.iter().filter(|of| **of == build).count() as u64
}

impl State {
    /// Whether a claim takes runs of no build.
    pub(super) fn takes_new(&self, request: &ClaimRequest) -> bool {
        request.build.as_ref().is_none_or(|build| {
            let current = self.current_builds.get(&request.queue);
            current.is_none_or(|current| current == build)
        })
    }

    /// Whether a claim knows a run's workflow, and takes runs of its build.
    pub(super) fn is_for(&self, request: &ClaimRequest, takes_new: bool, id: RunId) -> bool {
        self.runs.get(&id).is_some_and(|run| {
            request.workflows.contains(&run.workflow)
                && match &run.build {
                    None => takes_new,
                    build @ Some(_) => request.build == *build,
                }
        })
    }
}

/// What a node declared: its queue and its build.
pub(super) type Declared = (Arc<str>, BuildId);
