//! The client: start, signal, cancel, await, list, from any process.

pub use crate::journal::IdReuse;
