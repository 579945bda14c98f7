//! Parts of a program that are cancelled, timed, shielded or undone as a whole.

use std::time::Duration;

use futures_util::future::{Either, FutureExt, join_all, select};
use sync_workflow::{Activity as _, Context, Failure};

use crate::{
    interpret::{Actor, Interpreter, Outcome, Stopped},
    program::{Step, Undoable},
};

/// The name of a change of the code.
pub(crate) fn change_name(number: usize) -> String {
    format!("change-{number}")
}

impl Interpreter {
    /// What the code does about a change: before it was deployed it knows nothing of it.
    pub(crate) async fn change(
        &self,
        ctx: &Context,
        number: usize,
        before: usize,
        after: usize,
    ) -> Result<Outcome, Stopped> {
        let version = match self.0.knows_change() {
            true => ctx.version(&change_name(number), 0..=1),
            false => 0,
        };
        let act = if version == 0 { before } else { after };
        let outcome = self.act(ctx, act).await?;
        Ok(Outcome::Changed(version, Box::new(outcome)))
    }

    pub(crate) async fn scope(
        &self,
        ctx: &Context,
        steps: &[Step],
        cancelled_after: Option<u64>,
    ) -> Result<Outcome, Stopped> {
        let scope = ctx.scope();
        let parts = steps.iter().map(|step| self.perform(scope.context(), step));
        let parts = join_all(parts).boxed();
        let (parts, is_cut) = match cancelled_after {
            None => (parts.await, false),
            Some(millis) => match select(parts, ctx.sleep(Duration::from_millis(millis))).await {
                Either::Left((parts, _in_time)) => (parts, false),
                Either::Right((_, parts)) => {
                    scope.cancel();
                    (parts.await, true)
                }
            },
        };
        // Within a shield the run may be asked to cancel, and it is the scope alone that cuts them.
        if !is_cut && parts.iter().any(Result::is_err) && ctx.is_cancelled() {
            return Err(Stopped);
        }
        let parts = parts.into_iter();
        Ok(Outcome::Scoped(
            parts.map(|part| part.unwrap_or(Outcome::Stopped)).collect(),
        ))
    }

    pub(crate) async fn timeout(
        &self,
        ctx: &Context,
        millis: u64,
        step: &Step,
    ) -> Result<Outcome, Stopped> {
        let limit = Duration::from_millis(millis);
        match ctx.timeout(limit, self.perform(ctx, step)).await {
            Ok(outcome) => Ok(Outcome::InTime(Box::new(outcome?))),
            Err(_elapsed) => Ok(Outcome::Elapsed),
        }
    }

    pub(crate) async fn shield(&self, ctx: &Context, step: &Step) -> Result<Outcome, Stopped> {
        let outcome = self.perform(&ctx.shield(), step).await;
        if outcome.is_err() {
            let what = || format!("a shielded part of {} was cut", ctx.workflow_id());
            self.0.world.violate(what);
        }
        Ok(Outcome::Shielded(Box::new(outcome?)))
    }

    pub(crate) async fn saga(
        &self,
        ctx: &Context,
        steps: &[Undoable],
        fails: bool,
    ) -> Result<Outcome, Stopped> {
        let mut saga = ctx.saga();
        let mut result = Ok(Outcome::Done);
        for Undoable { act, undo } in steps.iter().copied() {
            match self.act(ctx, act).await {
                Ok(Outcome::Value(_)) => saga
                    .on_undo(async move |ctx: Context| ctx.activity(Actor::activity(), undo).await),
                failed => {
                    result = failed.map(|_| Outcome::Undone);
                    break;
                }
            }
        }
        if fails && result.as_ref().is_ok_and(|done| *done == Outcome::Done) {
            result = Ok(Outcome::Undone);
        }
        if !result.as_ref().is_ok_and(|done| *done == Outcome::Done) {
            let undone = saga.undo(Failure::new("the saga fails")).await;
            if !undone.causes.is_empty() {
                let what = || format!("a saga could not be undone: {:?}", undone.causes);
                self.0.world.violate(what);
            }
        }
        result
    }
}
