//! The group committer: one per node. While a commit is in flight, the next batch gathers.

mod gathered;
mod told;

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{
    future::Either,
    stream::{FuturesUnordered, StreamExt as _},
};
use tokio::sync::{mpsc, oneshot};

use self::gathered::{Around, Gathered, Next, Share};
pub(crate) use self::told::{Tally, Told};
use super::{
    backoff::Backoff,
    mailbox::{Mailbox, Message},
    node::Node,
};
use crate::{
    failure::Failure,
    id::RunId,
    journal::{
        Batch, BatchOutcome, Error, NewRun, Placement, RunCommit, RunOutcome, StartOutcome,
        Transition,
    },
    telemetry::FencedWrite,
};

/// How much is committed together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How much may wait for the committer. A full queue holds the runs back.
    pub(crate) queue: usize,
    /// The most commits in one batch: beyond it, latency grows and throughput does not.
    pub(crate) batch: usize,
    /// From so many on, a part of them is committed nearly as well as all of them.
    pub(crate) worth_dividing: usize,
    /// The most children that a run starts in one commit: the first begin while the others are being born.
    pub(crate) births: usize,
}

impl Limits {
    pub(crate) const DEFAULT: Self = Self {
        queue: 4_096,
        batch: 1_024,
        worth_dividing: 64,
        births: 256,
    };
}

/// The longest wait for those who were told that a commit has happened: as much as a commit takes.
const PATIENCE: Duration = Duration::from_millis(1);

/// One thing to commit.
#[derive(Debug)]
pub(crate) enum Work {
    /// What a run produced. A run has one commit under way at a time.
    Run { commit: RunCommit, reply: Mailbox },
    /// A run that a client of this process starts.
    Start {
        run: NewRun,
        reply: oneshot::Sender<Result<StartOutcome, Error>>,
    },
}

impl Work {
    /// Whether it changes nothing that is there.
    fn only_adds(&self) -> bool {
        match self {
            Self::Run { commit, .. } => commit.only_adds(),
            Self::Start { .. } => true,
        }
    }

    /// How much of a batch it is, beside the commit of one record.
    fn weight(&self) -> usize {
        match self {
            Self::Run { commit, .. } => commit.children.len().max(1),
            Self::Start { .. } => 1,
        }
    }

    fn payload_bytes(&self) -> usize {
        match self {
            Self::Run { commit, .. } => {
                let records = commit.records.iter().map(|record| record.payload.len());
                let children = commit.children.iter().map(|child| child.input.len());
                let published = commit.published.iter().map(|shown| shown.payload.len());
                records.chain(children).chain(published).sum()
            }
            Self::Start { run, .. } => run.input.len(),
        }
    }
}

/// The queue in front of the committer.
#[derive(Clone, Debug)]
pub(crate) struct CommitQueue(mpsc::Sender<Work>);

impl CommitQueue {
    pub(crate) fn new(limits: Limits) -> (Self, mpsc::Receiver<Work>) {
        let (sender, receiver) = mpsc::channel(limits.queue);
        (Self(sender), receiver)
    }

    /// Hands work over, waiting while the queue is full. `false` when the committer has stopped.
    pub(crate) async fn submit(&self, work: Work) -> bool {
        self.0.send(work).await.is_ok()
    }

    /// Waits until the queue has room for one thing more. Nothing when the committer has stopped.
    ///
    /// Cancel safe: whoever has room and does not use it gives it back.
    pub(crate) async fn room(&self) -> Option<Room<'_>> {
        self.0.reserve().await.ok().map(Room)
    }
}

/// Room for one thing in the queue.
pub(crate) struct Room<'a>(mpsc::Permit<'a, Work>);

impl Room<'_> {
    pub(crate) fn submit(self, work: Work) {
        self.0.send(work);
    }
}

/// Commits until the queue closes or the node is fenced.
///
/// One batch is under way at a time that changes what is there: two would wait for each other's rows, those of a parent
/// above all. Beside it, or instead, there may be batches that add records and runs and change nothing, as many in all
/// as the journal can use.
///
/// Where there is much to do, it is divided: one part is being worked on by the runs while the journal writes the others.
pub(crate) async fn run(node: Arc<Node>, queue: mpsc::Receiver<Work>) {
    let at_once = node.journal.commits_at_once().max(1);
    let parts = match at_once {
        1 => 1,
        _ => node.journal.writes_at_once() + 1,
    };
    let limits = node.settings.commits;
    let mut gathered = Gathered::new(queue, limits);
    let mut under_way = FuturesUnordered::new();
    let mut is_occupied = false;
    let (mut in_flight, mut told) = (0, 0);
    let mut has_waited = false;
    loop {
        if under_way.is_empty() {
            if gathered.is_empty() && !gathered.gather().await {
                return;
            }
            if told < limits.worth_dividing {
                gathered.settle(told).await;
            }
        }
        gathered.take_arrived();
        let mut wait_until = None;
        while under_way.len() < at_once {
            let around = Around {
                parts,
                in_flight,
                told: node.told.unanswered(),
                has_waited,
            };
            match gathered.next_share(is_occupied, around) {
                Next::Share(share) => {
                    is_occupied |= share.occupies;
                    in_flight += share.weight;
                    has_waited = false;
                    under_way.push(commit_share(&node, share, limits));
                }
                Next::Wait(unanswered) => {
                    wait_until = Some(unanswered);
                    break;
                }
                Next::Nothing => break,
            }
        }
        let waits = wait_until.is_some();
        let has_room = !waits && under_way.len() < at_once && gathered.takes_more();
        tokio::select! {
            biased;
            Some(ended) = under_way.next() => {
                if ended.is_fenced {
                    node.fence();
                    return;
                }
                is_occupied &= !ended.occupied;
                in_flight -= ended.weight;
                told = ended.told;
            }
            () = node.told.falls_to(wait_until.unwrap_or_default()), if waits => {}
            () = tokio::time::sleep(PATIENCE), if waits => has_waited = true,
            _ = gathered.gather(), if has_room => {}
        }
    }
}

/// A batch that is under way no more.
struct Ended {
    is_fenced: bool,
    /// Whether it changed what was there.
    occupied: bool,
    weight: usize,
    /// How many were told something.
    told: usize,
}

/// Commits a batch: a large one where encoding it does not hold up the next one.
fn commit_share(
    node: &Arc<Node>,
    share: Share,
    limits: Limits,
) -> impl Future<Output = Ended> + use<> {
    let Share {
        works,
        occupies,
        weight,
    } = share;
    let told = works.len();
    let node = Arc::clone(node);
    let commit = async move { commit_works(&node, works).await };
    let commit = match told >= limits.worth_dividing {
        true => Either::Left(on_another_thread(commit)),
        false => Either::Right(commit),
    };
    async move {
        Ended {
            is_fenced: !commit.await,
            occupied: occupies,
            weight,
            told,
        }
    }
}

async fn on_another_thread(commit: impl Future<Output = bool> + Send + 'static) -> bool {
    tokio::spawn(commit).await.unwrap_or_else(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "commit_panicked");
        false
    })
}

/// Who waits for what in a batch.
struct Waiting {
    runs: Vec<Mailbox>,
    starts: Vec<oneshot::Sender<Result<StartOutcome, Error>>>,
}

/// Commits one batch and tells everybody. `false` when the node is fenced.
async fn commit_works(node: &Arc<Node>, works: Vec<Work>) -> bool {
    let mut batch = Batch::default();
    let mut waiting = Waiting {
        runs: Vec::new(),
        starts: Vec::new(),
    };
    for work in works {
        match work {
            Work::Run { commit, reply } => {
                batch.runs.push(commit);
                waiting.runs.push(reply);
            }
            Work::Start { run, reply } => {
                batch.starts.push(run);
                waiting.starts.push(reply);
            }
        }
    }
    let began = node.clock.moment();
    let heard = commit_for_sure(node, &batch).await;
    let took = node.clock.moment().saturating_duration_since(began);
    node.metrics
        .committed(batch.runs.len() + batch.starts.len(), took);
    match heard {
        Ok(Heard::Outcome(outcome, acquitted)) => {
            acknowledge(node, batch, waiting, outcome, &acquitted);
            true
        }
        Ok(Heard::Nothing) => {
            acknowledge_unheard(node, batch, waiting).await;
            true
        }
        Err(Error::Fenced) => {
            node.metrics.fenced(FencedWrite::Commit);
            for reply in waiting.starts {
                let _gone = reply.send(Err(Error::Fenced));
            }
            false
        }
        Err(refusal) => commit_one_by_one(node, batch, waiting, &refusal).await,
    }
}

/// What is known of a commit that happened.
enum Heard {
    /// The answer, and those runs that it calls lost although their part has happened.
    Outcome(BatchOutcome, HashSet<RunId>),
    /// That it happened, and nothing else: the answer is lost.
    Nothing,
}

/// Repeats a commit until it is known whether it happened.
async fn commit_for_sure(node: &Node, batch: &Batch) -> Result<Heard, Error> {
    let mut pause = Backoff::new(Duration::from_millis(5));
    let mut is_in_doubt = false;
    loop {
        let error = match node.journal.commit(node.id, batch).await {
            Ok(mut outcome) if is_in_doubt => {
                let acquitted = acquitted(node, batch, &outcome).await?;
                if distrust_the_awake(batch, &mut outcome) {
                    node.look_at_owned();
                }
                return Ok(Heard::Outcome(outcome, acquitted));
            }
            Ok(outcome) => return Ok(Heard::Outcome(outcome, HashSet::new())),
            Err(error) => error,
        };
        if !error.is_transient() {
            return Err(error);
        }
        tracing::warn!(error = &error as &dyn std::error::Error, node = %node.id, "commit_failed");
        if let Error::Unknown(_) = error {
            is_in_doubt = true;
            node.metrics.commit_unknown();
            if node.has_happened(batch).await? {
                return Ok(Heard::Nothing);
            }
        }
        node.pause(&mut pause).await?;
    }
}

/// The runs of a batch that met their own records. A batch that was not there when it was looked for may
/// land after all, just before it is sent again.
async fn acquitted(
    node: &Node,
    batch: &Batch,
    outcome: &BatchOutcome,
) -> Result<HashSet<RunId>, Error> {
    let mut acquitted = HashSet::new();
    if !outcome.runs.contains(&RunOutcome::Lost) {
        return Ok(acquitted);
    }
    let owned = owned(node).await?;
    for (commit, came_of_it) in batch.runs.iter().zip(&outcome.runs) {
        // A run that goes on is still this node's, if it is its own record that is there.
        let may_be_ours =
            owned.contains(&commit.run) || !matches!(commit.transition, Transition::Continue);
        if *came_of_it != RunOutcome::Lost || commit.records.is_empty() || !may_be_ours {
            continue;
        }
        let alone = Batch {
            runs: vec![commit.clone()],
            ..Batch::default()
        };
        if node.has_happened(&alone).await? {
            acquitted.insert(commit.run);
        }
    }
    Ok(acquitted)
}

/// Lets go of the runs whose suspension was sent again and refused. Without a record of its own it may
/// have happened before: then the run went on elsewhere and came back, and its driver here knows less
/// than the journal does. `true` if there is such a run; whoever looks at what this node owns finds it.
fn distrust_the_awake(batch: &Batch, outcome: &mut BatchOutcome) -> bool {
    let mut is_one_let_go = false;
    for (commit, came_of_it) in batch.runs.iter().zip(&mut outcome.runs) {
        if *came_of_it == RunOutcome::StillAwake && commit.records.is_empty() {
            *came_of_it = RunOutcome::Lost;
            is_one_let_go = true;
        }
    }
    is_one_let_go
}

/// The runs that name this node.
async fn owned(node: &Node) -> Result<HashSet<RunId>, Error> {
    let mut pause = Backoff::new(Duration::from_millis(5));
    loop {
        match node.journal.owned(node.id).await {
            Ok(owned) => return Ok(owned.into_iter().map(|run| run.run).collect()),
            Err(error) if error.is_transient() => node.pause(&mut pause).await?,
            Err(error) => return Err(error),
        }
    }
}

/// Tells everybody of a batch that is known to have happened, but whose answer was lost. What the
/// answer would have told is asked for: nothing that it may have refused is driven on a guess.
async fn acknowledge_unheard(node: &Arc<Node>, batch: Batch, waiting: Waiting) {
    for (commit, reply) in batch.runs.into_iter().zip(waiting.runs) {
        tell_unheard(node, &commit, &reply);
    }
    for (run, reply) in batch.starts.into_iter().zip(waiting.starts) {
        node.unplace(&run);
        // It asks for the run that there is, and starts none if this one exists.
        let again = NewRun {
            placement: Placement::Anywhere,
            ..run
        };
        let _gone = reply.send(node.journal.start(&again).await);
    }
    node.look_at_owned();
}

/// Tells a run that its commit happened, and that the rest must be looked up. A run that did not fall
/// asleep has no driver then: the look at what this node owns finds it.
fn tell_unheard(node: &Node, commit: &RunCommit, reply: &Mailbox) {
    node.unplace_started(commit);
    if !commit.published.is_empty() {
        node.watchers.published(commit.run);
        node.published_elsewhere_awaited(vec![commit.run]);
    }
    reply.send(Message::Committed {
        told: node.told.tell(),
        outcome: RunOutcome::Committed,
        rejected: Vec::new(),
    });
    // Children that were rejected are found missing.
    reply.send(Message::Arrived);
}

/// A batch that is refused for good is taken apart, so that only the guilty run suffers.
async fn commit_one_by_one(
    node: &Arc<Node>,
    batch: Batch,
    waiting: Waiting,
    refusal: &Error,
) -> bool {
    let is_single = batch.runs.len() + batch.starts.len() == 1;
    let mut runs = batch.runs.into_iter().zip(waiting.runs);
    let mut starts = batch.starts.into_iter().zip(waiting.starts);
    if is_single {
        tracing::error!(error = refusal as &dyn std::error::Error, node = %node.id, "commit_refused");
        for (commit, reply) in runs.by_ref() {
            node.unplace_started(&commit);
            reply.send(Message::CommitRefused {
                reason: Failure::from_error(refusal).to_string(),
            });
        }
        for (run, reply) in starts.by_ref() {
            node.unplace(&run);
            let words = Failure::from_error(refusal).to_string();
            let _gone = reply.send(Err(Error::Refused(words.into())));
        }
        return true;
    }
    for (commit, reply) in runs {
        if !Box::pin(commit_works(node, vec![Work::Run { commit, reply }])).await {
            return false;
        }
    }
    for (run, reply) in starts {
        if !Box::pin(commit_works(node, vec![Work::Start { run, reply }])).await {
            return false;
        }
    }
    true
}

/// Tells everybody what came of a batch.
fn acknowledge(
    node: &Arc<Node>,
    batch: Batch,
    waiting: Waiting,
    outcome: BatchOutcome,
    acquitted: &HashSet<RunId>,
) {
    if !acquitted.is_empty() {
        node.look_at_owned();
    }
    let mut rejected: HashSet<RunId> = outcome.rejected_children.iter().copied().collect();
    let replies = batch.runs.into_iter().zip(waiting.runs).zip(outcome.runs);
    for ((commit, reply), came_of_it) in replies {
        if acquitted.contains(&commit.run) {
            tell_unheard(node, &commit, &reply);
            continue;
        }
        if came_of_it == RunOutcome::Lost {
            node.unplace_started(&commit);
            reply.send(Message::Committed {
                told: node.told.tell(),
                outcome: RunOutcome::Lost,
                rejected: Vec::new(),
            });
            continue;
        }
        if !commit.published.is_empty() {
            node.watchers.published(commit.run);
        }
        let mut refused = Vec::new();
        for child in commit.children {
            if rejected.remove(&child.run) {
                node.unplace(&child);
                refused.push(child.run);
            } else {
                node.placed(child);
            }
        }
        if let Transition::Close(close) = commit.transition
            && let Some(next) = close.next
        {
            node.placed(next);
        }
        reply.send(Message::Committed {
            told: node.told.tell(),
            outcome: came_of_it,
            rejected: refused,
        });
    }
    for ((run, reply), came_of_it) in batch
        .starts
        .into_iter()
        .zip(waiting.starts)
        .zip(outcome.starts)
    {
        match came_of_it {
            StartOutcome::Started => node.placed(run),
            StartOutcome::Existing { .. } => node.unplace(&run),
        }
        let _gone = reply.send(Ok(came_of_it));
    }
    node.woken(&outcome.woken);
    node.closed_elsewhere_awaited(outcome.awaited);
    node.published_elsewhere_awaited(outcome.watched);
}
