//! The canonical shape of an entity: its columns, their types, and which of them point at other entities.

use serde::{Deserialize, Serialize};

use crate::names::{ColumnName, EntityName};

/// The type of a canonical column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// Unicode text.
    Text,
    /// A whole number of 64 bits.
    Integer,
    /// A floating point number of 64 bits.
    Float,
    /// True or false.
    Boolean,
    /// A calendar day without a time or a zone.
    Date,
    /// An instant.
    Timestamp,
    /// Any JSON value, kept as text.
    Json,
}

impl FieldType {
    /// The name that manifests use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Json => "json",
        }
    }
}

/// How strongly one entity needs another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// The dependent cannot sync without it.
    Hard,
    /// It helps when the other comes first; its failure only warns.
    Soft,
    /// No order at all: the reference is resolved in a final pass.
    Deferred,
}

impl Strength {
    /// The name that manifests use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::Deferred => "deferred",
        }
    }
}

/// A column that holds the external id of a record of another entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignKey {
    /// The entity that it points at.
    pub entity: EntityName,
    /// How strongly; when absent, a required column is hard and a nullable one soft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<Strength>,
}

/// One canonical column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The column's name.
    pub name: ColumnName,
    /// Its type.
    #[serde(rename = "type")]
    pub field_type: FieldType,
    /// A required column is never null: a record without it is quarantined.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The entity that the column points at, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<ForeignKey>,
}

impl Field {
    /// How strongly the entity of this column needs the one that it references, if it references one.
    pub fn strength(&self) -> Option<Strength> {
        let key = self.references.as_ref()?;
        let derived = if self.required {
            Strength::Hard
        } else {
            Strength::Soft
        };
        Some(key.strength.unwrap_or(derived))
    }
}

/// The columns of an entity, in the order in which a record holds its values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema {
    /// The columns.
    pub fields: Vec<Field>,
}

impl Schema {
    /// The field of this name and its position.
    pub fn field(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields
            .iter()
            .enumerate()
            .find(|(_, field)| field.name.as_str() == name)
    }

    /// The fields that point at other entities.
    pub fn foreign_keys(&self) -> impl Iterator<Item = (&Field, &ForeignKey)> {
        self.fields
            .iter()
            .filter_map(|field| Some((field, field.references.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(required: bool, strength: Option<Strength>) -> Field {
        Field {
            name: ColumnName::new("person_id").unwrap(),
            field_type: FieldType::Text,
            required,
            references: Some(ForeignKey {
                entity: EntityName::new("Person").unwrap(),
                strength,
            }),
        }
    }

    #[test]
    fn a_required_key_is_hard_and_a_nullable_one_soft_unless_declared() {
        assert_eq!(field(true, None).strength(), Some(Strength::Hard));
        assert_eq!(field(false, None).strength(), Some(Strength::Soft));
        assert_eq!(
            field(false, Some(Strength::Deferred)).strength(),
            Some(Strength::Deferred)
        );
    }
}
