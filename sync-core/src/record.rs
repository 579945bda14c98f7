//! Records: what a page of an API becomes, and what is set aside.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::names::{ColumnName, ExternalId};

/// The value of one canonical column.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// No value.
    Null,
    /// Unicode text without NUL, which no text column of Postgres can hold.
    Text(Box<str>),
    /// A whole number.
    Integer(i64),
    /// A floating point number; finite.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A calendar day.
    Date(jiff::civil::Date),
    /// An instant.
    Timestamp(jiff::Timestamp),
    /// A JSON value, in the bytes of the source.
    Json(Box<RawValue>),
}

impl Value {
    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The instant, if it is one.
    pub fn as_timestamp(&self) -> Option<jiff::Timestamp> {
        match self {
            Self::Timestamp(instant) => Some(*instant),
            _ => None,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Date(a), Self::Date(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Json(a), Self::Json(b)) => a.get() == b.get(),
            _ => false,
        }
    }
}

/// The digest by which a change of a record is seen: of its canonical values, its parent and its whole
/// document, whatever the order of the document's keys and its white space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentHash(pub [u8; 16]);

impl ContentHash {
    /// The digest's bytes, as destinations store them.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A record in canonical shape, with the document that it came from.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// The source's id.
    pub external_id: ExternalId,
    /// One value per field of the schema, in its order.
    pub values: Vec<Value>,
    /// The document, in the bytes of the source.
    pub raw: Box<RawValue>,
    /// The digest by which a change is seen.
    pub content_hash: ContentHash,
    /// When the source says that the record last changed.
    pub source_updated_at: Option<jiff::Timestamp>,
    /// The parent under which the record was listed, for nested lists.
    pub parent_id: Option<ExternalId>,
}

/// A document that could not become a record. It never fails its page.
#[derive(Debug, Clone, Serialize)]
pub struct Quarantined {
    /// The source's id, if it could be read.
    pub external_id: Option<ExternalId>,
    /// Why.
    pub reason: QuarantineReason,
    /// The document, in the bytes of the source.
    pub raw: Box<RawValue>,
}

/// Why a document could not become a record. Holds kinds and names, never the values themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum QuarantineReason {
    /// The document is no JSON object, or nested deeper than 128 levels.
    #[error("the document is no readable JSON object")]
    Unreadable,
    /// The document has no id.
    #[error("the document has no id")]
    MissingId,
    /// The document's id is no valid external id.
    #[error("the document's id is not valid")]
    InvalidId,
    /// The document is of another type than the list promised.
    #[error("the document is a {found:?}, not a {expected:?}")]
    WrongRecordType {
        /// The type that the entity has.
        expected: String,
        /// The type that the document says, shortened.
        found: String,
    },
    /// A required column has no value.
    #[error("{column} is required, but has no value")]
    MissingValue {
        /// The column.
        column: ColumnName,
    },
    /// A value cannot become what the column holds.
    #[error("{column}: {found} cannot become {expected}")]
    BadValue {
        /// The column.
        column: ColumnName,
        /// What the column holds.
        expected: String,
        /// The kind of the JSON value.
        found: String,
    },
    /// A reference names a record of another type than the column's entity.
    #[error("{column} refers to a {found:?}, not to a {expected:?}")]
    WrongReference {
        /// The column.
        column: ColumnName,
        /// The type that the column's entity has.
        expected: String,
        /// The type that the document says, shortened.
        found: String,
    },
}
