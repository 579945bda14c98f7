//! The workflow of a whole sync: every entity as soon as its own dependencies have finished.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde::{Deserialize, Serialize};
use sync_core::{
    AdapterName, DependencyGraph, EntityName, OrgId, Schedule, SyncKey, SyncStatus, SyncType,
};
use sync_workflow::{Activity as _, Context, Failure, FailureKind, Workflow, id::WorkflowId};

use crate::{
    activities::{CheckInput, CheckReferences, Deps, Plan, PlanRun},
    entity_sync::{EntityRequest, EntitySync},
    key::EntityKey,
    report::{EntityReport, RunReport},
};

/// Syncs every entity of an adapter for one organisation, in the order of their dependencies.
pub struct MainSyncOrchestrator {
    deps: Arc<Deps>,
}

impl MainSyncOrchestrator {
    pub(crate) fn new(deps: Arc<Deps>) -> Self {
        Self { deps }
    }
}

impl std::fmt::Debug for MainSyncOrchestrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MainSyncOrchestrator")
            .finish_non_exhaustive()
    }
}

/// What is to be synced. It names an account, and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// The organisation.
    pub org: OrgId,
    /// The adapter.
    pub adapter: AdapterName,
    /// Everything, what changed, or everything and what is gone.
    pub sync_type: SyncType,
}

impl Workflow for MainSyncOrchestrator {
    const NAME: &'static str = "main-sync";
    type Input = RunRequest;
    type Output = RunReport;
    type Error = Failure;

    async fn run(&self, context: Context, request: RunRequest) -> Result<RunReport, Failure> {
        let started = context.now();
        let retry = self.deps.options.retry.clone();
        let planned = context.activity(PlanRun::activity(), request.clone());
        let plan: Plan = planned.retry(retry.clone()).await?;
        let graph = plan.graph()?;
        let (mut reports, mut warnings) = entities(&context, &request, &graph).await?;
        warnings.splice(0..0, plan.warnings);
        let check = CheckInput {
            org: request.org.clone(),
            adapter: request.adapter.clone(),
            entities: changed(&reports),
            doubtful: doubtful(request.sync_type, &reports),
        };
        let mut unresolved = Vec::new();
        if !check.entities.is_empty() && !context.is_cancelled() {
            match context
                .activity(CheckReferences::activity(), check)
                .retry(retry)
                .await
            {
                Ok(found) => unresolved = found,
                Err(error) => warnings.push(format!("references were not checked: {error}")),
            }
        }
        let seconds = context.now().duration_since(started).as_secs_f64();
        let entities: Vec<EntityReport> = graph
            .order()
            .iter()
            .filter_map(|name| reports.remove(name))
            .collect();
        Ok(RunReport {
            status: SyncStatus::worst(entities.iter().map(|report| report.status)),
            org: request.org,
            adapter: request.adapter,
            sync_type: request.sync_type,
            entities,
            unresolved,
            warnings,
            seconds,
        })
    }
}

type Reports = BTreeMap<EntityName, EntityReport>;

/// Runs the entities side by side, each once its own dependencies have finished.
async fn entities(
    context: &Context,
    request: &RunRequest,
    graph: &DependencyGraph,
) -> Result<(Reports, Vec<String>), Failure> {
    let mut schedule = Schedule::new(graph);
    let mut running = FuturesUnordered::new();
    let mut reports = Reports::new();
    let mut warnings = Vec::new();
    loop {
        for entity in schedule.start_ready() {
            warnings.extend(schedule.soft_failures(&entity).iter().map(|blocker| {
                format!(
                    "{entity} began although {} is {}",
                    blocker.dependency, blocker.status
                )
            }));
            running.push(child(context, request, entity)?);
        }
        let Some((entity, report)) = running.next().await else {
            break;
        };
        schedule.finish(&entity, report.status);
        reports.insert(entity, report);
    }
    for entity in graph.order() {
        if let Some(blocker) = schedule.blocker(entity) {
            let reason = format!("{} is {}", blocker.dependency, blocker.status);
            let report = EntityReport::empty(entity.clone(), SyncStatus::Blocked, Some(reason));
            reports.insert(entity.clone(), report);
        }
    }
    Ok((reports, warnings))
}

/// The entity's own workflow, under its own key of this run.
fn child(
    context: &Context,
    request: &RunRequest,
    entity: EntityName,
) -> Result<impl Future<Output = (EntityName, EntityReport)> + Send + use<>, Failure> {
    let key = SyncKey::entity(&request.org, &request.adapter, &entity, request.sync_type);
    let id = WorkflowId::new(key.run(context.run_id()))?;
    let input = EntityRequest {
        key: EntityKey {
            org: request.org.clone(),
            adapter: request.adapter.clone(),
            entity: entity.clone(),
        },
        sync_type: request.sync_type,
        approved: None,
        progress: None,
    };
    let call = context.child(EntitySync::workflow(), input).id(id);
    Ok(async move {
        let report = match call.await {
            Ok(report) => report,
            Err(error) => {
                let is_cancelled = error.is_kind(FailureKind::Cancelled);
                let status = if is_cancelled {
                    SyncStatus::Cancelled
                } else {
                    SyncStatus::Failed
                };
                EntityReport::empty(entity.clone(), status, Some(error.to_string()))
            }
        };
        (entity, report)
    })
}

/// The entities whose references may lead elsewhere than before.
fn changed(reports: &Reports) -> Vec<EntityName> {
    let changed = reports.values().filter(|report| {
        let changes = report.counts.changes;
        changes.inserted + changes.updated + changes.deleted > 0
    });
    changed.map(|report| report.entity.clone()).collect()
}

/// The entities that may lack records which others refer to. A reconciliation doubts all of them.
fn doubtful(sync_type: SyncType, reports: &Reports) -> Option<Vec<EntityName>> {
    if sync_type == SyncType::Reconciliation {
        return None;
    }
    let fell_short = reports
        .values()
        .filter(|report| report.status != SyncStatus::Succeeded);
    Some(fell_short.map(|report| report.entity.clone()).collect())
}
