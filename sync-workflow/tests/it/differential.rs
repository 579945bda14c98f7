//! Journals held against each other.

use sync_workflow::journal::{conformance::differential::compare, memory::MemoryJournal};

use crate::sqlite::Scratch;

/// What must have happened somewhere in a series, or the series has shown nothing.
const MILESTONES: [&str; 25] = [
    "Committed",
    "StillAwake",
    "Lost",
    "this node was declared dead",
    "no longer held by this node",
    "Started",
    "Existing",
    "Delivered",
    "Duplicate",
    "NotOpen",
    "rejected_children: [RunId",
    "woken: [WokenRun",
    "awaited: [RunId",
    "Some(Closed",
    "admission: Admitted",
    "Some(Managed",
    "Forked { ended: None }",
    "Forked { ended: Some",
    "NoOrigin",
    "Replaced",
    "Signalled",
    "is_current: true",
    "Moved",
    "Held",
    "Grown",
];

#[tokio::test]
async fn sqlite_answers_as_memory_does() -> anyhow::Result<()> {
    let mut answers = Vec::new();
    for seed in 0..16 {
        let scratch = Scratch::new()?;
        let sqlite = scratch.open().await?;
        answers.extend(compare(seed, 240, &MemoryJournal::new(), &sqlite).await?);
    }
    for milestone in MILESTONES {
        assert!(
            answers.iter().any(|answer| answer.contains(milestone)),
            "{milestone} never happened"
        );
    }
    Ok(())
}
