//! Each example as a process.
