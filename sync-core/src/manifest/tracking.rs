//! How an entity's changes and deletions can be seen from outside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{ColumnName, EntityName};

/// How a filter compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterOp {
    /// Strictly after: records at the instant itself would be missed, so that a request names the instant
    /// one granule before.
    Gt,
    /// At or after.
    Gte,
}

/// How a filter writes an instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// `2025-03-20T12:00:00Z`, with as many fractional digits as the granularity needs.
    #[default]
    Rfc3339,
    /// Whole seconds since 1970.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMillis,
}

/// The query parameter that keeps only records changed since an instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CursorFilter {
    /// The query parameter, such as `where[updated_at][gte]`.
    pub param: String,
    /// How it compares.
    pub op: FilterOp,
    /// How it writes the instant.
    #[serde(default)]
    pub format: TimeFormat,
}

/// The order in which a list can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Oldest change first.
    Asc,
    /// Newest change first.
    Desc,
}

/// The query parameter that orders a list by the cursor's column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sort {
    /// Which way.
    pub direction: Direction,
    /// The query parameter, such as `order`.
    pub param: String,
    /// Its value, such as `updated_at` or `-updated_at`.
    pub value: String,
}

/// The finest step of the source's timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// A thousandth of a second.
    Millisecond,
    /// A second.
    Second,
    /// A day.
    Day,
}

impl Granularity {
    /// One step.
    pub fn step(self) -> jiff::SignedDuration {
        match self {
            Self::Millisecond => jiff::SignedDuration::from_millis(1),
            Self::Second => jiff::SignedDuration::from_secs(1),
            Self::Day => jiff::SignedDuration::from_hours(24),
        }
    }
}

/// What an entity offers to read only what changed.
///
/// A claim to probe, not to believe: APIs ignore filters and orders that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CursorSpec {
    /// The canonical timestamp column that changes are followed by.
    pub field: ColumnName,
    /// The filter by it, when the API has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<CursorFilter>,
    /// The order by it, when the API has one. Without, the order is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
    /// The finest step of the column.
    pub granularity: Granularity,
    /// How far before the cursor each delta begins to read, for late commits and skewed clocks.
    pub overlap_seconds: u32,
}

impl CursorSpec {
    /// Whether the list can be walked as a keyset: filtered from an instant, oldest first.
    pub fn is_keyset(&self) -> bool {
        self.filter.is_some() && self.direction() == Some(Direction::Asc)
    }

    /// The order that the list is asked for, if it can be.
    pub fn direction(&self) -> Option<Direction> {
        self.sort.as_ref().map(|sort| sort.direction)
    }

    /// The overlap as a duration.
    pub fn overlap(&self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_secs(i64::from(self.overlap_seconds))
    }
}

/// How a full walk goes through the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FullWalk {
    /// Page after page in the API's own order.
    #[default]
    Pages,
    /// Oldest change first, in windows of at most `max_window` rows, each beginning at the newest instant
    /// seen. Every page begins with the last row of the one before, so that rows that move are noticed.
    Keyset,
}

/// What a delta does when it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeltaMethod {
    /// Asks only for records changed since the cursor.
    Filtered,
    /// Reads newest first and stops at the cursor.
    DescendingToWatermark,
    /// Reads everything; the content hash finds what changed.
    HashCompare,
}

/// How deletions at the source can be found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Deletes {
    /// They cannot.
    #[default]
    None,
    /// Only the API's webhooks tell.
    Webhook,
    /// A complete walk by an immutable order, ids only, then a confirming read of each missing record.
    Audit {
        /// Query parameters of the walk: its order, and what shrinks its rows.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        query: BTreeMap<String, String>,
    },
    /// What a complete list (of each walked parent) no longer holds is gone.
    ListReplace,
    /// A column of the record says so.
    ArchivedFlag {
        /// A boolean, or a timestamp that is set once the record is archived.
        column: ColumnName,
    },
    /// Another entity lists what was deleted or merged.
    Log {
        /// That entity.
        entity: EntityName,
    },
}

/// The list of an entity exists only under each record of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParentWalk {
    /// The parent entity.
    pub entity: EntityName,
    /// The placeholder in the list's path that takes the parent's external id.
    pub path_param: String,
}
