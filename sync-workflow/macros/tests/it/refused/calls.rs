//! Calls of plain functions, without any attribute.

use std::rc::Rc;

use sync_workflow::{ActivityContext, Context, Failure, Worker};

struct Opaque;

async fn greet(name: String) -> Result<String, Failure> {
    Ok(name)
}

/// A durable call in an activity: its context has none.
async fn nests(ctx: ActivityContext, name: String) -> Result<String, Failure> {
    Ok(ctx.activity(greet, name).await?)
}

/// A workflow as an activity: it has a context that no activity gets.
async fn workflow(ctx: Context, name: String) -> Result<String, Failure> {
    Ok(ctx.activity(workflow, name).await?)
}

async fn opaque(_: Opaque) -> Result<u64, Failure> {
    Ok(1)
}

fn waits_for_nobody(_ctx: Context, n: u64) -> Result<u64, Failure> {
    Ok(n)
}

async fn fails_with_words(n: u64) -> Result<u64, String> {
    Ok(n)
}

async fn holds(ctx: Context, n: u64) -> Result<u64, Failure> {
    let shared = Rc::new(n);
    ctx.activity(greet, "Ada".into()).await?;
    Ok(*shared)
}

async fn calls(ctx: Context) {
    drop(ctx.activity(opaque, Opaque));
    drop(ctx.activity(fails_with_words, 1));
    drop(ctx.child(waits_for_nobody, 1));
}

fn main() {
    let _ = Worker::builder().activity(workflow);
    let _ = Worker::builder().activity(fails_with_words);
    let _ = Worker::builder().workflow(waits_for_nobody);
    let _ = Worker::builder().workflow(holds);
    let _ = Worker::builder().activities(Opaque);
}
