//! Whose records: organisation, adapter, entity.

use std::fmt;

use serde::{Deserialize, Serialize};
use sync_core::{AdapterName, EntityName, OrgId};

/// The key of everything that belongs to one entity of one organisation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct EntityKey {
    pub(crate) org: OrgId,
    pub(crate) adapter: AdapterName,
    pub(crate) entity: EntityName,
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.org, self.adapter, self.entity)
    }
}
