//! Where the sync of one entity stands: what its row in `entity_syncs` holds between two steps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_core::{
    AdapterName, EntityCounts, ExternalId, SyncStatus, SyncType,
    proof::{Generation, Scope, WalkEnd, WalkLog},
};

use crate::{key::EntityKey, walk::Walk};

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Next {
    /// More pages.
    Pages,
    /// To weigh what the walk did not meet.
    Judge,
    /// To ask the source for records that the walk did not meet.
    Confirm,
    /// To write down how it ended.
    Conclude,
}

/// The state of an entity's sync.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EntityState {
    pub(crate) phase: Phase,
    pub(crate) sync_type: SyncType,
    pub(crate) walk: Walk,
    /// The number of the walk, when it stamps what it meets.
    pub(crate) generation: Option<Generation>,
    pub(crate) counts: EntityCounts,
    /// Up to when deltas had read, when a reconciliation began.
    pub(crate) deltas_until: Option<Timestamp>,
    /// The size of the list after the walk, when the source tells.
    #[serde(default)]
    pub(crate) total_after: Option<u64>,
    /// Whether a person has approved the deletions that this walk found.
    #[serde(default)]
    pub(crate) approved: bool,
    /// Why deletions were not made, when there were some to make.
    pub(crate) refusal: Option<String>,
    /// Deletions that wait for a person.
    pub(crate) pending: u64,
    /// Candidates for deletion that stay because the source did not say that they are gone.
    pub(crate) unconfirmed: u64,
}

/// The parts of an entity's sync, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// The list is walked.
    Walking,
    /// The walk is over; deletions may follow.
    Judging,
    /// Candidates are confirmed, in the order of their ids.
    Confirming { after: Option<ExternalId> },
    /// Nothing is left to do.
    Concluding,
}

impl EntityState {
    pub(crate) fn next(&self) -> Next {
        match self.phase {
            Phase::Walking => Next::Pages,
            Phase::Judging => Next::Judge,
            Phase::Confirming { .. } => Next::Confirm,
            Phase::Concluding => Next::Conclude,
        }
    }

    /// What the walk proves.
    pub(crate) fn log(&self, key: &EntityKey, generation: Generation, is_nested: bool) -> WalkLog {
        let scope = scope(key);
        let mut log = if is_nested {
            WalkLog::of_parents(scope, generation)
        } else {
            WalkLog::of_list(scope, generation)
        };
        if self.walk.pages > 0 {
            log.page(self.walk.unidentified, self.walk.total);
            log.page(0, self.total_after);
        }
        for _ in 0..self.walk.failed_lists.min(1) {
            log.page_failed();
        }
        let is_explicit = self.walk.end() == Some(&crate::walk::End::Complete);
        log.ended(if is_explicit {
            WalkEnd::Explicit
        } else {
            WalkEnd::Incomplete
        });
        log
    }

    /// How the sync stands, if it ends here without a failure.
    pub(crate) fn status(&self) -> (SyncStatus, Option<String>) {
        if let Some(shortfall) = self.walk.shortfall() {
            return (SyncStatus::Partial, Some(shortfall));
        }
        if self.pending > 0 {
            let refusal = self.refusal.as_deref().unwrap_or_default();
            let reason = format!("deletions wait for approval: {refusal}");
            return (SyncStatus::SucceededWithQuarantine, Some(reason));
        }
        if let Some(refusal) = &self.refusal {
            return (
                SyncStatus::Partial,
                Some(format!("deletions are not proved: {refusal}")),
            );
        }
        if self.unconfirmed > 0 {
            let reason = format!(
                "{} records were not met, and their deletion not confirmed",
                self.unconfirmed
            );
            return (SyncStatus::Partial, Some(reason));
        }
        if self.counts.changes.quarantined > 0 {
            let reason = format!(
                "{} documents are in quarantine",
                self.counts.changes.quarantined
            );
            return (SyncStatus::SucceededWithQuarantine, Some(reason));
        }
        (SyncStatus::Succeeded, None)
    }
}

/// The whole of an entity's records in one organisation.
pub(crate) fn scope(key: &EntityKey) -> Scope {
    let adapter: &AdapterName = &key.adapter;
    Scope {
        org: key.org.clone(),
        adapter: adapter.clone(),
        entity: key.entity.clone(),
        narrowed_by: std::collections::BTreeSet::new(),
    }
}
