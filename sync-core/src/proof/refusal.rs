//! What it takes to be believed, why it may not be, and who may overrule that.

use serde::{Deserialize, Serialize};

use super::Generation;

/// What it takes to believe that records are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionPolicy {
    /// Candidates up to this number need no approval, whatever their share.
    pub always_allowed: u64,
    /// The greatest share of the live rows, in percent, that may go without approval.
    pub max_percent: u8,
    /// By how many rows the counts may differ: the source lives on during the walk.
    pub count_tolerance: u64,
    /// The same in rows per thousand; the greater of both counts.
    pub count_tolerance_permille: u16,
    /// Whether the list tells its total, so that a walk without one proves nothing.
    pub needs_totals: bool,
    /// Whether each candidate can be read by its id, so that one without a confirmation stays.
    pub needs_confirmation: bool,
}

impl Default for DeletionPolicy {
    /// Ten rows or a tenth; counts within two rows or one in a thousand; totals and confirmations needed.
    fn default() -> Self {
        Self {
            always_allowed: 10,
            max_percent: 10,
            count_tolerance: 2,
            count_tolerance_permille: 1,
            needs_totals: true,
            needs_confirmation: true,
        }
    }
}

/// A person's word that so many deletions are right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The walk that it speaks of, and no other.
    pub generation: Generation,
    /// How many candidates the person saw; more need a new approval.
    pub candidates: u64,
    /// Who.
    pub by: String,
    /// When.
    pub at: jiff::Timestamp,
}

/// Why nothing may be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// The walk has not ended, or not by an explicit signal. Walk again.
    #[error("the walk did not end by an explicit signal")]
    NotEnded,
    /// Pages failed. Walk again.
    #[error("{pages} pages of the walk failed")]
    FailedPages {
        /// How many.
        pages: u64,
    },
    /// The walk read no page at all.
    #[error("the walk read no page")]
    NoPages,
    /// Documents without a readable id could be any of the candidates.
    #[error("{documents} documents had no readable id")]
    Unidentified {
        /// How many.
        documents: u64,
    },
    /// The walk and the stored rows cover different sets.
    #[error("the walk covers another scope than the stored rows")]
    OtherScope,
    /// The list told no total, though it can.
    #[error("the list told no total")]
    NoTotal,
    /// The rows met are not as many as the list said.
    #[error("the walk met {met} rows, but the list told {total}")]
    CountsDiffer {
        /// Rows met.
        met: u64,
        /// The total that the list told.
        total: u64,
    },
    /// Nothing came, though rows are stored. A person may approve.
    #[error("the answer was empty, though {live} rows are stored")]
    EmptyAnswer {
        /// Stored rows.
        live: u64,
    },
    /// More would go than is usual. A person may approve.
    #[error("{candidates} of {live} rows would be deleted")]
    TooMany {
        /// Rows that would go.
        candidates: u64,
        /// Stored rows.
        live: u64,
    },
}

impl Refusal {
    /// Whether a person's approval can overrule it. A walk that proves nothing cannot be approved.
    pub fn is_approvable(&self) -> bool {
        match self {
            Self::EmptyAnswer { .. } | Self::TooMany { .. } => true,
            Self::NotEnded
            | Self::FailedPages { .. }
            | Self::NoPages
            | Self::Unidentified { .. }
            | Self::OtherScope
            | Self::NoTotal
            | Self::CountsDiffer { .. } => false,
        }
    }
}
