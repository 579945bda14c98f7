//! What the journal does, method by method.

use std::{fmt, ops::DerefMut, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio::sync::OwnedMutexGuard;

use super::{
    attempt, build, claim, commit, debounce, delete, describe,
    file::{self, File},
    fork, import, node, operator, pieces, published, queue, record, run, signal, start,
    value::{Micros, micros, timestamp},
};
use crate::{
    id::{NodeId, Position, RunId},
    journal::{
        Batch, BatchOutcome, BuildStore, Claim, ClaimRequest, ClaimedRun, Closed, Debounce,
        DebounceOutcome, Deleted, Deletion, Error, Fork, ForkOutcome, Hint, History, HistoryRecord,
        ImportedRun, Inbox, Journal, NewRun, NewSignal, OpenTransaction, Outlook, Page, Piece,
        PiecePlace, Published, QueueInfo, QueueLimits, Renewal, Result, RunFilter, RunInfo,
        RunSelector, ScheduleStore, SignalOutcome, SignalledStart, StartOutcome, StepTransaction,
        TransactionCommit, WokenRun,
        memory::{bounds, deliver::ended_status, foreign, lease_end},
    },
    record::Record,
};

/// A journal in a SQLite file.
///
/// Clones share the file's connections. Journals on the same file within one process wake each other
/// at once; processes see each other's commits within a tenth of a second.
///
/// ```
/// use sync_workflow::journal::{Journal, RunFilter, sqlite::SqliteJournal};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("journal.db");
/// let journal = SqliteJournal::connect(&format!("sqlite:{}", path.display())).await?;
/// assert!(journal.list(&RunFilter::default()).await?.items.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SqliteJournal {
    file: Arc<File>,
}

impl fmt::Debug for SqliteJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteJournal").finish_non_exhaustive()
    }
}

impl SqliteJournal {
    /// Opens the journal in a file, which is created if it is missing, and brings its schema up to
    /// date.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`] when the URL names no file; [`Error::Refused`] when the file cannot be
    /// opened; [`Error::NewerSchema`] when a newer version of this crate migrated it.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with_clock(url, Timestamp::now).await
    }

    /// As [`Self::connect`], on a clock of the caller's, so that a test decides what time it is.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub async fn connect_with_clock(
        url: &str,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self> {
        let file = File::open(url, Arc::new(clock)).await?;
        Ok(Self {
            file: Arc::new(file),
        })
    }

    /// A connection to read with.
    pub(super) async fn reader(&self) -> Result<impl DerefMut<Target = SqliteConnection>> {
        self.file.read().await
    }

    pub(super) fn now(&self) -> Micros {
        self.file.now()
    }

    /// Runs one transaction in a task of its own, which goes on when the caller is dropped: a
    /// connection is never left in the middle of it.
    pub(super) async fn write<T, F>(&self, unit: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection, Micros) -> BoxFuture<'c, Result<T>>
            + Send
            + 'static,
    {
        let file = Arc::clone(&self.file);
        detached(async move {
            let (mut transaction, turn) = file.write().await?;
            let written = unit(&mut transaction, file.now()).await?;
            file::commit(transaction, turn).await?;
            Ok(written)
        })
        .await
    }
}

/// The end of a lease that begins now.
fn until(now: Micros, lease: Duration) -> Micros {
    micros(lease_end(timestamp(now), lease))
}

/// Runs a unit of work in a task of its own.
async fn detached<T: Send + 'static>(
    unit: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(unit).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Error::Unavailable(Box::new(error))),
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    /// While one is written, the next waits for its turn: from one to the other it is not far then, however busy the
    /// runtime is.
    fn commits_at_once(&self) -> usize {
        2
    }

    fn writes_at_once(&self) -> usize {
        1
    }

    async fn separate(&self) -> Result<Option<Arc<dyn Journal>>> {
        let file = self.file.separate().await?;
        Ok(Some(Arc::new(Self {
            file: Arc::new(file),
        })))
    }

    async fn keep_piece(&self, piece: &Piece) -> Result<()> {
        let piece = piece.clone();
        self.write(move |connection, now| {
            Box::pin(async move { pieces::keep(connection, &piece, now).await })
        })
        .await
    }

    async fn piece(&self, run: RunId, place: PiecePlace) -> Result<Option<Bytes>> {
        pieces::find(&mut *self.file.read().await?, run, place).await
    }

    async fn settle_pieces(&self, runs: &[RunId]) -> Result<()> {
        let runs = runs.to_vec();
        self.write(move |connection, _| {
            Box::pin(async move { pieces::settle(connection, &runs).await })
        })
        .await
    }

    async fn enlist(&self, node: NodeId, lease: Duration) -> Result<Timestamp> {
        self.write(move |connection, now| {
            Box::pin(async move {
                node::enlist(connection, node, until(now, lease)).await?;
                Ok(timestamp(now))
            })
        })
        .await
    }

    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Renewal> {
        self.write(move |connection, now| {
            Box::pin(node::renew(connection, node, until(now, lease), now))
        })
        .await
    }

    async fn renew_and_look(
        &self,
        node: NodeId,
        lease: Duration,
        request: &ClaimRequest,
    ) -> Result<(Renewal, Option<Outlook>)> {
        let request = request.clone();
        self.write(move |connection, now| {
            Box::pin(async move {
                let renewal = node::renew(connection, node, until(now, lease), now).await?;
                let outlook = Outlook {
                    next_wake: claim::next_wake(connection, &request, None).await?,
                    holds_runs: claim::is_holding(connection, node).await?,
                };
                Ok((renewal, Some(outlook)))
            })
        })
        .await
    }

    async fn next_wake(&self, request: &ClaimRequest) -> Result<Option<Timestamp>> {
        let mut reader = self.file.read().await?;
        claim::next_wake(&mut reader, request, None).await
    }

    async fn reap(&self, limit: u32) -> Result<Vec<NodeId>> {
        let mut reader = self.file.read().await?;
        if node::expired(&mut reader, 1, self.file.now())
            .await?
            .is_empty()
        {
            return Ok(Vec::new());
        }
        drop(reader);
        self.write(move |connection, now| {
            Box::pin(async move {
                let dead = node::expired(connection, limit, now).await?;
                for node in &dead {
                    node::bury(connection, *node, now).await?;
                }
                Ok(dead)
            })
        })
        .await
    }

    async fn retire(&self, node: NodeId) -> Result<()> {
        self.write(move |connection, now| Box::pin(node::retire(connection, node, now)))
            .await
    }

    async fn commit(&self, node: NodeId, batch: &Batch) -> Result<BatchOutcome> {
        bounds::check_batch(batch)?;
        let batch = batch.clone();
        self.write(move |connection, now| {
            Box::pin(async move { commit::commit(connection, node, &batch, now).await })
        })
        .await
    }

    async fn was_committed(&self, node: NodeId, batch: &Batch) -> Result<Option<bool>> {
        let batch = batch.clone();
        // The turn to write comes when the transaction in doubt has ended.
        self.write(move |connection, _| {
            Box::pin(async move { commit::was_committed(connection, node, &batch).await })
        })
        .await
    }

    async fn claim(&self, node: NodeId, request: &ClaimRequest) -> Result<Claim> {
        let mut reader = self.file.read().await?;
        node::check(&mut reader, node).await?;
        let now = self.file.now();
        let single = ClaimRequest {
            limit: request.limit.min(1),
            ..request.clone()
        };
        let takes_new = build::takes_new(&mut reader, request).await?;
        // Who finds nothing to do writes nothing.
        if let Some(idle) = queue::look(&mut reader, &admission(request, takes_new), now).await?
            && claim::ready(&mut reader, &single, now).await?.is_empty()
        {
            return claim::answer(&mut reader, request, Vec::new(), idle, now).await;
        }
        drop(reader);
        let request = request.clone();
        self.write(move |connection, now| {
            Box::pin(async move {
                node::check(connection, node).await?;
                let takes_new = build::takes_new(connection, &request).await?;
                let admission = admission(&request, takes_new);
                let admitted = queue::admit(connection, &admission, now).await?;
                let ready = claim::ready(connection, &request, now).await?;
                claim::take(connection, node, request.build.as_ref(), &ready).await?;
                let runs = ready.into_iter().map(|(run, _)| run).collect();
                claim::answer(connection, &request, runs, admitted, now).await
            })
        })
        .await
    }

    async fn owned(&self, node: NodeId) -> Result<Vec<ClaimedRun>> {
        claim::owned(&mut *self.file.read().await?, node).await
    }

    async fn load(&self, run: RunId, from: Position, limit: u32) -> Result<History> {
        let mut reader = self.file.read().await?;
        let page = record::page(&mut reader, run, from, limit).await?;
        let attempts = if from == Position(0) {
            attempt::of_run(&mut reader, run).await?
        } else {
            Vec::new()
        };
        Ok(History {
            records: page.into_iter().map(|entry| entry.record).collect(),
            attempts,
        })
    }

    async fn inbox(&self, run: RunId, children: &[RunId], limit: u32) -> Result<Inbox> {
        let mut reader = self.file.read().await?;
        // The count is read first: what arrives later makes a suspension against it fail.
        let Some(found) = run::select(&mut reader, &RunSelector::Run(run)).await? else {
            return Ok(Inbox::default());
        };
        Ok(Inbox {
            count: found.inbox,
            cancel_requested: found.cancel_requested,
            pause_requested: found.pause_requested,
            signals: signal::waiting(&mut reader, found.chain, limit).await?,
            children: describe::outcomes(&mut reader, children).await?,
        })
    }

    async fn begin(&self) -> Result<OpenTransaction> {
        let file = Arc::clone(&self.file);
        let (transaction, turn) = detached(async move { file.write().await }).await?;
        Ok(OpenTransaction::Sqlite(transaction, turn))
    }

    async fn commit_step(
        &self,
        transaction: OpenTransaction,
        commit: &TransactionCommit,
    ) -> Result<()> {
        bounds::check_record(&commit.record)?;
        let (transaction, turn) = own(transaction)?;
        let file = Arc::clone(&self.file);
        let commit = commit.clone();
        detached(async move {
            let mut transaction = transaction;
            commit::step(&mut transaction, &commit, file.now()).await?;
            file::commit(transaction, turn).await
        })
        .await
    }

    async fn start(&self, run: &NewRun) -> Result<StartOutcome> {
        bounds::check_new_run(run)?;
        let run = run.clone();
        self.write(move |connection, now| {
            Box::pin(async move { start::start_one(connection, &run, now).await })
        })
        .await
    }

    async fn start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
    ) -> Result<StartOutcome> {
        bounds::check_new_run(run)?;
        start::start_one(lent(transaction)?, run, self.file.now()).await
    }

    async fn signal(&self, signal: &NewSignal) -> Result<SignalOutcome> {
        bounds::check_signal(signal)?;
        let signal = signal.clone();
        self.write(move |connection, now| {
            Box::pin(async move { signal::deliver(connection, &signal, now).await })
        })
        .await
    }

    async fn send_signal(&self, node: NodeId, signal: &NewSignal) -> Result<SignalOutcome> {
        bounds::check_signal(signal)?;
        let signal = signal.clone();
        self.write(move |connection, now| {
            Box::pin(async move { signal::send(connection, node, &signal, now).await })
        })
        .await
    }

    async fn signal_in(
        &self,
        transaction: StepTransaction<'_>,
        signal: &NewSignal,
    ) -> Result<SignalOutcome> {
        bounds::check_signal(signal)?;
        signal::deliver(lent(transaction)?, signal, self.file.now()).await
    }

    async fn signal_with_start(&self, run: &NewRun, signal: &NewSignal) -> Result<SignalledStart> {
        bounds::check_new_run(run)?;
        bounds::check_signal(signal)?;
        let (run, signal) = (run.clone(), signal.clone());
        self.write(move |connection, now| {
            Box::pin(async move { signal::with_start(connection, &run, &signal, now).await })
        })
        .await
    }

    async fn signal_with_start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
        signal: &NewSignal,
    ) -> Result<SignalledStart> {
        bounds::check_new_run(run)?;
        bounds::check_signal(signal)?;
        signal::with_start(lent(transaction)?, run, signal, self.file.now()).await
    }

    async fn debounce(&self, run: &NewRun, debounce: Debounce) -> Result<DebounceOutcome> {
        bounds::check_new_run(run)?;
        let run = run.clone();
        self.write(move |connection, now| {
            Box::pin(async move { debounce::debounce(connection, &run, debounce, now).await })
        })
        .await
    }

    async fn request_cancel(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        let selector = run.clone();
        self.write(move |connection, now| {
            Box::pin(async move { operator::request_cancel(connection, &selector, now).await })
        })
        .await
    }

    async fn terminate(&self, run: &RunSelector, record: &Record) -> Result<Option<WokenRun>> {
        bounds::check_record(record)?;
        let status = ended_status(record)?;
        let (selector, record) = (run.clone(), record.clone());
        let terminated = self
            .write(move |connection, now| {
                Box::pin(async move {
                    operator::terminate(connection, &selector, &record, status, now).await
                })
            })
            .await?;
        if terminated.is_some() {
            // Its parent and its children may be held by nodes of this process.
            self.file.bulletin().post([Hint::LookAgain]);
        }
        Ok(terminated)
    }

    async fn unpark(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        let selector = run.clone();
        self.write(move |connection, now| {
            Box::pin(async move { operator::unpark(connection, &selector, now).await })
        })
        .await
    }

    async fn pause(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        let selector = run.clone();
        self.write(move |connection, _| {
            Box::pin(async move { operator::pause(connection, &selector).await })
        })
        .await
    }

    async fn resume(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        let selector = run.clone();
        self.write(move |connection, now| {
            Box::pin(async move { operator::resume(connection, &selector, now).await })
        })
        .await
    }

    async fn outcome(&self, run: RunId) -> Result<Option<Closed>> {
        let mut reader = self.file.read().await?;
        match run::select(&mut reader, &RunSelector::Run(run)).await? {
            None => return Ok(None),
            Some(found) if found.status.is_closed() || found.awaited => {
                return describe::end(&mut reader, run).await;
            }
            Some(_) => drop(reader),
        }
        self.write(move |connection, _| {
            Box::pin(async move {
                run::mark_awaited(connection, run).await?;
                describe::end(connection, run).await
            })
        })
        .await
    }

    async fn published(&self, run: &RunSelector, name: &str) -> Result<Option<Published>> {
        published::published(&mut *self.file.read().await?, run, name).await
    }

    async fn describe(&self, run: &RunSelector) -> Result<Option<RunInfo>> {
        let mut reader = self.file.read().await?;
        match run::select(&mut reader, run).await? {
            Some(found) => describe::info(&mut reader, found.run).await,
            None => Ok(None),
        }
    }

    async fn list(&self, filter: &RunFilter) -> Result<Page<RunInfo>> {
        describe::list(&mut *self.file.read().await?, filter).await
    }

    async fn history(&self, run: RunId, from: Position, limit: u32) -> Result<Page<HistoryRecord>> {
        let mut reader = self.file.read().await?;
        let mut items = record::page(&mut reader, run, from, limit.saturating_add(1)).await?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        Ok(Page { items, more })
    }

    async fn limit_queue(&self, queue: &str, limits: &QueueLimits) -> Result<()> {
        bounds::check_limits(queue, limits)?;
        let (queue, limits) = (queue.to_owned(), *limits);
        self.write(move |connection, now| {
            Box::pin(async move { queue::limit(connection, &queue, &limits, now).await })
        })
        .await
    }

    async fn delete_closed(&self, deletion: &Deletion) -> Result<Deleted> {
        let deletion = deletion.clone();
        let Ok(until) = timestamp(self.file.now()).checked_sub(deletion.closed_for) else {
            return Ok(Deleted::default());
        };
        let until = micros(until);
        let mut reader = self.file.read().await?;
        if !delete::has_any(&mut reader, &deletion, until).await? {
            return Ok(Deleted::default());
        }
        drop(reader);
        self.write(move |connection, _| {
            Box::pin(async move { delete::delete_closed(connection, &deletion, until).await })
        })
        .await
    }

    async fn pause_queue(&self, queue: &str, is_paused: bool) -> Result<()> {
        let queue = queue.to_owned();
        self.write(move |connection, now| {
            Box::pin(async move { queue::pause(connection, &queue, is_paused, now).await })
        })
        .await
    }

    async fn import(&self, run: &ImportedRun) -> Result<StartOutcome> {
        bounds::check_imported(run)?;
        let run = run.clone();
        self.write(move |connection, now| {
            Box::pin(async move { import::import(connection, &run, now).await })
        })
        .await
    }

    async fn fork(&self, fork: &Fork) -> Result<ForkOutcome> {
        bounds::check_fork(fork)?;
        let fork = fork.clone();
        let outcome = self
            .write(move |connection, now| {
                Box::pin(async move { fork::fork(connection, &fork, now).await })
            })
            .await?;
        if matches!(outcome, ForkOutcome::Forked { ended: Some(_) }) {
            // Its parent and its children may be held by nodes of this process.
            self.file.bulletin().post([Hint::LookAgain]);
        }
        Ok(outcome)
    }

    async fn queues(&self) -> Result<Vec<QueueInfo>> {
        queue::list(&mut *self.file.read().await?).await
    }

    fn schedules(&self) -> &dyn ScheduleStore {
        self
    }

    fn builds(&self) -> &dyn BuildStore {
        self
    }

    async fn notify(&self, hints: &[Hint]) -> Result<()> {
        // Other processes see that the file has changed.
        self.file.bulletin().post(hints.iter().cloned());
        Ok(())
    }

    async fn hints(&self) -> Vec<Hint> {
        self.file.hints().await
    }
}

fn own(
    transaction: OpenTransaction,
) -> Result<(Transaction<'static, Sqlite>, OwnedMutexGuard<()>)> {
    match transaction {
        OpenTransaction::Sqlite(transaction, turn) => Ok((transaction, turn)),
        other => Err(foreign(&other)),
    }
}

fn lent(transaction: StepTransaction<'_>) -> Result<&mut SqliteConnection> {
    match transaction {
        StepTransaction::Sqlite(connection) => Ok(connection),
        #[cfg(feature = "postgres")]
        StepTransaction::Postgres(_) => Err(Error::Unsupported {
            what: "a transaction of another database",
        }),
        StepTransaction::Never(never, _) => match never {},
    }
}

/// What a claim asks of the queue: a node that would not take whom it admits admits nobody.
fn admission(request: &ClaimRequest, takes_new: bool) -> ClaimRequest {
    ClaimRequest {
        limit: if takes_new { request.limit } else { 0 },
        ..request.clone()
    }
}
