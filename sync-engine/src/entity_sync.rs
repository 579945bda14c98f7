//! The workflow of one entity: begin, pages, deletions, conclude; step by step.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sync_core::{SyncStatus, SyncType, proof::Generation};
use sync_workflow::{CallError, Context, Failure, FailureKind, RetryPolicy, Workflow};

use crate::{
    activities::{
        AwaitWriter, BeginEntity, BeginInput, Begun, ConcludeEntity, ConcludeInput,
        ConfirmDeletions, Deps, JoinInput, JudgeDeletions, Outcome, StepInput, StepOutput,
        SyncPages,
    },
    failure::StepFailure,
    key::EntityKey,
    report::EntityReport,
    state::Next,
};
use sync_workflow::Activity as _;

/// How often a walk begins anew because the manifest changed under it.
const MOST_RESTARTS: u32 = 20;
/// How often in a row a step waits for the source's budget: with waits of seconds to minutes, a day.
const MOST_WAITS: u32 = 5_000;

/// Syncs one entity. Registered by the engine; started by [`MainSyncOrchestrator`](crate::MainSyncOrchestrator).
pub struct EntitySync {
    deps: Arc<Deps>,
}

impl EntitySync {
    pub(crate) fn new(deps: Arc<Deps>) -> Self {
        Self { deps }
    }
}

impl std::fmt::Debug for EntitySync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntitySync").finish_non_exhaustive()
    }
}

/// Which entity, and how; later runs of the same sync go on where the one before stopped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EntityRequest {
    #[serde(flatten)]
    pub(crate) key: EntityKey,
    pub(crate) sync_type: SyncType,
    /// The walk whose deletions a person has approved, when only they are to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) approved: Option<Generation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<Progress>,
}

/// How far an entity's sync has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Progress {
    walk: String,
    step: i64,
    next: Next,
    restarts: u32,
}

impl Workflow for EntitySync {
    const NAME: &'static str = "entity-sync";
    type Input = EntityRequest;
    type Output = EntityReport;
    type Error = Failure;

    async fn run(&self, context: Context, request: EntityRequest) -> Result<EntityReport, Failure> {
        let EntityRequest {
            key,
            sync_type,
            approved,
            progress,
        } = request;
        let mut sync = Sync {
            retry: self.deps.options.retry.clone(),
            steps_per_run: self.deps.options.steps_per_run,
            progress: progress.unwrap_or_else(|| Progress {
                walk: String::new(),
                step: 0,
                next: Next::Pages,
                restarts: 0,
            }),
            context,
            key,
            sync_type,
            approved,
        };
        if sync.progress.walk.is_empty()
            && let Some(report) = sync.begin().await
        {
            return Ok(report);
        }
        Ok(sync.steps().await)
    }
}

/// A sync in the hands of its workflow.
struct Sync {
    context: Context,
    key: EntityKey,
    sync_type: SyncType,
    approved: Option<Generation>,
    retry: RetryPolicy,
    steps_per_run: u64,
    progress: Progress,
}

impl Sync {
    /// Makes this sync the entity's writer; a report when there is nothing left to do then.
    async fn begin(&mut self) -> Option<EntityReport> {
        self.progress.walk = format!("{}/{}", self.context.run_id(), self.progress.restarts);
        loop {
            let input = BeginInput {
                key: self.key.clone(),
                sync_type: self.sync_type,
                walk: self.progress.walk.clone(),
                approved: self.approved,
            };
            let begun = self
                .context
                .activity(BeginEntity::activity(), input)
                .retry(self.retry.clone());
            match begun.await {
                Ok(Begun::Started { next, step }) => {
                    (self.progress.next, self.progress.step) = (next, step);
                    return None;
                }
                Ok(Begun::Busy {
                    workflow_id,
                    sync_type,
                }) => match self.wait_for(workflow_id).await {
                    Ok(report) if self.is_answered_by(sync_type, &report) => {
                        return Some(report);
                    }
                    Ok(_of_less) => {}
                    Err(error) => return Some(self.ended(&error)),
                },
                Err(error) => return Some(self.ended(&error)),
            }
        }
    }

    /// Whether the outcome of a sync that was under way is that of this one as well.
    fn is_answered_by(&self, sync_type: SyncType, report: &EntityReport) -> bool {
        let was_stopped = report.status == SyncStatus::Cancelled;
        self.approved.is_none() && !was_stopped && covers(sync_type, self.sync_type)
    }

    /// Waits until the sync that is under way is over.
    async fn wait_for(&self, workflow_id: String) -> Result<EntityReport, CallError<StepFailure>> {
        let input = JoinInput {
            key: self.key.clone(),
            workflow_id,
        };
        loop {
            let waiting = self
                .context
                .activity(AwaitWriter::activity(), input.clone());
            if let Some(report) = waiting.retry(self.retry.clone()).await? {
                return Ok(report);
            }
        }
    }

    /// Takes step after step to the end.
    async fn steps(&mut self) -> EntityReport {
        let (mut taken, mut waits) = (0, 0);
        loop {
            if taken >= self.steps_per_run {
                return self.go_on().await;
            }
            taken += 1;
            match self.step().await {
                Ok(Some(StepOutput::Next(next))) => {
                    self.progress.step += 1;
                    self.progress.next = next;
                    waits = 0;
                }
                Ok(Some(StepOutput::Wait { milliseconds })) => {
                    waits += 1;
                    if waits > MOST_WAITS {
                        return self
                            .fail("the source's budget of requests stays used up".to_owned())
                            .await;
                    }
                    if self
                        .context
                        .sleep(Duration::from_millis(milliseconds.max(1)))
                        .await
                        .is_err()
                    {
                        return self.conclude(Outcome::Cancelled).await;
                    }
                }
                Ok(None) => return self.conclude(Outcome::Finished).await,
                Err(CallError::Failed(StepFailure::ManifestChanged))
                    if self.progress.restarts < MOST_RESTARTS =>
                {
                    self.progress.restarts += 1;
                    if let Some(report) = self.begin().await {
                        return report;
                    }
                }
                Err(error) if error.is_kind(FailureKind::Cancelled) => {
                    return self.conclude(Outcome::Cancelled).await;
                }
                Err(error @ CallError::Failed(StepFailure::Superseded)) => {
                    return self.ended(&error);
                }
                Err(error) => return self.fail(error.to_string()).await,
            }
        }
    }

    /// The next step; none when there is only the conclusion left.
    async fn step(&self) -> Result<Option<StepOutput>, CallError<StepFailure>> {
        let input = StepInput {
            key: self.key.clone(),
            walk: self.progress.walk.clone(),
            step: self.progress.step,
        };
        let retry = self.retry.clone();
        let step = match self.progress.next {
            Next::Pages => self.context.activity(SyncPages::activity(), input),
            Next::Judge => self.context.activity(JudgeDeletions::activity(), input),
            Next::Confirm => self.context.activity(ConfirmDeletions::activity(), input),
            Next::Conclude => return Ok(None),
        };
        step.retry(retry).await.map(Some)
    }

    async fn go_on(&self) -> EntityReport {
        let request = EntityRequest {
            key: self.key.clone(),
            sync_type: self.sync_type,
            approved: self.approved,
            progress: Some(self.progress.clone()),
        };
        self.context
            .continue_as_new(EntitySync::workflow(), request)
            .await
    }

    async fn fail(&self, reason: String) -> EntityReport {
        self.conclude(Outcome::Failed { reason }).await
    }

    /// Writes down how it ended, also when the run was cancelled.
    async fn conclude(&self, outcome: Outcome) -> EntityReport {
        let input = ConcludeInput {
            key: self.key.clone(),
            walk: self.progress.walk.clone(),
            outcome: outcome.clone(),
        };
        let shielded = self.context.shield();
        let concluded = shielded
            .activity(ConcludeEntity::activity(), input)
            .retry(self.retry.clone());
        match concluded.await {
            Ok(report) => report,
            Err(error) => {
                let before = match outcome {
                    Outcome::Failed { reason } => format!("{reason}; "),
                    Outcome::Finished | Outcome::Cancelled => String::new(),
                };
                self.report(SyncStatus::Failed, format!("{before}{error}"))
            }
        }
    }

    /// The report of a sync that has written nothing down.
    fn ended(&self, error: &CallError<StepFailure>) -> EntityReport {
        let status = if error.is_kind(FailureKind::Cancelled) {
            SyncStatus::Cancelled
        } else {
            SyncStatus::Failed
        };
        self.report(status, error.to_string())
    }

    fn report(&self, status: SyncStatus, reason: String) -> EntityReport {
        EntityReport::empty(self.key.entity.clone(), status, Some(reason))
    }
}

/// Whether the outcome of a sync answers for another one that was asked for while it ran.
fn covers(running: SyncType, asked: SyncType) -> bool {
    match (running, asked) {
        (SyncType::Reconciliation, _)
        | (SyncType::Full, SyncType::Full | SyncType::Delta)
        | (SyncType::Delta, SyncType::Delta) => true,
        (SyncType::Full, SyncType::Reconciliation)
        | (SyncType::Delta, SyncType::Full | SyncType::Reconciliation) => false,
    }
}
