//! How far syncs have come, read from the destination by any process.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_core::{EntityCounts, EntityName, SyncStatus, SyncType};

use crate::{
    error::Error,
    ledger::Writer,
    state::{EntityState, Next},
};

/// What an entity's sync is doing, or did last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// The list is walked.
    Walking,
    /// What the walk did not meet is weighed and confirmed.
    Deletions,
    /// It is being written down how the sync ended.
    Concluding,
    /// It is over.
    Over,
}

/// How far the latest sync of an entity has come. As of its last committed step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EntityProgress {
    /// The entity.
    pub entity: EntityName,
    /// What the sync set out to do.
    pub sync_type: SyncType,
    /// The id of its workflow.
    pub workflow_id: String,
    /// What it is doing.
    pub stage: Stage,
    /// How it ended; none while it runs.
    pub status: Option<SyncStatus>,
    /// Why, when it did not simply succeed.
    pub reason: Option<String>,
    /// What became of its records so far.
    pub counts: EntityCounts,
    /// Records at the source, when the source tells.
    pub total: Option<u64>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When its last step committed.
    pub updated_at: Option<Timestamp>,
}

impl EntityProgress {
    pub(crate) fn of(entity: EntityName, writer: &Writer) -> Result<Self, Error> {
        let state: EntityState = serde_json::from_str(&writer.state).map_err(Error::Unreadable)?;
        let status = writer
            .status
            .as_deref()
            .map(|status| serde_json::from_value(status.into()));
        let status = status.transpose().map_err(Error::Unreadable)?;
        let stage = match (status, state.next()) {
            (Some(_), _) => Stage::Over,
            (None, Next::Pages) => Stage::Walking,
            (None, Next::Judge | Next::Confirm) => Stage::Deletions,
            (None, Next::Conclude) => Stage::Concluding,
        };
        Ok(Self {
            entity,
            sync_type: state.sync_type,
            workflow_id: writer.workflow_id.clone(),
            stage,
            status,
            reason: writer.reason.clone(),
            counts: state.counts,
            total: state.walk.total,
            started_at: writer.started_at.parse().ok(),
            updated_at: writer.updated_at.parse().ok(),
        })
    }
}
