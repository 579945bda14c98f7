//! The workflow and the activity that do what a script says, on the real context.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt, join_all, select_all};
use serde::{Deserialize, Serialize};
use sync_workflow::{
    Activity, ActivityContext, CallError, Context, Failure, FailureKind, RetryPolicy, Tx, Workflow,
    context::ActivityCall, id::WorkflowId,
};

use crate::{
    process::Link,
    program::{Act, Draw, SIDE, SIGNALS, Step, Tie, act_value, line_of, sent_value, workflow_id},
    shown::answer,
};

/// The workflow id of a run that every simulation starts with.
pub(crate) const SQUATTER: &str = "squatter";

/// What a workflow is given: where in the script it stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) program: usize,
    pub(crate) segment: usize,
    /// What the segments before this one came to.
    pub(crate) outcomes: Vec<Outcome>,
}

impl Job {
    /// A program from its beginning.
    pub(crate) const fn first(program: usize) -> Self {
        Self {
            program,
            segment: 0,
            outcomes: Vec::new(),
        }
    }
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Value(u64),
    /// The called code failed in this way.
    Failed(FailureKind),
    Slept,
    Signal(u64),
    Sent,
    Child(Vec<Self>),
    /// A child that goes on by itself.
    Started,
    Drawn(String),
    Raced(usize, Box<Self>),
    Joined(Vec<Self>),
    Shown,
    Tagged,
    /// An update that asked for this was answered.
    Answered(u64),
    /// The version of the code that was chosen, and what that came to.
    Changed(u32, Box<Self>),
    Scoped(Vec<Self>),
    /// It was cancelled with its scope.
    Stopped,
    InTime(Box<Self>),
    Elapsed,
    Shielded(Box<Self>),
    /// A saga has succeeded.
    Done,
    /// A saga has failed.
    Undone,
    /// What the workflows of a fan-out came to, by the number of their input.
    FannedOut(Vec<(usize, Self)>),
}

/// The run was cancelled while it waited, or the scope was.
pub(crate) struct Stopped;

/// Runs programs.
pub(crate) struct Interpreter(pub(crate) Arc<Link>);

impl Workflow for Interpreter {
    const NAME: &'static str = "program";
    type Input = Job;
    type Output = Vec<Outcome>;
    type Error = Failure;

    async fn run(&self, ctx: Context, job: Job) -> Result<Vec<Outcome>, Failure> {
        let program = self
            .0
            .script()
            .programs
            .get(job.program)
            .ok_or_else(|| Failure::new("no such program"))?;
        let mut outcomes = job.outcomes;
        for step in &program.segments[job.segment] {
            match self.perform(&ctx, step).await {
                Ok(outcome) => outcomes.push(outcome),
                Err(Stopped) => {
                    let cleaned = ctx
                        .shield()
                        .activity(Actor::activity(), program.cleanup)
                        .await;
                    return Err(match cleaned {
                        Ok(_) => Failure::from(sync_workflow::Cancelled),
                        Err(error) => error.into_failure(),
                    });
                }
            }
        }
        if job.segment + 1 < program.segments.len() {
            let next = Job {
                program: job.program,
                segment: job.segment + 1,
                outcomes,
            };
            return ctx.continue_as_new(Self::workflow(), next).await;
        }
        if program.fails {
            return Err(Failure::new("the program fails"));
        }
        Ok(outcomes)
    }
}

impl Interpreter {
    pub(crate) fn perform<'a>(
        &'a self,
        ctx: &'a Context,
        step: &'a Step,
    ) -> BoxFuture<'a, Result<Outcome, Stopped>> {
        match step {
            Step::Act(act) => self.act(ctx, *act).boxed(),
            Step::Transaction { value, fails } => self.transaction(ctx, *value, *fails).boxed(),
            Step::Sleep(millis) => sleep(ctx, *millis).boxed(),
            Step::Wait(name) => wait(ctx, *name).boxed(),
            Step::Send { to, name, number } => send(ctx, *to, *name, *number).boxed(),
            Step::Child { program, tie } => child(ctx, *program, *tie).boxed(),
            Step::TakenChild => taken_child(ctx).boxed(),
            Step::Draw(draw) => {
                let drawn = self.draw(ctx, *draw);
                async move { Ok(Outcome::Drawn(drawn)) }.boxed()
            }
            Step::Race(steps) => async move {
                let steps = steps.iter().map(|step| self.perform(ctx, step));
                let (outcome, winner, _losers) = select_all(steps).await;
                Ok(Outcome::Raced(winner, Box::new(outcome?)))
            }
            .boxed(),
            Step::Join(steps) => async move {
                let outcomes = join_all(steps.iter().map(|step| self.perform(ctx, step))).await;
                Ok(Outcome::Joined(
                    outcomes.into_iter().collect::<Result<_, _>>()?,
                ))
            }
            .boxed(),
            Step::Show => async move { Ok(self.show(ctx)) }.boxed(),
            Step::Tag { removes } => async move { Ok(self.tag(ctx, *removes)) }.boxed(),
            Step::Update => answer(ctx).boxed(),
            Step::Change {
                number,
                before,
                after,
            } => self.change(ctx, *number, *before, *after).boxed(),
            Step::Scope {
                steps,
                cancelled_after,
            } => self.scope(ctx, steps, *cancelled_after).boxed(),
            Step::Timeout { millis, step } => self.timeout(ctx, *millis, step).boxed(),
            Step::Shield(step) => self.shield(ctx, step).boxed(),
            Step::Saga { steps, fails } => self.saga(ctx, steps, *fails).boxed(),
            Step::FanOut(plan) => self.fan_out(ctx, plan).boxed(),
        }
    }

    pub(crate) async fn act(&self, ctx: &Context, act: usize) -> Result<Outcome, Stopped> {
        let spec = &self.0.script().acts[act];
        let mut call = call(ctx, act, spec);
        if spec.is_remote {
            call = call.queue(SIDE);
        }
        outcome(ctx, call.await, Outcome::Value)
    }

    async fn transaction(
        &self,
        ctx: &Context,
        value: u64,
        fails: bool,
    ) -> Result<Outcome, Stopped> {
        let link = Arc::clone(&self.0);
        let call = ctx.transaction::<u64, Failure, _, _>("step", move |tx: Tx| async move {
            link.work(1).await;
            drop(tx);
            if fails {
                return Err(Failure::new("the step fails"));
            }
            Ok(value)
        });
        outcome(ctx, call.await, Outcome::Value)
    }

    /// A value that depends on the time or on the world is drawn anew by a replay that was cut
    /// before it, and so is no part of the outcome.
    fn draw(&self, ctx: &Context, draw: Draw) -> String {
        match draw {
            Draw::SideEffect => {
                let _drawn: u64 = ctx.side_effect("draw", || self.0.draw());
                String::new()
            }
            Draw::Now => {
                let _now = ctx.now();
                String::new()
            }
            Draw::Random => format!("random {}", ctx.random()),
            Draw::Uuid => format!("uuid {}", ctx.uuid()),
        }
    }
}

/// Calls an activity as the script says.
pub(crate) fn call(ctx: &Context, act: usize, spec: &Act) -> ActivityCall<u64, Failure> {
    let retry = RetryPolicy {
        initial_interval: Duration::from_millis(spec.retry_ms),
        factor: 1.5,
        jitter: 0.0,
        max_attempts: spec.max_attempts,
        ..RetryPolicy::default()
    };
    let mut call = ctx.activity(Actor::activity(), act).retry(retry);
    if spec.hangs {
        call = call.timeout(Duration::from_millis(Act::TIME_LIMIT_MS));
    }
    if spec.at_most_once {
        call = call.at_most_once();
    }
    call
}

pub(crate) fn outcome<T>(
    ctx: &Context,
    result: Result<T, CallError>,
    make: impl FnOnce(T) -> Outcome,
) -> Result<Outcome, Stopped> {
    match result {
        Ok(value) => Ok(make(value)),
        Err(error) if error.is_cancelled() && ctx.is_cancelled() => Err(Stopped),
        Err(error) => Ok(Outcome::Failed(error.into_failure().kind)),
    }
}

async fn sleep(ctx: &Context, millis: u64) -> Result<Outcome, Stopped> {
    match ctx.sleep(Duration::from_millis(millis)).await {
        Ok(()) => Ok(Outcome::Slept),
        Err(_cancelled) => Err(Stopped),
    }
}

async fn wait(ctx: &Context, name: usize) -> Result<Outcome, Stopped> {
    outcome(ctx, ctx.wait(SIGNALS[name]).await, Outcome::Signal)
}

async fn send(ctx: &Context, to: usize, name: usize, number: u64) -> Result<Outcome, Stopped> {
    let to = WorkflowId::new(workflow_id(to)).expect("a short text is an id");
    let sent = ctx.signal(&to, SIGNALS[name], &sent_value(name, number));
    outcome(ctx, sent.await, |()| Outcome::Sent)
}

async fn child(ctx: &Context, program: usize, tie: Tie) -> Result<Outcome, Stopped> {
    let job = Job::first(program);
    let id = workflow_id(program) + line_of(ctx.workflow_id().as_str());
    let id = WorkflowId::new(id).expect("a short text is an id");
    let call = ctx.child(Interpreter::workflow(), job).id(id);
    match tie {
        Tie::Awaited => outcome(ctx, call.await, Outcome::Child),
        Tie::Started => {
            drop(call.start());
            Ok(Outcome::Started)
        }
        Tie::Detached => {
            call.detach();
            Ok(Outcome::Started)
        }
    }
}

async fn taken_child(ctx: &Context) -> Result<Outcome, Stopped> {
    let job = Job::first(usize::MAX);
    let id = WorkflowId::new(SQUATTER).expect("a short text is an id");
    let call = ctx.child(Interpreter::workflow(), job).id(id);
    outcome(ctx, call.await, Outcome::Child)
}

/// Does what an activity of the script does.
pub(crate) struct Actor(pub(crate) Arc<Link>);

impl Activity for Actor {
    const NAME: &'static str = "act";
    type Input = usize;
    type Output = u64;
    type Error = Failure;

    async fn run(&self, ctx: ActivityContext, act: usize) -> Result<u64, Failure> {
        let spec = self
            .0
            .script()
            .acts
            .get(act)
            .ok_or_else(|| Failure::final_error("no such act"))?;
        self.0.begin_act(&ctx, act);
        if spec.beats {
            ctx.heartbeat(&ctx.attempt());
        }
        let fails = ctx.attempt() <= spec.fails;
        if fails && spec.hangs {
            ctx.cancelled().await;
        }
        let transaction = if spec.in_transaction {
            Some(ctx.begin().await?)
        } else {
            None
        };
        self.0.work(spec.work_ms).await;
        drop(transaction);
        if fails {
            let failure = Failure::new("the act fails");
            return Err(if spec.is_final {
                failure.into_final()
            } else {
                failure
            });
        }
        Ok(act_value(act))
    }
}
