//! The rows of schedules.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use crate::journal::{Journal, Result, ScheduleRow};

fn row(id: &str, queue: &str, next_at: Option<&str>) -> ScheduleRow {
    ScheduleRow {
        id: id.into(),
        queue: queue.into(),
        next_at: next_at.map(|at| at.parse().expect("a time")),
        revision: 1_000,
        is_new: true,
        payload: Bytes::from_static(b"\0\xff"),
    }
}

fn stored(row: &ScheduleRow) -> ScheduleRow {
    ScheduleRow {
        is_new: false,
        ..row.clone()
    }
}

fn next(row: &ScheduleRow) -> ScheduleRow {
    ScheduleRow {
        revision: row.revision + 1,
        is_new: false,
        ..row.clone()
    }
}

pub async fn a_schedule_is_created_once(journal: Arc<dyn Journal>) -> Result<()> {
    let store = journal.schedules();
    let one = row("a", "main", Some("2026-11-22T00:00:00.123456Z"));
    assert!(store.put_schedule(&one).await?);
    assert!(!store.put_schedule(&one).await?);
    let another = ScheduleRow {
        revision: 2_000,
        ..one.clone()
    };
    assert!(!store.put_schedule(&another).await?);
    assert_eq!(store.find_schedule("a").await?, Some(stored(&one)));
    assert_eq!(store.find_schedule("b").await?, None);
    Ok(())
}

pub async fn only_the_next_version_of_a_schedule_is_written(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let store = journal.schedules();
    let one = row("a", "main", None);
    assert!(!store.put_schedule(&next(&one)).await?);
    store.put_schedule(&one).await?;
    let two = ScheduleRow {
        queue: "other".into(),
        next_at: Some(Timestamp::UNIX_EPOCH),
        payload: Bytes::from_static(b"two"),
        ..next(&one)
    };
    assert!(store.put_schedule(&two).await?);
    assert!(!store.put_schedule(&two).await?);
    assert!(!store.put_schedule(&next(&next(&two))).await?);
    assert_eq!(store.find_schedule("a").await?, Some(two.clone()));
    assert!(store.delete_schedule("a").await?);
    assert!(!store.delete_schedule("a").await?);
    assert!(!store.put_schedule(&next(&two)).await?);
    assert_eq!(store.find_schedule("a").await?, None);
    Ok(())
}

pub async fn one_of_many_writers_of_a_schedule_succeeds(journal: Arc<dyn Journal>) -> Result<()> {
    let one = row("a", "main", None);
    journal.schedules().put_schedule(&one).await?;
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (journal, two) = (Arc::clone(&journal), next(&one));
            tokio::spawn(async move { journal.schedules().put_schedule(&two).await })
        })
        .collect();
    let mut written = 0;
    for writer in writers {
        written += u32::from(writer.await.expect("it does not panic")?);
    }
    assert_eq!(written, 1);
    Ok(())
}

pub async fn schedules_are_listed_in_order_and_in_pages(journal: Arc<dyn Journal>) -> Result<()> {
    let store = journal.schedules();
    for id in ["b", "a", "B", "\u{e9}", "c"] {
        store.put_schedule(&row(id, "main", None)).await?;
    }
    let ids = async |after, limit| {
        let rows = store.list_schedules(after, limit).await?;
        let ids = rows.iter().map(|row| row.id.to_string());
        Ok::<_, crate::journal::Error>(ids.collect::<Vec<_>>())
    };
    assert_eq!(ids(None, 3).await?, ["B", "a", "b"]);
    assert_eq!(ids(Some("b"), 3).await?, ["c", "\u{e9}"]);
    assert_eq!(ids(Some("\u{e9}"), 3).await?, Vec::<String>::new());
    Ok(())
}

pub async fn schedules_of_a_queue_are_found_when_they_are_due(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let store = journal.schedules();
    let far = "2200-01-01T00:00:00Z";
    for row in [
        row("later", "main", Some("2001-01-01T00:00:00Z")),
        row("sooner", "main", Some("2000-01-01T00:00:00Z")),
        row("elsewhere", "other", Some("1999-01-01T00:00:00Z")),
        row("far", "main", Some(far)),
        row("farther", "main", Some("2201-01-01T00:00:00Z")),
        row("never", "main", None),
    ] {
        store.put_schedule(&row).await?;
    }
    let due = store.due_schedules("main", 10).await?;
    let ids: Vec<_> = due.rows.iter().map(|row| &*row.id).collect();
    assert_eq!(ids, ["sooner", "later"]);
    assert_eq!(due.next_at, Some(far.parse().expect("a time")));
    assert_eq!(store.due_schedules("main", 1).await?.rows.len(), 1);
    let nothing = store.due_schedules("nowhere", 10).await?;
    assert_eq!((nothing.rows.len(), nothing.next_at), (0, None));
    assert!(nothing.now > due.rows[1].next_at.expect("it is due"));
    Ok(())
}
