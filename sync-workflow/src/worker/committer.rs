//! The group committer: one per node. While a commit is in flight, the next batch gathers.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::{
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
};

/// How much may wait for the committer. A full queue holds the runs back.
const QUEUE: usize = 4_096;
/// The most commits in one batch: beyond it, latency grows and throughput does not.
const MAX_BATCH: usize = 1_024;
/// The most bytes of payload in one batch; a single commit may be larger.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

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

/// The queue in front of the committer.
#[derive(Clone, Debug)]
pub(crate) struct CommitQueue(mpsc::Sender<Work>);

impl CommitQueue {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Work>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Hands work over, waiting while the queue is full. `false` when the committer has stopped.
    pub(crate) async fn submit(&self, work: Work) -> bool {
        self.0.send(work).await.is_ok()
    }
}

/// Commits until the queue closes or the node is fenced.
pub(crate) async fn run(node: Arc<Node>, mut queue: mpsc::Receiver<Work>) {
    let mut gathered = Vec::with_capacity(MAX_BATCH);
    let mut told = 0;
    loop {
        let room = MAX_BATCH - gathered.len();
        if gathered.is_empty() && queue.recv_many(&mut gathered, room).await == 0 {
            return;
        }
        settle(&mut gathered, &mut queue, told).await;
        let rest = gathered.split_off(take_within_bytes(&gathered));
        let committing = std::mem::replace(&mut gathered, rest);
        told = committing.len();
        if !commit_works(&node, committing).await {
            node.fence();
            return;
        }
    }
}

/// Lets those whom the last commit told something add to the batch, as long as more of them come: they
/// are ready to run now, and a commit for a few of them costs as much as one for all.
async fn settle(gathered: &mut Vec<Work>, queue: &mut mpsc::Receiver<Work>, told: usize) {
    loop {
        let before = gathered.len();
        while gathered.len() < MAX_BATCH {
            match queue.try_recv() {
                Ok(work) => gathered.push(work),
                Err(_) => break,
            }
        }
        if gathered.len() >= told.min(MAX_BATCH) {
            return;
        }
        tokio::task::yield_now().await;
        if gathered.len() == before && queue.is_empty() {
            return;
        }
    }
}

fn take_within_bytes(gathered: &[Work]) -> usize {
    let mut bytes = 0;
    let fitting = gathered
        .iter()
        .take_while(|work| {
            bytes += payload_bytes(work);
            bytes <= MAX_BATCH_BYTES
        })
        .count();
    fitting.max(1).min(gathered.len())
}

fn payload_bytes(work: &Work) -> usize {
    match work {
        Work::Run { commit, .. } => {
            let records: usize = commit
                .records
                .iter()
                .map(|record| record.payload.len())
                .sum();
            let children: usize = commit.children.iter().map(|child| child.input.len()).sum();
            records + children
        }
        Work::Start { run, .. } => run.input.len(),
    }
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
    match commit_for_sure(node, &batch).await {
        Ok(Heard::Outcome(outcome, acquitted)) => {
            acknowledge(node, batch, waiting, outcome, &acquitted);
            true
        }
        Ok(Heard::Nothing) => {
            acknowledge_unheard(node, batch, waiting).await;
            true
        }
        Err(Error::Fenced) => {
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
    let mut pause = Duration::from_millis(5);
    let mut is_in_doubt = false;
    loop {
        let error = match node.journal.commit(node.id, batch).await {
            Ok(outcome) if is_in_doubt => {
                let acquitted = acquitted(node, batch, &outcome).await?;
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

/// The runs that name this node.
async fn owned(node: &Node) -> Result<HashSet<RunId>, Error> {
    let mut pause = Duration::from_millis(5);
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
    unplace_started(node, commit);
    reply.send(Message::Committed {
        outcome: RunOutcome::Committed,
        rejected: Vec::new(),
    });
    // Children that were rejected are found missing.
    reply.send(Message::Arrived);
}

/// Frees the places that were kept for what a commit would have started.
fn unplace_started(node: &Node, commit: &RunCommit) {
    for child in &commit.children {
        node.unplace(child);
    }
    if let Transition::Close(close) = &commit.transition
        && let Some(next) = &close.next
    {
        node.unplace(next);
    }
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
            unplace_started(node, &commit);
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
            unplace_started(node, &commit);
            reply.send(Message::Committed {
                outcome: RunOutcome::Lost,
                rejected: Vec::new(),
            });
            continue;
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
}
