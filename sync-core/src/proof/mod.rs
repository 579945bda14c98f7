//! Proof that records are gone at the source.
//!
//! That a walk did not meet a record says little: rows shift, pages fail, tokens lose scopes, filters are
//! ignored, totals are capped. A tombstone is therefore written only through a [`DeletionProof`], and only
//! [`DeletionProof::establish`] makes one, from the evidence of the walk, of the store, and of a
//! confirming read for each candidate. Everything else is a [`Refusal`]; the two that a person may
//! overrule need an [`Approval`].

mod evidence;
mod refusal;

use serde::{Deserialize, Serialize};

pub use self::{
    evidence::{Candidate, Confirmation, Generation, Scope, StoreEvidence, WalkEnd, WalkLog},
    refusal::{Approval, DeletionPolicy, Refusal},
};
use crate::names::ExternalId;

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
