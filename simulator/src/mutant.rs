//! Deliberate bugs in the journal and on the way to it: a checker must be shown to catch them.

use clap::ValueEnum;

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Mutant {
    /// A node that was declared dead goes on to write, wherever the journal ends: neither its
    /// lease, nor the owner of the run, nor the position is checked.
    NoFence,
    /// A batch whose outcome is unknown is sent again, without a look at what happened, and
    /// appended wherever the journal ends.
    BlindRetry,
    /// A batch whose outcome is unknown is taken to have happened.
    AssumeCommitted,
    /// A batch is acknowledged before it is durable, and a crash loses it.
    EarlyAcknowledgement,
    /// The outcome of a transactional step that is unknown is taken for a failure, and its record is
    /// written again at the next position.
    BlindStep,
    /// A hint is the only way to find out.
    HintsOnly,
    /// A run gives up its place without a look at what arrived meanwhile.
    BlindSuspension,
    /// Consumed signals stay in the inbox.
    SignalsStay,
    /// The same signal id is stored twice.
    NoDedupe,
    /// A worker's own clock, ahead of the database's, decides when timers are due.
    WorkerClock,
    /// Claims of a run that makes no progress are not counted.
    UncountedClaims,
    /// The state of failed attempts is not kept.
    ForgottenAttempts,
    /// A journal is read from a replica that lags behind.
    StaleReads,
    /// The reaper lets go of the runs of nodes that are alive.
    EagerReaper,
    /// The children that a commit rejects are not reported.
    SilentRejection,
    /// A start through a worker's own client begins a run where one of its workflow id has ended.
    BlindStart,
    /// A run that gives up its place is not woken when its timer is due.
    ForgottenAlarm,
    /// A node is not told of all the runs that name it.
    ForgetfulOwner,
    /// A commit that is under way beside another is taken for done when that one is.
    CrossedLanes,
    /// What a run publishes is shown although the commit that publishes it is lost.
    EarlyPublication,
    /// A run that an operator has paused is handed out.
    PausedClaim,
    /// A queue admits one run more than its limits allow.
    OneTooMany,
    /// What a node commits to a run that was reset is appended to the run that took its place.
    UnfencedReset,
    /// The signals that a run received after the place to which it is reset do not wait again.
    SignalsStayReceived,
    /// The children that a run awaits at the place to which it is reset stay those of the run that ends.
    ForsakenChildren,
    /// A fork waits for none of the signals that its origin had not received.
    ForkWithoutSignals,
    /// A worker claims runs of another build, now and then.
    ForeignBuild,
}
