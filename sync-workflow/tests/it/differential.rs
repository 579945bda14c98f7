//! Journals held against each other.

use sync_workflow::journal::{conformance::differential::compare, memory::MemoryJournal};

use crate::sqlite::Scratch;

#[tokio::test]
async fn sqlite_answers_as_memory_does() -> anyhow::Result<()> {
    for seed in 0..16 {
        let scratch = Scratch::new()?;
        let sqlite = scratch.open().await?;
        compare(seed, 160, &MemoryJournal::new(), &sqlite).await?;
    }
    Ok(())
}
