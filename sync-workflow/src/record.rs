//! Records: what a run's journal is made of.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    id::{CommandId, Position},
    status::RunStatus,
};

/// One entry of a run's journal. Its order is the truth that replay follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The place in the journal.
    pub position: Position,
    /// What happened.
    pub kind: RecordKind,
    /// The command that it belongs to; [`Record::RUN`] for records about the run itself.
    pub command: CommandId,
    /// The name of the activity, signal, child workflow or side effect.
    pub name: Arc<str>,
    /// The hash of what the command asked for; zero where nothing was asked.
    pub fingerprint: u64,
    /// The encoded value: an output, a failure, a due time, an input.
    pub payload: Bytes,
}

impl Record {
    /// The command number of records that belong to no command.
    pub const RUN: CommandId = CommandId(u32::MAX);

    /// Whether it is a signal that the run before in the chain received and its code never read: the run was born
    /// with it, right after the record of its start.
    #[must_use]
    pub fn is_carried_over(&self) -> bool {
        self.kind == RecordKind::SignalReceived && self.command == Self::RUN
    }

    /// How many of a run's records it was born with.
    #[must_use]
    pub fn count_born(records: &[Self]) -> usize {
        let carried_over = records.iter().skip(1);
        records.len().min(1)
            + carried_over
                .take_while(|record| record.is_carried_over())
                .count()
    }
}

/// The kinds of records. The numbers are stored, the names are exported, and neither ever changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum RecordKind {
    /// The run was started; the payload is its input. Always at position zero.
    Started = 0,
    /// A pure value was drawn: time, random number, uuid, side effect.
    SideEffect = 1,
    /// The code chose its version of a change; the payload is the number. No replay depends on its place.
    VersionChosen = 2,
    /// The records before it, back to the one before of its kind, are those of the run that the payload names. No
    /// replay depends on its place but for the values that follow from a run.
    Forked = 3,
    /// An activity returned a value.
    ActivityCompleted = 10,
    /// An activity failed for good: its error is final, or its attempts are used up.
    ActivityFailed = 11,
    /// An activity that may run at most once is about to run.
    ActivityAttempted = 12,
    /// A transactional step committed, with this very record.
    TransactionCompleted = 13,
    /// A transactional step failed for good; none of its writes exist.
    TransactionFailed = 14,
    /// A timer was set; the payload is its due time in microseconds since the epoch.
    TimerStarted = 20,
    /// A timer came due.
    TimerFired = 21,
    /// A signal was received by the wait with this command number; by no wait yet, if the run before in the chain
    /// received it and did not read it.
    SignalReceived = 30,
    /// A signal to another workflow was delivered; the payload names the workflow id.
    SignalSent = 31,
    /// A signal to another workflow could not be delivered.
    SignalFailed = 32,
    /// A child was started; the payload names its workflow id and run.
    ChildStarted = 40,
    /// A child returned a value.
    ChildCompleted = 41,
    /// A child failed, was cancelled, was terminated, or could not be started.
    ChildFailed = 42,
    /// Somebody asked the run to cancel.
    CancelRequested = 50,
    /// The run returned a value.
    Completed = 60,
    /// The run failed.
    Failed = 61,
    /// The run ended because it was cancelled.
    Cancelled = 62,
    /// An operator ended the run.
    Terminated = 63,
    /// The run continues in a new run; the payload names it.
    ContinuedAsNew = 64,
}

impl RecordKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 23] = [
        Self::Started,
        Self::SideEffect,
        Self::VersionChosen,
        Self::Forked,
        Self::ActivityCompleted,
        Self::ActivityFailed,
        Self::ActivityAttempted,
        Self::TransactionCompleted,
        Self::TransactionFailed,
        Self::TimerStarted,
        Self::TimerFired,
        Self::SignalReceived,
        Self::SignalSent,
        Self::SignalFailed,
        Self::ChildStarted,
        Self::ChildCompleted,
        Self::ChildFailed,
        Self::CancelRequested,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Terminated,
        Self::ContinuedAsNew,
    ];

    /// The stored number.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The kind with this stored number, if this version knows it.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The status of a run whose last record is of this kind; `None` for a record that others may follow.
    ///
    /// ```
    /// use sync_workflow::{record::RecordKind, status::RunStatus};
    ///
    /// assert_eq!(RecordKind::Failed.final_status(), Some(RunStatus::Failed));
    /// assert_eq!(RecordKind::ActivityFailed.final_status(), None);
    /// ```
    #[must_use]
    pub const fn final_status(self) -> Option<RunStatus> {
        match self {
            Self::Completed => Some(RunStatus::Completed),
            Self::Failed => Some(RunStatus::Failed),
            Self::Cancelled => Some(RunStatus::Cancelled),
            Self::Terminated => Some(RunStatus::Terminated),
            Self::ContinuedAsNew => Some(RunStatus::ContinuedAsNew),
            Self::Started
            | Self::SideEffect
            | Self::VersionChosen
            | Self::Forked
            | Self::ActivityCompleted
            | Self::ActivityFailed
            | Self::ActivityAttempted
            | Self::TransactionCompleted
            | Self::TransactionFailed
            | Self::TimerStarted
            | Self::TimerFired
            | Self::SignalReceived
            | Self::SignalSent
            | Self::SignalFailed
            | Self::ChildStarted
            | Self::ChildCompleted
            | Self::ChildFailed
            | Self::CancelRequested => None,
        }
    }

    /// Whether a record of this kind is the last one of its run.
    #[must_use]
    pub const fn is_final(self) -> bool {
        self.final_status().is_some()
    }

    /// Whether a record of this kind answers something that the code asked for with an input. The
    /// fingerprint of every other is zero.
    #[must_use]
    pub const fn has_fingerprint(self) -> bool {
        match self {
            Self::ActivityCompleted
            | Self::ActivityFailed
            | Self::ActivityAttempted
            | Self::TransactionCompleted
            | Self::TransactionFailed
            | Self::TimerStarted
            | Self::TimerFired
            | Self::SignalSent
            | Self::SignalFailed
            | Self::ChildStarted
            | Self::ChildCompleted
            | Self::ChildFailed => true,
            Self::Started
            | Self::SideEffect
            | Self::VersionChosen
            | Self::Forked
            | Self::SignalReceived
            | Self::CancelRequested
            | Self::Completed
            | Self::Failed
            | Self::Cancelled
            | Self::Terminated
            | Self::ContinuedAsNew => false,
        }
    }
}

/// The fingerprint of a command: a stable hash of what it asked for.
#[must_use]
pub fn fingerprint(payload: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_round_trips_through_its_number() {
        for kind in RecordKind::ALL {
            assert_eq!(RecordKind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(RecordKind::from_code(9999), None);
    }

    #[test]
    fn every_way_to_end_has_a_kind_of_its_own() {
        let ends = RecordKind::ALL.map(RecordKind::final_status);
        let ends: Vec<_> = ends.into_iter().flatten().collect();
        let closed = RunStatus::ALL
            .into_iter()
            .filter(|status| status.is_closed());
        assert_eq!(ends, closed.collect::<Vec<_>>());
    }

    #[test]
    fn the_fingerprint_never_changes_between_versions() {
        assert_eq!(fingerprint(b""), 0x2d06_8005_38d3_94c2);
    }
}
