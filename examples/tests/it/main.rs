//! Each example as a process, on little data.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod gate;
mod graph;
mod mistakes;
mod program;
mod syncs;
