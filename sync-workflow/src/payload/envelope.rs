//! How a stored payload says what was done with it.
//!
//! A JSON text begins with no byte as low as those of [`Envelope`]. So a payload that begins with one of them is in an
//! envelope: that byte, and what it needs. A payload without one is what it was before there were any.

use bytes::{BufMut as _, Bytes, BytesMut};

/// What was done with a payload. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Envelope {
    /// Nothing: it begins with such a byte by itself. The rest is the payload.
    Verbatim = 1,
    /// It was compressed with zstd. What it decompresses to may have an envelope of its own.
    Zstd = 2,
    /// It was encrypted with AES-256-GCM. What it decrypts to may have an envelope of its own.
    Aes256Gcm = 3,
    /// It is kept in pieces, in a table of its own. The rest says which: a [`Reference`](super::reference::Reference).
    Offloaded = 4,
}

/// The most that envelopes add to a payload, in bytes.
pub(crate) const MAX_ENVELOPE_BYTES: usize = 128;

/// The last byte that an envelope of this or a later version begins with.
const LAST: u8 = 8;

/// Whether a stored payload has an envelope, of this version or of a later one.
pub(crate) fn is_enveloped(stored: &[u8]) -> bool {
    stored.first().is_some_and(|byte| (1..=LAST).contains(byte))
}

/// The outermost envelope of a stored payload, if there is one: the byte that says which, and what is in it.
pub(crate) fn opened(stored: &Bytes) -> Option<(u8, Bytes)> {
    let byte = stored.first().copied()?;
    is_enveloped(stored).then(|| (byte, stored.slice(1..)))
}

impl Envelope {
    /// The envelope that a byte stands for, if this version knows it.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Verbatim, Self::Zstd, Self::Aes256Gcm, Self::Offloaded]
            .into_iter()
            .find(|envelope| *envelope as u8 == byte)
    }
}

/// The payload, in an envelope if it looks as if it had one.
pub(crate) fn distinct(payload: &Bytes) -> Bytes {
    if !is_enveloped(payload) {
        return payload.clone();
    }
    let mut enveloped = BytesMut::with_capacity(payload.len() + 1);
    enveloped.put_u8(Envelope::Verbatim as u8);
    enveloped.put_slice(payload);
    enveloped.freeze()
}
