use std::collections::BTreeSet;

use proptest::prelude::*;
use sync_core::{
    AdapterName, EntityName, ExternalId, OrgId,
    proof::{
        Approval, Candidate, Confirmation, DeletionPolicy, DeletionProof, Generation, Refusal,
        Scope, SpareReason, StoreEvidence, WalkEnd, WalkLog,
    },
};

fn scope() -> Scope {
    Scope {
        org: OrgId::new("acme").unwrap(),
        adapter: AdapterName::new("pco").unwrap(),
        entity: EntityName::new("Person").unwrap(),
        narrowed_by: BTreeSet::new(),
    }
}

fn walk(total: u64) -> WalkLog {
    let mut walk = WalkLog::of_list(scope(), Generation(7));
    walk.page(0, Some(total));
    walk.ended(WalkEnd::Explicit);
    walk
}

fn store(live_before: u64, stamped: u64) -> StoreEvidence {
    StoreEvidence {
        scope: scope(),
        live_before,
        stamped,
        quarantined: 0,
    }
}

fn candidates(count: u64, confirmation: &Confirmation) -> Vec<Candidate> {
    let candidate = |id: u64| Candidate {
        id: id.into(),
        parent: None,
        confirmation: confirmation.clone(),
    };
    (1..=count).map(candidate).collect()
}

fn check(walk: &WalkLog, store: &StoreEvidence, gone: u64) -> Result<DeletionProof, Refusal> {
    let candidates = candidates(gone, &Confirmation::NotFound);
    DeletionProof::establish(walk, store, candidates, &DeletionPolicy::default(), None)
}

#[test]
fn a_complete_walk_with_confirmed_candidates_is_proof() {
    let proof = check(&walk(98), &store(100, 98), 2).unwrap();
    assert_eq!(proof.deletions().len(), 2);
    assert_eq!(proof.generation(), Generation(7));
    assert_eq!(proof.scope(), &scope());
}

#[test]
fn a_walk_that_did_not_end_by_a_signal_proves_nothing() {
    let mut open = WalkLog::of_list(scope(), Generation(7));
    open.page(0, Some(98));
    assert_eq!(check(&open, &store(100, 98), 2), Err(Refusal::NotEnded));
    open.ended(WalkEnd::Incomplete);
    assert_eq!(check(&open, &store(100, 98), 2), Err(Refusal::NotEnded));
}

#[test]
fn a_failed_page_or_a_document_without_id_proves_nothing() {
    let mut failed = walk(98);
    failed.page_failed();
    assert_eq!(
        check(&failed, &store(100, 98), 2),
        Err(Refusal::FailedPages { pages: 1 })
    );
    let mut unidentified = walk(98);
    unidentified.page(1, Some(98));
    let refusal = check(&unidentified, &store(100, 98), 2);
    assert_eq!(refusal, Err(Refusal::Unidentified { documents: 1 }));
}

#[test]
fn a_narrower_walk_proves_nothing_about_the_whole() {
    let mut narrow = scope();
    narrow.narrowed_by.insert("where[status]=active".to_owned());
    let mut walk = WalkLog::of_list(narrow, Generation(7));
    walk.page(0, Some(98));
    walk.ended(WalkEnd::Explicit);
    assert_eq!(check(&walk, &store(100, 98), 2), Err(Refusal::OtherScope));
}

#[test]
fn counts_that_differ_before_or_after_prove_nothing() {
    let refusal = Err(Refusal::CountsDiffer {
        met: 98,
        total: 120,
    });
    assert_eq!(check(&walk(120), &store(100, 98), 2), refusal);
    let mut grown = walk(98);
    grown.page(0, Some(120));
    assert_eq!(check(&grown, &store(100, 98), 2), refusal);
    assert!(
        check(&walk(99), &store(100, 98), 2).is_ok(),
        "one row may come during the walk"
    );
}

#[test]
fn a_list_that_can_tell_its_total_must_tell_it() {
    let mut silent = WalkLog::of_list(scope(), Generation(7));
    silent.page(0, None);
    silent.ended(WalkEnd::Explicit);
    assert_eq!(check(&silent, &store(100, 98), 2), Err(Refusal::NoTotal));
}

#[test]
fn an_empty_answer_needs_a_person() {
    let refusal = check(&walk(0), &store(3, 0), 3).unwrap_err();
    assert_eq!(refusal, Refusal::EmptyAnswer { live: 3 });
    assert!(refusal.is_approvable());
}

#[test]
fn too_many_candidates_need_a_person_who_saw_as_many() {
    let (walk, store) = (walk(80), store(100, 80));
    let refusal = check(&walk, &store, 20).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::TooMany {
            candidates: 20,
            live: 100
        }
    );
    let approve = |generation, candidates| Approval {
        generation: Generation(generation),
        candidates,
        by: "ada".to_owned(),
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    let policy = DeletionPolicy::default();
    let with = |approval: Approval| {
        let gone = candidates(20, &Confirmation::NotFound);
        DeletionProof::establish(&walk, &store, gone, &policy, Some(&approval))
    };
    assert_eq!(with(approve(7, 20)).unwrap().approved_by(), Some("ada"));
    assert_eq!(
        with(approve(6, 20)),
        Err(refusal.clone()),
        "of another walk"
    );
    assert_eq!(with(approve(7, 19)), Err(refusal), "of fewer candidates");
}

#[test]
fn only_what_the_source_confirms_goes_and_a_merge_is_no_deletion() {
    let survivor = ExternalId::from(9_u64);
    let confirmations = [
        Confirmation::NotFound,
        Confirmation::Destroyed,
        Confirmation::MergedInto(survivor.clone()),
        Confirmation::StillThere,
        Confirmation::Unknown,
        Confirmation::NotAskable,
    ];
    let candidates = confirmations
        .into_iter()
        .zip(1_u64..)
        .map(|(confirmation, id)| Candidate {
            id: id.into(),
            parent: None,
            confirmation,
        });
    let policy = DeletionPolicy::default();
    let proof = DeletionProof::establish(
        &walk(94),
        &store(100, 94),
        candidates.collect(),
        &policy,
        None,
    )
    .unwrap();
    assert_eq!(
        proof.deletions(),
        [ExternalId::from(1_u64), ExternalId::from(2_u64)]
    );
    assert_eq!(proof.merges(), [(ExternalId::from(3_u64), survivor)]);
    let spared: Vec<SpareReason> = proof.spared().iter().map(|(_, reason)| *reason).collect();
    let unconfirmed = SpareReason::Unconfirmed;
    assert_eq!(spared, [SpareReason::StillThere, unconfirmed, unconfirmed]);
}

#[test]
fn a_child_of_an_unwalked_parent_stays() {
    let mut walk = WalkLog::of_parents(scope(), Generation(7));
    walk.page(0, None);
    walk.page_failed();
    walk.parent_completed(ExternalId::from(1_u64));
    walk.ended(WalkEnd::Explicit);
    let child = |id: u64, parent: Option<u64>| Candidate {
        id: id.into(),
        parent: parent.map(ExternalId::from),
        confirmation: Confirmation::NotAskable,
    };
    let policy = DeletionPolicy {
        needs_confirmation: false,
        ..DeletionPolicy::default()
    };
    let children = vec![child(10, Some(1)), child(11, Some(2)), child(12, None)];
    let proof = DeletionProof::establish(&walk, &store(100, 97), children, &policy, None).unwrap();
    assert_eq!(proof.deletions(), [ExternalId::from(10_u64)]);
    assert_eq!(proof.spared().len(), 2);
}

fn any_confirmation() -> impl Strategy<Value = Confirmation> {
    prop_oneof![
        Just(Confirmation::NotFound),
        Just(Confirmation::Destroyed),
        Just(Confirmation::MergedInto(ExternalId::from(1_u64))),
        Just(Confirmation::StillThere),
        Just(Confirmation::Unknown),
        Just(Confirmation::NotAskable),
    ]
}

proptest! {
    /// Whatever the evidence: where there is a proof, each demand holds, told in other words than the code's.
    #[test]
    fn a_proof_without_approval_meets_every_demand(
        live in 0..200_u64,
        stamped in 0..200_u64,
        totals in prop::collection::vec(prop::option::of(0..200_u64), 0..3),
        unidentified in 0..2_u64,
        failed in 0..2_u8,
        end in prop::option::of(any::<bool>()),
        confirmations in prop::collection::vec(any_confirmation(), 0..60),
    ) {
        let mut walk = WalkLog::of_list(scope(), Generation(7));
        totals.iter().for_each(|total| walk.page(unidentified, *total));
        (0..failed).for_each(|_| walk.page_failed());
        if let Some(explicit) = end {
            walk.ended(if explicit { WalkEnd::Explicit } else { WalkEnd::Incomplete });
        }
        let candidates: Vec<Candidate> = confirmations
            .iter()
            .cloned()
            .zip(1_u64..)
            .map(|(confirmation, id)| Candidate { id: id.into(), parent: None, confirmation })
            .collect();
        let policy = DeletionPolicy::default();
        let store = store(live, stamped);
        let Ok(proof) = DeletionProof::establish(&walk, &store, candidates.clone(), &policy, None) else {
            return Ok(());
        };
        prop_assert_eq!(end, Some(true));
        prop_assert_eq!((failed, unidentified), (0, 0));
        let told: Vec<u64> = totals.into_iter().flatten().collect();
        prop_assert!(!told.is_empty());
        prop_assert!(told.first().unwrap().abs_diff(stamped) <= 2);
        prop_assert!(told.last().unwrap().abs_diff(stamped) <= 2);
        let few = candidates.len() <= 10 || candidates.len() as u64 * 10 <= live;
        prop_assert!(few && (stamped > 0 || candidates.is_empty()));
        let gone = |it: &&Confirmation| matches!(it, Confirmation::NotFound | Confirmation::Destroyed);
        prop_assert_eq!(proof.deletions().len(), confirmations.iter().filter(gone).count());
        let all = proof.deletions().len() + proof.merges().len() + proof.spared().len();
        prop_assert_eq!(all, candidates.len());
    }
}
