//! Encryption with AES-256-GCM.
//!
//! ```text
//!   3 │ length of the key's id │ the key's id │ nonce, 12 bytes │ encrypted │ tag, 16 bytes
//! ```
//!
//! The nonce is a keyed hash of what is encrypted: a payload that is written again is the same bytes again, which is
//! how a commit in doubt is recognised, and no two payloads share a nonce by more than chance.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use bytes::{BufMut as _, Bytes, BytesMut};

use super::{codecs::CodecError, envelope::Envelope};

/// The keys with which payloads are encrypted and decrypted.
///
/// To replace a key: give the new one to every process as a known one ([`Self::and_known`]); then make it the newest
/// ([`Self::new`]) everywhere, with the old one as a known one. The old one is needed as long as the journal has
/// payloads that it encrypted.
///
/// Cloning is cheap. Keys are never printed.
#[derive(Clone)]
pub struct EncryptionKeys(Arc<[Key]>);

#[derive(Clone)]
struct Key {
    id: Arc<str>,
    cipher: Arc<LessSafeKey>,
    nonces: hmac::Key,
}

/// An id that no key can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{id:?} is no id of a key: it has 1 to {} bytes, and no other key has it",
    EncryptionKeys::MAX_ID_BYTES
)]
pub struct InvalidKeyId {
    /// The id.
    pub id: String,
}

impl EncryptionKeys {
    /// The longest id of a key, in bytes.
    pub const MAX_ID_BYTES: usize = 64;

    /// The key that encrypts. Its id is stored beside each payload.
    ///
    /// # Errors
    ///
    /// [`InvalidKeyId`] when the id is empty or longer than [`Self::MAX_ID_BYTES`].
    pub fn new(id: &str, key: [u8; 32]) -> Result<Self, InvalidKeyId> {
        Ok(Self([Key::new(id, &key)?].into()))
    }

    /// Another key, with which payloads are decrypted only.
    ///
    /// # Errors
    ///
    /// [`InvalidKeyId`] as for [`Self::new`], and when another key has the id.
    pub fn and_known(self, id: &str, key: [u8; 32]) -> Result<Self, InvalidKeyId> {
        if self.0.iter().any(|known| &*known.id == id) {
            return Err(InvalidKeyId { id: id.to_owned() });
        }
        let another = Key::new(id, &key)?;
        Ok(Self(self.0.iter().cloned().chain([another]).collect()))
    }

    pub(super) fn encrypt(&self, payload: &[u8]) -> Result<Bytes, CodecError> {
        let failed = CodecError::Failed { what: "encrypted" };
        let Some(newest) = self.0.first() else {
            return Err(failed);
        };
        let header = newest.header();
        let nonce = newest.nonce(payload);
        let length = header.len() + NONCE_LEN + payload.len() + AES_256_GCM.tag_len();
        let mut stored = BytesMut::with_capacity(length);
        stored.put_slice(&header);
        stored.put_slice(&nonce);
        let body = stored.len();
        stored.put_slice(payload);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = newest.cipher.seal_in_place_separate_tag(
            nonce,
            Aad::from(&header),
            &mut stored[body..],
        );
        let tag = sealed.map_err(|_| failed)?;
        stored.put_slice(tag.as_ref());
        Ok(stored.freeze())
    }

    pub(super) fn decrypt(keys: Option<&Self>, stored: &[u8]) -> Result<Bytes, CodecError> {
        let damaged = CodecError::Damaged {
            what: "encrypted bytes",
        };
        let Some(parts) = Parts::of(stored) else {
            return Err(damaged);
        };
        let known = keys.into_iter().flat_map(|keys| keys.0.iter());
        let mut known = known.filter(|key| key.id.as_bytes() == parts.key);
        let Some(key) = known.next() else {
            let key = String::from_utf8_lossy(parts.key).into_owned();
            return Err(CodecError::UnknownKey { key });
        };
        let nonce = Nonce::assume_unique_for_key(parts.nonce);
        let mut opened = parts.sealed.to_vec();
        match key
            .cipher
            .open_in_place(nonce, Aad::from(&key.header()), &mut opened)
        {
            Ok(payload) => {
                let length = payload.len();
                opened.truncate(length);
                Ok(opened.into())
            }
            Err(_) => Err(damaged),
        }
    }
}

/// What is stored after the byte of the envelope.
struct Parts<'a> {
    key: &'a [u8],
    nonce: [u8; NONCE_LEN],
    sealed: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(stored: &'a [u8]) -> Option<Self> {
        let (length, rest) = stored.split_first()?;
        let (key, rest) = rest.split_at_checked(usize::from(*length))?;
        let (nonce, sealed) = rest.split_first_chunk()?;
        Some(Self {
            key,
            nonce: *nonce,
            sealed,
        })
    }
}

impl Key {
    fn new(id: &str, key: &[u8; 32]) -> Result<Self, InvalidKeyId> {
        let invalid = || InvalidKeyId { id: id.to_owned() };
        if id.is_empty() || id.len() > EncryptionKeys::MAX_ID_BYTES {
            return Err(invalid());
        }
        // A key of 32 bytes is always taken.
        let cipher = UnboundKey::new(&AES_256_GCM, key).map_err(|_| invalid())?;
        // Another key than the cipher's, that follows from it.
        let derived = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, key),
            b"sync-workflow nonces",
        );
        Ok(Self {
            id: id.into(),
            cipher: Arc::new(LessSafeKey::new(cipher)),
            nonces: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
        })
    }

    /// What stands before the nonce, and is authenticated with the payload.
    fn header(&self) -> Vec<u8> {
        let length = u8::try_from(self.id.len()).unwrap_or(u8::MAX);
        let mut header = Vec::with_capacity(2 + self.id.len());
        header.extend([Envelope::Aes256Gcm as u8, length]);
        header.extend(self.id.as_bytes());
        header
    }

    fn nonce(&self, payload: &[u8]) -> [u8; NONCE_LEN] {
        let hash = hmac::sign(&self.nonces, payload);
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&hash.as_ref()[..NONCE_LEN]);
        nonce
    }
}

/// Names the keys and shows none.
impl fmt::Debug for EncryptionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|key| &key.id))
            .finish()
    }
}
