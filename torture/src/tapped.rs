//! A journal that tells the ledger who enlists, and drops some of the calls in the middle.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sync_workflow::{
    id::{NodeId, Position, RunId},
    journal::{
        Batch, BatchOutcome, BuildStore, Claim, ClaimRequest, ClaimedRun, Closed, Debounce,
        DebounceOutcome, Deleted, Deletion, Error, Fork, ForkOutcome, Hint, History, HistoryRecord,
        ImportedRun, Inbox, Journal, NewRun, NewSignal, OpenTransaction, Outlook, Page, Piece,
        PiecePlace, Published, QueueInfo, QueueLimits, Renewal, Result, RunFilter, RunInfo,
        RunSelector, ScheduleStore, SignalOutcome, SignalledStart, StartOutcome, StepTransaction,
        TransactionCommit, WokenRun,
    },
    record::Record,
};

use crate::{
    ledger::Ledger,
    mutant::{Misdeeds, Mutant},
};

/// A call is dropped after this many polls at most: there are few awaits in one that is answered at
/// once, and more in one that connects first.
const MOST_POLLS: u32 = 4;

/// A journal between a worker and its storage.
pub(crate) struct Tapped {
    journal: Arc<dyn Journal>,
    ledger: Ledger,
    /// How many of a thousand calls are dropped.
    drops: u32,
    mutant: Option<Mutant>,
    misdeeds: Misdeeds,
}

/// The caller of a journal went away in the middle.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the call was dropped in the middle")
    }
}

impl std::error::Error for Dropped {}

/// What a worker knows of a write whose call was dropped.
fn unknown() -> Error {
    Error::Unknown(Box::new(Dropped))
}

/// What it knows of a read, or of a write that may be repeated without looking.
fn none() -> Error {
    Error::Unavailable(Box::new(Dropped))
}

impl Tapped {
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        ledger: Ledger,
        drops: u32,
        mutant: Option<Mutant>,
    ) -> Self {
        Self {
            misdeeds: Misdeeds::new(Arc::clone(&journal)),
            journal,
            ledger,
            drops,
            mutant,
        }
    }

    async fn perhaps<T>(
        &self,
        method: &str,
        lost: fn() -> Error,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if fastrand::u32(..1_000) >= self.drops {
            return call.await;
        }
        let mut left = fastrand::u32(1..=MOST_POLLS);
        let mut call = pin!(call);
        let answered = poll_fn(|cx| {
            let polled = call.as_mut().poll(cx).map(Some);
            left -= 1;
            if polled.is_pending() && left == 0 {
                return Poll::Ready(None);
            }
            polled
        });
        answered.await.unwrap_or_else(|| {
            self.ledger.dropped(method);
            Err(lost())
        })
    }
}

#[async_trait]
impl Journal for Tapped {
    fn commits_at_once(&self) -> usize {
        self.journal.commits_at_once()
    }

    fn writes_at_once(&self) -> usize {
        self.journal.writes_at_once()
    }

    async fn separate(&self) -> Result<Option<Arc<dyn Journal>>> {
        let Some(journal) = self.journal.separate().await? else {
            return Ok(None);
        };
        let separate = Self::new(journal, self.ledger.clone(), self.drops, self.mutant);
        Ok(Some(Arc::new(separate)))
    }

    async fn enlist(&self, node: NodeId, lease: Duration) -> Result<Timestamp> {
        let now = self.journal.enlist(node, lease).await?;
        self.ledger.enlisted(node);
        Ok(now)
    }

    async fn start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
    ) -> Result<StartOutcome> {
        self.journal.start_in(transaction, run).await
    }

    async fn signal_in(
        &self,
        transaction: StepTransaction<'_>,
        signal: &NewSignal,
    ) -> Result<SignalOutcome> {
        self.journal.signal_in(transaction, signal).await
    }

    async fn hints(&self) -> Vec<Hint> {
        self.journal.hints().await
    }

    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Renewal> {
        if self.mutant == Some(Mutant::NoFence) {
            return self.misdeeds.renew(node, lease).await;
        }
        self.perhaps("renew", none, self.journal.renew(node, lease))
            .await
    }

    async fn renew_and_look(
        &self,
        node: NodeId,
        lease: Duration,
        request: &ClaimRequest,
    ) -> Result<(Renewal, Option<Outlook>)> {
        if self.mutant.is_some() {
            // Its bugs are in the calls that it makes by itself.
            return Ok((self.renew(node, lease).await?, None));
        }
        let renewed = self.journal.renew_and_look(node, lease, request);
        self.perhaps("renew", none, renewed).await
    }

    async fn reap(&self, limit: u32) -> Result<Vec<NodeId>> {
        self.perhaps("reap", none, self.journal.reap(limit)).await
    }

    async fn retire(&self, node: NodeId) -> Result<()> {
        self.perhaps("retire", none, self.journal.retire(node))
            .await
    }

    async fn commit(&self, node: NodeId, batch: &Batch) -> Result<BatchOutcome> {
        match self.mutant {
            Some(Mutant::EarlyAcknowledgement) => {
                return self.misdeeds.acknowledge_early(node, batch).await;
            }
            Some(Mutant::ForgottenWakeUp) => {
                return self.misdeeds.commit_without_times(node, batch).await;
            }
            _ => {}
        }
        self.perhaps("commit", unknown, self.journal.commit(node, batch))
            .await
    }

    async fn was_committed(&self, node: NodeId, batch: &Batch) -> Result<Option<bool>> {
        if self.mutant == Some(Mutant::AssumeCommitted) {
            return Ok(Some(true));
        }
        self.perhaps(
            "was_committed",
            none,
            self.journal.was_committed(node, batch),
        )
        .await
    }

    async fn claim(&self, node: NodeId, request: &ClaimRequest) -> Result<Claim> {
        self.perhaps("claim", none, self.journal.claim(node, request))
            .await
    }

    async fn owned(&self, node: NodeId) -> Result<Vec<ClaimedRun>> {
        self.perhaps("owned", none, self.journal.owned(node)).await
    }

    async fn load(&self, run: RunId, from: Position, limit: u32) -> Result<History> {
        self.perhaps("load", none, self.journal.load(run, from, limit))
            .await
    }

    async fn inbox(&self, run: RunId, children: &[RunId], limit: u32) -> Result<Inbox> {
        self.perhaps("inbox", none, self.journal.inbox(run, children, limit))
            .await
    }

    async fn begin(&self) -> Result<OpenTransaction> {
        self.perhaps("begin", none, self.journal.begin()).await
    }

    async fn commit_step(
        &self,
        transaction: OpenTransaction,
        commit: &TransactionCommit,
    ) -> Result<()> {
        if self.mutant == Some(Mutant::NoFence) {
            return self.misdeeds.commit_step(transaction, commit).await;
        }
        self.perhaps(
            "commit_step",
            unknown,
            self.journal.commit_step(transaction, commit),
        )
        .await
    }

    async fn start(&self, run: &NewRun) -> Result<StartOutcome> {
        self.perhaps("start", unknown, self.journal.start(run))
            .await
    }

    async fn signal(&self, signal: &NewSignal) -> Result<SignalOutcome> {
        self.perhaps("signal", unknown, self.journal.signal(signal))
            .await
    }

    async fn send_signal(&self, node: NodeId, signal: &NewSignal) -> Result<SignalOutcome> {
        if self.mutant == Some(Mutant::LostSignal) {
            return self.misdeeds.lose(node, signal).await;
        }
        let sent = self.perhaps(
            "send_signal",
            unknown,
            self.journal.send_signal(node, signal),
        );
        match sent.await {
            Err(Error::Unknown(_)) if self.mutant == Some(Mutant::DoubledSignal) => {
                self.misdeeds.send_again(node, signal).await
            }
            sent => sent,
        }
    }

    fn max_payload_bytes(&self) -> usize {
        self.journal.max_payload_bytes()
    }

    async fn keep_piece(&self, piece: &Piece) -> Result<()> {
        self.perhaps("keep_piece", none, self.journal.keep_piece(piece))
            .await
    }

    async fn piece(&self, run: RunId, place: PiecePlace) -> Result<Option<Bytes>> {
        self.perhaps("piece", none, self.journal.piece(run, place))
            .await
    }

    async fn settle_pieces(&self, runs: &[RunId]) -> Result<()> {
        self.perhaps("settle_pieces", none, self.journal.settle_pieces(runs))
            .await
    }

    async fn signal_with_start(&self, run: &NewRun, signal: &NewSignal) -> Result<SignalledStart> {
        self.journal.signal_with_start(run, signal).await
    }

    async fn signal_with_start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
        signal: &NewSignal,
    ) -> Result<SignalledStart> {
        self.journal
            .signal_with_start_in(transaction, run, signal)
            .await
    }

    async fn debounce(&self, run: &NewRun, debounce: Debounce) -> Result<DebounceOutcome> {
        self.journal.debounce(run, debounce).await
    }

    async fn request_cancel(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.perhaps("request_cancel", unknown, self.journal.request_cancel(run))
            .await
    }

    async fn terminate(&self, run: &RunSelector, record: &Record) -> Result<Option<WokenRun>> {
        self.perhaps("terminate", unknown, self.journal.terminate(run, record))
            .await
    }

    async fn unpark(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.perhaps("unpark", unknown, self.journal.unpark(run))
            .await
    }

    async fn pause(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.perhaps("pause", unknown, self.journal.pause(run))
            .await
    }

    async fn resume(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.perhaps("resume", unknown, self.journal.resume(run))
            .await
    }

    async fn delete_closed(&self, deletion: &Deletion) -> Result<Deleted> {
        self.journal.delete_closed(deletion).await
    }

    fn schedules(&self) -> &dyn ScheduleStore {
        self.journal.schedules()
    }

    fn builds(&self) -> &dyn BuildStore {
        self.journal.builds()
    }

    async fn fork(&self, fork: &Fork) -> Result<ForkOutcome> {
        self.journal.fork(fork).await
    }

    async fn import(&self, run: &ImportedRun) -> Result<StartOutcome> {
        self.journal.import(run).await
    }

    async fn outcome(&self, run: RunId) -> Result<Option<Closed>> {
        self.perhaps("outcome", none, self.journal.outcome(run))
            .await
    }

    async fn published(&self, run: &RunSelector, name: &str) -> Result<Option<Published>> {
        let published = self.journal.published(run, name);
        self.perhaps("published", none, published).await
    }

    async fn describe(&self, run: &RunSelector) -> Result<Option<RunInfo>> {
        self.perhaps("describe", none, self.journal.describe(run))
            .await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Page<RunInfo>> {
        self.perhaps("list", none, self.journal.list(filter)).await
    }

    async fn history(&self, run: RunId, from: Position, limit: u32) -> Result<Page<HistoryRecord>> {
        self.perhaps("history", none, self.journal.history(run, from, limit))
            .await
    }

    async fn limit_queue(&self, queue: &str, limits: &QueueLimits) -> Result<()> {
        self.journal.limit_queue(queue, limits).await
    }

    async fn pause_queue(&self, queue: &str, is_paused: bool) -> Result<()> {
        self.journal.pause_queue(queue, is_paused).await
    }

    async fn queues(&self) -> Result<Vec<QueueInfo>> {
        self.journal.queues().await
    }

    async fn notify(&self, hints: &[Hint]) -> Result<()> {
        self.perhaps("notify", none, self.journal.notify(hints))
            .await
    }
}
