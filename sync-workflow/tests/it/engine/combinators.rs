//! Plain Rust combinators, live and replayed.
