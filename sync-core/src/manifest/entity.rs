//! One entity of a manifest.

use serde::{Deserialize, Serialize};

use super::{
    CursorSpec, Deletes, DeltaMethod, Direction, Endpoints, FullWalk, Pagination, ParentWalk,
};
use crate::{
    mapping::Mapping,
    names::EntityName,
    schema::{Schema, Strength},
};

/// A dependency that no foreign key shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// The entity that comes first.
    pub entity: EntityName,
    /// How strongly it is needed.
    pub strength: Strength,
    /// Why, for the people who read the graph.
    pub why: String,
}

/// One kind of record that an API offers, and all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// Its name in this system.
    pub name: EntityName,
    /// A disabled entity is not synced.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub enabled: bool,
    /// The API's own name of the type, as its documents spell it.
    pub record_type: String,
    /// Other names that the API's documents use for the same type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The canonical columns.
    pub schema: Schema,
    /// How an API document becomes the canonical columns.
    pub mapping: Mapping,
    /// The calls.
    pub endpoints: Endpoints,
    /// How the list is walked.
    pub pagination: Pagination,
    /// How a full walk goes through the list.
    #[serde(default)]
    pub full_walk: FullWalk,
    /// How changes are followed, when they can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<CursorSpec>,
    /// How deletions are found.
    #[serde(default)]
    pub deletes: Deletes,
    /// The parent whose records each have a list of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentWalk>,
    /// Dependencies that no foreign key shows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
}

impl Entity {
    /// What a delta of this entity does.
    pub fn delta_method(&self) -> DeltaMethod {
        let Some(cursor) = &self.cursor else {
            return DeltaMethod::HashCompare;
        };
        match (&cursor.filter, cursor.direction()) {
            (Some(_), _) => DeltaMethod::Filtered,
            (None, Some(Direction::Desc)) => DeltaMethod::DescendingToWatermark,
            (None, Some(Direction::Asc) | None) => DeltaMethod::HashCompare,
        }
    }

    /// Whether the API's documents may call this entity so.
    pub fn is_called(&self, record_type: &str) -> bool {
        self.record_type == record_type || self.aliases.iter().any(|alias| alias == record_type)
    }
}

fn yes() -> bool {
    true
}
