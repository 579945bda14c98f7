//! What runs on the queue of the side: the pieces of fan-outs.

use std::sync::Arc;

use sync_workflow::{Context, Failure, FailureKind, Workflow};

use crate::{
    interpret::{Interpreter, Outcome, Stopped, call},
    process::Link,
    program::{FanOut, SIDE},
};

/// A workflow that runs one activity.
pub(crate) struct Piece(pub(crate) Arc<Link>);

impl Workflow for Piece {
    const NAME: &'static str = "piece";
    type Input = usize;
    type Output = u64;
    type Error = Failure;

    async fn run(&self, ctx: Context, act: usize) -> Result<u64, Failure> {
        let spec = &self.0.script().acts[act];
        Ok(call(&ctx, act, spec).await?)
    }
}

impl Interpreter {
    pub(crate) async fn fan_out(&self, ctx: &Context, plan: &FanOut) -> Result<Outcome, Stopped> {
        let mut results = ctx
            .fan_out(Piece::workflow(), plan.acts.clone())
            .queue(SIDE)
            .key(plan.key)
            .slice(plan.slice)
            .at_once(plan.at_once);
        if let Some(failures) = plan.stop_after {
            results = results.stop_after(failures);
        }
        let mut ended = Vec::new();
        while let Some((index, result)) = results.next().await {
            let outcome = match result {
                Ok(value) => Outcome::Value(value),
                Err(error) if error.is_cancelled() && ctx.is_cancelled() => return Err(Stopped),
                Err(error) => Outcome::Failed(error.into_failure().kind),
            };
            ended.push((index, outcome));
        }
        ended.sort_unstable_by_key(|(index, _)| *index);
        Ok(Outcome::FannedOut(ended))
    }
}

/// Whether an outcome of a fan-out is a failure.
pub(crate) const fn has_failed(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Failed(
            FailureKind::Application | FailureKind::TimedOut | FailureKind::Interrupted
        )
    )
}
