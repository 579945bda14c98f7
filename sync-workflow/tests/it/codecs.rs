//! Journals behind codecs keep to the port.

use std::sync::Arc;

use sync_workflow::{
    journal::{Journal, conformance::differential::compare, memory::MemoryJournal},
    payload::{Codecs, EncryptionKeys},
};

fn codecs() -> Codecs {
    let keys = EncryptionKeys::new("one", [1; 32]).unwrap();
    // Everything that gets smaller is compressed.
    Codecs::json().zstd(3).zstd_from(0).aes_256_gcm(keys)
}

/// Everything that may be is offloaded.
fn offloading() -> Codecs {
    codecs().offload().offload_from(1).offload_up_to(0)
}

mod memory {
    use super::*;

    async fn fresh() -> (Arc<dyn Journal>, ()) {
        (codecs().on(Arc::new(MemoryJournal::new())), ())
    }

    sync_workflow::journal_conformance!(fresh);

    #[tokio::test]
    async fn a_journal_behind_codecs_answers_as_one_without() -> anyhow::Result<()> {
        for seed in 0..8 {
            for chain in [codecs(), offloading()] {
                let coded = chain.on(Arc::new(MemoryJournal::new()));
                compare(seed, 160, &MemoryJournal::new(), &*coded).await?;
            }
        }
        Ok(())
    }
}

mod sqlite {
    use super::*;
    use crate::sqlite::Scratch;

    async fn fresh() -> (Arc<dyn Journal>, Scratch) {
        let scratch = Scratch::new().unwrap();
        let journal = scratch.open().await.unwrap();
        (offloading().on(Arc::new(journal)), scratch)
    }

    sync_workflow::journal_conformance!(fresh);
}

mod postgres {
    use sync_workflow::journal::postgres::PostgresJournal;
    use throwaway_postgres::Database;

    use super::*;

    async fn fresh() -> (Arc<dyn Journal>, Database) {
        let database = Database::create().unwrap();
        let journal = PostgresJournal::connect(database.url()).await.unwrap();
        (offloading().on(Arc::new(journal)), database)
    }

    sync_workflow::journal_conformance!(fresh);
}
