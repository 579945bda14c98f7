//! `underway`: a job is a fixed list of steps, each a task in a queue.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, bail};
use jiff::{Span, ToSpan};
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, task::JoinHandle};
use underway::{Job, To, Worker, task::Result as TaskResult};
use underway_sqlx::postgres::PgPoolOptions;

use super::{CONNECTIONS, Engine, Work};
use crate::step::Step;

/// The name of the job, and of its queue.
const QUEUE: &str = "peers";
/// Tasks that run at once: each holds a connection, and takes a second one at moments.
const TASKS: usize = 16;

type Jobs = Job<Parcel, ()>;

/// What one step hands to the next.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Parcel {
    waiter: u64,
    number: u64,
}

pub(crate) struct Underway {
    /// A job of its own to enqueue with: the one that runs moves the index of the step at which
    /// enqueued jobs start.
    enqueuing: Jobs,
    worker: JoinHandle<()>,
    waiters: Waiters,
    work: Work,
}

impl Engine for Underway {
    async fn start(url: &str, work: Work, step: Step) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect(url)
            .await?;
        underway::run_migrations(&pool).await?;
        let waiters = Waiters::default();
        let enqueuing = job(&pool, work, &step, &waiters).await?;
        let running = job(&pool, work, &step, &waiters).await?;
        let mut worker = Worker::new(running.queue(), running);
        worker.set_concurrency_limit(TASKS);
        // A notification announces each task; only delayed and abandoned ones are polled for.
        let worker = tokio::spawn(async move {
            if let Err(error) = worker.run_every(1.second()).await {
                eprintln!("the worker of underway ended: {error}");
            }
        });
        Ok(Self {
            enqueuing,
            worker,
            waiters,
            work,
        })
    }

    async fn run(&self, _id: &str) -> anyhow::Result<()> {
        let (waiter, has_ended) = self.waiters.enter();
        let parcel = Parcel { waiter, number: 0 };
        self.enqueuing.enqueue(&parcel).await?;
        if let Work::Sleep(_) = self.work {
            self.waiters.leave(waiter);
            return Ok(());
        }
        has_ended.await.context("a job was given up")
    }

    async fn stop(self) {
        self.worker.abort();
    }
}

async fn job(
    pool: &underway_sqlx::PgPool,
    work: Work,
    step: &Step,
    waiters: &Waiters,
) -> anyhow::Result<Jobs> {
    let (before, pause) = match work {
        Work::Steps(count) | Work::LongRun(count) => (count.saturating_sub(1), None),
        Work::Sleep(length) => (1, Some(Span::try_from(length)?)),
        Work::Children(_) => bail!("underway has no child workflows"),
    };
    let last = {
        let (step, waiters) = (step.clone(), waiters.clone());
        move |_, parcel| last(step.clone(), waiters.clone(), parcel)
    };
    let middle = || {
        let step = step.clone();
        move |_, parcel| middle(step.clone(), pause, parcel)
    };
    let steps = Jobs::builder();
    let job = if before == 0 {
        steps.step(last).name(QUEUE)
    } else {
        let mut steps = steps.step(middle());
        for _ in 1..before {
            steps = steps.step(middle());
        }
        steps.step(last).name(QUEUE)
    };
    Ok(job.pool(pool.clone()).build().await?)
}

async fn middle(step: Step, pause: Option<Span>, parcel: Parcel) -> TaskResult<To<Parcel>> {
    let number = step.run(parcel.number).await;
    let next = Parcel { number, ..parcel };
    match pause {
        Some(delay) => To::delay_for(next, delay),
        None => To::next(next),
    }
}

async fn last(step: Step, waiters: Waiters, parcel: Parcel) -> TaskResult<To<()>> {
    step.run(parcel.number).await;
    waiters.leave(parcel.waiter);
    To::done()
}

/// Who waits for the end of a job. The engine has no results, so a job counts as ended when its
/// last step has run, shortly before that is committed.
#[derive(Clone, Default)]
struct Waiters(Arc<WaitingRoom>);

#[derive(Default)]
struct WaitingRoom {
    tickets: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<()>>>,
}

impl Waiters {
    fn enter(&self) -> (u64, oneshot::Receiver<()>) {
        let ticket = self.0.tickets.fetch_add(1, Ordering::Relaxed);
        let (ended, has_ended) = oneshot::channel();
        self.waiting().insert(ticket, ended);
        (ticket, has_ended)
    }

    fn leave(&self, ticket: u64) {
        // Nobody waits for a job that a process before this one began.
        if let Some(ended) = self.waiting().remove(&ticket) {
            let _ = ended.send(());
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
