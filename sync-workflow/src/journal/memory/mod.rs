//! The journal in memory: for tests, and for what need not outlive its process.

pub(in crate::journal) mod bounds;
mod build;
pub(in crate::journal) mod bulletin;
mod commit;
mod debounce;
mod delete;
pub(in crate::journal) mod deliver;
mod fork;
mod import;
mod pieces;
mod queues;
mod read;
mod schedule;
pub(in crate::journal) mod state;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bulletin::Bulletin;
use bytes::Bytes;
use jiff::Timestamp;
use state::State;

use super::{
    Batch, BatchOutcome, BuildStore, Claim, ClaimRequest, ClaimedRun, Closed, Debounce,
    DebounceOutcome, Deleted, Deletion, Error, Fork, ForkOutcome, Hint, History, HistoryRecord,
    ImportedRun, Inbox, Journal, NewRun, NewSignal, OpenTransaction, Outlook, Page, Piece,
    PiecePlace, Published, QueueInfo, QueueLimits, Renewal, Result, RunFilter, RunInfo,
    RunSelector, ScheduleStore, SignalOutcome, SignalledStart, StartOutcome, StepTransaction,
    TransactionCommit, WokenRun,
};
use crate::{
    id::{NodeId, Position, RunId},
    record::Record,
};

/// A journal that lives in this process only, with the same semantics as the durable ones.
///
/// Clones share one journal.
///
/// ```
/// use sync_workflow::journal::{Journal, RunFilter, memory::MemoryJournal};
///
/// # async fn example() -> sync_workflow::journal::Result<()> {
/// let journal = MemoryJournal::new();
/// assert!(journal.list(&RunFilter::default()).await?.items.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MemoryJournal {
    shared: Arc<Shared>,
    #[cfg(feature = "testing")]
    tap: Option<Arc<crate::testing::Tap>>,
}

struct Shared {
    state: Mutex<State>,
    bulletin: Bulletin,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

#[cfg(feature = "testing")]
impl MemoryJournal {
    /// The same journal, whose calls are told to a test before and after they happen.
    pub(crate) fn tapped(mut self, tap: Arc<crate::testing::Tap>) -> Self {
        self.tap = Some(tap);
        self
    }

    /// The same journal, in which a worker of any queue finds the runs of all.
    pub(crate) fn with_one_queue(self) -> Self {
        self.lock().is_one_queue = true;
        self
    }

    /// What the runs have recorded, by workflow id: how one test differs from another.
    pub(crate) fn digest(&self) -> u64 {
        let state = self.lock();
        let mut runs: Vec<_> = state.runs.values().collect();
        runs.sort_by(|one, other| {
            (&one.workflow_id, one.sequence).cmp(&(&other.workflow_id, other.sequence))
        });
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for run in runs {
            hash.update(run.workflow_id.as_str().as_bytes());
            for (record, _) in &run.records {
                hash.update(&record.kind.code().to_be_bytes());
                hash.update(&record.command.0.to_be_bytes());
                hash.update(record.name.as_bytes());
            }
        }
        hash.digest()
    }

    /// Ends the lease of every node, so that their runs are free.
    pub(crate) fn end_all_leases(&self) {
        let now = self.now();
        let mut state = self.lock();
        let nodes: Vec<NodeId> = state.nodes.keys().copied().collect();
        for node in nodes {
            state.retire(node, now);
        }
    }
}

impl MemoryJournal {
    /// An empty journal on the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Timestamp::now)
    }

    /// An empty journal on a clock of the caller's, so that a test decides what time it is.
    #[must_use]
    pub fn with_clock(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                bulletin: Bulletin::default(),
                clock: Box::new(clock),
            }),
            #[cfg(feature = "testing")]
            tap: None,
        }
    }

    /// Waits for as long as a test that explores schedules holds the call up.
    async fn turn(&self) {
        #[cfg(feature = "testing")]
        if let Some(tap) = &self.tap {
            tap.call().await;
        }
    }

    /// The journal's time, in whole microseconds as the databases keep it.
    fn now(&self) -> Timestamp {
        state::whole_micros((self.shared.clock)())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .expect("no code panics while it holds the state")
    }
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryJournal").finish_non_exhaustive()
    }
}

/// The end of a lease that begins now; one that would outlast the calendar lasts as long as that.
pub(in crate::journal) fn lease_end(now: Timestamp, lease: Duration) -> Timestamp {
    now.checked_add(lease)
        .map_or(Timestamp::MAX, state::whole_micros)
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn keep_piece(&self, piece: &Piece) -> Result<()> {
        self.turn().await;
        self.lock().keep_piece(piece, self.now());
        Ok(())
    }

    async fn piece(&self, run: RunId, place: PiecePlace) -> Result<Option<Bytes>> {
        self.turn().await;
        Ok(self.lock().piece(run, place))
    }

    async fn settle_pieces(&self, runs: &[RunId]) -> Result<()> {
        self.lock().settle_pieces(runs);
        Ok(())
    }

    async fn enlist(&self, node: NodeId, lease: Duration) -> Result<Timestamp> {
        let now = self.now();
        self.lock().nodes.insert(node, lease_end(now, lease));
        Ok(now)
    }

    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Renewal> {
        let now = self.now();
        self.lock().renew(node, lease_end(now, lease), now)
    }

    async fn renew_and_look(
        &self,
        node: NodeId,
        lease: Duration,
        request: &ClaimRequest,
    ) -> Result<(Renewal, Option<Outlook>)> {
        let now = self.now();
        let mut state = self.lock();
        let renewal = state.renew(node, lease_end(now, lease), now)?;
        let outlook = Outlook {
            next_wake: state.next_wake(request),
            holds_runs: !state.held_by(node).is_empty(),
        };
        Ok((renewal, Some(outlook)))
    }

    async fn next_wake(&self, request: &ClaimRequest) -> Result<Option<Timestamp>> {
        Ok(self.lock().next_wake(request))
    }

    async fn reap(&self, limit: u32) -> Result<Vec<NodeId>> {
        Ok(self.lock().reap(limit, self.now()))
    }

    async fn retire(&self, node: NodeId) -> Result<()> {
        self.lock().retire(node, self.now());
        Ok(())
    }

    async fn commit(&self, node: NodeId, batch: &Batch) -> Result<BatchOutcome> {
        bounds::check_batch(batch)?;
        #[cfg(feature = "testing")]
        if let Some(tap) = &self.tap {
            let number = tap.before_commit().await;
            let outcome = self.lock().commit(node, batch, self.now());
            tap.after_commit(number).await;
            return outcome;
        }
        self.lock().commit(node, batch, self.now())
    }

    async fn was_committed(&self, node: NodeId, batch: &Batch) -> Result<Option<bool>> {
        let state = self.lock();
        // The runs of a dead node may have gone on elsewhere, with records that look the same.
        state.check_lease(node)?;
        Ok(state.was_committed(node, batch))
    }

    async fn claim(&self, node: NodeId, request: &ClaimRequest) -> Result<Claim> {
        self.turn().await;
        self.lock().claim(node, request, self.now())
    }

    async fn owned(&self, node: NodeId) -> Result<Vec<ClaimedRun>> {
        let state = self.lock();
        let held = state.held_by(node);
        Ok(held
            .into_iter()
            .filter_map(|id| state.runs.get(&id).map(|run| run.claimed(id)))
            .collect())
    }

    async fn load(&self, run: RunId, from: Position, limit: u32) -> Result<History> {
        self.turn().await;
        Ok(self.lock().load(run, from, limit))
    }

    async fn inbox(&self, run: RunId, children: &[RunId], limit: u32) -> Result<Inbox> {
        self.turn().await;
        Ok(self.lock().inbox(run, children, limit))
    }

    async fn begin(&self) -> Result<OpenTransaction> {
        Ok(OpenTransaction::Memory)
    }

    async fn commit_step(
        &self,
        transaction: OpenTransaction,
        commit: &TransactionCommit,
    ) -> Result<()> {
        bounds::check_record(&commit.record)?;
        match transaction {
            #[cfg(feature = "testing")]
            OpenTransaction::Memory if let Some(tap) = &self.tap => {
                let number = tap.before_commit().await;
                let outcome = self.lock().commit_step(commit, self.now());
                tap.after_commit(number).await;
                outcome
            }
            OpenTransaction::Memory => self.lock().commit_step(commit, self.now()),
            #[cfg(any(feature = "postgres", feature = "sqlite"))]
            other => Err(foreign(&other)),
        }
    }

    async fn start(&self, run: &NewRun) -> Result<StartOutcome> {
        bounds::check_new_run(run)?;
        self.turn().await;
        Ok(self.lock().start(run, None, self.now()))
    }

    async fn start_in(
        &self,
        _transaction: StepTransaction<'_>,
        _run: &NewRun,
    ) -> Result<StartOutcome> {
        Err(Error::Unsupported {
            what: "SQL transactions",
        })
    }

    async fn signal(&self, signal: &NewSignal) -> Result<SignalOutcome> {
        bounds::check_signal(signal)?;
        self.turn().await;
        Ok(self.lock().signal(signal, self.now()))
    }

    async fn send_signal(&self, node: NodeId, signal: &NewSignal) -> Result<SignalOutcome> {
        bounds::check_signal(signal)?;
        self.turn().await;
        self.lock().send_signal(node, signal, self.now())
    }

    async fn signal_in(
        &self,
        _transaction: StepTransaction<'_>,
        _signal: &NewSignal,
    ) -> Result<SignalOutcome> {
        Err(Error::Unsupported {
            what: "SQL transactions",
        })
    }

    async fn signal_with_start(&self, run: &NewRun, signal: &NewSignal) -> Result<SignalledStart> {
        bounds::check_new_run(run)?;
        bounds::check_signal(signal)?;
        self.turn().await;
        Ok(self.lock().signal_with_start(run, signal, self.now()))
    }

    async fn signal_with_start_in(
        &self,
        _transaction: StepTransaction<'_>,
        _run: &NewRun,
        _signal: &NewSignal,
    ) -> Result<SignalledStart> {
        Err(Error::Unsupported {
            what: "SQL transactions",
        })
    }

    async fn debounce(&self, run: &NewRun, debounce: Debounce) -> Result<DebounceOutcome> {
        bounds::check_new_run(run)?;
        self.turn().await;
        Ok(self.lock().debounce(run, debounce, self.now()))
    }

    async fn request_cancel(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.turn().await;
        Ok(self.lock().request_cancel(run, self.now()))
    }

    async fn terminate(&self, run: &RunSelector, record: &Record) -> Result<Option<WokenRun>> {
        bounds::check_record(record)?;
        let status = deliver::ended_status(record)?;
        let now = self.now();
        let mut state = self.lock();
        let Some(id) = state.select_open(run) else {
            return Ok(None);
        };
        let woken = WokenRun {
            run: id,
            node: state.runs.get(&id).and_then(state::Run::node),
        };
        let relatives = state.terminate(id, record, status, now);
        drop(state);
        if !relatives.is_empty() {
            self.shared.bulletin.post([Hint::LookAgain]);
        }
        Ok(Some(woken))
    }

    async fn unpark(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        Ok(self.lock().unpark(run, self.now()))
    }

    async fn pause(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        Ok(self.lock().pause(run))
    }

    async fn resume(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        Ok(self.lock().resume(run, self.now()))
    }

    async fn outcome(&self, run: RunId) -> Result<Option<Closed>> {
        Ok(self.lock().outcome(run))
    }

    async fn published(&self, run: &RunSelector, name: &str) -> Result<Option<Published>> {
        Ok(self.lock().published(run, name))
    }

    async fn describe(&self, run: &RunSelector) -> Result<Option<RunInfo>> {
        let state = self.lock();
        Ok(state.select(run).and_then(|id| state.describe(id)))
    }

    async fn list(&self, filter: &RunFilter) -> Result<Page<RunInfo>> {
        Ok(self.lock().list(filter))
    }

    async fn history(&self, run: RunId, from: Position, limit: u32) -> Result<Page<HistoryRecord>> {
        Ok(self.lock().history(run, from, limit))
    }

    async fn limit_queue(&self, queue: &str, limits: &QueueLimits) -> Result<()> {
        bounds::check_limits(queue, limits)?;
        self.lock().limit_queue(queue, *limits, self.now());
        Ok(())
    }

    async fn pause_queue(&self, queue: &str, is_paused: bool) -> Result<()> {
        self.lock().pause_queue(queue, is_paused, self.now());
        Ok(())
    }

    async fn queues(&self) -> Result<Vec<QueueInfo>> {
        Ok(self.lock().queues())
    }

    async fn delete_closed(&self, deletion: &Deletion) -> Result<Deleted> {
        Ok(self.lock().delete_closed(deletion, self.now()))
    }

    async fn import(&self, run: &ImportedRun) -> Result<StartOutcome> {
        bounds::check_imported(run)?;
        Ok(self.lock().import(run))
    }

    async fn fork(&self, fork: &Fork) -> Result<ForkOutcome> {
        bounds::check_fork(fork)?;
        self.turn().await;
        let (outcome, relatives) = self.lock().fork(fork, self.now());
        if !relatives.is_empty() {
            self.shared.bulletin.post([Hint::LookAgain]);
        }
        Ok(outcome)
    }

    fn schedules(&self) -> &dyn ScheduleStore {
        self
    }

    fn builds(&self) -> &dyn BuildStore {
        self
    }

    async fn notify(&self, hints: &[Hint]) -> Result<()> {
        self.turn().await;
        self.shared.bulletin.post(hints.iter().cloned());
        Ok(())
    }

    async fn hints(&self) -> Vec<Hint> {
        self.shared.bulletin.read().await
    }
}

/// The answer to a transaction that another journal opened.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(in crate::journal) const fn foreign(_transaction: &OpenTransaction) -> Error {
    Error::Unsupported {
        what: "a transaction that another journal opened",
    }
}
