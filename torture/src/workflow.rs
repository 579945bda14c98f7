//! The workflows and the activity that a worker under torture runs.

use std::{pin::pin, time::Duration};

use anyhow::Context as _;
use futures::future::{Either, join_all, select};
use serde::{Deserialize, Serialize};
use sync_workflow::{
    Activity, ActivityContext, CallError, Context, Failure, FailureKind, RetryPolicy, Tx, Worker,
    id::WorkflowId, payload::Codecs, worker::WorkerBuilder,
};

use crate::{
    ledger::Ledger,
    program::{
        CHILD_FAILED, EITHER_WAY, Input, MARK, NEW_WAY, PROGRESS, ROLLED_BACK, SIDE, Step, UNDONE,
        add, effect_of, sum_of, undo_of,
    },
};

/// The activity: an effect in the ledger outside the database.
pub(crate) struct Effect {
    ledger: Ledger,
}

/// What an activity is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    n: u64,
    millis: u64,
    failures: u32,
}

impl Ask {
    const fn new(n: u64, millis: u64) -> Self {
        Self {
            n,
            millis,
            failures: 0,
        }
    }
}

impl Activity for Effect {
    const NAME: &'static str = "effect";
    type Input = Ask;
    type Output = u64;
    type Error = Failure;

    async fn run(&self, ctx: ActivityContext, ask: Ask) -> Result<u64, Failure> {
        self.ledger.began(&ctx);
        if ask.millis > 0 {
            tokio::time::sleep(Duration::from_millis(ask.millis)).await;
        }
        if ctx.attempt() <= ask.failures {
            return Err(Failure::new("this attempt fails"));
        }
        self.ledger.had_effect(&ctx);
        Ok(effect_of(ask.n))
    }
}

/// Inputs are short; about half of those that seeds give are this long.
const OFFLOAD_FROM: usize = 360;

/// What workers and clients do with payloads.
pub(crate) fn codecs() -> Codecs {
    Codecs::json().offload_from(OFFLOAD_FROM)
}

/// A worker that knows the workflows and the activity.
pub(crate) fn builder(ledger: Ledger) -> WorkerBuilder {
    Worker::builder()
        .codecs(codecs())
        .workflow(program)
        .workflow(until_cancelled)
        .workflow(sleeper)
        .workflow(failing)
        .workflow(listener)
        .activity(Effect { ledger })
}

/// A worker that runs activities for the workflows of others.
pub(crate) fn side_builder(ledger: Ledger) -> WorkerBuilder {
    Worker::builder()
        .codecs(codecs())
        .queue(SIDE)
        .remote_activity(Effect { ledger })
}

/// Carries out a program, and returns what it comes to.
pub(crate) async fn program(ctx: Context, input: Input) -> Result<u64, Failure> {
    let (mut sum, mut signals) = (input.sum, input.signals);
    let mut published = input.shown.published;
    for (index, step) in input.steps.iter().enumerate() {
        match step {
            Step::Signal => {
                let value: u64 = ctx.wait("poke").await?;
                sum = add(sum, value);
                signals += 1;
            }
            Step::Continue => {
                let rest = Input {
                    steps: input.steps[index + 1..].to_vec(),
                    sum,
                    signals,
                    shown: input.shows(),
                    fails: input.fails,
                };
                return ctx.continue_as_new(program, rest).await;
            }
            Step::Publish => {
                published += 1;
                ctx.publish(PROGRESS, &published)?;
            }
            other => sum = Box::pin(carry_out(&ctx, index, other, sum)).await?,
        }
    }
    if input.fails {
        return Err(Failure::final_error("as planned"));
    }
    Ok(sum)
}

async fn carry_out(ctx: &Context, index: usize, step: &Step, sum: u64) -> Result<u64, Failure> {
    match step {
        Step::Activity { n, millis } => {
            let call = ctx.activity(Effect::activity(), Ask::new(*n, *millis));
            Ok(add(sum, call.retry(patient()).await?))
        }
        Step::Flaky { n, failures } => {
            let ask = Ask {
                failures: *failures,
                ..Ask::new(*n, 0)
            };
            let call = ctx.activity(Effect::activity(), ask);
            Ok(add(sum, call.retry(patient()).await?))
        }
        Step::Once { n, millis } => {
            let call = ctx.activity(Effect::activity(), Ask::new(*n, *millis));
            match call.at_most_once().await {
                Ok(_) => {}
                Err(error) if error.is_kind(FailureKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(add(sum, EITHER_WAY))
        }
        Step::Transaction { n } => Ok(add(sum, credit(ctx, index, *n).await?)),
        Step::Rollback => rolled_back(ctx, index)
            .await
            .map(|()| add(sum, ROLLED_BACK)),
        Step::Sleep { millis } => {
            ctx.sleep(Duration::from_millis(*millis)).await?;
            Ok(sum)
        }
        Step::Child { steps } => {
            let value = ctx.child(program, Input::new(steps.clone())).await?;
            Ok(add(sum, value))
        }
        Step::FanOut { each } => {
            let calls = each.iter().map(|n| {
                let steps = vec![Step::Activity { n: *n, millis: 1 }];
                ctx.child(program, Input::new(steps)).start()
            });
            let mut sum = sum;
            for value in join_all(calls.collect::<Vec<_>>()).await {
                // A child's own sum begins at zero, so its value is that of its one step.
                sum = add(sum, value?);
            }
            Ok(sum)
        }
        Step::FailingChild => match ctx.child(failing, ()).await {
            Ok(()) => Err(Failure::final_error("a child that fails returned")),
            Err(CallError::Failed(_)) => Ok(add(sum, CHILD_FAILED)),
            Err(CallError::Other(failure)) => Err(failure),
            Err(_) => Err(Failure::final_error("a child ended in an unknown way")),
        },
        Step::Talk { words } => Ok(add(sum, talk(ctx, words).await?)),
        Step::Join { each } => {
            let calls = each.iter().map(|n| {
                ctx.activity(Effect::activity(), Ask::new(*n, n % 5))
                    .retry(patient())
            });
            let mut sum = sum;
            for value in join_all(calls.collect::<Vec<_>>()).await {
                sum = add(sum, value?);
            }
            Ok(sum)
        }
        Step::Race { n, millis, timer } => {
            let work = pin!(
                ctx.activity(Effect::activity(), Ask::new(*n, *millis))
                    .retry(patient())
            );
            let timer = pin!(ctx.sleep(Duration::from_millis(*timer)));
            match select(work, timer).await {
                Either::Left((value, _)) => drop(value?),
                Either::Right((slept, _)) => slept?,
            }
            Ok(add(sum, EITHER_WAY))
        }
        Step::Random => {
            let n = ctx.random() >> 20;
            let value = ctx
                .activity(Effect::activity(), Ask::new(n, 1))
                .retry(patient())
                .await?;
            if value != effect_of(n) {
                return Err(Failure::final_error("the random number is another one"));
            }
            Ok(add(sum, EITHER_WAY))
        }
        Step::Tag { n } => {
            ctx.set_tag(MARK, &n.to_string())
                .map_err(|error| Failure::final_error(error.to_string()))?;
            Ok(sum)
        }
        Step::Version if ctx.version("the-change", 0..=1) == 1 => Ok(add(sum, NEW_WAY)),
        Step::Version => Err(Failure::final_error("the old way of a change was taken")),
        Step::Remote { n, millis } => {
            let call = ctx.activity(Effect::activity(), Ask::new(*n, *millis));
            Ok(add(sum, call.retry(patient()).queue(SIDE).await?))
        }
        Step::Spread { each, slice } => {
            let inputs: Vec<_> = each
                .iter()
                .map(|n| Input::new(vec![Step::Activity { n: *n, millis: 1 }]))
                .collect();
            let values = ctx.fan_out(program, inputs).slice(*slice).all().await?;
            Ok(values.into_iter().fold(sum, add))
        }
        Step::Saga { each, fails } => saga(ctx, each, *fails, sum).await,
        Step::Scope { n, millis, timer } => {
            scope(ctx, Ask::new(*n, *millis), *timer).await?;
            Ok(add(sum, EITHER_WAY))
        }
        Step::Signal | Step::Publish | Step::Continue => Ok(sum),
    }
}

/// Activities side after side, all undone if the one after them fails.
async fn saga(ctx: &Context, each: &[u64], fails: bool, sum: u64) -> Result<u64, Failure> {
    let mut saga = ctx.saga();
    let mut values = sum;
    for n in each.iter().copied() {
        let call = ctx.activity(Effect::activity(), Ask::new(n, n % 5));
        values = add(values, call.retry(patient()).await?);
        saga.on_undo(async move |ctx: Context| {
            let call = ctx.activity(Effect::activity(), Ask::new(undo_of(n), 0));
            call.retry(patient()).await
        });
    }
    if !fails {
        return Ok(values);
    }
    let ask = Ask {
        failures: u32::MAX,
        ..Ask::new(0, 1)
    };
    let once = RetryPolicy {
        max_attempts: 1,
        ..patient()
    };
    match ctx.activity(Effect::activity(), ask).retry(once).await {
        Ok(_) => Err(Failure::final_error("an activity that fails succeeded")),
        Err(error) => {
            let because = saga.undo(error.into()).await;
            match because.causes.is_empty() {
                true => Ok(add(sum, UNDONE)),
                false => Err(because),
            }
        }
    }
}

/// Works for a while in a scope, and cancels a child with it.
async fn scope(ctx: &Context, ask: Ask, timer: u64) -> Result<(), Failure> {
    let scope = ctx.scope();
    let child = scope.context().child(sleeper, ()).start();
    let work = scope.context().activity(Effect::activity(), ask);
    let work = pin!(work.retry(patient()));
    let timer = pin!(ctx.sleep(Duration::from_millis(timer)));
    match select(work, timer).await {
        Either::Left((value, _)) => drop(value?),
        Either::Right((slept, _)) => slept?,
    }
    scope.cancel();
    match child.await {
        Err(error) if error.is_cancelled() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => Err(Failure::final_error("a child that was cancelled returned")),
    }
}

/// Activities fail by plan only, so that a worker under torture never runs out of attempts.
fn patient() -> RetryPolicy {
    RetryPolicy {
        initial_interval: Duration::from_millis(5),
        max_interval: Duration::from_millis(20),
        ..RetryPolicy::default()
    }
}

async fn credit(ctx: &Context, index: usize, n: u64) -> Result<u64, Failure> {
    let run = ctx.run_id().to_string();
    let name = format!("credit-{index}");
    let step = name.clone();
    let call = ctx.transaction(&name, async move |mut tx: Tx| {
        write_effect(&mut tx, &run, &step).await?;
        Ok::<u64, Failure>(n)
    });
    Ok(call.await?)
}

async fn rolled_back(ctx: &Context, index: usize) -> Result<(), Failure> {
    let run = ctx.run_id().to_string();
    let name = format!("undone-{index}");
    let step = name.clone();
    let call = ctx.transaction(&name, async move |mut tx: Tx| {
        write_effect(&mut tx, &run, &step).await?;
        Err::<(), _>(Failure::final_error("as planned"))
    });
    match call.await {
        Ok(()) => Err(Failure::final_error("a step that fails succeeded")),
        Err(CallError::Failed(failure)) if failure.message == "as planned" => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes the effect of a transactional step beside the journal. Nothing keeps it from being there twice.
async fn write_effect(tx: &mut Tx, run: &str, step: &str) -> Result<(), Failure> {
    const INSERT: &str = "insert into torture_effect (run, step) values ($1, $2)";
    let written = if let Ok(connection) = tx.postgres() {
        let query = sqlx::query(INSERT).bind(run).bind(step);
        query.execute(connection).await?.rows_affected()
    } else {
        let query = sqlx::query(INSERT).bind(run).bind(step);
        query.execute(tx.sqlite()?).await?.rows_affected()
    };
    if written != 1 {
        return Err(Failure::final_error("the effect was not written"));
    }
    Ok(())
}

/// Tells a child these words, and returns what it answers.
async fn talk(ctx: &Context, words: &[u64]) -> Result<u64, Failure> {
    let task = Listening {
        words: words.to_vec(),
        asker: ctx.workflow_id(),
    };
    let child = ctx.child(listener, task).start();
    let id = child.workflow_id();
    for word in words {
        ctx.signal(&id, "word", word).await?;
    }
    let answer: u64 = ctx.wait("answer").await?;
    if child.await? != answer {
        return Err(Failure::final_error("the answer was another child's"));
    }
    match ctx.signal(&id, "word", &0).await {
        Err(error) if error.is_kind(FailureKind::NotOpen) => Ok(answer),
        Err(error) => Err(error.into()),
        Ok(()) => Err(Failure::final_error("a run that had ended was told a word")),
    }
}

/// What a listener is to be told, which only the checker looks at, and whom it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) words: Vec<u64>,
    asker: WorkflowId,
}

/// Hears as many words as it is to be told, and tells the sum, in which their order counts.
pub(crate) async fn listener(ctx: Context, task: Listening) -> Result<u64, Failure> {
    let mut heard = Vec::new();
    for _ in &task.words {
        heard.push(ctx.wait("word").await?);
    }
    let sum = sum_of(&heard);
    ctx.signal(&task.asker, "answer", &sum).await?;
    Ok(sum)
}

/// Works until it is cancelled, cleans up, and leaves a child to be cancelled with it.
pub(crate) async fn until_cancelled(ctx: Context, most: u64) -> Result<(), Failure> {
    let _child = ctx.child(sleeper, ()).start();
    let mut pause = Duration::from_millis(10);
    for n in 0..most {
        let worked = async {
            ctx.activity(Effect::activity(), Ask::new(n, 1))
                .retry(patient())
                .await
                .map_err(Failure::from)?;
            ctx.sleep(pause).await.map_err(Failure::from)
        };
        if let Err(failure) = worked.await {
            credit(&ctx.shield(), 0, n).await?;
            return Err(failure);
        }
        pause = (pause * 2).min(Duration::from_millis(500));
    }
    Err(Failure::final_error("nobody cancelled it"))
}

/// Sleeps until it is cancelled.
pub(crate) async fn sleeper(ctx: Context, (): ()) -> Result<(), Failure> {
    ctx.sleep(Duration::from_secs(24 * 60 * 60)).await?;
    Ok(())
}

/// Fails.
pub(crate) async fn failing(_ctx: Context, (): ()) -> Result<(), Failure> {
    Err(Failure::final_error("as planned"))
}

/// Decodes a value of the journal.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(payload: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(payload).context("a payload cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_half_of_the_inputs_that_seeds_give_are_offloaded() {
        let stored = |seed| {
            let input = serde_json::to_vec(&Input::of_seed(seed)).unwrap();
            codecs().encode(&input.into()).unwrap().len()
        };
        let offloaded = (0..1_000).filter(|seed| stored(*seed) >= OFFLOAD_FROM);
        let offloaded = offloaded.count();
        assert!((333..=667).contains(&offloaded), "{offloaded} of 1,000");
    }
}
