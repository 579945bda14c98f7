//! The journal in a SQLite file.
//!
//! Its tables live beside the application's own, all named `sync_workflow_…`, so that a transactional
//! step can write to both in one transaction. The file is in WAL mode with `synchronous = FULL`:
//! what was committed survives the loss of power. Any number of processes on one machine may open it.

mod attempt;
mod build;
mod bulk;
mod claim;
mod commit;
mod debounce;
mod delete;
mod describe;
mod error;
mod file;
mod fork;
mod import;
mod journal;
mod migration;
mod node;
mod operator;
mod pieces;
mod published;
mod queue;
mod record;
mod run;
mod schedule;
mod signal;
mod start;
mod tag;
mod transition;
mod value;

pub use journal::SqliteJournal;
