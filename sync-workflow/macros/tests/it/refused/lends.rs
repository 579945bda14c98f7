//! A result that is not read back from anywhere. The compiler finds it after everything else.

use sync_workflow::{Context, Failure};

async fn lends(_n: u64) -> Result<&'static str, Failure> {
    Ok("one")
}

async fn calls(ctx: Context) {
    drop(ctx.activity(lends, 1));
}

fn main() {}
