//! The vocabulary of data sync, pure.

pub mod manifest;
pub mod mapping;
pub mod names;
pub mod path;
pub mod record;
pub mod schema;

pub use self::{
    manifest::{Entity, Manifest, ManifestSpec},
    mapping::{Mapper, Mapping},
    names::{AdapterName, ColumnName, EntityName, ExternalId, InvalidName, OrgId},
    path::{InvalidPath, JsonPath},
    record::{ContentHash, QuarantineReason, Quarantined, Record, Value},
    schema::{Field, FieldType, ForeignKey, Schema, Strength},
};
