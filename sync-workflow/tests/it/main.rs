//! Tests of the engine through its public interface.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(all(feature = "zstd", feature = "encryption"))]
mod codecs;
mod damage;
mod differential;
mod engine;
mod kinds;
mod memory;
mod offload;
mod postgres;
mod sqlite;
