//! The suite that every journal passes, and the journal held against the one in memory.

use std::sync::Arc;

use sync_workflow::journal::{
    Journal, conformance::differential::compare, memory::MemoryJournal, postgres::PostgresJournal,
};
use throwaway_postgres::Database;

async fn fresh() -> (Arc<dyn Journal>, Database) {
    let database = Database::create().expect("a database");
    let journal = PostgresJournal::connect(database.url())
        .await
        .expect("a journal");
    (Arc::new(journal), database)
}

sync_workflow::journal_conformance!(fresh);

#[tokio::test]
async fn postgres_answers_as_memory_does() -> anyhow::Result<()> {
    for seed in 0..8 {
        let database = Database::create()?;
        let postgres = PostgresJournal::connect(database.url()).await?;
        compare(seed, 160, &MemoryJournal::new(), &postgres).await?;
    }
    Ok(())
}
