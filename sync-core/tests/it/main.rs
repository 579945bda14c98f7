//! The vocabulary of sync, tested from outside.

mod cursor;
mod graph;
mod manifest;
mod mapping;
mod proof;
mod schedule;
