//! The vocabulary of data sync, pure: no IO, no async, no clock.
//!
//! ```text
//!  manifest.yaml ──▶ Manifest ──▶ DependencyGraph ──▶ Schedule          which entity, when
//!                        │
//!                        ├──▶ Mapper: document ──▶ Record | Quarantined  what a page becomes
//!                        ├──▶ CursorWalk: rows ──▶ Cursor                how far it was followed
//!                        └──▶ WalkLog: pages ──▶ DeletionProof           what is gone, with proof
//! ```
//!
//! An adapter describes its API in a [`Manifest`]. The graph orders the entities, a mapper turns each
//! document into a record or sets it aside, a cursor follows changes, and only a proof deletes. Everything
//! here is a function of its arguments, so that an engine can store, replay and test it.
//!
//! ```
//! use sync_core::{EntityName, DependencyGraph, Manifest};
//!
//! let manifest = Manifest::from_yaml(r#"
//! adapter: shop
//! version: "1"
//! base_url: https://api.example.com
//! rate_limit: { requests: 10, period_seconds: 1 }
//! entities:
//!   - name: Order
//!     record_type: order
//!     schema:
//!       - { name: customer_id, type: text, required: true, references: { entity: Customer } }
//!     mapping: { id: id, fields: [{ column: customer_id, from: customer }] }
//!     endpoints: { list: { method: GET, path: /orders } }
//!     pagination: &pages
//!       paginator: { kind: page, param: page }
//!       stop: { kind: short_page }
//!       page_size: 50
//!   - name: Customer
//!     record_type: customer
//!     schema: [{ name: email, type: text }]
//!     mapping: { id: id, fields: [{ column: email, from: contact.email }] }
//!     endpoints: { list: { method: GET, path: /customers } }
//!     pagination: *pages
//! "#)?;
//!
//! let graph = DependencyGraph::new(&manifest)?;
//! let order: Vec<&str> = graph.order().iter().map(EntityName::as_str).collect();
//! assert_eq!(order, ["Customer", "Order"]);
//!
//! let mapper = manifest.mapper(&graph.order()[1]).expect("it is in the graph");
//! let document = serde_json::from_str(r#"{"id": 7, "customer": {"id": "c1"}, "total": 12}"#)?;
//! let record = mapper.map(document, None).expect("it fits the schema");
//! assert_eq!(record.external_id.as_str(), "7");
//! assert_eq!(record.values[0].as_text(), Some("c1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`names`] | names and ids as checked newtypes |
//! | [`schema`] | columns, their types, foreign keys |
//! | [`manifest`] | what an adapter says of its API, and the rules that it must keep |
//! | [`path`], [`mapping`] | from a document to a record |
//! | [`record`] | records, content hashes, what is set aside |
//! | [`graph`], [`schedule`] | dependencies, order, what may start |
//! | [`cursor`] | following changes by a source timestamp |
//! | [`proof`] | what it takes to delete |
//! | [`change`], [`status`], [`keys`] | counts, honest statuses, idempotency keys |

pub mod change;
pub mod cursor;
pub mod graph;
pub mod keys;
pub mod manifest;
pub mod mapping;
pub mod names;
pub mod path;
pub mod proof;
pub mod record;
pub mod schedule;
pub mod schema;
pub mod status;

pub use self::{
    change::{Change, ChangeCounts, EntityCounts},
    cursor::{Cursor, CursorWalk},
    graph::DependencyGraph,
    keys::{SyncKey, SyncType},
    manifest::{Entity, Manifest, ManifestSpec},
    mapping::{Mapper, Mapping},
    names::{AdapterName, ColumnName, EntityName, ExternalId, InvalidName, OrgId},
    path::{InvalidPath, JsonPath},
    proof::{DeletionPolicy, DeletionProof},
    record::{ContentHash, QuarantineReason, Quarantined, Record, Value},
    schedule::Schedule,
    schema::{Field, FieldType, ForeignKey, Schema, Strength},
    status::SyncStatus,
};
