//! The kinds of record that the server holds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entity {
    /// A site of the organisation.
    Campus,
    /// A person; the root of most relations.
    Person,
    /// A household; it names its people, and one of them as primary contact.
    Household,
    /// One person's place in one household; listed only beneath a household or a person.
    HouseholdMembership,
    /// An email address of a person.
    Email,
    /// A phone number of a person.
    PhoneNumber,
    /// A postal address of a person; its list cannot be filtered by time.
    Address,
    /// The log of people who were merged into others.
    PersonMerger,
    /// A kind of group.
    GroupType,
    /// A group; it has no `updated_at`.
    Group,
    /// One person's place in one group; listed only beneath a group or a person.
    Membership,
    /// A meeting of a group; it has neither `created_at` nor `updated_at`.
    Event,
}

impl Entity {
    /// Every kind, parents before children.
    pub const ALL: [Self; 12] = [
        Self::Campus,
        Self::Person,
        Self::Household,
        Self::HouseholdMembership,
        Self::Email,
        Self::PhoneNumber,
        Self::Address,
        Self::PersonMerger,
        Self::GroupType,
        Self::Group,
        Self::Membership,
        Self::Event,
    ];

    /// The `type` of its documents: `PhoneNumber`.
    pub fn kind(self) -> &'static str {
        self.spec().kind
    }

    /// The last part of its collection's path: `phone_numbers`.
    pub fn collection(self) -> &'static str {
        self.spec().collection
    }

    /// The path of its list, or `None` for what is listed only beneath a parent.
    pub fn list_path(self) -> Option<String> {
        let spec = self.spec();
        spec.parent
            .is_none()
            .then(|| format!("/{}/v2/{}", spec.product.path(), spec.collection))
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.collection())
    }
}

impl FromStr for Entity {
    type Err = Error;

    /// Reads a collection (`phone_numbers`), a kind (`PhoneNumber`) or the name of one (`phone_number`).
    fn from_str(text: &str) -> Result<Self, Error> {
        let named = serde_json::from_value(text.into()).ok();
        let called = |entity: &Self| entity.collection() == text || entity.kind() == text;
        named
            .or_else(|| Self::ALL.into_iter().find(called))
            .ok_or_else(|| Error::UnknownEntity(text.to_owned()))
    }
}

/// A family of endpoints that a token may or may not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    /// `/people/v2`
    People,
    /// `/groups/v2`
    Groups,
}

impl Product {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Groups => "groups",
        }
    }

    pub(crate) fn of_path(segment: &str) -> Option<Self> {
        match segment {
            "people" => Some(Self::People),
            "groups" => Some(Self::Groups),
            _ => None,
        }
    }
}
