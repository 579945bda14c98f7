//! From an API's document to the canonical record, as the manifest declares it.
//!
//! A [`Mapping`] is the declaration; [`Mapper`] is the same, compiled, and maps documents in one pass
//! without building a tree. A value that does not fit sets its document aside as [`Quarantined`];
//! nothing that an API sends fails a page or panics. Attributes that no field names stay in the raw
//! document, and count for the content hash.
//!
//! [`Quarantined`]: crate::record::Quarantined

mod convert;
mod digest;
mod mapper;
mod plan;
mod walk;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use self::mapper::Mapper;
use crate::{
    names::ColumnName,
    path::{InvalidPath, JsonPath},
};

/// How an API's document becomes the canonical columns of its entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Where the id lies: a text or a whole number.
    pub id: JsonPath,
    /// Where the document tells its type, when it does; a document of another type is quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_type: Option<JsonPath>,
    /// The column that tells when the source last changed the record; by default the cursor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<ColumnName>,
    /// Parts that may differ between two readings of an unchanged record, such as links. They stay in
    /// the raw document, but do not count for the content hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<JsonPath>,
    /// The columns and where their values come from.
    pub fields: Vec<FieldMapping>,
}

/// Where one column's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldMapping {
    /// The column.
    pub column: ColumnName,
    /// Its source.
    pub from: Source,
    /// How the value is read; by default as the column's type says, or as a reference for a foreign key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convert: Option<Convert>,
}

/// The source of a column's value: a path in the document, or `$parent` for the id of the parent under
/// which the record was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A place in the document.
    Path(JsonPath),
    /// The id of the walked parent.
    Parent,
}

/// How a value is read when the column's type alone does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Convert {
    /// As the column's type says.
    Typed,
    /// The id in an object `{"type": …, "id": …}`, or the id itself.
    Reference,
    /// The ids in an array of such objects, as a JSON array of texts.
    ReferenceIds,
    /// An instant as seconds since 1970.
    UnixSeconds,
    /// An instant as milliseconds since 1970.
    UnixMillis,
}

impl FromStr for Source {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        Ok(if text == "$parent" {
            Self::Parent
        } else {
            Self::Path(text.parse()?)
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.fmt(f),
            Self::Parent => f.write_str("$parent"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
