//! Writing pages.

use serde_json::{Value, json};

use super::{
    on_both,
    store::{Store, counts},
};

on_both!(
    a_page_written_twice_changes_nothing_the_second_time,
    a_changed_record_is_updated_and_the_others_are_left,
    a_row_never_goes_back_to_an_older_state,
    a_change_without_a_newer_time_is_still_a_change,
    of_one_id_twice_in_a_page_the_newest_state_holds,
    every_type_comes_back_as_it_went_in,
    values_that_a_whole_page_has_lost_are_gone_and_those_of_some_rows_stay,
    hostile_values_do_not_lose_their_row,
    organisations_with_the_same_ids_do_not_meet,
    what_no_database_can_hold_goes_to_quarantine_and_the_page_goes_on,
    a_transaction_that_is_dropped_leaves_nothing,
    cursors_are_saved_with_the_page_and_come_back,
    a_large_page_is_written_whole,
    a_document_in_quarantine_is_counted_and_released,
);

async fn a_page_written_twice_changes_nothing_the_second_time(store: Store) {
    let page = store.notes_of(1..=100, 1);
    assert_eq!(store.write(&page).await, counts(100, 0, 0));
    let before = store
        .text("select max(cast(synced_at as text)) from notes_note")
        .await;
    assert_eq!(store.write(&page).await, counts(0, 0, 100));
    assert_eq!(
        store
            .text("select max(cast(synced_at as text)) from notes_note")
            .await,
        before
    );
    assert_eq!(store.live(&store.notes()).await, 100);
}

async fn a_changed_record_is_updated_and_the_others_are_left(store: Store) {
    store.write(&store.notes_of(1..=10, 1)).await;
    let mut page = store.notes_of(1..=10, 1);
    page.splice(3..5, store.notes_of(4..=5, 2));
    page.extend(store.notes_of(11..=11, 2));
    assert_eq!(store.write(&page).await, counts(1, 2, 8));
    let title = store
        .text("select title from notes_note where external_id = '5'")
        .await;
    assert_eq!(title.as_deref(), Some("note 5, revision 2"));
}

async fn a_row_never_goes_back_to_an_older_state(store: Store) {
    store.write(&store.notes_of(1..=1, 7)).await;
    assert_eq!(
        store.write(&store.notes_of(1..=1, 6)).await,
        counts(0, 0, 1)
    );
    let title = store.text("select title from notes_note").await;
    assert_eq!(title.as_deref(), Some("note 1, revision 7"));
}

async fn a_change_without_a_newer_time_is_still_a_change(store: Store) {
    let note = |title: &str| {
        store.note(&json!({ "id": 1, "title": title, "updated_at": "2024-01-01T00:00:00Z" }))
    };
    store.write(&[note("before")]).await;
    assert_eq!(store.write(&[note("after")]).await, counts(0, 1, 0));
    let undated = store.note(&json!({ "id": 1, "title": "undated" }));
    assert_eq!(store.write(&[undated]).await, counts(0, 1, 0));
}

async fn of_one_id_twice_in_a_page_the_newest_state_holds(store: Store) {
    let mut page = store.notes_of([1, 2], 3);
    page.extend(store.notes_of([1], 5));
    page.extend(store.notes_of([1], 4));
    assert_eq!(store.write(&page).await, counts(2, 0, 2));
    let title = store
        .text("select title from notes_note where external_id = '1'")
        .await;
    assert_eq!(title.as_deref(), Some("note 1, revision 5"));
}

async fn every_type_comes_back_as_it_went_in(store: Store) {
    let document = json!({ "id": "a/b c", "title": "Zoë 🎈", "words": -9_007_199_254_740_993_i64,
        "score": 0.1, "done": true, "due": "2024-02-29", "updated_at": "2024-02-29T12:00:00.123456Z",
        "extra": {"deep": [1, null, {"x": "y"}]}, "author": "7" });
    store.write(&[store.note(&document)]).await;
    let column = async |column: &str| {
        store
            .text(&format!("select cast({column} as text) from notes_note"))
            .await
            .unwrap()
    };
    assert_eq!(column("external_id").await, "a/b c");
    assert_eq!(column("title").await, "Zoë 🎈");
    assert_eq!(column("words").await, "-9007199254740993");
    assert_eq!(column("score").await, "0.1");
    assert!(["true", "1"].contains(&column("done").await.as_str()));
    assert_eq!(column("due").await, "2024-02-29");
    assert!(column("updated_at").await.contains("12:00:00.123456"));
    assert_eq!(
        column("updated_at").await,
        column("source_updated_at").await
    );
    assert_eq!(column("extra").await, r#"{"deep":[1,null,{"x":"y"}]}"#);
    assert_eq!(column("author_id").await, "7");
    assert_eq!(
        serde_json::from_str::<Value>(&column("raw").await).unwrap(),
        document
    );
}

async fn values_that_a_whole_page_has_lost_are_gone_and_those_of_some_rows_stay(store: Store) {
    let note = |id: u32, extra: Value| {
        let mut document = json!({ "id": id, "title": "t", "updated_at": "2024-01-01T00:00:00Z" });
        let fields = document.as_object_mut().unwrap();
        fields.extend(extra.as_object().unwrap().clone());
        store.note(&document)
    };
    let full = json!({ "words": 3, "score": 0.5, "done": true, "due": "2024-02-29",
        "extra": {"a": 1}, "author": "7" });
    let page = [note(1, full.clone()), note(2, full), note(3, json!({}))];
    assert_eq!(store.write(&page).await, counts(3, 0, 0));
    let lost = [
        note(1, json!({})),
        note(2, json!({ "words": 4 })),
        note(3, json!({ "words": 5 })),
    ];
    assert_eq!(store.write(&lost).await, counts(0, 3, 0));
    let counted = store
        .text(
            "select cast(count(words) * 1000 + sum(words) * 10
               + count(score) + count(done) + count(due) + count(extra) + count(author_id) as text)
             from notes_note",
        )
        .await;
    assert_eq!(counted.as_deref(), Some("2090"));
}

async fn hostile_values_do_not_lose_their_row(store: Store) {
    let long = "x".repeat(1_000_000);
    let page = [
        store.note(&json!({ "id": 1, "title": "nul \u{0} nul", "extra": {"nul": "\u{0}"} })),
        store.note(&json!({ "id": 2, "title": "max", "huge": u64::MAX })),
        store.note(&json!({ "id": 3, "title": long })),
        store.note(&json!({ "id": "'; drop table notes_note; --", "title": "\\ \" ' $1 ? {}" })),
        store.note(&json!({ "id": 5, "title": "", "words": i64::MIN, "score": f64::MIN_POSITIVE })),
        store.note(&json!({ "id": 6, "title": "\u{feff}\u{202e}\u{10ffff}" })),
    ];
    assert_eq!(store.write(&page).await, counts(6, 0, 0));
    assert_eq!(store.write(&page).await, counts(0, 0, 6));
    let raw = async |id: &str| {
        store
            .text(&format!(
                "select cast(raw as text) from notes_note where external_id = '{id}'"
            ))
            .await
            .unwrap()
    };
    assert!(raw("1").await.contains(r"nul \u0000 nul"));
    assert!(raw("2").await.contains("18446744073709551615"));
    let title = store
        .text("select title from notes_note where external_id = '3'")
        .await;
    assert_eq!(title.map(|title| title.len()), Some(1_000_000));
}

async fn organisations_with_the_same_ids_do_not_meet(store: Store) {
    let page = store.notes_of(1..=3, 1);
    store.write(&page).await;
    let other = store.rows("Note", "other");
    let mut transaction = store.destination.begin().await.unwrap();
    let written = transaction
        .connection()
        .write_page(&other, None, &page[..2])
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(written.counts, counts(2, 0, 0));
    assert_eq!(store.live(&store.notes()).await, 3);
    assert_eq!(store.live(&other).await, 2);
}

async fn what_no_database_can_hold_goes_to_quarantine_and_the_page_goes_on(store: Store) {
    let page = [
        store
            .note(&json!({ "id": 1, "title": "ancient", "updated_at": "-009000-01-01T00:00:00Z" })),
        store.note(&json!({ "id": 2, "title": "fine", "due": "9999-12-31" })),
    ];
    let written = store.write_as(None, &page).await;
    assert_eq!(
        (written.counts.inserted, written.counts.quarantined),
        (1, 1)
    );
    assert_eq!(written.refused.len(), 1);
    let mut transaction = store.destination.begin().await.unwrap();
    let entries = transaction
        .connection()
        .quarantined(&store.notes(), 10)
        .await
        .unwrap();
    assert_eq!(
        entries[0].external_id.as_ref().map(|id| id.as_str()),
        Some("1")
    );
}

async fn a_transaction_that_is_dropped_leaves_nothing(store: Store) {
    let mut transaction = store.destination.begin().await.unwrap();
    let (rows, page) = (store.notes(), store.notes_of(1..=5, 1));
    transaction
        .connection()
        .write_page(&rows, None, &page)
        .await
        .unwrap();
    transaction
        .connection()
        .save_cursor(&rows, "delta", &5, "m")
        .await
        .unwrap();
    drop(transaction);
    assert_eq!(store.live(&rows).await, 0);
    let mut transaction = store.destination.begin().await.unwrap();
    let cursor = transaction
        .connection()
        .load_cursor::<u32>(&rows, "delta")
        .await
        .unwrap();
    assert_eq!(cursor, None);
}

async fn cursors_are_saved_with_the_page_and_come_back(store: Store) {
    let rows = store.notes();
    for position in [1_u32, 2] {
        let mut transaction = store.destination.begin().await.unwrap();
        let mut connection = transaction.connection();
        connection
            .save_cursor(&rows, "delta", &vec![position], "manifest-1")
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }
    let mut transaction = store.destination.begin().await.unwrap();
    let mut connection = transaction.connection();
    let stored = connection
        .load_cursor::<Vec<u32>>(&rows, "delta")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (stored.cursor, stored.manifest.as_str()),
        (vec![2], "manifest-1")
    );
    assert!(
        connection.load_cursor::<u32>(&rows, "delta").await.is_err(),
        "another type"
    );
    assert_eq!(
        connection.load_cursor::<u32>(&rows, "full").await.unwrap(),
        None
    );
    connection.forget_cursor(&rows, "delta").await.unwrap();
    assert_eq!(
        connection
            .load_cursor::<Vec<u32>>(&rows, "delta")
            .await
            .unwrap(),
        None
    );
}

async fn a_large_page_is_written_whole(store: Store) {
    let page = store.notes_of(1..=6_001, 1);
    assert_eq!(store.write(&page).await, counts(6_001, 0, 0));
    assert_eq!(
        store.write(&store.notes_of(3_000..=6_100, 2)).await,
        counts(99, 3_002, 0)
    );
    assert_eq!(store.live(&store.notes()).await, 6_100);
}

async fn a_document_in_quarantine_is_counted_and_released(store: Store) {
    let rows = store.notes();
    let bad = [
        store
            .map("Note", &json!({ "id": 1, "words": "many \u{0}" }))
            .unwrap_err(),
        store.map("Note", &json!({ "title": "no id" })).unwrap_err(),
        store.map("Note", &json!([1, 2])).unwrap_err(),
    ];
    let mut transaction = store.destination.begin().await.unwrap();
    let mut connection = transaction.connection();
    for _ in 0..2 {
        connection.quarantine(&rows, None, &bad).await.unwrap();
    }
    assert_eq!(connection.quarantined_count(&rows).await.unwrap(), 3);
    let entries = connection.quarantined(&rows, 10).await.unwrap();
    assert!(entries.iter().all(|entry| entry.occurrences == 2));
    let known = entries
        .iter()
        .find_map(|entry| entry.external_id.clone())
        .unwrap();
    let raw = entries
        .iter()
        .find(|entry| entry.external_id.is_some())
        .map(|entry| entry.raw.get());
    assert_eq!(raw, Some(bad[0].raw.get()));
    assert_eq!(
        connection
            .release_quarantined(&rows, &[known])
            .await
            .unwrap(),
        1
    );
    assert_eq!(connection.quarantined_count(&rows).await.unwrap(), 2);
}
