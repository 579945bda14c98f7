//! The workflow whose costs are counted.

use sync_workflow::{Client, Context, Failure};

pub(crate) async fn steps(ctx: Context, (count, mut n): (u32, u64)) -> Result<u64, Failure> {
    for _ in 0..count {
        n = ctx.activity(trivial, n).await?;
    }
    Ok(n)
}

pub(crate) async fn trivial(n: u64) -> Result<u64, Failure> {
    Ok(n + 1)
}

pub(crate) async fn run(client: &Client, name: &str, count: u32) {
    let handle = client.start(steps, name, (count, 0)).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), u64::from(count));
}
