//! The journal as a process sees it: every call takes time, may fail, and may be lost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use sync_workflow::{
    id::{NodeId, Position, RunId},
    journal::{
        Batch, BatchOutcome, Claim, ClaimRequest, ClaimedRun, Closed, Error, Hint, History,
        HistoryRecord, Inbox, Journal, NewRun, NewSignal, OpenTransaction, Page, Published,
        Renewal, Result, RunFilter, RunInfo, RunSelector, SignalOutcome, StartOutcome,
        StepTransaction, TransactionCommit, WokenRun,
    },
    record::Record,
};
use tokio::time::Instant;

use crate::{
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
    /// The last answer about the database's time, as the worker keeps it.
    clock: Mutex<Option<(Instant, Timestamp)>>,
}

impl FaultyJournal {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            names: Mutex::default(),
            clock: Mutex::default(),
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

    /// Keeps the database's time as the worker does that was told it.
    fn told(&self, told: Timestamp) -> Timestamp {
        let now = Instant::now();
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        *clock = Some((now, told));
        told
    }

    /// A time that the worker has not reached when it hears of it. A wait of no length at all would
    /// race with hints that wait already, in an order that no seed decides. A worker that always
    /// looks waits no longer than that anyway.
    fn ahead(&self, at: Timestamp) -> Option<Timestamp> {
        if self.link.world.profile.looks_always {
            return None;
        }
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let soon = clock
            .map(|clock| carried(clock, Instant::now()))
            .and_then(|now| now.checked_add(Duration::from_micros(1)).ok());
        Some(soon.map_or(at, |soon| soon.max(at)))
    }
}

fn carried((at, told): (Instant, Timestamp), now: Instant) -> Timestamp {
    told.checked_add(now - at).unwrap_or(told)
}

#[async_trait]
impl Journal for FaultyJournal {
    fn commits_at_once(&self) -> usize {
        2
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
        let now = self
            .call(Method::Enlist, None, move |world| {
                at_once(
                    world
                        .journal
                        .enlist(known, deed::granted(world, process, lease)),
                )
            })
            .await?;
        Ok(self.told(now))
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
        renewal.now = self.told(deed::told(&self.link.world, renewal.now));
        Ok(renewal)
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
        let about = batch.runs.iter().map(|commit| commit.run).min();
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
        self.call(Method::WasCommitted, None, move |world| {
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
        claim.now = self.told(deed::told(&self.link.world, claim.now));
        claim.next_wake = claim.next_wake.and_then(|at| self.ahead(at));
        Ok(claim)
    }

    async fn owned(&self, node: NodeId) -> Result<Vec<ClaimedRun>> {
        let node = self.known(node);
        self.call(Method::Owned, None, move |world| {
            at_once(world.journal.owned(node))
        })
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
            at_once(world.journal.inbox(run, &children, limit))
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
        self.link.world.journal.start(run).await
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

    async fn request_cancel(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.link.world.journal.request_cancel(run).await
    }

    async fn terminate(&self, run: &RunSelector, record: &Record) -> Result<Option<WokenRun>> {
        self.link.world.journal.terminate(run, record).await
    }

    async fn unpark(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.link.world.journal.unpark(run).await
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
