//! A digest of JSON that does not depend on the order of keys, on white space or on escapes.

use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

/// The digest of one JSON value.
pub(super) type Digest = u128;

const STRING_SEED: u64 = 1;
const KEY_SEED: u64 = 2;
const INTEGER_SEED: u64 = 3;
const FLOAT_SEED: u64 = 4;
const OBJECT_SEED: u64 = 5;
const ARRAY_SEED: u64 = 6;

pub(super) const NULL: Digest = 0x6e75_6c6c;
pub(super) const TRUE: Digest = 0x7472_7565;
pub(super) const FALSE: Digest = 0x0066_616c_7365;

pub(super) fn string(text: &str) -> Digest {
    xxh3_128_with_seed(text.as_bytes(), STRING_SEED)
}

pub(super) fn key(text: &str) -> Digest {
    xxh3_128_with_seed(text.as_bytes(), KEY_SEED)
}

pub(super) fn integer(number: i128) -> Digest {
    xxh3_128_with_seed(&number.to_le_bytes(), INTEGER_SEED)
}

/// `1.0` and `1` are one number in JSON.
pub(super) fn float(number: f64) -> Digest {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        return integer(number as i128);
    }
    xxh3_128_with_seed(&number.to_bits().to_le_bytes(), FLOAT_SEED)
}

/// Gathers the entries of an object in any order.
#[derive(Default)]
pub(super) struct Object {
    sum: u128,
    entries: u64,
}

impl Object {
    pub(super) fn add(&mut self, key: Digest, value: Digest) {
        self.sum = self.sum.wrapping_add(xxh3_128(&pair(key, value)));
        self.entries += 1;
    }

    pub(super) fn finish(self) -> Digest {
        xxh3_128_with_seed(&pair(self.sum, u128::from(self.entries)), OBJECT_SEED)
    }
}

/// Gathers the items of an array in their order.
#[derive(Default)]
pub(super) struct Array {
    chain: u128,
    items: u64,
}

impl Array {
    pub(super) fn add(&mut self, item: Digest) {
        self.chain = xxh3_128(&pair(self.chain, item));
        self.items += 1;
    }

    pub(super) fn finish(self) -> Digest {
        xxh3_128_with_seed(&pair(self.chain, u128::from(self.items)), ARRAY_SEED)
    }
}

fn pair(first: u128, second: u128) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&first.to_le_bytes());
    bytes[16..].copy_from_slice(&second.to_le_bytes());
    bytes
}
