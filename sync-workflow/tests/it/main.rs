//! Tests of the engine through its public interface.

mod differential;
mod engine;
mod memory;
mod postgres;
mod sqlite;
