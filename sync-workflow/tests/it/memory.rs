//! The journal in memory.

use std::sync::Arc;

use sync_workflow::journal::{Journal, memory::MemoryJournal};

async fn fresh() -> (Arc<dyn Journal>, ()) {
    (Arc::new(MemoryJournal::new()), ())
}

sync_workflow::journal_conformance!(fresh);
