//! Compression with zstd.
//!
//! ```text
//!   2 │ length of what is inside, u32 little-endian │ zstd frame
//! ```

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    codecs::CodecError,
    envelope::{Envelope, MAX_ENVELOPE_BYTES},
};

/// Below so many bytes compression gains too little.
const WORTH_COMPRESSING: usize = 1_024;

/// Bytes before the frame.
const HEADER_BYTES: usize = 5;

/// How payloads are compressed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compression {
    level: i32,
    from_bytes: usize,
}

impl Compression {
    pub(super) const fn new(level: i32) -> Self {
        Self {
            level,
            from_bytes: WORTH_COMPRESSING,
        }
    }

    pub(super) const fn from(self, bytes: usize) -> Self {
        Self {
            from_bytes: bytes,
            ..self
        }
    }

    /// The payload in an envelope, or as it is where that is not smaller.
    pub(super) fn compress(self, payload: Bytes) -> Result<Bytes, CodecError> {
        let Ok(length) = u32::try_from(payload.len()) else {
            return Ok(payload);
        };
        if payload.len() < self.from_bytes.max(HEADER_BYTES) {
            return Ok(payload);
        }
        let failed = |_| CodecError::Failed { what: "compressed" };
        let frame = zstd::bulk::compress(&payload, self.level).map_err(failed)?;
        if frame.len() + HEADER_BYTES >= payload.len() {
            return Ok(payload);
        }
        let mut stored = BytesMut::with_capacity(HEADER_BYTES + frame.len());
        stored.put_u8(Envelope::Zstd as u8);
        stored.put_u32_le(length);
        stored.put_slice(&frame);
        Ok(stored.freeze())
    }

    /// What was compressed. No more memory is taken than the largest payload may have.
    pub(super) fn decompress(stored: &[u8], limit: usize) -> Result<Bytes, CodecError> {
        let damaged = CodecError::Damaged {
            what: "compressed bytes",
        };
        let Some((length, frame)) = stored.split_first_chunk() else {
            return Err(damaged);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > limit + MAX_ENVELOPE_BYTES {
            return Err(CodecError::TooLarge {
                bytes: length,
                limit,
            });
        }
        match zstd::bulk::decompress(frame, length) {
            Ok(payload) if payload.len() == length => Ok(payload.into()),
            Ok(_) | Err(_) => Err(damaged),
        }
    }
}
