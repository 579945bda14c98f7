//! What is done with payloads between the engine and its storage.

use std::{fmt, sync::Arc};

use bytes::Bytes;

#[cfg(feature = "zstd")]
use super::compression::Compression;
#[cfg(feature = "encryption")]
use super::encryption::EncryptionKeys;
use super::envelope::{self, Envelope};
use crate::journal::{Journal, MAX_PAYLOAD_BYTES, coded::Coded};

/// What is done with payloads before they are stored: inputs, outputs, signals, updates, published values, failures
/// and progress details. Ids, names, the reasons of parked runs and trace contexts stay as they are.
///
/// Give the same chain to every worker and client of a journal: [`WorkerBuilder::codecs`] and [`Client::codecs`]. Each
/// stored payload says how it is encoded, so a chain may change at any time, and payloads from before are read as they
/// are. What a command asked for is compared before it is encoded: a run replays whichever chain stored it.
///
/// [`WorkerBuilder::codecs`]: crate::WorkerBuilder::codecs
/// [`Client::codecs`]: crate::Client::codecs
///
/// ```
/// # #[cfg(all(feature = "zstd", feature = "encryption"))]
/// # fn example() -> Result<(), sync_workflow::payload::InvalidKeyId> {
/// use sync_workflow::payload::{Codecs, EncryptionKeys};
///
/// # let (key, last_year) = ([1; 32], [2; 32]);
/// let keys = EncryptionKeys::new("2027", key)?.and_known("2026", last_year)?;
/// let codecs = Codecs::json().zstd(3).aes_256_gcm(keys);
/// # let _ = codecs; Ok(()) }
/// # #[cfg(all(feature = "zstd", feature = "encryption"))]
/// # example().unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Codecs {
    #[cfg(feature = "zstd")]
    compression: Option<Compression>,
    #[cfg(feature = "encryption")]
    keys: Option<EncryptionKeys>,
    offload: Option<Offload>,
}

/// Which payloads are offloaded.
#[derive(Debug, Clone, Copy)]
struct Offload {
    /// From this size on, in bytes as they are stored.
    from: usize,
    /// The largest, in bytes before they are encoded.
    up_to: usize,
}

/// The smallest payload that is offloaded, unless the caller says otherwise: what a commit of many runs carries without
/// keeping them waiting.
const OFFLOAD_FROM: usize = 256 * 1024;
/// The largest, unless the caller says otherwise: a replay has all payloads of its run in memory.
const OFFLOAD_UP_TO: usize = 64 * 1024 * 1024;
/// The largest that can be asked for.
const MOST_OFFLOADED: usize = 1024 * 1024 * 1024;

impl Default for Offload {
    fn default() -> Self {
        Self {
            from: OFFLOAD_FROM,
            up_to: OFFLOAD_UP_TO,
        }
    }
}

impl Codecs {
    /// Payloads as they are: JSON texts.
    #[must_use]
    pub fn json() -> Self {
        Self::default()
    }

    /// Compresses payloads of 1 KiB and more with zstd, where that makes them smaller. `level` is 1 (fast) to 22
    /// (small); 3 is a good one.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn zstd(mut self, level: i32) -> Self {
        self.compression = Some(Compression::new(level));
        self
    }

    /// Compresses payloads from so many bytes on, instead of 1 KiB.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn zstd_from(mut self, bytes: usize) -> Self {
        self.compression = self.compression.map(|zstd| zstd.from(bytes));
        self
    }

    /// Encrypts payloads with AES-256-GCM: with the newest of the keys, and decrypts those that any of them encrypted.
    ///
    /// Equal payloads are equal once encrypted with the same key, so that a write that is repeated is the same write.
    /// Whoever reads the database learns which payloads are equal, and how long they are about.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn aes_256_gcm(mut self, keys: EncryptionKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Offloads payloads that have 256 KiB or more once they are encoded, of up to 64 MiB before: to pieces in a table of
    /// their own, while their record refers to them. It is the last step of a chain, wherever it is named.
    ///
    /// So are the inputs of runs, and what activities and child workflows return and runs end with. What is signalled,
    /// published or reported as progress, what a transactional step returns, and the inputs of runs that are started in a
    /// transaction of the caller's or debounced stay in their rows, up to
    /// [`MAX_PAYLOAD_BYTES`](crate::journal::MAX_PAYLOAD_BYTES).
    #[must_use]
    pub fn offload(mut self) -> Self {
        self.offload = Some(self.offload.unwrap_or_default());
        self
    }

    /// As [`Self::offload`], from so many bytes on, as they are stored, instead of 256 KiB; 4 MiB at most.
    #[must_use]
    pub fn offload_from(mut self, bytes: usize) -> Self {
        self.offload = Some(Offload {
            from: bytes.min(MAX_PAYLOAD_BYTES),
            ..self.offload.unwrap_or_default()
        });
        self
    }

    /// As [`Self::offload`], of up to so many bytes, instead of 64 MiB; 4 MiB at least, 1 GiB at most. All payloads of a
    /// run are in memory while it is.
    #[must_use]
    pub fn offload_up_to(mut self, bytes: usize) -> Self {
        self.offload = Some(Offload {
            up_to: bytes.clamp(MAX_PAYLOAD_BYTES, MOST_OFFLOADED),
            ..self.offload.unwrap_or_default()
        });
        self
    }

    /// The longest payload that a record may hold or refer to, in bytes.
    pub(crate) fn max_payload_bytes(&self) -> usize {
        self.offload
            .map_or(MAX_PAYLOAD_BYTES, |offload| offload.up_to)
    }

    /// Whether a payload is offloaded, as it is stored.
    pub(crate) fn offloads(&self, stored: &Bytes) -> bool {
        self.offload
            .is_some_and(|offload| stored.len() >= offload.from.max(1))
    }

    /// A journal whose payloads are encoded on their way to storage and decoded on their way back.
    ///
    /// For what reads a journal itself; a worker and a client are told the chain and need no such thing.
    #[must_use]
    pub fn on(&self, journal: Arc<dyn Journal>) -> Arc<dyn Journal> {
        Arc::new(Coded::new(journal, self.clone()))
    }

    /// A payload as it is stored. The same payload gives the same bytes each time.
    ///
    /// # Errors
    ///
    /// [`CodecError::Failed`] when it cannot be encoded.
    pub fn encode(&self, payload: &Bytes) -> Result<Bytes, CodecError> {
        // That there is nothing is no secret, and costs nothing.
        if payload.is_empty() {
            return Ok(payload.clone());
        }
        let stored = envelope::distinct(payload);
        #[cfg(feature = "zstd")]
        let stored = match &self.compression {
            Some(compression) => compression.compress(stored)?,
            None => stored,
        };
        #[cfg(feature = "encryption")]
        let stored = match &self.keys {
            Some(keys) => keys.encrypt(&stored)?,
            None => stored,
        };
        Ok(stored)
    }

    /// A payload as it was before it was stored, whichever chain stored it.
    ///
    /// # Errors
    ///
    /// [`CodecError`] when the key is not known, the bytes are damaged, or it is larger than a payload may be.
    pub fn decode(&self, stored: &Bytes) -> Result<Bytes, CodecError> {
        /// More envelopes around one another than any version has written.
        const TOO_MANY: usize = 4;
        let mut payload = stored.clone();
        for _ in 0..TOO_MANY {
            let Some((byte, rest)) = envelope::opened(&payload) else {
                return Ok(payload);
            };
            payload = match Envelope::from_byte(byte) {
                Some(Envelope::Verbatim) => return Ok(rest),
                Some(Envelope::Zstd) => decompress(&rest, self.max_payload_bytes())?,
                Some(Envelope::Aes256Gcm) => self.decrypt(&rest)?,
                Some(Envelope::Offloaded) => return Err(CodecError::Offloaded),
                None => return Err(CodecError::UnknownEnvelope { byte }),
            };
        }
        Err(CodecError::Damaged { what: "envelopes" })
    }

    #[cfg(feature = "encryption")]
    fn decrypt(&self, encrypted: &[u8]) -> Result<Bytes, CodecError> {
        EncryptionKeys::decrypt(self.keys.as_ref(), encrypted)
    }

    #[cfg(not(feature = "encryption"))]
    fn decrypt(&self, _encrypted: &[u8]) -> Result<Bytes, CodecError> {
        Err(CodecError::NotBuilt {
            feature: "encryption",
        })
    }
}

#[cfg(feature = "zstd")]
fn decompress(compressed: &[u8], limit: usize) -> Result<Bytes, CodecError> {
    Compression::decompress(compressed, limit)
}

#[cfg(not(feature = "zstd"))]
fn decompress(_compressed: &[u8], _limit: usize) -> Result<Bytes, CodecError> {
    Err(CodecError::NotBuilt { feature: "zstd" })
}

/// Names what is done, and no key.
impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chain = f.debug_struct("Codecs");
        #[cfg(feature = "zstd")]
        chain.field("compression", &self.compression);
        #[cfg(feature = "encryption")]
        chain.field("keys", &self.keys);
        chain.field("offload", &self.offload);
        chain.finish()
    }
}

/// Why a stored payload cannot be read, or one cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// It was encrypted with a key that is not among those that were given: add it with
    /// `EncryptionKeys::and_known`.
    #[error("a payload is encrypted with the key {key:?}, which is not known here")]
    UnknownKey {
        /// The id of the key.
        key: String,
    },
    /// Its bytes changed since it was stored, or the key of this id is another one.
    #[error("a payload is damaged: its {what} make no sense")]
    Damaged {
        /// Which of its bytes.
        what: &'static str,
    },
    /// It is larger than [`MAX_PAYLOAD_BYTES`](crate::journal::MAX_PAYLOAD_BYTES), or what [`Codecs::offload_up_to`] says,
    /// once it is read.
    #[error("a payload has {bytes} bytes, more than the limit of {limit} bytes")]
    TooLarge {
        /// The size that it claims, in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A newer version stored it.
    #[error("a payload is in an envelope of kind {byte}, which this version does not know")]
    UnknownEnvelope {
        /// Its first byte.
        byte: u8,
    },
    /// It is offloaded from its record, and a piece of it is gone.
    #[error("piece {piece} of a payload that is offloaded is missing")]
    Missing {
        /// Which piece, from zero on.
        piece: u32,
    },
    /// It is offloaded from its record, and only a journal can tell it.
    #[error("a payload is offloaded from its record")]
    Offloaded,
    /// This program was built without the feature that reads it.
    #[error("a payload cannot be read without the feature {feature:?}")]
    NotBuilt {
        /// The feature of this crate.
        feature: &'static str,
    },
    /// A payload could not be encoded.
    #[error("a payload could not be {what}")]
    Failed {
        /// What failed.
        what: &'static str,
    },
}

#[cfg(all(test, feature = "zstd", feature = "encryption"))]
mod tests {
    use super::*;

    fn keys() -> EncryptionKeys {
        EncryptionKeys::new("new", [1; 32])
            .and_then(|keys| keys.and_known("old", [2; 32]))
            .expect("short ids that differ")
    }

    fn chains() -> [Codecs; 4] {
        let json = Codecs::json;
        [
            json(),
            json().zstd(3),
            json().aes_256_gcm(keys()),
            json().zstd(3).zstd_from(0).aes_256_gcm(keys()),
        ]
    }

    #[test]
    fn every_chain_reads_what_every_chain_stored() {
        let long = format!("\"{}\"", "abc".repeat(10_000));
        let payloads: [&[u8]; 9] = [
            b"",
            b"1",
            b"\0",
            b"\x01",
            b"\x02\x01",
            b"\x03",
            b"\x08",
            b"\t1",
            long.as_bytes(),
        ];
        for payload in payloads {
            let payload = Bytes::copy_from_slice(payload);
            for chain in chains() {
                let stored = chain.encode(&payload).unwrap();
                assert_eq!(
                    stored,
                    chain.encode(&payload).unwrap(),
                    "the same each time"
                );
                let keyed = Codecs::json().aes_256_gcm(keys());
                assert_eq!(keyed.decode(&stored).unwrap(), payload, "{chain:?}");
            }
        }
    }

    #[test]
    fn a_json_text_is_stored_as_it_is_unless_something_is_done_with_it() {
        let text = Bytes::from_static(b"{\"a\":1}");
        assert_eq!(Codecs::json().encode(&text).unwrap(), text);
        assert_eq!(
            Codecs::json().zstd(3).encode(&text).unwrap(),
            text,
            "it is short"
        );
    }

    #[test]
    fn what_compresses_well_is_stored_small() {
        let long = Bytes::from("a".repeat(100_000));
        assert!(Codecs::json().zstd(3).encode(&long).unwrap().len() < 1_000);
        assert_eq!(
            Codecs::json()
                .zstd(3)
                .zstd_from(100_001)
                .encode(&long)
                .unwrap(),
            long
        );
    }

    #[test]
    fn a_key_decrypts_as_long_as_it_is_known() {
        let payload = Bytes::from_static(b"1");
        let old = Codecs::json().aes_256_gcm(EncryptionKeys::new("old", [2; 32]).unwrap());
        let stored = old.encode(&payload).unwrap();
        assert_eq!(
            Codecs::json().aes_256_gcm(keys()).decode(&stored).unwrap(),
            payload
        );
        let stored = Codecs::json().aes_256_gcm(keys()).encode(&payload).unwrap();
        for stranger in [old, Codecs::json()] {
            let key = "new".to_owned();
            assert_eq!(
                stranger.decode(&stored),
                Err(CodecError::UnknownKey { key })
            );
        }
        let impostor = EncryptionKeys::new("new", [3; 32]).unwrap();
        let impostor = Codecs::json().aes_256_gcm(impostor);
        assert!(matches!(
            impostor.decode(&stored),
            Err(CodecError::Damaged { .. })
        ));
    }

    #[test]
    fn a_byte_that_changed_is_noticed() {
        let payload = Bytes::from("secret".repeat(20));
        for chain in &chains()[2..] {
            let stored = chain.encode(&payload).unwrap();
            for place in 0..stored.len() {
                let mut damaged = stored.to_vec();
                damaged[place] ^= 0x40;
                let damaged = Bytes::from(damaged);
                let decoded = chain.decode(&damaged);
                // Without its first byte it is no envelope any more, and no JSON either.
                assert!(decoded.is_err() || place == 0, "{place}: {decoded:?}");
                assert_ne!(decoded.as_ref(), Ok(&payload));
            }
            for length in 1..stored.len() {
                assert!(chain.decode(&stored.slice(..length)).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn no_more_is_decompressed_than_a_payload_may_have() {
        let bomb = vec![0_u8; MAX_PAYLOAD_BYTES * 4];
        let frame = zstd::bulk::compress(&bomb, 3).unwrap();
        let stored = |claimed: usize| {
            let claimed = u32::try_from(claimed).unwrap().to_le_bytes();
            Bytes::from([&[Envelope::Zstd as u8][..], &claimed, &frame].concat())
        };
        assert_eq!(
            Codecs::json().decode(&stored(bomb.len())),
            Err(CodecError::TooLarge {
                bytes: bomb.len(),
                limit: MAX_PAYLOAD_BYTES
            })
        );
        // One that lies about its size gets no more room than it claims.
        assert!(matches!(
            Codecs::json().decode(&stored(10)),
            Err(CodecError::Damaged { .. })
        ));
    }

    #[test]
    fn what_a_later_version_stored_is_told() {
        let byte = 7;
        assert_eq!(
            Codecs::json().decode(&Bytes::from(vec![byte])),
            Err(CodecError::UnknownEnvelope { byte })
        );
    }

    #[test]
    fn the_form_of_what_is_stored_never_changes() {
        let keys = EncryptionKeys::new("k", [7; 32]).unwrap();
        let chain = Codecs::json().zstd(3).zstd_from(0).aes_256_gcm(keys);
        let stored: Vec<u8> = GOLDEN
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let decoded = chain.decode(&stored.into()).unwrap();
        assert_eq!(decoded, Bytes::from("a".repeat(64)));
    }

    /// 64 times the letter a, compressed and encrypted.
    const GOLDEN: &[u8] = b"03016bc6caf8521c68cb2b07266d2a3120f454f72af0606702d8fb1071c396a74ec0433fa1496f974834ca67564d4c5a4aa807331d";

    #[test]
    fn keys_are_not_printed_and_ids_are_checked() {
        assert_eq!(format!("{:?}", keys()), "{\"new\", \"old\"}");
        let long = "k".repeat(EncryptionKeys::MAX_ID_BYTES + 1);
        for id in ["", &long] {
            assert!(EncryptionKeys::new(id, [0; 32]).is_err());
        }
        assert!(keys().and_known("old", [3; 32]).is_err());
    }
}
