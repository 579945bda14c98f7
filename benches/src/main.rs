//! Runs the benchmark jobs.
fn main() {}
