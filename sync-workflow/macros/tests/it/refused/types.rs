//! Functions of the right shape, with types that no journal can hold.

use sync_workflow::{Failure, activity};

struct Opaque;

#[activity]
async fn takes_what_serde_cannot_read(_opaque: Opaque) -> Result<u64, Failure> {
    Ok(1)
}

#[activity]
async fn cannot_fail(n: u64) -> u64 {
    n
}

#[activity]
async fn fails_with_words(n: u64) -> Result<u64, String> {
    Ok(n)
}

#[activity(timeout = 5)]
async fn limited_by_a_number(n: u64) -> Result<u64, Failure> {
    Ok(n)
}

fn main() {}
