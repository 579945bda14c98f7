//! Functions that cannot be activities.

use sync_workflow::{ActivityContext, Context, Failure, activities, activity};

#[activity]
async fn durable(_ctx: Context, n: u64) -> Result<u64, Failure> {
    Ok(n)
}

#[activity]
async fn context_last(n: u64, _ctx: ActivityContext) -> Result<u64, Failure> {
    Ok(n)
}

#[activity]
async fn borrows(_names: Vec<&str>) -> Result<u64, Failure> {
    Ok(1)
}

#[activity]
async fn anything(_n: impl Into<u64>) -> Result<u64, Failure> {
    Ok(1)
}

#[activity(retry)]
async fn without_value() -> Result<u64, Failure> {
    Ok(1)
}

#[activity(at_most_once = true)]
async fn with_value() -> Result<u64, Failure> {
    Ok(1)
}

#[activity(name = "a", name = "b")]
async fn twice() -> Result<u64, Failure> {
    Ok(1)
}

struct Mailer;

impl Mailer {
    #[activity]
    async fn alone(&self) -> Result<u64, Failure> {
        Ok(1)
    }
}

struct Clerk;

#[activities]
impl Clerk {
    #[activity]
    async fn changes(&mut self) -> Result<u64, Failure> {
        Ok(1)
    }
}

struct Box<T>(T);

#[activities]
impl<T> Box<T> {
    #[activity]
    async fn opens(&self) -> Result<u64, Failure> {
        Ok(1)
    }
}

struct Idle;

#[activities]
impl Idle {
    async fn rests(&self) {}
}

fn main() {}
