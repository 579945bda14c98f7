//! The vocabulary of data sync, pure.

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
