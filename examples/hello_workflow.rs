//! The smallest workflow: one activity, journaled in a SQLite file. Run it twice: the second run finds the
//! result of the first one.

use sync_workflow::{Context, Failure, Worker};

async fn greet(name: String) -> Result<String, Failure> {
    Ok(format!("hello, {name}"))
}

async fn hello(ctx: Context, name: String) -> Result<String, Failure> {
    Ok(ctx.activity(greet, name).await?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let worker = Worker::builder()
        .workflow(hello)
        .activity(greet)
        .start("sqlite:hello.db")
        .await?;
    let handle = worker
        .client()
        .start(hello, "hello-1", "world".into())
        .await?;
    #[expect(clippy::print_stdout, reason = "an example shows its result")]
    {
        println!("{}", handle.result().await?);
    }
    worker.shutdown().await;
    Ok(())
}
