//! Syncs against the mock API, into SQLite and into Postgres.

mod deletions;
mod deltas;
mod faults;
mod full;
mod takeover;
mod world;
mod writers;
