//! Names and ids: newtypes that are valid from the moment they exist.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A name or id that breaks the rules of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// The text is empty.
    #[error("{kind} is empty")]
    Empty {
        /// What the text was meant to be.
        kind: &'static str,
    },
    /// The text is longer than its kind allows.
    #[error("{kind} is {length} bytes long, more than {limit}")]
    TooLong {
        /// What the text was meant to be.
        kind: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The longest allowed length in bytes.
        limit: usize,
    },
    /// The text holds a character that its kind does not allow at this place.
    #[error("{kind} {text:?} has {character:?} at byte {position}")]
    Character {
        /// What the text was meant to be.
        kind: &'static str,
        /// The text itself.
        text: String,
        /// The offending character.
        character: char,
        /// Its byte position.
        position: usize,
    },
    /// The name is one that every destination table already has.
    #[error("{kind} {text:?} is reserved")]
    Reserved {
        /// What the text was meant to be.
        kind: &'static str,
        /// The text itself.
        text: String,
    },
}

/// The rules of one kind of name.
struct Rules {
    kind: &'static str,
    limit: usize,
    first: fn(char) -> bool,
    rest: fn(char) -> bool,
    reserved: &'static [&'static str],
}

impl Rules {
    fn check(&self, text: &str) -> Result<(), InvalidName> {
        let kind = self.kind;
        if text.is_empty() {
            return Err(InvalidName::Empty { kind });
        }
        if text.len() > self.limit {
            return Err(InvalidName::TooLong {
                kind,
                length: text.len(),
                limit: self.limit,
            });
        }
        for (position, character) in text.char_indices() {
            let allowed = if position == 0 { self.first } else { self.rest };
            if !allowed(character) {
                return Err(InvalidName::Character {
                    kind,
                    text: text.to_owned(),
                    character,
                    position,
                });
            }
        }
        if self.reserved.contains(&text) {
            return Err(InvalidName::Reserved {
                kind,
                text: text.to_owned(),
            });
        }
        Ok(())
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident($storage:ty), $rules:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($storage);

        impl $name {
            const RULES: Rules = $rules;

            /// Takes the text, if it is valid.
            ///
            /// # Errors
            /// [`InvalidName`] tells which rule the text breaks.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                let text = text.as_ref();
                Self::RULES.check(text)?;
                Ok(Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;

            fn try_from(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(text).map_err(D::Error::custom)
            }
        }
    };
}

name! {
    /// One tenant: the organisation whose data is synced.
    ///
    /// Letters, digits, `.`, `_`, `-` and `@`, at most 128 bytes. No `:`, which separates the parts of
    /// an idempotency key.
    OrgId(Arc<str>),
    Rules {
        kind: "organisation id",
        limit: 128,
        first: |c| c.is_ascii_alphanumeric(),
        rest: |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@'),
        reserved: &[],
    }
}

name! {
    /// One source API, such as `pco`: lower case letters, digits and `_`, at most 20 bytes.
    AdapterName(Arc<str>),
    Rules {
        kind: "adapter name",
        limit: 20,
        first: |c| c.is_ascii_lowercase(),
        rest: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_',
        reserved: &[],
    }
}

name! {
    /// One kind of record, such as `Person`: letters, digits and `_`, at most 40 bytes.
    EntityName(Arc<str>),
    Rules {
        kind: "entity name",
        limit: 40,
        first: |c| c.is_ascii_alphabetic(),
        rest: |c| c.is_ascii_alphanumeric() || c == '_',
        reserved: &[],
    }
}

name! {
    /// One column of the canonical schema: lower case letters, digits and `_`, at most 63 bytes.
    ///
    /// The columns that every destination table has of itself ([`ColumnName::RESERVED`]) are refused.
    ColumnName(Arc<str>),
    Rules {
        kind: "column name",
        limit: 63,
        first: |c| c.is_ascii_lowercase(),
        rest: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_',
        reserved: ColumnName::RESERVED,
    }
}

name! {
    /// The id that the source gives a record; unique within (organisation, adapter, entity).
    ///
    /// Always text, also where the API sends a number. At most 255 bytes, no control characters.
    ExternalId(Box<str>),
    Rules {
        kind: "external id",
        limit: 255,
        first: |c| !c.is_control() && !c.is_whitespace(),
        rest: |c| !c.is_control(),
        reserved: &[],
    }
}

impl EntityName {
    /// The name in snake case, as tables are named: `PhoneNumber` becomes `phone_number`.
    ///
    /// ```
    /// # use sync_core::EntityName;
    /// assert_eq!(EntityName::new("PhoneNumber")?.snake_case(), "phone_number");
    /// # Ok::<(), sync_core::InvalidName>(())
    /// ```
    pub fn snake_case(&self) -> String {
        let mut snake = String::with_capacity(self.0.len() + 4);
        let mut previous_is_upper = true;
        for character in self.0.chars() {
            if character.is_ascii_uppercase() && !previous_is_upper {
                snake.push('_');
            }
            previous_is_upper = character.is_ascii_uppercase() || character == '_';
            snake.push(character.to_ascii_lowercase());
        }
        snake
    }
}

impl ColumnName {
    /// The columns that every destination table has beside those of the schema.
    pub const RESERVED: &'static [&'static str] = &[
        "org_id",
        "external_id",
        "content_hash",
        "raw",
        "generation",
        "first_seen_at",
        "synced_at",
        "deleted_at",
        "source_updated_at",
    ];
}

impl From<u64> for ExternalId {
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

impl From<i64> for ExternalId {
    fn from(number: i64) -> Self {
        Self(number.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organisation_id_cannot_hold_the_key_separator() {
        assert!(matches!(
            OrgId::new("acme:2"),
            Err(InvalidName::Character {
                character: ':',
                position: 4,
                ..
            })
        ));
        assert_eq!(OrgId::new("acme-2").unwrap().as_str(), "acme-2");
    }

    #[test]
    fn a_reserved_column_is_refused() {
        assert!(matches!(
            ColumnName::new("raw"),
            Err(InvalidName::Reserved { .. })
        ));
        assert!(ColumnName::new("raw_html").is_ok());
    }

    #[test]
    fn external_ids_are_bounded_and_printable() {
        assert!(matches!(
            ExternalId::new(""),
            Err(InvalidName::Empty { .. })
        ));
        assert!(matches!(
            ExternalId::new("a\u{0}"),
            Err(InvalidName::Character { .. })
        ));
        assert!(matches!(
            ExternalId::new("x".repeat(256)),
            Err(InvalidName::TooLong { .. })
        ));
        assert_eq!(ExternalId::from(12_u64).as_str(), "12");
    }

    #[test]
    fn deserialising_checks_the_rules() {
        assert!(serde_json::from_str::<AdapterName>("\"Pco\"").is_err());
        assert_eq!(
            serde_json::from_str::<AdapterName>("\"pco\"")
                .unwrap()
                .as_str(),
            "pco"
        );
    }

    #[test]
    fn snake_case_keeps_acronyms_together() {
        let snake = |name: &str| EntityName::new(name).unwrap().snake_case();
        assert_eq!(snake("Person"), "person");
        assert_eq!(snake("CheckInEvent"), "check_in_event");
        assert_eq!(snake("already_snake"), "already_snake");
        assert_eq!(snake("URLs"), "urls");
    }
}
