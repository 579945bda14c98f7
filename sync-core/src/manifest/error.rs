//! What can be wrong with a manifest.

use crate::names::EntityName;

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no YAML, or not that of a manifest.
    #[error("the manifest is not valid YAML")]
    Yaml(#[source] serde_norway::Error),
    /// The text is no JSON, or not that of a manifest.
    #[error("the manifest is not valid JSON")]
    Json(#[source] serde_json::Error),
    /// The manifest cannot be written down.
    #[error("the manifest cannot be serialised")]
    Unserialisable(#[source] serde_json::Error),
    /// A part that concerns no single entity is wrong.
    #[error("{part}: {reason}")]
    Invalid {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Two entities have the same name, or names that make the same table.
    #[error("entities {first} and {second} would share one table")]
    DuplicateEntity {
        /// The one.
        first: EntityName,
        /// The other.
        second: EntityName,
    },
    /// An entity is asked for that the manifest does not hold.
    #[error("there is no entity {entity}")]
    UnknownEntity {
        /// Its name.
        entity: EntityName,
    },
    /// An entity contradicts itself or another one.
    #[error("entity {entity}, {field}: {problem}")]
    Entity {
        /// The entity.
        entity: EntityName,
        /// The field, in the words of the file.
        field: String,
        /// What is wrong.
        problem: EntityProblem,
    },
}

/// What is wrong with an entity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntityProblem {
    /// Two parts have the same name.
    #[error("it occurs twice")]
    Duplicate,
    /// A column is named that the schema does not hold.
    #[error("there is no column {column}")]
    UnknownColumn {
        /// The column.
        column: String,
    },
    /// A required column gets no value.
    #[error("the column is required, but the mapping gives it no value")]
    Unmapped,
    /// An entity is named that the manifest does not hold.
    #[error("there is no entity {entity}")]
    UnknownEntity {
        /// The entity.
        entity: EntityName,
    },
    /// A column has a type that does not fit its use.
    #[error("the column is {found}, but {expected} is needed")]
    WrongType {
        /// Its type.
        found: &'static str,
        /// The types that fit.
        expected: &'static str,
    },
    /// A path template is wrong.
    #[error("the path {path:?} {reason}")]
    Path {
        /// The template.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A number is outside its bounds.
    #[error("{value} is not between {least} and {most}")]
    OutOfBounds {
        /// The number.
        value: u64,
        /// The least allowed.
        least: u64,
        /// The most allowed.
        most: u64,
    },
    /// A part needs another one that is missing.
    #[error("it needs {what}")]
    Needs {
        /// What is missing.
        what: &'static str,
    },
    /// The value is empty.
    #[error("it is empty")]
    Empty,
}
