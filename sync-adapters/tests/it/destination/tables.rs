//! Connecting, and making and extending tables.

use sync_adapters::{Destination, destination::Error};
use sync_core::Manifest;

use super::{
    on_both,
    store::{MANIFEST, Store, counts},
};

on_both!(
    preparing_twice_is_as_good_as_once,
    a_new_column_is_added_and_the_rows_stay,
    a_column_that_is_gone_from_the_manifest_stays_in_the_table,
    a_changed_type_is_a_conflict_and_changes_nothing,
    many_processes_may_prepare_at_once,
);

fn extended() -> Manifest {
    let yaml = MANIFEST
        .replace(
            "      - { name: done, type: boolean }",
            "      - { name: done, type: boolean }\n      - { name: colour, type: text }",
        )
        .replace(
            "        - { column: done, from: done }",
            "        - { column: done, from: done }\n        - { column: colour, from: colour }",
        );
    Manifest::from_yaml(&yaml).unwrap()
}

async fn preparing_twice_is_as_good_as_once(store: Store) {
    store.write(&store.notes_of(1..=3, 1)).await;
    let tables = store.destination.prepare(&store.manifest).await.unwrap();
    assert_eq!(
        tables.iter().map(|table| table.name()).collect::<Vec<_>>(),
        ["notes_person", "notes_note"]
    );
    assert_eq!(store.live(&store.notes()).await, 3);
}

async fn a_new_column_is_added_and_the_rows_stay(mut store: Store) {
    store.write(&store.notes_of(1..=3, 1)).await;
    store.manifest = extended();
    store.destination.prepare(&store.manifest).await.unwrap();
    let colourful = serde_json::json!({ "id": 1, "title": "t", "colour": "red" });
    assert_eq!(
        store.write(&[store.note(&colourful)]).await,
        counts(0, 1, 0)
    );
    let colour = store
        .text("select colour from notes_note where external_id = '1'")
        .await;
    assert_eq!(colour.as_deref(), Some("red"));
    assert_eq!(
        store
            .text("select colour from notes_note where external_id = '2'")
            .await,
        None
    );
}

async fn a_column_that_is_gone_from_the_manifest_stays_in_the_table(store: Store) {
    store.destination.prepare(&extended()).await.unwrap();
    store.destination.prepare(&store.manifest).await.unwrap();
    assert_eq!(
        store.write(&store.notes_of(1..=3, 1)).await,
        counts(3, 0, 0)
    );
    assert_eq!(store.text("select max(colour) from notes_note").await, None);
}

async fn a_changed_type_is_a_conflict_and_changes_nothing(store: Store) {
    let yaml = MANIFEST.replace(
        "{ name: words, type: integer }",
        "{ name: words, type: text }",
    );
    let refused = store
        .destination
        .prepare(&Manifest::from_yaml(&yaml).unwrap())
        .await;
    let Err(Error::SchemaConflict { table, column, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((table.as_str(), column.as_str()), ("notes_note", "words"));
    assert_eq!(
        store.write(&store.notes_of(1..=3, 1)).await,
        counts(3, 0, 0)
    );
}

async fn many_processes_may_prepare_at_once(store: Store) {
    store.execute("drop table notes_note").await;
    store.execute("drop table notes_person").await;
    let prepare = |_| {
        let (url, manifest) = (store.url.clone(), store.manifest.clone());
        tokio::spawn(async move {
            let destination = Destination::connect(&url).await?;
            destination
                .prepare(&manifest)
                .await
                .map(|tables| tables.len())
        })
    };
    for prepared in (0..8).map(prepare).collect::<Vec<_>>() {
        assert_eq!(prepared.await.unwrap().unwrap(), 2);
    }
    assert_eq!(
        store.write(&store.notes_of(1..=3, 1)).await,
        counts(3, 0, 0)
    );
}

#[tokio::test]
async fn an_address_of_no_database_is_named() {
    let refused = Destination::connect("mysql://localhost/x").await;
    assert!(matches!(refused, Err(Error::UnsupportedUrl { scheme }) if scheme == "mysql"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    // A port that was free a moment ago, on this machine only.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let refused = Destination::connect(&format!("postgres://nobody@127.0.0.1:{port}/x")).await;
    assert!(
        matches!(refused, Err(Error::Unreachable { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_missing_database_is_named() {
    let store = Store::postgres().await;
    let (server, _) = store.url.rsplit_once('/').unwrap();
    let refused = Destination::connect(&format!("{server}/no_such_database")).await;
    assert!(
        matches!(refused, Err(Error::NoDatabase { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_file_in_a_directory_that_is_not_there_is_unreachable() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("missing").join("test.db");
    let refused = Destination::connect(&format!("sqlite://{}", place.display())).await;
    assert!(
        matches!(refused, Err(Error::Unreachable { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("test.db");
    std::fs::write(
        &place,
        "no database, but long enough to have a header of one ".repeat(9),
    )
    .unwrap();
    let refused = Destination::connect(&format!("sqlite://{}", place.display())).await;
    assert!(
        matches!(refused, Err(Error::NotADatabase { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_database_that_cannot_be_written_is_named() {
    let store = Store::postgres().await;
    let read_only = format!(
        "{}{}options=-c%20default_transaction_read_only%3Don",
        store.url,
        if store.url.contains('?') { '&' } else { '?' }
    );
    let destination = Destination::connect(&read_only).await.unwrap();
    let refused = destination.prepare(&extended()).await;
    assert!(matches!(refused, Err(Error::Unwritable(_))), "{refused:?}");
}
