//! What a record holds in place of a payload that is offloaded.

use bytes::{BufMut as _, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_128;

use super::{
    codecs::CodecError,
    envelope::{self, Envelope},
};

/// A payload as it is stored, by its hash and its length. Of the payloads of one run, equal ones are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) digest: u128,
    pub(crate) length: u64,
}

impl Reference {
    pub(crate) fn to(stored: &[u8]) -> Self {
        Self {
            digest: xxh3_128(stored),
            length: stored.len() as u64,
        }
    }

    /// What a record holds.
    pub(crate) fn to_bytes(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(25);
        bytes.put_u8(Envelope::Offloaded as u8);
        bytes.put_u128(self.digest);
        bytes.put_u64(self.length);
        bytes.freeze()
    }

    /// The reference that a record holds, if it holds one.
    ///
    /// # Errors
    ///
    /// [`CodecError::Damaged`] when it looks like one and is none.
    pub(crate) fn in_record(stored: &Bytes) -> Result<Option<Self>, CodecError> {
        let Some((byte, rest)) = envelope::opened(stored) else {
            return Ok(None);
        };
        if byte != Envelope::Offloaded as u8 {
            return Ok(None);
        }
        let damaged = CodecError::Damaged { what: "reference" };
        let (digest, length) = rest.split_first_chunk().ok_or_else(|| damaged.clone())?;
        let length: [u8; 8] = length.try_into().map_err(|_| damaged)?;
        Ok(Some(Self {
            digest: u128::from_be_bytes(*digest),
            length: u64::from_be_bytes(length),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_was_written() {
        let reference = Reference::to(b"a large payload");
        let bytes = reference.to_bytes();
        assert_eq!(Reference::in_record(&bytes), Ok(Some(reference)));
        for other in [&b"{}"[..], b"", b"\x02\0\0", b"\x01\x04"] {
            assert_eq!(Reference::in_record(&Bytes::from_static(other)), Ok(None));
        }
        for length in 1..bytes.len() {
            assert!(
                Reference::in_record(&bytes.slice(..length)).is_err(),
                "{length}"
            );
        }
    }

    #[test]
    fn the_form_of_a_reference_never_changes() {
        let hex: String = Reference::to(b"abc")
            .to_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "0406b05ab6733a618578af5f94892f39500000000000000003");
    }
}
