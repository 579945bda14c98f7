//! Pages that are mostly stored already.

use sync_adapters::destination::Rows;
use sync_core::{ChangeCounts, Record, proof::Generation};

use super::{
    deletions::{begin, candidates},
    on_both,
    store::{Store, counts},
};

on_both!(
    a_page_that_is_mostly_stored_is_written_as_any_other,
    a_page_that_is_stored_as_a_whole_bears_the_generation,
    what_changes_after_pages_that_did_not_is_written,
);

/// Writes with the same rows each time: what a table has learnt of its pages stays with it.
async fn write(
    store: &Store,
    rows: &Rows,
    generation: Option<Generation>,
    page: &[Record],
) -> ChangeCounts {
    let mut transaction = store.destination.begin().await.unwrap();
    let mut connection = transaction.connection();
    let written = connection.write_page(rows, generation, page).await.unwrap();
    transaction.commit().await.unwrap();
    written.counts
}

/// Rows that hold 200 notes of revision 5, and have met them again.
async fn reread(store: &Store) -> Rows {
    let rows = store.notes();
    let page = store.notes_of(1..=200, 5);
    assert_eq!(write(store, &rows, None, &page).await, counts(200, 0, 0));
    assert_eq!(write(store, &rows, None, &page).await, counts(0, 0, 200));
    rows
}

async fn a_page_that_is_mostly_stored_is_written_as_any_other(store: Store) {
    let rows = reread(&store).await;
    store
        .execute("update notes_note set deleted_at = synced_at where external_id in ('150', '151')")
        .await;
    let generation = begin(&store, "second").await;
    // 1 to 100 as they are, 101 to 110 changed, 111 to 115 older, 150 comes again, 301 to 303 are new, and one
    // of each kind comes twice. 116 to 200 are not met.
    let mut page = store.notes_of(1..=100, 5);
    page.extend(store.notes_of(101..=110, 6));
    page.extend(store.notes_of(111..=115, 4));
    page.extend(store.notes_of([150], 5));
    page.extend(store.notes_of(301..=303, 1));
    page.extend(store.notes_of([1], 5));
    page.extend(store.notes_of([101], 6));
    page.extend(store.notes_of([301], 1));
    assert_eq!(
        write(&store, &rows, Some(generation), &page).await,
        counts(3, 11, 108)
    );
    let missed = candidates(&store, generation).await;
    let mut expected: Vec<String> = (116..=200).map(|id: u32| id.to_string()).collect();
    expected.retain(|id| id != "150" && id != "151");
    assert_eq!(missed, expected);
    let sum = store
        .text("select cast(sum(cast(substr(title, length(title), 1) as integer)) as text) from notes_note where deleted_at is null")
        .await;
    let expected = 100 * 5 + 10 * 6 + 5 * 5 + 5 + 83 * 5 + 3;
    assert_eq!(sum, Some(expected.to_string()));
}

async fn a_page_that_is_stored_as_a_whole_bears_the_generation(store: Store) {
    let rows = reread(&store).await;
    let generation = begin(&store, "second").await;
    let page = store.notes_of(1..=199, 5);
    assert_eq!(
        write(&store, &rows, Some(generation), &page).await,
        counts(0, 0, 199)
    );
    assert_eq!(candidates(&store, generation).await, ["200"]);
}

async fn what_changes_after_pages_that_did_not_is_written(store: Store) {
    let rows = reread(&store).await;
    for revision in 6..=9 {
        let page = store.notes_of(1..=250, revision);
        let inserted = if revision == 6 { 50 } else { 0 };
        assert_eq!(
            write(&store, &rows, None, &page).await,
            counts(inserted, 250 - inserted, 0)
        );
        assert_eq!(write(&store, &rows, None, &page).await, counts(0, 0, 250));
    }
}

#[tokio::test]
async fn rows_that_are_met_again_and_again_are_not_even_locked() {
    let store = Store::postgres().await;
    let rows = reread(&store).await;
    let versions = "select string_agg(xmin::text || ' ' || xmax::text || ' ' || ctid::text, ',' \
                    order by external_id) from notes_note";
    let before = store.text(versions).await;
    let page = store.notes_of(1..=200, 5);
    assert_eq!(write(&store, &rows, None, &page).await, counts(0, 0, 200));
    assert_eq!(store.text(versions).await, before);
}
