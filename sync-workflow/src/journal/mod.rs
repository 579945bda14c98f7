//! The journal: the storage port of the engine.
//!
//! Every method of [`Journal`] is one transaction. Its documentation says what commits together and
//! what a lost acknowledgement means. Three journals implement the port: Postgres, SQLite and
//! memory; one conformance suite holds them to it.

mod batch;
mod build;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod cause;
pub(crate) mod coded;
mod debounce;
mod deletion;
mod error;
mod fork;
mod piece;
mod queue;
mod reuse;
mod run;
mod schedule;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod seal;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

pub use batch::{
    Attempt, Batch, BatchOutcome, Close, NewRun, ParentCloses, ParentLink, Placement, Publication,
    RunCommit, RunOutcome, StartOutcome, Transition, WakeAt, WokenRun,
};
pub use build::{BuildInfo, BuildMove, BuildMoved, BuildStore};
pub use debounce::{Debounce, DebounceOutcome};
pub use deletion::{Deleted, Deletion, DeletionPlace};
pub use error::Error;
pub use fork::{Fork, ForkOutcome, ForkTarget};
pub use piece::{Piece, PiecePlace};
pub use queue::{Admission, Managed, QueueInfo, QueueLimits, Rate, Ticket};
pub use reuse::IdReuse;
pub use run::{
    ChildOutcome, Claim, ClaimRequest, ClaimedRun, Closed, Hint, History, HistoryRecord,
    ImportedRun, Inbox, NewSignal, Outlook, Page, Published, Renewal, RunFilter, RunInfo,
    RunSelector, SignalMessage, SignalOutcome, SignalledStart, TransactionCommit,
};

pub use schedule::{DueSchedules, ScheduleRow, ScheduleStore};

use crate::{
    id::{NodeId, Position, RunId},
    record::Record,
};

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod tags;
mod transaction;
mod url;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use tags::stored_tags;
pub use transaction::{OpenTransaction, StepTransaction};
pub use url::connect;

/// The result of a journal's method.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The longest payload of one record, in bytes. A larger one is refused before it reaches storage,
/// because it would make every replay of its run slow and every batch unbounded.
pub const MAX_PAYLOAD_BYTES: usize = 4 * 1024 * 1024;

/// The most records a run may have before it must continue as new. A replay of this many records
/// still takes well under a second.
pub const MAX_HISTORY_RECORDS: u32 = 100_000;

/// The longest key of a queue, in bytes.
pub const MAX_QUEUE_KEY_BYTES: usize = 512;

/// How many runs of a workflow id [`Journal::send_signal`] looks through.
pub const SENT_SIGNAL_RUNS: u32 = 32;

/// Durable storage of runs, records, signals and node leases.
///
/// Time is the storage's own: every timestamp that a method takes or returns is on the clock of the
/// database, and no method takes a timestamp from a worker's clock, except wake-up times, which were
/// themselves computed from a timestamp that the database gave.
///
/// # Ownership
///
/// A node may write for a run only while (a) its own lease row exists and (b) the run's row names
/// it. A journal checks both in the transaction that writes. [`Error::Fenced`] means (a) failed: the
/// node was declared dead and must stop. [`RunOutcome::Lost`] means (b) failed for that one run.
///
/// # Cancel safety
///
/// Every method may be dropped at any await; the transaction then either happened or did not, as
/// after a lost connection. No dropped call may leave a pooled connection inside a transaction.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// A journal on the same storage with a connection of its own, opened on the calling runtime:
    /// what the heartbeat thread uses, so that neither a busy runtime nor a busy pool starves it.
    /// `None` when this journal can serve any runtime.
    async fn separate(&self) -> Result<Option<std::sync::Arc<dyn Journal>>> {
        Ok(None)
    }

    /// How many commits of a node are worth having under way at once: those that the journal writes at the same time, and
    /// those that wait in line, so that it writes without a pause.
    fn commits_at_once(&self) -> usize {
        1
    }

    /// How many of these the journal writes at the same time: all, unless it says less. Where it is one, a transaction that
    /// is open keeps every other waiting.
    fn writes_at_once(&self) -> usize {
        self.commits_at_once()
    }

    /// The longest payload of a record, and of the input of a run that is started in a transaction of its own, in bytes.
    fn max_payload_bytes(&self) -> usize {
        MAX_PAYLOAD_BYTES
    }

    /// Keeps a piece of a large payload, for a record that is to refer to it. For a run that does not exist only if it
    /// is about to be started. What is kept goes with its run; for one that was never started, with [`Self::settle_pieces`],
    /// or once others have kept pieces a day later. Doing it twice is harmless.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where the journal keeps none.
    async fn keep_piece(&self, _piece: &Piece) -> Result<()> {
        Err(Error::Unsupported {
            what: "payloads that are offloaded",
        })
    }

    /// A piece of a large payload of a run; `None` where there is none.
    async fn piece(&self, _run: RunId, _place: PiecePlace) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Forgets the pieces of those of the runs that do not exist. Doing it twice is harmless.
    async fn settle_pieces(&self, _runs: &[RunId]) -> Result<()> {
        Ok(())
    }

    /// Inserts the lease row of a new node, which ends `lease` from now, and returns the
    /// database's time.
    async fn enlist(&self, node: NodeId, lease: Duration) -> Result<Timestamp>;

    /// Moves the end of the node's lease to `lease` from now.
    ///
    /// Doing it twice is harmless.
    ///
    /// # Errors
    ///
    /// [`Error::Fenced`] when the lease row is gone, even if the time had not run out: deletion of
    /// the row, not the passing of time, is what ends a node.
    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Renewal>;

    /// As [`Self::renew`], with a look at what [`Self::claim`] and [`Self::owned`] would find: an idle node asks this in
    /// place of all three. It takes nothing. `None` from a journal that does not look: the node then asks by itself.
    ///
    /// # Errors
    ///
    /// As [`Self::renew`].
    async fn renew_and_look(
        &self,
        node: NodeId,
        lease: Duration,
        _request: &ClaimRequest,
    ) -> Result<(Renewal, Option<Outlook>)> {
        Ok((self.renew(node, lease).await?, None))
    }

    /// The earliest wake-up time of the runs that a claim may take, now or later: how long work has waited for a node
    /// that has no room. `None` if there is none, or from a journal that does not look.
    async fn next_wake(&self, _request: &ClaimRequest) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    /// Deletes the lease rows of at most `limit` nodes whose lease has run out, and makes their
    /// runs claimable in the same transaction. Returns the nodes that it declared dead.
    ///
    /// It waits for commits of such a node that are in flight, and every later one is fenced.
    async fn reap(&self, limit: u32) -> Result<Vec<NodeId>>;

    /// Ends a node's own lease: its runs become claimable at once and none of their claims counts
    /// as an attempt. Doing it twice is harmless.
    async fn retire(&self, node: NodeId) -> Result<()>;

    /// Commits everything that a node's runs produced, in one transaction and, on Postgres, in one
    /// statement.
    ///
    /// Per run all of a [`RunCommit`] happens or none of it; one run that was lost, or whose
    /// suspension is refused, does not hold the others back. An append at a position that is taken
    /// never overwrites: that run is [`RunOutcome::Lost`].
    ///
    /// # Errors
    ///
    /// [`Error::Fenced`]: the node's lease row is gone, nothing was written.
    /// [`Error::Unavailable`]: nothing was written; the same batch may be sent again.
    /// [`Error::Unknown`]: the acknowledgement was lost. Ask [`Journal::was_committed`].
    async fn commit(&self, node: NodeId, batch: &Batch) -> Result<BatchOutcome>;

    /// Whether a batch whose acknowledgement was lost has happened. Waits until every write of the
    /// node's that is in doubt has ended, then reads the records back.
    ///
    /// In some journals a write that has not reached the storage yet may do so after the answer; on Postgres it never does.
    /// Sending the batch again is safe all the same: a run whose part has landed meanwhile is [`RunOutcome::Lost`], and
    /// asking again tells.
    ///
    /// Returns `None` when the batch holds nothing that can be read back; sending such a batch
    /// again is harmless. An empty one only waits.
    ///
    /// # Errors
    ///
    /// [`Error::Fenced`]: the node's lease row is gone. What it did not hear of, it need not know any more.
    async fn was_committed(&self, node: NodeId, batch: &Batch) -> Result<Option<bool>>;

    /// Takes at most `request.limit` runs that are ready: status pending, wake-up time reached by
    /// the database's clock, a workflow that the worker knows, and of a build that it may take: see [`BuildStore`]. Each
    /// becomes the node's, and of its build if it has one, and the
    /// attempt is counted in the same transaction, so that a run that kills its worker is known.
    ///
    /// Where the queue has limits, first as many runs are admitted as the limits and `request.limit` allow: of the
    /// keys that wait those that have waited longest, of a key those of the greatest priority, and of these the
    /// oldest. Only runs that were admitted are taken.
    ///
    /// A lost acknowledgement leaves runs that name this node; [`Journal::owned`] finds them.
    async fn claim(&self, node: NodeId, request: &ClaimRequest) -> Result<Claim>;

    /// The runs that name this node, with the inbox count of each: what a fallback poll compares
    /// with the runs that the worker believes it holds.
    async fn owned(&self, node: NodeId) -> Result<Vec<ClaimedRun>>;

    /// The records of a run from `from` on, in order, at most `limit` of them, and, with the first
    /// page, the attempts of its unfinished activities.
    async fn load(&self, run: RunId, from: Position, limit: u32) -> Result<History>;

    /// What has arrived for a run: its inbox count, whether it should cancel, its unconsumed
    /// signals in order (at most `limit`), and the outcomes of those of its `children` that are closed or were
    /// never started.
    async fn inbox(&self, run: RunId, children: &[RunId], limit: u32) -> Result<Inbox>;

    /// Opens a transaction for a transactional step, on the journal's own database.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where the journal has no SQL transaction to offer.
    async fn begin(&self) -> Result<OpenTransaction>;

    /// Commits a transactional step: checks the node's lease and the run's owner, inserts the
    /// record, and commits the user's writes with it.
    ///
    /// # Errors
    ///
    /// [`Error::Fenced`] and [`Error::RunLost`]: nothing was written, the user's writes included.
    /// [`Error::Unavailable`]: nothing was written. [`Error::Unknown`]: the acknowledgement was
    /// lost; load the run's journal to see.
    async fn commit_step(
        &self,
        transaction: OpenTransaction,
        commit: &TransactionCommit,
    ) -> Result<()>;

    /// Starts a run from outside a worker. Idempotent by workflow id.
    async fn start(&self, run: &NewRun) -> Result<StartOutcome>;

    /// Starts a run inside the caller's own transaction on the journal's database.
    async fn start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
    ) -> Result<StartOutcome>;

    /// Delivers a signal to the open run of a workflow id. Idempotent by signal id: a second
    /// delivery with the same id is [`SignalOutcome::Duplicate`].
    async fn signal(&self, signal: &NewSignal) -> Result<SignalOutcome>;

    /// Delivers a signal that a run of this node's sends. As [`Self::signal`], and a signal whose id
    /// an earlier run of the receiver's workflow id was sent is [`SignalOutcome::Duplicate`] too: who
    /// sends it again may find another run there. Of the runs of the workflow id the latest
    /// [`SENT_SIGNAL_RUNS`] are looked through, or more.
    ///
    /// # Errors
    ///
    /// [`Error::Fenced`]: the node's lease row is gone. So whoever takes over the sender finds the
    /// signal delivered, or delivers it; nobody else does any more.
    async fn send_signal(&self, node: NodeId, signal: &NewSignal) -> Result<SignalOutcome>;

    /// Delivers a signal inside the caller's own transaction on the journal's database.
    async fn signal_in(
        &self,
        transaction: StepTransaction<'_>,
        signal: &NewSignal,
    ) -> Result<SignalOutcome>;

    /// Starts a run if its workflow id has no open one and its policy admits it, and delivers a signal to the run that is
    /// open then: both, or neither. `signal.to` is the workflow id of the run.
    ///
    /// A signal whose id a run of the workflow id was sent is [`SignalOutcome::Duplicate`], as for [`Self::send_signal`],
    /// and nothing is started: so whoever lost the answer asks again. It is [`SignalOutcome::NotOpen`] where the
    /// policy keeps a closed run.
    async fn signal_with_start(&self, run: &NewRun, signal: &NewSignal) -> Result<SignalledStart>;

    /// As [`Self::signal_with_start`], inside the caller's own transaction on the journal's database.
    async fn signal_with_start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
        signal: &NewSignal,
    ) -> Result<SignalledStart>;

    /// Starts a run once nobody has asked for it again for a while. As [`Self::start`], but the run begins when
    /// [`Debounce`] says, and where the open run of the workflow id is of the same workflow, has not begun and was not
    /// asked to cancel, its input and the time of its beginning are replaced. In a queue with limits the time stays once it
    /// has come.
    ///
    /// A run is replaced under the lock that a claim takes: what is claimed has the input of before or the one of
    /// after, and the answer says which.
    async fn debounce(&self, run: &NewRun, debounce: Debounce) -> Result<DebounceOutcome>;

    /// Asks a run to cancel, and to pause no longer. Returns the run that was asked, if it was open. Idempotent.
    async fn request_cancel(&self, run: &RunSelector) -> Result<Option<WokenRun>>;

    /// Ends an open run at once: appends a final record at the next position, which fences off
    /// whoever drives it. `payload` is the recorded reason.
    async fn terminate(&self, run: &RunSelector, record: &Record) -> Result<Option<WokenRun>>;

    /// Makes a parked run claimable again, with its attempts forgotten.
    async fn unpark(&self, run: &RunSelector) -> Result<Option<WokenRun>>;

    /// Asks an open run to pause. A run that nobody holds is paused at once; one that is held is asked through
    /// its inbox, and paused when its node gives it up, in whichever way; a parked one is paused when it is unparked.
    /// While it is paused nobody claims it and what arrives is kept. Returns the run that was asked, if it was open.
    /// Idempotent.
    async fn pause(&self, run: &RunSelector) -> Result<Option<WokenRun>>;

    /// Takes a request to pause back: a paused run is claimable again, with its attempts forgotten. Returns the run if
    /// it was asked to pause.
    async fn resume(&self, run: &RunSelector) -> Result<Option<WokenRun>>;

    /// The end of a run, if it has ended. While it is open, the run is marked as awaited, so that
    /// the node that closes it tells the other processes.
    async fn outcome(&self, run: RunId) -> Result<Option<Closed>>;

    /// What the chain of a run shows under a name: the last value that one of its runs has published. `None`
    /// where there is no such run or it never published the name.
    async fn published(&self, run: &RunSelector, name: &str) -> Result<Option<Published>>;

    /// One run, or the latest run of a workflow id.
    async fn describe(&self, run: &RunSelector) -> Result<Option<RunInfo>>;

    /// Runs that match a filter, newest first.
    async fn list(&self, filter: &RunFilter) -> Result<Page<RunInfo>>;

    /// The records of a run with the time of each, for a person to read.
    async fn history(&self, run: RunId, from: Position, limit: u32) -> Result<Page<HistoryRecord>>;

    /// Limits a queue from now on: at its first limits the queue becomes a managed one, whose runs wait until they
    /// are admitted. Its counts, and what it waits for, stay.
    async fn limit_queue(&self, queue: &str, limits: &QueueLimits) -> Result<()>;

    /// Stops admitting runs of a queue, or admits them again. A queue without limits becomes a managed one.
    async fn pause_queue(&self, queue: &str, is_paused: bool) -> Result<()>;

    /// The managed queues, by name.
    async fn queues(&self) -> Result<Vec<QueueInfo>>;

    /// Deletes closed runs of a workflow that ended long enough ago, the earliest first, with everything that is theirs:
    /// records, tags, what is left of their attempts and, with the last run of a chain, its signals and what it
    /// shows. It looks at [`Deletion::MAX_RUNS`] runs at most. A child whose parent is open stays, for its parent may
    /// yet ask how it ended.
    ///
    /// Two processes do not delete at once: the second finds nothing to do. Doing it twice is harmless.
    async fn delete_closed(&self, deletion: &Deletion) -> Result<Deleted>;

    /// Inserts a run with its whole journal, as it stood elsewhere, if neither the run nor its workflow id was ever
    /// used here. One that is open is paused: nothing begins before somebody resumes it.
    ///
    /// Doing it twice finds the run of the first time.
    async fn import(&self, run: &ImportedRun) -> Result<StartOutcome>;

    /// Starts a run that begins with the first records of another one, each with its time, and `fork.forked` after them.
    /// It has the origin's workflow, queue, key, priority, trace and tags, and the signals that the origin was sent and
    /// that none of the copied records received, in order. Of an origin that went on in another run these are only what
    /// nobody has received.
    ///
    /// With [`ForkTarget::Same`] the origin must be the latest run of its workflow id. If it is open, it ends with
    /// `last` at its next position, as a run that continues as new: the new run is of its chain, has its parent, its
    /// turn in its queue, and is paused if it was asked to. A request to cancel does not go along. The open children
    /// that are not named are left as [`ParentCloses`] says.
    ///
    /// Doing it twice with the same proposed run is doing it once.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when one of the records is not what was written.
    async fn fork(&self, fork: &Fork) -> Result<ForkOutcome>;

    /// The rows of schedules.
    fn schedules(&self) -> &dyn ScheduleStore;

    /// Which builds there are, and whose runs are whose.
    fn builds(&self) -> &dyn BuildStore;

    /// Tells other processes. Best effort and only a hint: whoever misses it finds out by polling.
    /// Never called inside a transaction that writes.
    async fn notify(&self, hints: &[Hint]) -> Result<()>;

    /// Waits for the next hints from other processes. Errors and lost connections are reported as
    /// [`Hint::LookAgain`], after which the caller must look at everything again; so are, at the first call, hints that may
    /// have been sent before.
    ///
    /// One caller per node.
    async fn hints(&self) -> Vec<Hint>;
}
