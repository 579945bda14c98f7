//! The evidence: of the walk, of the store, of each candidate.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::names::{AdapterName, EntityName, ExternalId, OrgId};

/// The set of records that a walk covers and a deletion concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The organisation, as the connection says.
    pub org: OrgId,
    /// The adapter.
    pub adapter: AdapterName,
    /// The entity.
    pub entity: EntityName,
    /// What narrows the list: filters, token scopes. Empty for the whole list.
    pub narrowed_by: BTreeSet<String>,
}

/// The number of a walk. Every row that the walk meets is stamped with it: also an unchanged one, and one
/// whose new document was quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalkEnd {
    /// By the API's explicit signal.
    Explicit,
    /// Without one: at a cap, at a missing pointer, at a stalled token.
    Incomplete,
}

/// The record of one walk through a list, page by page; serialisable, so that it survives a restart.
///
/// A nested list has one list per parent: then [`WalkLog::parent_completed`] names each parent whose list
/// was walked to its explicit end, and only children of those can be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkLog {
    pub(super) scope: Scope,
    pub(super) generation: Generation,
    pub(super) nested: bool,
    pub(super) pages: u64,
    pub(super) failed_pages: u64,
    pub(super) unidentified: u64,
    pub(super) total_before: Option<u64>,
    pub(super) total_after: Option<u64>,
    pub(super) completed_parents: BTreeSet<ExternalId>,
    pub(super) end: Option<WalkEnd>,
}

impl WalkLog {
    /// A walk of one list that has not begun.
    pub fn of_list(scope: Scope, generation: Generation) -> Self {
        Self {
            scope,
            generation,
            nested: false,
            pages: 0,
            failed_pages: 0,
            unidentified: 0,
            total_before: None,
            total_after: None,
            completed_parents: BTreeSet::new(),
            end: None,
        }
    }

    /// A walk of the lists of many parents that has not begun.
    pub fn of_parents(scope: Scope, generation: Generation) -> Self {
        Self {
            nested: true,
            ..Self::of_list(scope, generation)
        }
    }

    /// A page was read and every row on it stamped. `unidentified` counts its documents without a readable
    /// id, `total` is the size of the list that the page told; of nested lists it is not used.
    pub fn page(&mut self, unidentified: u64, total: Option<u64>) {
        self.pages += 1;
        self.unidentified += unidentified;
        self.total_before = self.total_before.or(total);
        self.total_after = total.or(self.total_after);
    }

    /// A page could not be read, or was skipped.
    pub fn page_failed(&mut self) {
        self.failed_pages += 1;
    }

    /// The list of this parent was walked without a failure to its explicit end; or the parent's own
    /// deletion is proved, so that it has no list any more.
    pub fn parent_completed(&mut self, parent: ExternalId) {
        self.completed_parents.insert(parent);
    }

    /// The whole walk ended.
    pub fn ended(&mut self, end: WalkEnd) {
        self.end = Some(end);
    }

    /// The walk's number.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What the walk covers.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// What the store says after the walk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreEvidence {
    /// What the stored rows cover.
    pub scope: Scope,
    /// Rows without a tombstone before the walk.
    pub live_before: u64,
    /// Rows that now bear the walk's generation.
    pub stamped: u64,
    /// Documents with an id that this walk quarantined, which may have no row to stamp.
    pub quarantined: u64,
}

/// What a confirming read said of a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// The source has no such record.
    NotFound,
    /// The source says that it was merged into another: no deletion.
    MergedInto(ExternalId),
    /// The source sent an event of its destruction.
    Destroyed,
    /// The source still has it; the walk missed it.
    StillThere,
    /// The answer says nothing: refused, limited, unavailable.
    Unknown,
    /// The API has no way to read one record.
    NotAskable,
}

/// A live row that the walk did not meet, and that nothing else wrote since the walk began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The record.
    pub id: ExternalId,
    /// The parent that it was listed under, for nested lists.
    pub parent: Option<ExternalId>,
    /// What the source says of it.
    pub confirmation: Confirmation,
}
