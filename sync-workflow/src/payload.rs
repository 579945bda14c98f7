//! Payloads: typed values as the bytes that the journal keeps.
//!
//! Values are JSON texts. `Codecs` say what is done with those on their way to storage: compression (feature `zstd`),
//! encryption (feature `encryption`), and where large ones are kept.

#[cfg(feature = "runtime")]
mod codecs;
#[cfg(feature = "zstd")]
mod compression;
#[cfg(feature = "encryption")]
mod encryption;
pub(crate) mod envelope;
#[cfg(feature = "runtime")]
pub(crate) mod reference;

#[cfg(feature = "runtime")]
pub use codecs::{CodecError, Codecs};
#[cfg(feature = "encryption")]
pub use encryption::{EncryptionKeys, InvalidKeyId};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    failure::{Failure, FailureKind},
    record,
};

/// Encodes a value as JSON.
///
/// # Errors
///
/// A final [`Failure`] when the value has no JSON form, such as a map with keys that are no texts.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, Failure> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| {
        Failure::of_kind(
            FailureKind::Undecodable,
            format!("a value has no JSON form: {error}"),
        )
        .into_final()
    })
}

/// Decodes a value from JSON.
///
/// # Errors
///
/// A final [`Failure`] that says where the stored value does not fit the type.
pub(crate) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(payload).map_err(|error| {
        let expected = std::any::type_name::<T>();
        let message = match envelope::is_enveloped(payload) {
            true => format!("a stored value is compressed, encrypted or offloaded, and no codecs were given to read this {expected}"),
            false => format!("a stored value is no {expected}: {error}"),
        };
        Failure::of_kind(FailureKind::Undecodable, message).into_final()
    })
}

/// The fingerprint of an encoded value. The members of an object may come in any order, because a
/// `HashMap` writes them in another order in each process.
pub(crate) fn fingerprint(payload: &[u8]) -> u64 {
    if !payload.contains(&b'{') {
        return record::fingerprint(payload);
    }
    match serde_json::from_slice::<Value>(payload) {
        Ok(value) => {
            let mut canonical = Vec::with_capacity(payload.len());
            write_canonical(&value, &mut canonical);
            record::fingerprint(&canonical)
        }
        Err(_) => record::fingerprint(payload),
    }
}

fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                write_canonical(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push(b'{');
            for (name, member) in members {
                out.extend_from_slice(name.as_bytes());
                out.push(b'\0');
                write_canonical(member, out);
                out.push(b',');
            }
            out.push(b'}');
        }
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_members_does_not_change_a_fingerprint() {
        assert_eq!(
            fingerprint(br#"{"a":1,"b":[{"c":2,"d":3}]}"#),
            fingerprint(br#"{"b":[{"d":3,"c":2}],"a":1}"#)
        );
    }

    #[test]
    fn a_changed_value_changes_the_fingerprint() {
        assert_ne!(fingerprint(br#"{"a":1}"#), fingerprint(br#"{"a":2}"#));
        assert_ne!(fingerprint(br#"[1,2]"#), fingerprint(br#"[2,1]"#));
    }
}
