//! Syncs against the mock API, into SQLite and into Postgres.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod deletions;
mod deltas;
mod faults;
mod full;
mod takeover;
mod world;
mod writers;
