//! The idempotency keys of syncs.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::names::{AdapterName, EntityName, OrgId};

/// What a sync sets out to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncType {
    /// Reads everything.
    Full,
    /// Reads what changed since the cursor.
    Delta,
    /// Reads everything, compares hashes and finds deletions.
    Reconciliation,
}

impl SyncType {
    /// The name that keys use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Delta => "delta",
            Self::Reconciliation => "reconciliation",
        }
    }
}

impl fmt::Display for SyncType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no sync type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no sync type; there are full, delta and reconciliation")]
pub struct UnknownSyncType {
    /// The text.
    pub text: String,
}

impl FromStr for SyncType {
    type Err = UnknownSyncType;

    fn from_str(text: &str) -> Result<Self, UnknownSyncType> {
        let all = [Self::Full, Self::Delta, Self::Reconciliation];
        let found = all.into_iter().find(|sync_type| sync_type.as_str() == text);
        found.ok_or_else(|| UnknownSyncType {
            text: text.to_owned(),
        })
    }
}

/// A key under which at most one sync is open at a time.
///
/// ```
/// # use sync_core::{AdapterName, OrgId, SyncKey, SyncType};
/// let (org, adapter) = (OrgId::new("acme")?, AdapterName::new("pco")?);
/// let key = SyncKey::main(&org, &adapter, SyncType::Full);
/// assert_eq!(key.as_str(), "main-sync:acme:pco:full");
/// assert_eq!(key.run("2025-11-21"), "main-sync:acme:pco:full:2025-11-21");
/// # Ok::<(), sync_core::InvalidName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct SyncKey(String);

impl SyncKey {
    /// The key of a whole sync of one organisation.
    pub fn main(org: &OrgId, adapter: &AdapterName, sync_type: SyncType) -> Self {
        Self(format!("main-sync:{org}:{adapter}:{sync_type}"))
    }

    /// The key of the sync of one entity.
    pub fn entity(
        org: &OrgId,
        adapter: &AdapterName,
        entity: &EntityName,
        sync_type: SyncType,
    ) -> Self {
        Self(format!("entity-sync:{org}:{adapter}:{entity}:{sync_type}"))
    }

    /// The key that all writers of one entity share, whatever the sync type: one writer at a time.
    pub fn writer(org: &OrgId, adapter: &AdapterName, entity: &EntityName) -> Self {
        Self(format!("entity-writer:{org}:{adapter}:{entity}"))
    }

    /// The single-flight key itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of one run under this key, so that tonight's run is not last night's result.
    pub fn run(&self, run: impl fmt::Display) -> String {
        format!("{}:{run}", self.0)
    }
}

impl fmt::Display for SyncKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_key_names_all_its_parts() {
        let (org, adapter) = (
            OrgId::new("acme").unwrap(),
            AdapterName::new("pco").unwrap(),
        );
        let entity = EntityName::new("Person").unwrap();
        let key = SyncKey::entity(&org, &adapter, &entity, SyncType::Delta);
        assert_eq!(key.as_str(), "entity-sync:acme:pco:Person:delta");
    }

    #[test]
    fn sync_types_are_read_as_they_are_written() {
        assert_eq!("reconciliation".parse(), Ok(SyncType::Reconciliation));
        assert!("Full".parse::<SyncType>().is_err());
    }
}
