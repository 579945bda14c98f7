//! Walks, candidates, proofs and tombstones.

use std::collections::BTreeSet;

use serde_json::json;
use sync_adapters::destination::{Error, GenerationCounts, Rows, Tombstoned};
use sync_core::{
    ExternalId,
    proof::{
        Candidate, Confirmation, DeletionPolicy, DeletionProof, Generation, Refusal, Scope,
        StoreEvidence, WalkEnd, WalkLog,
    },
};

use super::{
    on_both,
    store::{Store, counts},
};

on_both!(
    a_walk_numbers_itself_once,
    walks_that_begin_at_once_have_numbers_of_their_own,
    unchanged_rows_bear_the_generation_of_the_walk_that_met_them,
    only_what_a_walk_did_not_meet_is_a_candidate,
    a_document_in_quarantine_is_no_candidate,
    a_proof_buries_its_rows_and_no_others,
    a_row_that_was_written_since_is_not_buried,
    a_merged_row_names_its_survivor,
    a_proof_of_other_records_is_refused,
    a_row_that_comes_again_lives_again,
    an_ended_walk_buries_nothing,
    deletions_wait_for_a_person,
    references_that_lead_nowhere_are_found_and_forgotten_again,
);

pub(super) async fn begin(store: &Store, walk: &str) -> Generation {
    // Rows of the very millisecond in which a walk begins might be newer than it, and are spared.
    let written = jiff::Timestamp::now().as_millisecond();
    while jiff::Timestamp::now().as_millisecond() <= written {
        tokio::task::yield_now().await;
    }
    let mut transaction = store.destination.begin().await.unwrap();
    let generation = transaction
        .connection()
        .begin_generation(&store.notes(), walk)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    generation
}

async fn walks_that_begin_at_once_have_numbers_of_their_own(store: Store) {
    let walks: Vec<_> = (0..8).map(|walk| format!("walk {walk}")).collect();
    let mut numbers =
        futures_util::future::join_all(walks.iter().map(|walk| begin(&store, walk))).await;
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=8).map(Generation).collect::<Vec<_>>());
}

pub(super) async fn candidates(store: &Store, generation: Generation) -> Vec<String> {
    let mut transaction = store.destination.begin().await.unwrap();
    let mut connection = transaction.connection();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = connection
            .candidates(&store.notes(), generation, after.as_ref(), 2)
            .await
            .unwrap();
        let Some(last) = page.last() else {
            return found;
        };
        after = Some(last.id.clone());
        found.extend(page.into_iter().map(|row| row.id.as_str().to_owned()));
    }
}

fn scope(rows: &Rows) -> Scope {
    Scope {
        org: rows.org().clone(),
        adapter: rows.table().adapter().clone(),
        entity: rows.table().entity().clone(),
        narrowed_by: BTreeSet::new(),
    }
}

fn proof(rows: &Rows, generation: Generation, gone: &[(&str, Confirmation)]) -> DeletionProof {
    let mut walk = WalkLog::of_list(scope(rows), generation);
    walk.page(0, Some(1));
    walk.ended(WalkEnd::Explicit);
    let store = StoreEvidence {
        scope: scope(rows),
        live_before: 5,
        stamped: 1,
        quarantined: 0,
    };
    let candidate = |(id, confirmation): &(&str, Confirmation)| Candidate {
        id: ExternalId::new(id).unwrap(),
        parent: None,
        confirmation: confirmation.clone(),
    };
    let candidates = gone.iter().map(candidate).collect();
    DeletionProof::establish(&walk, &store, candidates, &DeletionPolicy::default(), None).unwrap()
}

async fn bury(store: &Store, proof: &DeletionProof) -> Tombstoned {
    let mut transaction = store.destination.begin().await.unwrap();
    let buried = transaction
        .connection()
        .tombstone(&store.notes(), proof)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    buried
}

async fn a_walk_numbers_itself_once(store: Store) {
    let first = begin(&store, "run-1").await;
    assert_eq!(begin(&store, "run-1").await, first);
    assert!(begin(&store, "run-2").await > first);
}

async fn unchanged_rows_bear_the_generation_of_the_walk_that_met_them(store: Store) {
    store.write(&store.notes_of(1..=10, 1)).await;
    let generation = begin(&store, "run").await;
    let mut page = store.notes_of(1..=5, 1);
    page.extend(store.notes_of(6..=8, 2));
    page.extend(store.notes_of(11..=11, 1));
    let written = store.write_as(Some(generation), &page).await;
    assert_eq!(written.counts, counts(1, 3, 5));
    // Once more, as a step that was repeated: nothing is counted twice.
    store.write_as(Some(generation), &page).await;
    let mut transaction = store.destination.begin().await.unwrap();
    let counted = transaction
        .connection()
        .generation_counts(&store.notes(), generation)
        .await
        .unwrap();
    assert_eq!(
        counted,
        GenerationCounts {
            live_before: 10,
            stamped: 9,
            quarantined: 0
        }
    );
}

async fn only_what_a_walk_did_not_meet_is_a_candidate(store: Store) {
    store.write(&store.notes_of(1..=9, 1)).await;
    let generation = begin(&store, "run").await;
    store
        .write_as(Some(generation), &store.notes_of([1, 3, 5], 1))
        .await;
    store
        .write_as(Some(generation), &store.notes_of([7], 2))
        .await;
    // A delta, or a webhook, beside the walk.
    store.write(&store.notes_of([8, 10], 2)).await;
    assert_eq!(candidates(&store, generation).await, ["2", "4", "6", "9"]);
}

async fn a_document_in_quarantine_is_no_candidate(store: Store) {
    store.write(&store.notes_of(1..=2, 1)).await;
    let generation = begin(&store, "run").await;
    let broken = store
        .map("Note", &json!({ "id": 2, "title": null }))
        .unwrap_err();
    let mut transaction = store.destination.begin().await.unwrap();
    let mut connection = transaction.connection();
    connection
        .quarantine(&store.notes(), Some(generation), &[broken])
        .await
        .unwrap();
    let counted = connection
        .generation_counts(&store.notes(), generation)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(counted.quarantined, 1);
    assert_eq!(candidates(&store, generation).await, ["1"]);
}

async fn a_proof_buries_its_rows_and_no_others(store: Store) {
    store.write(&store.notes_of(1..=5, 1)).await;
    let generation = begin(&store, "run").await;
    store
        .write_as(Some(generation), &store.notes_of([1], 1))
        .await;
    let gone = [
        ("2", Confirmation::NotFound),
        ("3", Confirmation::StillThere),
        ("4", Confirmation::Destroyed),
    ];
    let proof = proof(&store.notes(), generation, &gone);
    assert_eq!(
        bury(&store, &proof).await,
        Tombstoned {
            deleted: 2,
            merged: 0,
            kept: 0
        }
    );
    assert_eq!(
        bury(&store, &proof).await,
        Tombstoned {
            deleted: 0,
            merged: 0,
            kept: 2
        }
    );
    assert_eq!(store.live(&store.notes()).await, 3);
    assert_eq!(candidates(&store, generation).await, ["3", "5"]);
}

async fn a_row_that_was_written_since_is_not_buried(store: Store) {
    store.write(&store.notes_of(1..=4, 1)).await;
    let generation = begin(&store, "run").await;
    let all: Vec<_> = ["1", "2", "3"]
        .map(|id| (id, Confirmation::NotFound))
        .into();
    let proof = proof(&store.notes(), generation, &all);
    store.write(&store.notes_of([1], 2)).await;
    store
        .write_as(Some(generation), &store.notes_of([2], 1))
        .await;
    assert_eq!(
        bury(&store, &proof).await,
        Tombstoned {
            deleted: 1,
            merged: 0,
            kept: 2
        }
    );
}

async fn a_merged_row_names_its_survivor(store: Store) {
    store.write(&store.notes_of(1..=3, 1)).await;
    let generation = begin(&store, "run").await;
    let survivor = Confirmation::MergedInto(ExternalId::new("1").unwrap());
    let proof = proof(&store.notes(), generation, &[("2", survivor)]);
    assert_eq!(
        bury(&store, &proof).await,
        Tombstoned {
            deleted: 0,
            merged: 1,
            kept: 0
        }
    );
    let survivor = store
        .text("select _merged_into from notes_note where external_id = '2'")
        .await;
    assert_eq!(survivor.as_deref(), Some("1"));
}

async fn a_proof_of_other_records_is_refused(store: Store) {
    let generation = begin(&store, "run").await;
    let foreign = proof(
        &store.rows("Note", "other"),
        generation,
        &[("1", Confirmation::NotFound)],
    );
    let mut transaction = store.destination.begin().await.unwrap();
    let refused = transaction
        .connection()
        .tombstone(&store.notes(), &foreign)
        .await;
    assert!(matches!(refused, Err(Error::ForeignProof { .. })));
}

async fn a_row_that_comes_again_lives_again(store: Store) {
    store.write(&store.notes_of(1..=3, 1)).await;
    let generation = begin(&store, "run").await;
    bury(
        &store,
        &proof(&store.notes(), generation, &[("2", Confirmation::NotFound)]),
    )
    .await;
    assert_eq!(store.live(&store.notes()).await, 2);
    assert_eq!(store.write(&store.notes_of([2], 1)).await, counts(0, 1, 0));
    assert_eq!(store.live(&store.notes()).await, 3);
}

async fn an_ended_walk_buries_nothing(store: Store) {
    store.write(&store.notes_of(1..=3, 1)).await;
    let generation = begin(&store, "run").await;
    store
        .write_as(Some(generation), &store.notes_of([1, 2, 3], 1))
        .await;
    let proof = proof(&store.notes(), generation, &[("2", Confirmation::NotFound)]);
    let mut transaction = store.destination.begin().await.unwrap();
    transaction
        .connection()
        .end_generation(&store.notes(), generation, true)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(
        bury(&store, &proof).await,
        Tombstoned {
            deleted: 0,
            merged: 0,
            kept: 1
        }
    );
}

async fn deletions_wait_for_a_person(store: Store) {
    let rows = store.notes();
    let generation = begin(&store, "run").await;
    let refusal = Refusal::EmptyAnswer { live: 9 };
    let mut transaction = store.destination.begin().await.unwrap();
    let mut connection = transaction.connection();
    connection
        .request_deletion(&rows, generation, &refusal, 9)
        .await
        .unwrap();
    let pending = connection.pending_deletions(rows.org(), 10).await.unwrap();
    assert_eq!(
        (pending.len(), &pending[0].refusal, pending[0].candidates),
        (1, &refusal, 9)
    );
    assert_eq!(connection.approval(&rows, generation).await.unwrap(), None);
    assert!(
        connection
            .decide_deletion(&rows, generation, true, "ada")
            .await
            .unwrap()
    );
    assert!(
        !connection
            .decide_deletion(&rows, generation, false, "bob")
            .await
            .unwrap()
    );
    let approval = connection
        .approval(&rows, generation)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((approval.by.as_str(), approval.candidates), ("ada", 9));
    assert!(
        connection
            .pending_deletions(rows.org(), 10)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn references_that_lead_nowhere_are_found_and_forgotten_again(store: Store) {
    let people = store.rows("Person", "acme");
    let tables = [people.table().clone(), store.notes().table().clone()];
    let note =
        |id: u32, author: &str| store.note(&json!({ "id": id, "title": "t", "author": author }));
    store
        .write(&[note(1, "1"), note(2, "9"), note(3, "8")])
        .await;
    let person = |id: u32, boss: &str| {
        store
            .map("Person", &json!({ "id": id, "boss": boss }))
            .unwrap()
    };
    let mut transaction = store.destination.begin().await.unwrap();
    let mut connection = transaction.connection();
    connection
        .write_page(&people, None, &[person(1, "1"), person(2, "7")])
        .await
        .unwrap();
    let of_notes = connection
        .check_references(&store.notes(), &tables)
        .await
        .unwrap();
    assert_eq!((of_notes.len(), of_notes[0].dangling), (1, 2));
    let of_people = connection.check_references(&people, &tables).await.unwrap();
    assert_eq!(of_people[0].dangling, 1);
    connection
        .write_page(&people, None, &[person(9, "1")])
        .await
        .unwrap();
    let of_notes = connection
        .check_references(&store.notes(), &tables)
        .await
        .unwrap();
    assert_eq!(of_notes[0].dangling, 1);
    transaction.commit().await.unwrap();
    let table = if store.is_postgres() {
        "sync.unresolved_refs"
    } else {
        "sync_unresolved_refs"
    };
    let left = store
        .text(&format!(
            "select target_id from {table} where entity = 'Note'"
        ))
        .await;
    assert_eq!(left.as_deref(), Some("8"));
    let mut transaction = store.destination.begin().await.unwrap();
    let mut connection = transaction.connection();
    connection
        .write_page(&people, None, &[person(8, "1")])
        .await
        .unwrap();
    let of_notes = connection
        .check_references(&store.notes(), &tables)
        .await
        .unwrap();
    assert_eq!(of_notes[0].dangling, 0);
    transaction.commit().await.unwrap();
    let of_people_only = format!("select cast(count(*) as text) || min(entity) from {table}");
    assert_eq!(
        store.text(&of_people_only).await.as_deref(),
        Some("1Person")
    );
}
