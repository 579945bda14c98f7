//! Functions that cannot be workflows.

use sync_workflow::{ActivityContext, Context, Failure, workflow};

#[workflow]
fn not_async(_ctx: Context, n: u64) -> Result<u64, Failure> {
    Ok(n)
}

#[workflow]
async fn no_context(n: u64) -> Result<u64, Failure> {
    Ok(n)
}

#[workflow]
async fn nothing() -> Result<u64, Failure> {
    Ok(1)
}

#[workflow]
async fn the_context_of_activities(_ctx: Context, other: ActivityContext) -> Result<u64, Failure> {
    Ok(1)
}

#[workflow]
async fn borrows(_ctx: Context, name: &str) -> Result<u64, Failure> {
    Ok(1)
}

#[workflow]
async fn lends(_ctx: Context, _n: u64) -> Result<&'static str, Failure> {
    Ok("one")
}

#[workflow]
async fn generic<T>(_ctx: Context, n: T) -> Result<T, Failure> {
    Ok(n)
}

#[workflow]
async fn without_result(_ctx: Context, n: u64) {}

#[workflow(name = "")]
async fn unnamed(_ctx: Context) -> Result<u64, Failure> {
    Ok(1)
}

#[workflow(timeout = 5)]
async fn limited(_ctx: Context) -> Result<u64, Failure> {
    Ok(1)
}

fn main() {}
