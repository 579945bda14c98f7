//! The adapters against real databases and a real server.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod client;
mod destination;
