//! A journal that fails as it is told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use sync_workflow::{
    id::{NodeId, Position, RunId},
    journal::{
        Batch, BatchOutcome, BuildStore, Claim, ClaimRequest, ClaimedRun, Closed, Debounce,
        DebounceOutcome, Deleted, Deletion, Error, Fork, ForkOutcome, Hint, History, HistoryRecord,
        ImportedRun, Inbox, Journal, NewRun, NewSignal, OpenTransaction, Page, Piece, PiecePlace,
        Published, QueueInfo, QueueLimits, Renewal, Result, RunFilter, RunInfo, RunSelector,
        ScheduleStore, SignalOutcome, SignalledStart, StartOutcome, StepTransaction,
        TransactionCommit, WokenRun,
    },
    record::Record,
};
use tokio::sync::watch;

/// What happens to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It happens and is acknowledged.
    None,
    /// Nothing is written; trying again helps.
    NotCommitted,
    /// Nothing is written; trying again does not help.
    Refused,
    /// The node is declared dead before it: nothing is written.
    Fenced,
    /// Nothing is written and nobody says so.
    LostBefore,
    /// It happens and nobody says so.
    LostAfter,
}

impl Fault {
    /// All that is not plain success.
    pub(crate) const ALL: [Self; 5] = [
        Self::NotCommitted,
        Self::Refused,
        Self::Fenced,
        Self::LostBefore,
        Self::LostAfter,
    ];
}

type Plan = dyn FnMut(&Batch) -> Fault + Send;
type Prelude = dyn FnMut() -> BoxFuture<'static, ()> + Send;

/// A journal whose commits fail by a plan; everything else is another journal's.
pub(crate) struct Faulty {
    inner: Arc<dyn Journal>,
    plan: Mutex<Box<Plan>>,
    prelude: Mutex<Box<Prelude>>,
    failed: AtomicUsize,
    /// How many answers to signals are still to be lost.
    loses_signals: AtomicUsize,
    /// How many transactions of steps are still to be rolled back in favour of others: as they begin, as they commit.
    contended: [AtomicUsize; 2],
    looked_at_owned: AtomicUsize,
    /// How many such looks are still to fail.
    refused_looks: AtomicUsize,
    claimed: AtomicUsize,
    refuses_claims: AtomicBool,
    /// Whether nobody can enlist, and how many could not.
    refuses_nodes: AtomicBool,
    refused_nodes: AtomicUsize,
    /// Whether the answers to claims are held back that give runs, and how many are under way.
    holds_claims: watch::Sender<bool>,
    claims_under_way: AtomicUsize,
    /// How often a node was retired, and whether a claim was under way then.
    retired: AtomicUsize,
    retired_while_claiming: AtomicBool,
    notified: AtomicUsize,
    asked: Asked,
}

/// How often the journal was asked for something.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) outcomes: AtomicUsize,
    pub(crate) descriptions: AtomicUsize,
    pub(crate) inboxes: AtomicUsize,
}

impl Faulty {
    /// All commits succeed until there is a plan.
    pub(crate) fn new(inner: Arc<dyn Journal>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            plan: Mutex::new(Box::new(|_| Fault::None)),
            prelude: Mutex::new(Box::new(|| Box::pin(async {}))),
            failed: AtomicUsize::new(0),
            loses_signals: AtomicUsize::new(0),
            contended: [AtomicUsize::new(0), AtomicUsize::new(0)],
            looked_at_owned: AtomicUsize::new(0),
            refused_looks: AtomicUsize::new(0),
            claimed: AtomicUsize::new(0),
            notified: AtomicUsize::new(0),
            asked: Asked::default(),
            refuses_claims: AtomicBool::new(false),
            refuses_nodes: AtomicBool::new(false),
            refused_nodes: AtomicUsize::new(0),
            holds_claims: watch::Sender::new(false),
            claims_under_way: AtomicUsize::new(0),
            retired: AtomicUsize::new(0),
            retired_while_claiming: AtomicBool::new(false),
        })
    }

    pub(crate) const fn asked(&self) -> &Asked {
        &self.asked
    }

    /// The journal behind it, which does not fail.
    pub(crate) fn behind(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.inner)
    }

    /// Asks `plan` about every commit from now on.
    pub(crate) fn plan(&self, plan: impl FnMut(&Batch) -> Fault + Send + 'static) {
        *self.plan.lock().unwrap() = Box::new(plan);
    }

    /// Does something before every commit from now on.
    pub(crate) fn before_commits(
        &self,
        prelude: impl FnMut() -> BoxFuture<'static, ()> + Send + 'static,
    ) {
        *self.prelude.lock().unwrap() = Box::new(prelude);
    }

    /// Delivers so many signals without an answer.
    pub(crate) fn lose_signals(&self, count: usize) {
        self.loses_signals.store(count, Ordering::SeqCst);
    }

    /// Rolls back so many transactions of steps as they begin, and so many as they commit.
    pub(crate) fn contend(&self, begins: usize, commits: usize) {
        self.contended[0].store(begins, Ordering::SeqCst);
        self.contended[1].store(commits, Ordering::SeqCst);
    }

    /// How many of them are left.
    pub(crate) fn to_contend(&self) -> usize {
        let left = self.contended.iter();
        left.map(|left| left.load(Ordering::SeqCst)).sum()
    }

    /// Whether claims fail from now on.
    pub(crate) fn refuse_claims(&self, refuses: bool) {
        self.refuses_claims.store(refuses, Ordering::SeqCst);
    }

    /// Lets so many of the next looks at what a node owns fail.
    pub(crate) fn refuse_looks(&self, count: usize) {
        self.refused_looks.store(count, Ordering::SeqCst);
    }

    /// Whether nobody can enlist from now on.
    pub(crate) fn refuse_nodes(&self, refuses: bool) {
        self.refuses_nodes.store(refuses, Ordering::SeqCst);
    }

    /// How many could not.
    pub(crate) fn refused_nodes(&self) -> usize {
        self.refused_nodes.load(Ordering::SeqCst)
    }

    /// Whether the answers to claims that give runs are held back from now on.
    pub(crate) fn hold_claims(&self, holds: bool) {
        self.holds_claims.send_replace(holds);
    }

    /// How often a node was retired.
    pub(crate) fn retired(&self) -> usize {
        self.retired.load(Ordering::SeqCst)
    }

    /// Whether a node was ever retired while a claim was under way.
    pub(crate) fn retired_while_claiming(&self) -> bool {
        self.retired_while_claiming.load(Ordering::SeqCst)
    }

    /// How many commits have failed, by plan or by themselves.
    pub(crate) fn failed(&self) -> usize {
        self.failed.load(Ordering::SeqCst)
    }

    /// How often other processes were told something.
    pub(crate) fn notified(&self) -> usize {
        self.notified.load(Ordering::SeqCst)
    }

    /// How often a worker has asked for runs.
    pub(crate) fn claimed(&self) -> usize {
        self.claimed.load(Ordering::SeqCst)
    }

    /// How often a worker has compared what it holds with what it should hold.
    pub(crate) fn looked_at_owned(&self) -> usize {
        self.looked_at_owned.load(Ordering::SeqCst)
    }

    fn next(&self, batch: &Batch) -> Fault {
        (self.plan.lock().unwrap())(batch)
    }
}

/// Counts down; `false` if nothing was left.
fn takes_one(left: &AtomicUsize) -> bool {
    let fewer = |left: usize| left.checked_sub(1);
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer)
        .is_ok()
}

#[async_trait]
impl Journal for Faulty {
    fn commits_at_once(&self) -> usize {
        self.inner.commits_at_once()
    }

    fn writes_at_once(&self) -> usize {
        self.inner.writes_at_once()
    }

    async fn commit(&self, node: NodeId, batch: &Batch) -> Result<BatchOutcome> {
        let prelude = (self.prelude.lock().unwrap())();
        prelude.await;
        let fault = self.next(batch);
        let outcome = match fault {
            Fault::None => self.inner.commit(node, batch).await,
            Fault::NotCommitted => Err(Error::Unavailable("as planned".into())),
            Fault::Refused => Err(Error::Refused("as planned".into())),
            Fault::Fenced => {
                self.inner.retire(node).await?;
                self.inner.commit(node, batch).await
            }
            Fault::LostBefore => Err(Error::Unknown("as planned".into())),
            Fault::LostAfter => {
                self.inner.commit(node, batch).await?;
                Err(Error::Unknown("as planned".into()))
            }
        };
        self.failed
            .fetch_add(usize::from(outcome.is_err()), Ordering::SeqCst);
        outcome
    }

    async fn owned(&self, node: NodeId) -> Result<Vec<ClaimedRun>> {
        self.looked_at_owned.fetch_add(1, Ordering::SeqCst);
        if takes_one(&self.refused_looks) {
            return Err(Error::Unavailable("as planned".into()));
        }
        self.inner.owned(node).await
    }

    fn max_payload_bytes(&self) -> usize {
        self.inner.max_payload_bytes()
    }

    async fn keep_piece(&self, piece: &Piece) -> Result<()> {
        self.inner.keep_piece(piece).await
    }

    async fn piece(&self, run: RunId, place: PiecePlace) -> Result<Option<Bytes>> {
        self.inner.piece(run, place).await
    }

    async fn settle_pieces(&self, runs: &[RunId]) -> Result<()> {
        self.inner.settle_pieces(runs).await
    }

    async fn enlist(&self, node: NodeId, lease: Duration) -> Result<Timestamp> {
        if self.refuses_nodes.load(Ordering::SeqCst) {
            self.refused_nodes.fetch_add(1, Ordering::SeqCst);
            return Err(Error::Unavailable("as planned".into()));
        }
        self.inner.enlist(node, lease).await
    }

    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Renewal> {
        self.inner.renew(node, lease).await
    }

    async fn reap(&self, limit: u32) -> Result<Vec<NodeId>> {
        self.inner.reap(limit).await
    }

    async fn retire(&self, node: NodeId) -> Result<()> {
        let is_claiming = self.claims_under_way.load(Ordering::SeqCst) > 0;
        self.retired_while_claiming
            .fetch_or(is_claiming, Ordering::SeqCst);
        self.retired.fetch_add(1, Ordering::SeqCst);
        self.inner.retire(node).await
    }

    async fn was_committed(&self, node: NodeId, batch: &Batch) -> Result<Option<bool>> {
        self.inner.was_committed(node, batch).await
    }

    async fn claim(&self, node: NodeId, request: &ClaimRequest) -> Result<Claim> {
        if self.refuses_claims.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("as planned".into()));
        }
        self.claimed.fetch_add(1, Ordering::SeqCst);
        self.claims_under_way.fetch_add(1, Ordering::SeqCst);
        let claim = self.inner.claim(node, request).await;
        if claim.as_ref().is_ok_and(|claim| !claim.runs.is_empty()) {
            let mut holds = self.holds_claims.subscribe();
            holds.wait_for(|holds| !holds).await.unwrap();
        }
        self.claims_under_way.fetch_sub(1, Ordering::SeqCst);
        // As over a wire: others run meanwhile.
        tokio::time::sleep(Duration::from_millis(3)).await;
        claim
    }

    async fn load(&self, run: RunId, from: Position, limit: u32) -> Result<History> {
        self.inner.load(run, from, limit).await
    }

    async fn inbox(&self, run: RunId, children: &[RunId], limit: u32) -> Result<Inbox> {
        self.asked.inboxes.fetch_add(1, Ordering::SeqCst);
        self.inner.inbox(run, children, limit).await
    }

    async fn begin(&self) -> Result<OpenTransaction> {
        match takes_one(&self.contended[0]) {
            true => Err(Error::Contended("as planned".into())),
            false => self.inner.begin().await,
        }
    }

    async fn commit_step(
        &self,
        transaction: OpenTransaction,
        commit: &TransactionCommit,
    ) -> Result<()> {
        match takes_one(&self.contended[1]) {
            true => Err(Error::Contended("as planned".into())),
            false => self.inner.commit_step(transaction, commit).await,
        }
    }

    async fn start(&self, run: &NewRun) -> Result<StartOutcome> {
        self.inner.start(run).await
    }

    async fn start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
    ) -> Result<StartOutcome> {
        self.inner.start_in(transaction, run).await
    }

    async fn signal(&self, signal: &NewSignal) -> Result<SignalOutcome> {
        self.inner.signal(signal).await
    }

    async fn send_signal(&self, node: NodeId, signal: &NewSignal) -> Result<SignalOutcome> {
        let outcome = self.inner.send_signal(node, signal).await?;
        match takes_one(&self.loses_signals) {
            true => Err(Error::Unknown("as planned".into())),
            false => Ok(outcome),
        }
    }

    async fn signal_in(
        &self,
        transaction: StepTransaction<'_>,
        signal: &NewSignal,
    ) -> Result<SignalOutcome> {
        self.inner.signal_in(transaction, signal).await
    }

    async fn signal_with_start(&self, run: &NewRun, signal: &NewSignal) -> Result<SignalledStart> {
        self.inner.signal_with_start(run, signal).await
    }

    async fn signal_with_start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
        signal: &NewSignal,
    ) -> Result<SignalledStart> {
        self.inner
            .signal_with_start_in(transaction, run, signal)
            .await
    }

    async fn debounce(&self, run: &NewRun, debounce: Debounce) -> Result<DebounceOutcome> {
        self.inner.debounce(run, debounce).await
    }

    async fn request_cancel(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.inner.request_cancel(run).await
    }

    async fn terminate(&self, run: &RunSelector, record: &Record) -> Result<Option<WokenRun>> {
        self.inner.terminate(run, record).await
    }

    async fn unpark(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.inner.unpark(run).await
    }

    async fn pause(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.inner.pause(run).await
    }

    async fn resume(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.inner.resume(run).await
    }

    async fn delete_closed(&self, deletion: &Deletion) -> Result<Deleted> {
        self.inner.delete_closed(deletion).await
    }

    fn schedules(&self) -> &dyn ScheduleStore {
        self.inner.schedules()
    }

    fn builds(&self) -> &dyn BuildStore {
        self.inner.builds()
    }

    async fn fork(&self, fork: &Fork) -> Result<ForkOutcome> {
        self.inner.fork(fork).await
    }

    async fn import(&self, run: &ImportedRun) -> Result<StartOutcome> {
        self.inner.import(run).await
    }

    async fn outcome(&self, run: RunId) -> Result<Option<Closed>> {
        self.asked.outcomes.fetch_add(1, Ordering::SeqCst);
        self.inner.outcome(run).await
    }

    async fn published(&self, run: &RunSelector, name: &str) -> Result<Option<Published>> {
        self.inner.published(run, name).await
    }

    async fn describe(&self, run: &RunSelector) -> Result<Option<RunInfo>> {
        self.asked.descriptions.fetch_add(1, Ordering::SeqCst);
        self.inner.describe(run).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Page<RunInfo>> {
        self.inner.list(filter).await
    }

    async fn history(&self, run: RunId, from: Position, limit: u32) -> Result<Page<HistoryRecord>> {
        self.inner.history(run, from, limit).await
    }

    async fn limit_queue(&self, queue: &str, limits: &QueueLimits) -> Result<()> {
        self.inner.limit_queue(queue, limits).await
    }

    async fn pause_queue(&self, queue: &str, is_paused: bool) -> Result<()> {
        self.inner.pause_queue(queue, is_paused).await
    }

    async fn queues(&self) -> Result<Vec<QueueInfo>> {
        self.inner.queues().await
    }

    async fn notify(&self, hints: &[Hint]) -> Result<()> {
        self.notified.fetch_add(1, Ordering::SeqCst);
        // As over a wire: others run meanwhile.
        tokio::task::yield_now().await;
        self.inner.notify(hints).await
    }

    async fn hints(&self) -> Vec<Hint> {
        self.inner.hints().await
    }
}
