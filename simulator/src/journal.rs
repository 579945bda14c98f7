//! The journal as a process sees it: every call takes time, may fail, and may be lost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use sync_workflow::{
    id::{BuildId, NodeId, Position, RunId},
    journal::{
        Batch, BatchOutcome, BuildInfo, BuildMove, BuildMoved, BuildStore, Claim, ClaimRequest,
        ClaimedRun, Closed, Debounce, DebounceOutcome, Deleted, Deletion, Error, Fork, ForkOutcome,
        Hint, History, HistoryRecord, ImportedRun, Inbox, Journal, NewRun, NewSignal,
        OpenTransaction, Outlook, Page, Published, QueueInfo, QueueLimits, Renewal, Result,
        RunFilter, RunInfo, RunSelector, ScheduleStore, SignalOutcome, SignalledStart,
        StartOutcome, StepTransaction, TransactionCommit, WokenRun,
    },
    record::Record,
};

use crate::{
    again, builds,
    call::Method,
    deed,
    mutant::Mutant,
    process::Link,
    world::{World, at_once},
};

/// The journal of one process.
pub(crate) struct FaultyJournal {
    link: Arc<Link>,
    /// What the world calls the nodes of this process: their own names are random.
    names: Mutex<HashMap<NodeId, NodeId>>,
}

impl FaultyJournal {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            names: Mutex::default(),
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        method: Method,
        run: Option<RunId>,
        op: impl FnOnce(&World) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let about = run.map_or(0, |run| run.as_uuid().as_u128());
        self.link.world.call(&self.link, method, about, op).await
    }

    /// What the world calls a node of this process.
    fn known(&self, node: NodeId) -> NodeId {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&node).copied().unwrap_or(node)
    }

    /// What this process calls a node.
    fn own(&self, node: NodeId) -> NodeId {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names
            .iter()
            .find(|(_, known)| **known == node)
            .map_or(node, |(own, _)| *own)
    }

    fn own_woken(&self, woken: &mut WokenRun) {
        woken.node = woken.node.map(|node| self.own(node));
    }
}

#[async_trait]
impl BuildStore for FaultyJournal {
    async fn declare_build(&self, node: NodeId, queue: &str, build: &BuildId) -> Result<()> {
        let (node, queue, build) = (self.known(node), queue.to_owned(), build.clone());
        self.call(Method::Declare, None, move |world| {
            let builds = world.journal.builds();
            at_once(builds.declare_build(node, &queue, &build))
        })
        .await
    }

    async fn set_current_build(&self, queue: &str, build: Option<&BuildId>) -> Result<()> {
        let builds = self.link.world.journal.builds();
        builds.set_current_build(queue, build).await
    }

    async fn list_builds(&self, queue: &str) -> Result<Vec<BuildInfo>> {
        self.link.world.journal.builds().list_builds(queue).await
    }

    async fn move_to_build(&self, run: RunId, to: &BuildMove) -> Result<BuildMoved> {
        let builds = self.link.world.journal.builds();
        builds.move_to_build(run, to).await
    }
}

#[async_trait]
impl Journal for FaultyJournal {
    fn commits_at_once(&self) -> usize {
        self.link.world.profile.commits.at_once
    }

    fn writes_at_once(&self) -> usize {
        self.link.world.profile.commits.writes_at_once
    }

    async fn enlist(&self, node: NodeId, lease: Duration) -> Result<Timestamp> {
        let process = self.link.process;
        if self.link.is_dead() {
            return Err(Error::Fenced);
        }
        let known = self.link.world.name_node(process);
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node, known);
        builds::enlisted(&self.link.world, known, self.link.build());
        self.call(Method::Enlist, None, move |world| {
            at_once(
                world
                    .journal
                    .enlist(known, deed::granted(world, process, lease)),
            )
        })
        .await
    }

    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Renewal> {
        let (node, process) = (self.known(node), self.link.process);
        let mut renewal = self
            .call(Method::Renew, None, move |world| {
                at_once(
                    world
                        .journal
                        .renew(node, deed::granted(world, process, lease)),
                )
            })
            .await?;
        renewal.now = deed::told(&self.link.world, renewal.now);
        Ok(renewal)
    }

    async fn renew_and_look(
        &self,
        node: NodeId,
        lease: Duration,
        request: &ClaimRequest,
    ) -> Result<(Renewal, Option<Outlook>)> {
        let (node, process) = (self.known(node), self.link.process);
        let request = request.clone();
        let (mut renewal, outlook) = self
            .call(Method::Renew, None, move |world| {
                deed::renew_and_look(world, process, (node, lease), &request)
            })
            .await?;
        renewal.now = deed::told(&self.link.world, renewal.now);
        Ok((renewal, outlook))
    }

    async fn reap(&self, limit: u32) -> Result<Vec<NodeId>> {
        self.call(Method::Reap, None, move |world| deed::reap(world, limit))
            .await
    }

    async fn retire(&self, node: NodeId) -> Result<()> {
        let node = self.known(node);
        self.call(Method::Retire, None, move |world| deed::retire(world, node))
            .await
    }

    async fn commit(&self, node: NodeId, batch: &Batch) -> Result<BatchOutcome> {
        let (node, asked) = (self.known(node), batch.clone());
        let runs = batch.runs.iter().map(|commit| commit.run);
        let about = runs.chain(batch.starts.iter().map(|new| new.run)).min();
        if self.link.world.crosses_lanes(&self.link) {
            let outcome = deed::claimed_outcome(batch);
            deed::check_acknowledged(&self.link.world, batch, &outcome);
            return Ok(outcome);
        }
        let mut outcome = self
            .call(Method::Commit, about, move |world| {
                deed::commit(world, node, asked)
            })
            .await?;
        deed::check_acknowledged(&self.link.world, batch, &outcome);
        outcome
            .woken
            .iter_mut()
            .for_each(|woken| self.own_woken(woken));
        Ok(outcome)
    }

    async fn was_committed(&self, node: NodeId, batch: &Batch) -> Result<Option<bool>> {
        let (node, batch) = (self.known(node), batch.clone());
        let (process, life) = (self.link.process, self.link.life);
        // As for a commit of the same batch: two may be asked about at once.
        let runs = batch.runs.iter().map(|commit| commit.run);
        let about = runs.chain(batch.starts.iter().map(|new| new.run)).min();
        self.call(Method::WasCommitted, about, move |world| {
            world.settle_doubts(process, life);
            deed::was_committed(world, node, &batch)
        })
        .await
    }

    async fn claim(&self, node: NodeId, request: &ClaimRequest) -> Result<Claim> {
        let (node, request) = (self.known(node), request.clone());
        let mut claim = self
            .call(Method::Claim, None, move |world| {
                deed::claim(world, node, &request)
            })
            .await?;
        claim.now = deed::told(&self.link.world, claim.now);
        Ok(claim)
    }

    async fn owned(&self, node: NodeId) -> Result<Vec<ClaimedRun>> {
        let node = self.known(node);
        self.call(Method::Owned, None, move |world| deed::owned(world, node))
            .await
    }

    async fn load(&self, run: RunId, from: Position, limit: u32) -> Result<History> {
        self.call(Method::Load, Some(run), move |world| {
            deed::load(world, run, from, limit)
        })
        .await
    }

    async fn inbox(&self, run: RunId, children: &[RunId], limit: u32) -> Result<Inbox> {
        let mut children = children.to_vec();
        // In an order that tells nothing about the hashes of this process.
        children.sort_unstable();
        self.call(Method::Inbox, Some(run), move |world| {
            again::inbox(world, run, &children, limit)
        })
        .await
    }

    async fn begin(&self) -> Result<OpenTransaction> {
        self.link.world.journal.begin().await
    }

    async fn commit_step(
        &self,
        transaction: OpenTransaction,
        commit: &TransactionCommit,
    ) -> Result<()> {
        let mut commit = commit.clone();
        commit.node = self.known(commit.node);
        let result = self
            .call(Method::Step, Some(commit.run), move |world| {
                deed::commit_step(world, transaction, commit)
            })
            .await;
        match result {
            Err(Error::Unknown(doubt)) if self.link.world.mutant == Some(Mutant::BlindStep) => {
                Err(Error::Unavailable(doubt))
            }
            result => result,
        }
    }

    async fn start(&self, run: &NewRun) -> Result<StartOutcome> {
        let run = run.clone();
        self.call(Method::Start, Some(run.run), move |world| {
            at_once(world.journal.start(&run))
        })
        .await
    }

    async fn start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
    ) -> Result<StartOutcome> {
        self.link.world.journal.start_in(transaction, run).await
    }

    async fn signal(&self, signal: &NewSignal) -> Result<SignalOutcome> {
        self.link.world.journal.signal(signal).await
    }

    async fn send_signal(&self, node: NodeId, signal: &NewSignal) -> Result<SignalOutcome> {
        let (node, signal) = (self.known(node), signal.clone());
        let about = deed::value_of(&signal).unwrap_or_default();
        self.link
            .world
            .call(&self.link, Method::Send, about.into(), move |world| {
                deed::send_signal(world, node, signal)
            })
            .await
    }

    async fn signal_in(
        &self,
        transaction: StepTransaction<'_>,
        signal: &NewSignal,
    ) -> Result<SignalOutcome> {
        self.link.world.journal.signal_in(transaction, signal).await
    }

    async fn signal_with_start(&self, run: &NewRun, signal: &NewSignal) -> Result<SignalledStart> {
        self.link.world.journal.signal_with_start(run, signal).await
    }

    async fn signal_with_start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
        signal: &NewSignal,
    ) -> Result<SignalledStart> {
        self.link
            .world
            .journal
            .signal_with_start_in(transaction, run, signal)
            .await
    }

    async fn debounce(&self, run: &NewRun, debounce: Debounce) -> Result<DebounceOutcome> {
        self.link.world.journal.debounce(run, debounce).await
    }

    async fn request_cancel(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        let about = match run {
            RunSelector::Run(run) => Some(*run),
            RunSelector::Latest(_) => None,
        };
        let run = run.clone();
        let mut woken = self
            .call(Method::Cancel, about, move |world| {
                deed::request_cancel(world, &run)
            })
            .await?;
        woken.iter_mut().for_each(|woken| self.own_woken(woken));
        Ok(woken)
    }

    async fn terminate(&self, run: &RunSelector, record: &Record) -> Result<Option<WokenRun>> {
        self.link.world.journal.terminate(run, record).await
    }

    async fn unpark(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.link.world.journal.unpark(run).await
    }

    async fn pause(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.link.world.journal.pause(run).await
    }

    async fn resume(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.link.world.journal.resume(run).await
    }

    async fn delete_closed(&self, deletion: &Deletion) -> Result<Deleted> {
        self.link.world.journal.delete_closed(deletion).await
    }

    fn schedules(&self) -> &dyn ScheduleStore {
        self.link.world.journal.schedules()
    }

    fn builds(&self) -> &dyn BuildStore {
        self
    }

    async fn fork(&self, fork: &Fork) -> Result<ForkOutcome> {
        let fork = fork.clone();
        let mut outcome = self
            .call(Method::Fork, Some(fork.run), move |world| {
                again::fork(world, fork)
            })
            .await?;
        if let ForkOutcome::Forked { ended: Some(ended) } = &mut outcome {
            self.own_woken(ended);
        }
        Ok(outcome)
    }

    async fn import(&self, run: &ImportedRun) -> Result<StartOutcome> {
        self.link.world.journal.import(run).await
    }

    async fn outcome(&self, run: RunId) -> Result<Option<Closed>> {
        self.link.world.journal.outcome(run).await
    }

    async fn published(&self, run: &RunSelector, name: &str) -> Result<Option<Published>> {
        self.link.world.journal.published(run, name).await
    }

    async fn describe(&self, run: &RunSelector) -> Result<Option<RunInfo>> {
        self.link.world.journal.describe(run).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Page<RunInfo>> {
        self.link.world.journal.list(filter).await
    }

    async fn history(&self, run: RunId, from: Position, limit: u32) -> Result<Page<HistoryRecord>> {
        self.link.world.journal.history(run, from, limit).await
    }

    async fn limit_queue(&self, queue: &str, limits: &QueueLimits) -> Result<()> {
        self.link.world.journal.limit_queue(queue, limits).await
    }

    async fn pause_queue(&self, queue: &str, is_paused: bool) -> Result<()> {
        self.link.world.journal.pause_queue(queue, is_paused).await
    }

    async fn queues(&self) -> Result<Vec<QueueInfo>> {
        self.link.world.journal.queues().await
    }

    async fn notify(&self, hints: &[Hint]) -> Result<()> {
        let mut hints: Vec<_> = hints
            .iter()
            .map(|hint| match hint {
                Hint::Arrived { node, run } => Hint::Arrived {
                    node: self.known(*node),
                    run: *run,
                },
                hint => hint.clone(),
            })
            .collect();
        // Gathered in a set, whose order tells nothing.
        hints.sort_by_cached_key(|hint| format!("{hint:?}"));
        self.call(Method::Notify, None, move |world| {
            world.broadcast(&hints);
            Ok(())
        })
        .await
    }

    async fn hints(&self) -> Vec<Hint> {
        loop {
            let (hints, bell) = {
                let mut state = self.link.world.lock();
                let surroundings = &mut state.processes[self.link.process];
                let is_mine = surroundings.life == self.link.life;
                let hints: Vec<_> = if is_mine {
                    surroundings.hints.drain(..).collect()
                } else {
                    Vec::new()
                };
                (hints, Arc::clone(&surroundings.bell))
            };
            if hints.is_empty() {
                bell.notified().await;
                continue;
            }
            return hints
                .into_iter()
                .map(|hint| match hint {
                    Hint::Arrived { node, run } => Hint::Arrived {
                        node: self.own(node),
                        run,
                    },
                    hint => hint,
                })
                .collect();
        }
    }
}
