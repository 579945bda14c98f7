//! The journal in Postgres.
//!
//! ```text
//!             commits ── a lane of two ┐
//!          heartbeats ──────────── a lane │
//!  notifications sent ──────────── a lane ├──► schema sync_workflow
//!     everything else ── shared connections │      nodes runs journal signals attempts parked
//!         LISTEN, read ──────── a listener ┘
//! ```
//!
//! Correctness rests on four things: the lock on the node's row (`nodes`), the primary key of the
//! records (`commit`), the unique key of workflow ids (`start`), and the compare-and-set of the
//! inbox count (`commit`). All statements run at READ COMMITTED, each seeing what was committed
//! before it began.

mod builds;
mod claim;
mod commit;
mod connection;
mod control;
mod debounce;
mod delete;
mod describe;
mod failure;
mod fork;
mod hints;
mod import;
mod inbox;
mod lane;
mod list;
mod migrate;
mod nodes;
mod options;
mod pieces;
mod pooling;
mod published;
mod queues;
mod records;
mod schedule;
mod selector;
mod signal_with_start;
mod signals;
mod start;
mod step;
mod time;
mod trust;
mod unit;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sqlx::{PgPool, postgres::PgConnectOptions};

use self::{
    commit::Doubts,
    connection::{Session, Shared},
    hints::Listener,
    lane::Lane,
    pooling::Pooling,
    queues::ManagedQueues,
};
use super::{
    Batch, BatchOutcome, BuildStore, Claim, ClaimRequest, ClaimedRun, Closed, Debounce,
    DebounceOutcome, Deleted, Deletion, Error, Fork, ForkOutcome, Hint, History, HistoryRecord,
    ImportedRun, Inbox, Journal, NewRun, NewSignal, OpenTransaction, Outlook, Page, Piece,
    PiecePlace, Published, QueueInfo, QueueLimits, Renewal, Result, RunFilter, RunInfo,
    RunSelector, ScheduleStore, SignalOutcome, SignalledStart, StartOutcome, StepTransaction,
    TransactionCommit, WokenRun,
    memory::{
        bounds::{
            check_batch, check_fork, check_imported, check_limits, check_new_run, check_record,
            check_signal,
        },
        deliver::ended_status,
        foreign,
    },
};
use crate::{
    id::{NodeId, Position, RunId},
    record::Record,
};

pub use options::Builder;

/// While the server works on one commit, the node works on the next. More would only wait for each other:
/// a third was not measurably faster.
const COMMITS_AT_ONCE: usize = 2;

/// A journal in a Postgres database, in a schema of its own: `sync_workflow`.
///
/// Any number of processes share it. It needs PostgreSQL 15 or newer.
///
/// ```no_run
/// use sync_workflow::journal::{Journal, RunFilter, postgres::PostgresJournal};
///
/// # async fn example() -> sync_workflow::journal::Result<()> {
/// let journal = PostgresJournal::connect("postgres://localhost/app").await?;
/// println!("{} runs", journal.list(&RunFilter::default()).await?.items.len());
/// # Ok(()) }
/// ```
pub struct PostgresJournal {
    session: Session,
    listen: Option<PgConnectOptions>,
    /// For the engine's own statements, none of which holds a connection for longer than itself.
    shared: Shared,
    /// For transactions that code holds open: theirs alone, so that they keep no statement waiting.
    steps: Shared,
    commits: Lane,
    doubts: Doubts,
    leases: Lane,
    notifications: Lane,
    listener: Listener,
    managed_queues: ManagedQueues,
}

impl PostgresJournal {
    /// Opens the journal of a database with the default options and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// Those of [`Builder::open`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder(url).open().await
    }

    /// The options to open a journal with.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// Opens the journal of the database that a pool of the application's connects to.
    ///
    /// Transactional steps and reads use the pool's connections as they are; commits, heartbeats
    /// and notifications use connections of their own with the same options.
    ///
    /// # Errors
    ///
    /// Those of [`Builder::open`].
    pub async fn from_pool(pool: PgPool) -> Result<Self> {
        let options = PgConnectOptions::clone(&pool.connect_options());
        let session = Session::new(options, Builder::DEADLINE, Pooling::None);
        let connection = migrate::migrate(&session).await?;
        let (shared, steps) = (
            session.pool("statements", Builder::STATEMENTS),
            session.share(pool),
        );
        let journal = Self::assemble(session, None, shared, steps);
        journal.commits.keep(connection);
        Ok(journal)
    }

    /// The pool of connections for transactions that code holds open, on which `start_in` and `signal_in` can be called in a
    /// transaction of the caller's.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        self.steps.pool()
    }

    /// The pool of the engine's own statements, to watch it.
    #[must_use]
    pub const fn statement_pool(&self) -> &PgPool {
        self.shared.pool()
    }

    async fn open(
        session: Session,
        listen: Option<PgConnectOptions>,
        max_connections: u32,
    ) -> Result<Self> {
        let connection = migrate::migrate(&session).await?;
        let shared = session.pool("statements", Builder::STATEMENTS.min(max_connections));
        let steps = session.pool("steps", max_connections);
        let journal = Self::assemble(session, listen, shared, steps);
        journal.commits.keep(connection);
        Ok(journal)
    }

    /// Tells the parent and the children of a run that was ended. If this fails they find out by polling.
    async fn tell(&self, hints: &[Hint]) {
        if let Err(error) = self.notify(hints).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "hints_not_sent");
        }
    }

    fn assemble(
        session: Session,
        listen: Option<PgConnectOptions>,
        shared: Shared,
        steps: Shared,
    ) -> Self {
        let deadline = session.deadline();
        let hears = session.opening().hears();
        let listen = listen.or_else(|| hears.then(|| session.options().clone()));
        Self {
            shared,
            steps,
            commits: Lane::new(session.clone(), COMMITS_AT_ONCE),
            doubts: Doubts::default(),
            leases: Lane::new(session.clone(), 1),
            notifications: Lane::new(session.clone(), 1),
            listener: Listener::new(listen.clone(), deadline),
            managed_queues: ManagedQueues::default(),
            session,
            listen,
        }
    }
}

impl fmt::Debug for PostgresJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Connection options hold a password.
        f.debug_struct("PostgresJournal").finish_non_exhaustive()
    }
}

#[async_trait]
impl Journal for PostgresJournal {
    async fn separate(&self) -> Result<Option<Arc<dyn Journal>>> {
        let (shared, steps) = (
            self.session.pool("statements", 1),
            self.session.pool("steps", 1),
        );
        let separate = Self::assemble(self.session.clone(), self.listen.clone(), shared, steps);
        separate.leases.warm().await?;
        Ok(Some(Arc::new(separate)))
    }

    async fn keep_piece(&self, piece: &Piece) -> Result<()> {
        pieces::keep(&self.shared, piece).await
    }

    async fn piece(&self, run: RunId, place: PiecePlace) -> Result<Option<Bytes>> {
        pieces::find(&self.shared, run, place).await
    }

    async fn settle_pieces(&self, runs: &[RunId]) -> Result<()> {
        pieces::settle(&self.shared, runs).await
    }

    async fn enlist(&self, node: NodeId, lease: Duration) -> Result<Timestamp> {
        // On the connection that the first commit will need.
        nodes::enlist(&self.commits, node, lease).await
    }

    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Renewal> {
        nodes::renew(&self.leases, node, lease).await
    }

    async fn renew_and_look(
        &self,
        node: NodeId,
        lease: Duration,
        request: &ClaimRequest,
    ) -> Result<(Renewal, Option<Outlook>)> {
        let looked = nodes::renew_and_look(&self.leases, node, lease, request).await?;
        Ok((looked.0, Some(looked.1)))
    }

    async fn next_wake(&self, request: &ClaimRequest) -> Result<Option<Timestamp>> {
        claim::next_wake(&self.shared, request).await
    }

    async fn reap(&self, limit: u32) -> Result<Vec<NodeId>> {
        nodes::reap(&self.shared, limit).await
    }

    async fn retire(&self, node: NodeId) -> Result<()> {
        nodes::retire(&self.shared, node).await
    }

    async fn commit(&self, node: NodeId, batch: &Batch) -> Result<BatchOutcome> {
        check_batch(batch)?;
        commit::commit(&self.commits, &self.shared, &self.doubts, node, batch).await
    }

    async fn was_committed(&self, node: NodeId, batch: &Batch) -> Result<Option<bool>> {
        commit::was_committed(&self.shared, &self.doubts, node, batch).await
    }

    async fn claim(&self, node: NodeId, request: &ClaimRequest) -> Result<Claim> {
        claim::claim(&self.shared, &self.managed_queues, node, request).await
    }

    async fn owned(&self, node: NodeId) -> Result<Vec<ClaimedRun>> {
        claim::owned(&self.shared, node).await
    }

    async fn load(&self, run: RunId, from: Position, limit: u32) -> Result<History> {
        records::load(&self.shared, run, from, limit).await
    }

    async fn inbox(&self, run: RunId, children: &[RunId], limit: u32) -> Result<Inbox> {
        inbox::inbox(&self.shared, run, children, limit).await
    }

    async fn begin(&self) -> Result<OpenTransaction> {
        step::begin(&self.steps)
            .await
            .map(OpenTransaction::Postgres)
    }

    async fn commit_step(
        &self,
        transaction: OpenTransaction,
        commit: &TransactionCommit,
    ) -> Result<()> {
        check_record(&commit.record)?;
        match transaction {
            OpenTransaction::Postgres(transaction) => {
                step::commit(&self.steps, transaction, commit).await
            }
            other => Err(foreign(&other)),
        }
    }

    async fn start(&self, run: &NewRun) -> Result<StartOutcome> {
        check_new_run(run)?;
        start::start(&self.shared, run).await
    }

    async fn start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
    ) -> Result<StartOutcome> {
        check_new_run(run)?;
        match transaction {
            StepTransaction::Postgres(connection) => {
                start::start_in(connection, self.shared.opening(), run).await
            }
            other => Err(not_of_this_journal(&other)),
        }
    }

    fn commits_at_once(&self) -> usize {
        COMMITS_AT_ONCE
    }

    async fn signal(&self, signal: &NewSignal) -> Result<SignalOutcome> {
        check_signal(signal)?;
        signals::signal(&self.shared, signal, None).await
    }

    async fn send_signal(&self, node: NodeId, signal: &NewSignal) -> Result<SignalOutcome> {
        check_signal(signal)?;
        signals::signal(&self.shared, signal, Some(node)).await
    }

    async fn signal_in(
        &self,
        transaction: StepTransaction<'_>,
        signal: &NewSignal,
    ) -> Result<SignalOutcome> {
        check_signal(signal)?;
        match transaction {
            StepTransaction::Postgres(connection) => {
                signals::signal_in(connection, self.shared.opening(), signal).await
            }
            other => Err(not_of_this_journal(&other)),
        }
    }

    async fn signal_with_start(&self, run: &NewRun, signal: &NewSignal) -> Result<SignalledStart> {
        check_new_run(run)?;
        check_signal(signal)?;
        signal_with_start::signal_with_start(&self.shared, run, signal).await
    }

    async fn signal_with_start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
        signal: &NewSignal,
    ) -> Result<SignalledStart> {
        check_new_run(run)?;
        check_signal(signal)?;
        match transaction {
            StepTransaction::Postgres(connection) => {
                let opening = self.shared.opening();
                signal_with_start::signal_with_start_in(connection, opening, run, signal).await
            }
            other => Err(not_of_this_journal(&other)),
        }
    }

    async fn debounce(&self, run: &NewRun, debounce: Debounce) -> Result<DebounceOutcome> {
        check_new_run(run)?;
        debounce::debounce(&self.shared, run, debounce).await
    }

    async fn request_cancel(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        control::request_cancel(&self.shared, run).await
    }

    async fn terminate(&self, run: &RunSelector, record: &Record) -> Result<Option<WokenRun>> {
        check_record(record)?;
        let status = ended_status(record)?;
        let Some(ended) = control::terminate(&self.shared, run, record, status).await? else {
            return Ok(None);
        };
        self.tell(&ended.hints).await;
        Ok(Some(ended.run))
    }

    async fn unpark(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        control::unpark(&self.shared, run).await
    }

    async fn pause(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        control::pause(&self.shared, run).await
    }

    async fn resume(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        control::resume(&self.shared, run).await
    }

    async fn outcome(&self, run: RunId) -> Result<Option<Closed>> {
        inbox::outcome(&self.shared, run).await
    }

    async fn published(&self, run: &RunSelector, name: &str) -> Result<Option<Published>> {
        published::published(&self.shared, run, name).await
    }

    async fn describe(&self, run: &RunSelector) -> Result<Option<RunInfo>> {
        describe::describe(&self.shared, run).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Page<RunInfo>> {
        list::list(&self.shared, filter).await
    }

    async fn history(&self, run: RunId, from: Position, limit: u32) -> Result<Page<HistoryRecord>> {
        records::history(&self.shared, run, from, limit).await
    }

    async fn limit_queue(&self, queue: &str, limits: &QueueLimits) -> Result<()> {
        check_limits(queue, limits)?;
        queues::limit(&self.shared, queue, limits).await
    }

    async fn pause_queue(&self, queue: &str, is_paused: bool) -> Result<()> {
        queues::pause(&self.shared, queue, is_paused).await
    }

    async fn queues(&self) -> Result<Vec<QueueInfo>> {
        queues::list(&self.shared).await
    }

    async fn delete_closed(&self, deletion: &Deletion) -> Result<Deleted> {
        delete::delete_closed(&self.shared, deletion).await
    }

    async fn import(&self, run: &ImportedRun) -> Result<StartOutcome> {
        check_imported(run)?;
        import::import(&self.shared, run).await
    }

    async fn fork(&self, fork: &Fork) -> Result<ForkOutcome> {
        check_fork(fork)?;
        let (outcome, hints) = fork::fork(&self.shared, fork).await?;
        self.tell(&hints).await;
        Ok(outcome)
    }

    fn schedules(&self) -> &dyn ScheduleStore {
        self
    }

    fn builds(&self) -> &dyn BuildStore {
        self
    }

    async fn notify(&self, hints: &[Hint]) -> Result<()> {
        hints::notify(&self.notifications, hints).await
    }

    async fn hints(&self) -> Vec<Hint> {
        self.listener.read().await
    }
}

/// The answer to a transaction that is not on this database.
const fn not_of_this_journal(_transaction: &StepTransaction<'_>) -> Error {
    Error::Unsupported {
        what: "a transaction on another database",
    }
}
