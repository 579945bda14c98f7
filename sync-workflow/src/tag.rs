//! Tags: short texts under names, by which runs are found.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

/// The tags of a run, or those that a filter asks for: a value for each name.
///
/// Names are few and belong to the code (`tenant`, `stage`); values come from the data. Who lists runs by a tag gets
/// them from an index.
///
/// ```
/// use sync_workflow::tag::Tags;
///
/// # fn main() -> Result<(), sync_workflow::tag::InvalidTag> {
/// let tags = Tags::new().with("tenant", "42")?.with("stage", "paid")?;
/// assert_eq!(tags.get("tenant"), Some("42"));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeMap<Arc<str>, Arc<str>>);

impl Tags {
    /// How many tags a run may be started with, and how many names its code may set.
    pub const MAX: usize = 32;
    /// The longest name, in bytes.
    pub const MAX_NAME_BYTES: usize = 64;
    /// The longest value, in bytes: with its name it fits an entry of an index with room to spare.
    pub const MAX_VALUE_BYTES: usize = 256;

    /// No tags.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// These tags and one more, which takes the place of one of the same name.
    ///
    /// # Errors
    ///
    /// [`InvalidTag`] when name or value is out of bounds, or there are [`Self::MAX`] tags.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, InvalidTag> {
        check(name, value)?;
        if self.0.len() >= Self::MAX && !self.0.contains_key(name) {
            return Err(InvalidTag::TooMany);
        }
        self.0.insert(name.into(), value.into());
        Ok(self)
    }

    /// The value under a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| &**value)
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether each of these is among the others, with the same value.
    #[must_use]
    pub fn are_among(&self, others: &Self) -> bool {
        self.0
            .iter()
            .all(|(name, value)| others.0.get(name) == Some(value))
    }

    /// What a run whose tags these are has after a change.
    pub(crate) fn change(&mut self, change: &TagChange) {
        match &change.value {
            Some(value) => self.0.insert(Arc::clone(&change.name), Arc::clone(value)),
            None => self.0.remove(&change.name),
        };
    }

    /// What a run keeps in the run in which it continues: the first [`Self::MAX`], by their names.
    pub(crate) fn carried_over(&self) -> Self {
        let first = self.0.iter().take(Self::MAX);
        Self(
            first
                .map(|(name, value)| (Arc::clone(name), Arc::clone(value)))
                .collect(),
        )
    }
}

/// A tag that the code of a run sets, or takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagChange {
    /// Its name.
    pub name: Arc<str>,
    /// Its value; `None` takes the tag away.
    pub value: Option<Arc<str>>,
}

/// Why a text cannot be a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTag {
    /// The name is the empty text.
    #[error("the name of a tag is empty")]
    EmptyName,
    /// The name is longer than [`Tags::MAX_NAME_BYTES`].
    #[error(
        "the name of a tag has {bytes} bytes, more than {}",
        Tags::MAX_NAME_BYTES
    )]
    NameTooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The value is longer than [`Tags::MAX_VALUE_BYTES`].
    #[error(
        "the value of a tag has {bytes} bytes, more than {}",
        Tags::MAX_VALUE_BYTES
    )]
    ValueTooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The text holds a NUL character, which Postgres cannot store.
    #[error("a tag holds a NUL character")]
    Nul,
    /// There are [`Tags::MAX`] tags already.
    #[error("more than {} tags", Tags::MAX)]
    TooMany,
}

/// Whether name and value are within their bounds.
pub(crate) fn check(name: &str, value: &str) -> Result<(), InvalidTag> {
    if name.is_empty() {
        return Err(InvalidTag::EmptyName);
    }
    if name.len() > Tags::MAX_NAME_BYTES {
        return Err(InvalidTag::NameTooLong { bytes: name.len() });
    }
    if value.len() > Tags::MAX_VALUE_BYTES {
        return Err(InvalidTag::ValueTooLong { bytes: value.len() });
    }
    if name.contains('\0') || value.contains('\0') {
        return Err(InvalidTag::Nul);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_out_of_bounds_is_refused() {
        let refused = |name: &str, value: &str| Tags::new().with(name, value).unwrap_err();
        assert_eq!(refused("", "a"), InvalidTag::EmptyName);
        assert_eq!(
            refused(&"a".repeat(65), ""),
            InvalidTag::NameTooLong { bytes: 65 }
        );
        assert_eq!(
            refused("a", &"a".repeat(257)),
            InvalidTag::ValueTooLong { bytes: 257 }
        );
        assert_eq!(refused("a", "\0"), InvalidTag::Nul);
        let full = (0..Tags::MAX).try_fold(Tags::new(), |tags, n| tags.with(&n.to_string(), ""));
        let full = full.unwrap().with("7", "again").unwrap();
        assert_eq!(full.with("one more", ""), Err(InvalidTag::TooMany));
    }
}
