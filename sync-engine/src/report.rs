//! What a sync tells when it is over.

use serde::{Deserialize, Serialize};
use sync_core::{AdapterName, EntityCounts, EntityName, OrgId, SyncStatus, SyncType};

/// How one entity's sync ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EntityReport {
    /// The entity.
    pub entity: EntityName,
    /// How it ended.
    pub status: SyncStatus,
    /// Why, when it did not simply succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What became of its records.
    #[serde(flatten)]
    pub counts: EntityCounts,
    /// How long it took.
    pub seconds: f64,
    /// Records that a reconciliation found changed although deltas had passed over their timestamps.
    #[serde(default)]
    pub stale: u64,
    /// Deletions that wait for a person.
    #[serde(default)]
    pub pending_deletions: u64,
    /// The workflow id of the sync that was under way already, and whose outcome this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<String>,
}

impl EntityReport {
    pub(crate) fn empty(entity: EntityName, status: SyncStatus, reason: Option<String>) -> Self {
        Self {
            entity,
            status,
            reason,
            counts: EntityCounts::default(),
            seconds: 0.0,
            stale: 0,
            pending_deletions: 0,
            joined: None,
        }
    }
}

/// References of one column to records that are not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnresolvedReferences {
    /// The entity that has the column.
    pub entity: EntityName,
    /// The column.
    pub column: String,
    /// The entity that it points at.
    pub target: EntityName,
    /// Rows whose reference leads nowhere.
    pub rows: u64,
}

/// How a whole sync ended: the worst of its entities, and each of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunReport {
    /// The organisation.
    pub org: OrgId,
    /// The adapter.
    pub adapter: AdapterName,
    /// What it set out to do.
    pub sync_type: SyncType,
    /// The worst status of its entities.
    pub status: SyncStatus,
    /// The entities, in the order of their dependencies.
    pub entities: Vec<EntityReport>,
    /// References that lead nowhere.
    pub unresolved: Vec<UnresolvedReferences>,
    /// What a person should know although it stopped nothing.
    pub warnings: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl RunReport {
    /// The report of one entity.
    #[must_use]
    pub fn entity(&self, name: &str) -> Option<&EntityReport> {
        self.entities
            .iter()
            .find(|report| report.entity.as_str() == name)
    }

    /// The counts of all entities together.
    #[must_use]
    pub fn totals(&self) -> EntityCounts {
        self.entities.iter().map(|report| report.counts).sum()
    }
}
