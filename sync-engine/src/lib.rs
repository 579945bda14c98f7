//! Durable data sync: what to sync, in which order, exactly once.
//!
//! ```text
//!  main-sync ──plan──▶ graph ──┬─▶ entity-sync Campus ────────────┐
//!   (one per org,              ├─▶ entity-sync Household ──┐      │
//!    adapter and type)         └─▶ entity-sync Group ───┐  ▼      ▼
//!                                    Membership ◀───────┴─ Person ─▶ Email, ...
//!
//!  entity-sync ── begin ─▶ sync-pages ─▶ sync-pages ─▶ ... ─▶ judge ─▶ confirm ─▶ conclude
//!                              │ one transaction: rows, the walk's state, the journal's record
//!                              └ pages that are fetched ahead, beside it
//! ```
//!
//! [`SyncEngine`] runs two workflows. [`MainSyncOrchestrator`] plans a run and starts each entity as soon as
//! its own dependencies have finished. [`EntitySync`] takes one entity through its list, step by step: a step
//! writes the pages that are there and moves the walk's state on by a compare-and-set. Where journal and
//! destination are one database, rows, state and the journal's record commit together; otherwise the write is
//! idempotent, and the state tells whether it happened. Page data never enters the journal.
//!
//! One entity of one organisation has one writer at a time, by its row in the table `entity_syncs`: a second
//! sync joins the first one, and a walk that was taken over writes nothing more.
//!
//! # Example
//!
//! ```
//! use sync_adapters::{Credentials, planning_center};
//! use sync_core::{AdapterName, OrgId, SyncStatus, SyncType};
//! use sync_engine::SyncEngine;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let source = mock_api::MockApi::builder().people(30).rate_limit(None).start().await?;
//! # let (address, token) = (source.base_url(), source.token());
//! # let directory = tempfile::tempdir()?;
//! # let database = format!("sqlite:{}", directory.path().join("sync.db").display());
//! let (org, adapter) = (OrgId::new("acme")?, AdapterName::new("pco")?);
//! let engine = SyncEngine::builder()
//!     .journal_url(&database)
//!     .destination_url(&database)
//!     .adapter(planning_center::manifest().with_base_url(address)?)
//!     .account(org.clone(), adapter.clone(), Credentials::bearer(token))
//!     .start()
//!     .await?;
//!
//! let report = engine.run(&org, &adapter, SyncType::Full).await?;
//! assert_eq!(report.status, SyncStatus::Succeeded);
//! assert_eq!(report.entity("Person").expect("it was synced").counts.changes.inserted, 30);
//!
//! let again = engine.run(&org, &adapter, SyncType::Delta).await?;
//! assert_eq!(again.totals().changes.inserted, 0);
//! engine.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `engine`, `builder`, `options` | [`SyncEngine`] and how it is built |
//! | `orchestrator`, `entity_sync` | the workflows |
//! | `activities` | their steps: everything with effects |
//! | `walk` | the way through a list; pure |
//! | `flight` | pages fetched ahead |
//! | `ledger`, `state` | who writes an entity, and how far it has come |
//! | `catalogue`, `target` | where records come from, and where they go |
//! | `report`, `progress` | what is told about it |

mod activities;
mod builder;
mod catalogue;
mod engine;
mod entity_sync;
mod error;
mod failure;
mod flight;
mod key;
mod ledger;
mod options;
mod orchestrator;
mod progress;
mod report;
mod requests;
mod state;
mod target;
mod walk;

pub use self::{
    builder::SyncEngineBuilder,
    engine::{SyncEngine, SyncHandle},
    entity_sync::{EntityRequest, EntitySync},
    error::Error,
    failure::StepFailure,
    orchestrator::{MainSyncOrchestrator, RunRequest},
    progress::{EntityProgress, Stage},
    report::{EntityReport, RunReport, UnresolvedReferences},
};
