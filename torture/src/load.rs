//! The load: starts programs, sends them signals, cancels some. What fails is repeated.

use std::{
    future::{Future, IntoFuture as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use sync_workflow::{
    Client, IdReuse,
    client::{Debounced, Error},
    journal::RunFilter,
    status::RunStatus,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    program::{Input, Step},
    store::Store,
    workflow::{program, until_cancelled},
};

/// How many top-level runs are open at once.
const OPEN: usize = 80;
/// How many top-level runs begin in a second at most. Faster ones would only keep the processors from other
/// campaigns, and the checker busy: what counts is that victims hold runs.
const PACE: f64 = 25.0;
/// How often it looks whether there is room for more.
const LOOK_EVERY: Duration = Duration::from_millis(60);
/// How long one call is repeated before the referee gives up.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long nobody asks for a debounced run before it begins, and how long it waits at most.
const QUIET_FOR: Duration = Duration::from_millis(60);
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// More activities than a run ever makes before its cancellation arrives.
const MOST_ACTIVITIES: u64 = 10_000;

/// A run that was started.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    pub(crate) workflow_id: String,
    pub(crate) plan: Plan,
}

/// What a top-level run is to do.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    Program(Input),
    /// A program that was asked for again before it began. It has the last of these that was taken, or a later one whose
    /// answer was lost.
    Debounced {
        inputs: Vec<Input>,
        taken: Arc<AtomicUsize>,
    },
    UntilCancelled,
}

/// The statuses of runs that have not ended.
pub(crate) const OPEN_STATUSES: [RunStatus; 4] = RunStatus::OPEN;

/// Keeps runs open until told to stop, and returns those that it started once all their signals are
/// sent.
pub(crate) async fn run(
    store: Arc<Store>,
    seed: u64,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<Vec<Started>> {
    let mut rng = Rng::with_seed(seed);
    let mut started = Vec::new();
    let mut senders: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let begun = Instant::now();
    while !*stop.borrow() {
        let due = OPEN + (begun.elapsed().as_secs_f64() * PACE) as usize;
        let most = due.saturating_sub(started.len());
        for _ in (open_runs(store.client()).await?..OPEN).take(most) {
            let run = begin(store.client(), started.len(), &mut rng, &mut senders).await?;
            started.push(run);
            if *stop.borrow() {
                break;
            }
        }
        while let Some(sent) = senders.try_join_next() {
            sent??;
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    Ok(started)
}

async fn open_runs(client: &Client) -> anyhow::Result<usize> {
    let filter = RunFilter {
        statuses: OPEN_STATUSES.to_vec(),
        workflow_id_prefix: Some("top-".into()),
        limit: RunFilter::MAX_LIMIT,
        ..RunFilter::default()
    };
    let page = again(|| client.list(&filter)).await?;
    Ok(page.items.len())
}

async fn begin(
    client: &Client,
    number: usize,
    rng: &mut Rng,
    senders: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Started> {
    let seed = rng.u64(..);
    if rng.u8(..12) == 0 {
        let workflow_id = format!("top-{number}-cancelled");
        again(|| async {
            let start = client.start(until_cancelled, &workflow_id, MOST_ACTIVITIES);
            start.reuse(IdReuse::ReturnExisting).await
        })
        .await?;
        let wait = Duration::from_millis(rng.u64(1..600));
        senders.spawn(cancel(client.clone(), workflow_id.clone(), wait));
        return Ok(Started {
            workflow_id,
            plan: Plan::UntilCancelled,
        });
    }
    let workflow_id = format!("top-{number}-{seed:016x}");
    if rng.u8(..12) == 0 {
        return debounce(client, workflow_id, rng, senders).await;
    }
    let input = Input::of_seed(seed);
    again(|| async {
        let start = client.start(program, &workflow_id, input.clone());
        start.reuse(IdReuse::ReturnExisting).await
    })
    .await?;
    let signals = input.signals_awaited();
    if signals > 0 {
        senders.spawn(signal(client.clone(), workflow_id.clone(), signals, seed));
    }
    Ok(Started {
        workflow_id,
        plan: Plan::Program(input),
    })
}

/// Asks for programs under one workflow id, of which the last one that comes before it begins is carried out.
async fn debounce(
    client: &Client,
    workflow_id: String,
    rng: &mut Rng,
    senders: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Started> {
    let count = rng.usize(2..5);
    // Whichever begins, nobody has to know how many signals it waits for.
    let waits = |step: &Step| matches!(step, Step::Signal);
    let silent = |input: &Input| !input.steps.iter().any(waits);
    let mut inputs = Vec::new();
    while inputs.len() < count {
        inputs.extend(Some(Input::of_seed(rng.u64(..))).filter(silent));
    }
    let taken = Arc::new(AtomicUsize::new(0));
    ask(client, &workflow_id, &inputs[0]).await?;
    let started = Started {
        workflow_id: workflow_id.clone(),
        plan: Plan::Debounced {
            inputs: inputs.clone(),
            taken: Arc::clone(&taken),
        },
    };
    let (client, mut rng) = (client.clone(), rng.fork());
    senders.spawn(async move {
        for (number, input) in inputs.iter().enumerate().skip(1) {
            sleep(Duration::from_millis(
                rng.u64(..QUIET_FOR.as_millis() as u64 * 3 / 2),
            ))
            .await;
            if ask(&client, &workflow_id, input).await? {
                taken.store(number, Ordering::SeqCst);
            }
        }
        Ok(())
    });
    Ok(started)
}

/// Whether the input was taken.
async fn ask(client: &Client, workflow_id: &str, input: &Input) -> anyhow::Result<bool> {
    let asked = again(|| {
        let start = client.start(program, workflow_id, input.clone());
        let start = start.reuse(IdReuse::ReturnExisting);
        start.debounce(QUIET_FOR, LONGEST_WAIT).into_future()
    });
    Ok(!matches!(asked.await?, Debounced::Existing(_)))
}

/// Sends the signals of a run in order; some of them twice at the same time.
pub(crate) async fn signal(
    client: Client,
    workflow_id: String,
    count: u64,
    seed: u64,
) -> anyhow::Result<()> {
    let mut rng = Rng::with_seed(seed);
    for value in 0..count {
        sleep(Duration::from_millis(rng.u64(..80))).await;
        let id = format!("signal-{value}");
        let send = || send(&client, &workflow_id, &id, value);
        if rng.u8(..4) == 0 {
            let (one, other) = tokio::join!(send(), send());
            one.and(other)?;
        } else {
            send().await?;
        }
    }
    Ok(())
}

async fn send(client: &Client, workflow_id: &str, id: &str, value: u64) -> anyhow::Result<()> {
    again(|| async {
        // A run that has ended got the signal by a call whose answer was lost; if it did not, the
        // checker finds it open.
        match client.signal_once(workflow_id, "poke", id, &value).await {
            Err(Error::NotOpen) => Ok(()),
            sent => sent,
        }
    })
    .await
}

async fn cancel(client: Client, workflow_id: String, wait: Duration) -> anyhow::Result<()> {
    sleep(wait).await;
    again(|| async {
        match client.cancel(&workflow_id).await {
            Err(Error::NotOpen) => Ok(()),
            asked => asked,
        }
    })
    .await
}

/// Repeats a call while the journal cannot be reached.
pub(crate) async fn again<T, F, Fut>(mut call: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(Error::Journal(error)) if error.is_transient() && Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
