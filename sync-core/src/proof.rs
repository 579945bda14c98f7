//! Proof that records are gone at the source.
//!
//! That a walk did not meet a record says little: rows shift, pages fail, tokens lose scopes, filters are
//! ignored, totals are capped. A tombstone is therefore written only through a [`DeletionProof`], and only
//! [`DeletionProof::establish`] makes one, from the evidence of the walk, of the store, and of a
//! confirming read for each candidate. Everything else is a [`Refusal`]; the two that a person may
//! overrule need an [`Approval`].

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
    scope: Scope,
    generation: Generation,
    nested: bool,
    pages: u64,
    failed_pages: u64,
    unidentified: u64,
    total_before: Option<u64>,
    total_after: Option<u64>,
    completed_parents: BTreeSet<ExternalId>,
    end: Option<WalkEnd>,
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

/// Why one candidate stays although others go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SpareReason {
    /// The source still has it.
    StillThere,
    /// The source did not say.
    Unconfirmed,
    /// Its parent's list was not walked to the end.
    UnwalkedParent,
}

/// Proof that records are gone at the source. There is no other way to make one than
/// [`DeletionProof::establish`].
///
/// ```
/// # use std::collections::BTreeSet;
/// # use sync_core::{AdapterName, EntityName, ExternalId, OrgId, proof::*};
/// # let scope = Scope { org: OrgId::new("acme")?, adapter: AdapterName::new("pco")?,
/// #     entity: EntityName::new("Person")?, narrowed_by: BTreeSet::new() };
/// let mut walk = WalkLog::of_list(scope.clone(), Generation(7));
/// walk.page(0, Some(99));
/// walk.ended(WalkEnd::Explicit);
/// let store = StoreEvidence { scope, live_before: 100, stamped: 99, quarantined: 0 };
/// let gone = Candidate {
///     id: ExternalId::new("42")?,
///     parent: None,
///     confirmation: Confirmation::NotFound,
/// };
/// let proof = DeletionProof::establish(&walk, &store, vec![gone], &DeletionPolicy::default(), None)?;
/// assert_eq!(proof.deletions()[0].as_str(), "42");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletionProof {
    scope: Scope,
    generation: Generation,
    deletions: Vec<ExternalId>,
    merges: Vec<(ExternalId, ExternalId)>,
    spared: Vec<(ExternalId, SpareReason)>,
    approved_by: Option<String>,
}

impl DeletionProof {
    /// Weighs the evidence.
    ///
    /// # Errors
    /// The first reason to refuse, the unapprovable ones first. Candidates then go to quarantine.
    pub fn establish(
        walk: &WalkLog,
        store: &StoreEvidence,
        candidates: Vec<Candidate>,
        policy: &DeletionPolicy,
        approval: Option<&Approval>,
    ) -> Result<Self, Refusal> {
        check_walk(walk)?;
        check_scope(walk, store)?;
        check_counts(walk, store, policy)?;
        let approval = approval.filter(|approval| {
            approval.generation == walk.generation && approval.candidates >= candidates.len() as u64
        });
        if let (Err(refusal), None) = (
            check_extent(store, candidates.len() as u64, policy),
            approval,
        ) {
            return Err(refusal);
        }
        let mut proof = Self {
            scope: walk.scope.clone(),
            generation: walk.generation,
            deletions: Vec::new(),
            merges: Vec::new(),
            spared: Vec::new(),
            approved_by: approval.map(|approval| approval.by.clone()),
        };
        for candidate in candidates {
            proof.weigh(candidate, walk, policy);
        }
        Ok(proof)
    }

    /// What the proof speaks of.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The walk's number: a row that bears it, or a later one, is not gone.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The records that are gone.
    pub fn deletions(&self) -> &[ExternalId] {
        &self.deletions
    }

    /// The records that were merged, each with the one that it lives on in. Their children stay.
    pub fn merges(&self) -> &[(ExternalId, ExternalId)] {
        &self.merges
    }

    /// The candidates that stay, and why.
    pub fn spared(&self) -> &[(ExternalId, SpareReason)] {
        &self.spared
    }

    /// The person who overruled a refusal, if one did.
    pub fn approved_by(&self) -> Option<&str> {
        self.approved_by.as_deref()
    }

    fn weigh(&mut self, candidate: Candidate, walk: &WalkLog, policy: &DeletionPolicy) {
        let Candidate {
            id,
            parent,
            confirmation,
        } = candidate;
        let walked = |parent| walk.completed_parents.contains(parent);
        if walk.nested && !parent.as_ref().is_some_and(walked) {
            return self.spared.push((id, SpareReason::UnwalkedParent));
        }
        match confirmation {
            Confirmation::NotFound | Confirmation::Destroyed => self.deletions.push(id),
            Confirmation::MergedInto(survivor) => self.merges.push((id, survivor)),
            Confirmation::StillThere => self.spared.push((id, SpareReason::StillThere)),
            Confirmation::NotAskable if !policy.needs_confirmation => self.deletions.push(id),
            Confirmation::NotAskable | Confirmation::Unknown => {
                self.spared.push((id, SpareReason::Unconfirmed));
            }
        }
    }
}

fn check_walk(walk: &WalkLog) -> Result<(), Refusal> {
    if walk.end != Some(WalkEnd::Explicit) {
        return Err(Refusal::NotEnded);
    }
    // A failed page of a nested list leaves its parent out of the completed ones; that is enough.
    if walk.failed_pages > 0 && !walk.nested {
        return Err(Refusal::FailedPages {
            pages: walk.failed_pages,
        });
    }
    if walk.pages == 0 {
        return Err(Refusal::NoPages);
    }
    if walk.unidentified > 0 {
        return Err(Refusal::Unidentified {
            documents: walk.unidentified,
        });
    }
    Ok(())
}

fn check_scope(walk: &WalkLog, store: &StoreEvidence) -> Result<(), Refusal> {
    if walk.scope == store.scope {
        Ok(())
    } else {
        Err(Refusal::OtherScope)
    }
}

fn check_counts(
    walk: &WalkLog,
    store: &StoreEvidence,
    policy: &DeletionPolicy,
) -> Result<(), Refusal> {
    if walk.nested {
        return Ok(());
    }
    let totals = [walk.total_before, walk.total_after];
    if policy.needs_totals && totals.contains(&None) {
        return Err(Refusal::NoTotal);
    }
    for total in totals.into_iter().flatten() {
        let share = total.saturating_mul(u64::from(policy.count_tolerance_permille)) / 1_000;
        let tolerance = share.max(policy.count_tolerance);
        let most = total.saturating_add(tolerance);
        let met = store.stamped;
        // A quarantined document may have a row or not.
        let too_few = met
            .saturating_add(store.quarantined)
            .saturating_add(tolerance)
            < total;
        if too_few || met > most {
            return Err(Refusal::CountsDiffer { met, total });
        }
    }
    Ok(())
}

fn check_extent(
    store: &StoreEvidence,
    candidates: u64,
    policy: &DeletionPolicy,
) -> Result<(), Refusal> {
    let live = store.live_before;
    if candidates > 0 && store.stamped == 0 {
        return Err(Refusal::EmptyAnswer { live });
    }
    let percent = u128::from(candidates) * 100;
    let allowed = u128::from(live) * u128::from(policy.max_percent);
    if candidates > policy.always_allowed && percent > allowed {
        return Err(Refusal::TooMany { candidates, live });
    }
    Ok(())
}
