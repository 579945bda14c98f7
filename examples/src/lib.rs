//! Shared plumbing of the examples.
