//! The vocabulary of sync, tested from outside.

#![expect(
    clippy::unwrap_used,
    reason = "a test may fail by panicking, also in its helpers"
)]

mod cursor;
mod graph;
mod manifest;
mod mapping;
mod proof;
mod schedule;
