//! Where a value lies inside a JSON document.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The deepest path that a manifest may name.
const MAX_SEGMENTS: usize = 16;

/// A path of object keys: `meta.next.offset`, or as a JSON Pointer `/meta/next/offset` for keys with dots.
///
/// The empty path is the document itself.
///
/// ```
/// # use sync_core::JsonPath;
/// let dotted: JsonPath = "meta.total_count".parse()?;
/// assert_eq!(dotted, "/meta/total_count".parse()?);
/// assert_eq!(&*dotted.segments()[1], "total_count");
/// # Ok::<(), sync_core::InvalidPath>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JsonPath(Vec<Box<str>>);

/// A text that is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPath {
    /// Two separators follow each other, or one begins or ends the path.
    #[error("path {path:?} has an empty key")]
    EmptyKey {
        /// The text.
        path: String,
    },
    /// The path is deeper than any manifest needs.
    #[error("path {path:?} has more than {MAX_SEGMENTS} keys")]
    TooDeep {
        /// The text.
        path: String,
    },
}

impl JsonPath {
    /// The keys, from the outermost.
    pub fn segments(&self) -> &[Box<str>] {
        &self.0
    }

    /// Whether the path is the document itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for JsonPath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let segments: Vec<Box<str>> = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(unescape).collect(),
            None => text.split('.').map(Box::from).collect(),
        };
        if segments.len() > MAX_SEGMENTS {
            return Err(InvalidPath::TooDeep {
                path: text.to_owned(),
            });
        }
        if segments.iter().any(|segment| segment.is_empty()) {
            return Err(InvalidPath::EmptyKey {
                path: text.to_owned(),
            });
        }
        Ok(Self(segments))
    }
}

fn unescape(segment: &str) -> Box<str> {
    segment.replace("~1", "/").replace("~0", "~").into()
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.iter().any(|segment| segment.contains(['.', '/'])) {
            for segment in &self.0 {
                write!(f, "/{}", segment.replace('~', "~0").replace('/', "~1"))?;
            }
            return Ok(());
        }
        f.write_str(&self.0.join("."))
    }
}

impl Serialize for JsonPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JsonPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_a_dot_survives_as_a_pointer() {
        let path: JsonPath = "/a.b/c~1d/e~0f".parse().unwrap();
        assert_eq!(
            path.segments().iter().map(|s| &**s).collect::<Vec<_>>(),
            ["a.b", "c/d", "e~f"]
        );
        assert_eq!(path.to_string().parse::<JsonPath>().unwrap(), path);
    }

    #[test]
    fn empty_keys_and_endless_paths_are_refused() {
        assert!(matches!(
            "a..b".parse::<JsonPath>(),
            Err(InvalidPath::EmptyKey { .. })
        ));
        assert!(matches!(
            "a.".repeat(40).parse::<JsonPath>(),
            Err(InvalidPath::TooDeep { .. })
        ));
        assert!("".parse::<JsonPath>().unwrap().is_root());
    }
}
