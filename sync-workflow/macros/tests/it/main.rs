//! The attributes, and the words in which what cannot work is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod activities;
mod clippy_file;
mod functions;
mod refused;
