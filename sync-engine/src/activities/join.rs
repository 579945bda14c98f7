//! Step `await-writer`: waits for the sync that writes an entity already.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sync_core::SyncStatus;
use sync_workflow::{Activity, ActivityContext, RunError, Workflow as _, client as workflows};

use super::Shared;
use crate::{entity_sync::EntitySync, failure::StepFailure, key::EntityKey, report::EntityReport};

/// How long one attempt waits; the workflow asks again.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct AwaitWriter(pub(crate) Shared);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JoinInput {
    #[serde(flatten)]
    pub(crate) key: EntityKey,
    pub(crate) workflow_id: String,
}

impl Activity for AwaitWriter {
    const NAME: &'static str = "await-writer";
    type Input = JoinInput;
    /// None while it is still under way.
    type Output = Option<EntityReport>;
    type Error = StepFailure;

    async fn run(
        &self,
        context: ActivityContext,
        input: JoinInput,
    ) -> Result<Option<EntityReport>, StepFailure> {
        let client = self.0.client()?;
        let handle = match client
            .handle(EntitySync::workflow(), &input.workflow_id)
            .await
        {
            Ok(handle) => handle,
            Err(workflows::Error::NotFound) => {
                return Ok(Some(ended(&input, "its journal is gone")));
            }
            Err(error) => return Err(StepFailure::internal(&error)),
        };
        let result = tokio::select! {
            result = handle.result() => result,
            () = tokio::time::sleep(PATIENCE) => return Ok(None),
            () = context.cancelled() => return Ok(None),
        };
        match result {
            Ok(report) => Ok(Some(EntityReport {
                joined: Some(input.workflow_id),
                ..report
            })),
            // A parked run is still open, and a person looks at it.
            Err(RunError::Parked { .. }) => {
                tokio::time::sleep(PATIENCE).await;
                Ok(None)
            }
            Err(error @ RunError::Client(_)) => Err(StepFailure::internal(&error)),
            Err(error) => Ok(Some(ended(&input, &error.to_string()))),
        }
    }
}

/// A sync that was stopped answers for nobody else.
fn ended(input: &JoinInput, why: &str) -> EntityReport {
    let reason = format!("the sync that was under way ended: {why}");
    EntityReport {
        joined: Some(input.workflow_id.clone()),
        ..EntityReport::empty(
            input.key.entity.clone(),
            SyncStatus::Cancelled,
            Some(reason),
        )
    }
}
