//! Why a run cannot go on with the code that drives it.

use std::{fmt, ops::RangeInclusive, sync::Arc};

use crate::{
    id::{CommandId, Position},
    record::RecordKind,
};

/// A run stops for a person, and continues when a worker with other code takes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The code does not do what the journal says it did.
    #[error("nondeterministic: {0}")]
    Nondeterministic(Box<Mismatch>),
    /// The workflow awaits something that is not a durable call.
    #[error(
        "the workflow awaits something that is not a durable call (a timer or channel of the runtime, IO, a \
         spawned task): {detail}; move it into an activity"
    )]
    ForeignAwait {
        /// How it was noticed.
        detail: &'static str,
    },
    /// A durable call of the run was made by something else than its code.
    #[error(
        "a durable call was made outside of the workflow's own code (in a spawned task, a thread, an activity or the body of \
         a transaction): make it in the workflow, and combine calls with join!, select! or FuturesUnordered"
    )]
    StrayCall,
    /// The workflow keeps waking itself and makes no durable call.
    #[error("the workflow woke itself {polls} times without making a durable call")]
    BusyLoop {
        /// How often it was polled.
        polls: u32,
    },
    /// The workflow panicked.
    #[error("the workflow panicked: {message}")]
    Panicked {
        /// The words of the panic.
        message: String,
    },
    /// The stored input does not fit the workflow's input type.
    #[error("the input cannot be decoded: {message}")]
    UndecodableInput {
        /// Where it does not fit.
        message: String,
    },
    /// What an activity, a step or a child returned does not fit the type that the code expects of it.
    #[error("the value of command {command} cannot be decoded: {message}")]
    UndecodableValue {
        /// The command.
        command: CommandId,
        /// Where it does not fit.
        message: String,
    },
    /// The code has no workflow or activity of this name.
    #[error("no {what} named {name:?} is registered with this worker")]
    Unregistered {
        /// Workflow or activity.
        what: &'static str,
        /// The name.
        name: Arc<str>,
    },
    /// The run goes by a version of a change that the code no longer has, or does not have yet.
    #[error(
        "the run goes by version {chosen} of the change {change:?}, and this code has {} to {}",
        supported.start(), supported.end()
    )]
    UnsupportedVersion {
        /// The change.
        change: Arc<str>,
        /// What the run goes by.
        chosen: u32,
        /// What the code has.
        supported: RangeInclusive<u32>,
    },
    /// The journal is longer than a journal may be.
    #[error("the journal has {records} records, more than {limit}: continue as new more often")]
    HistoryTooLong {
        /// Its length.
        records: u32,
        /// The limit.
        limit: u32,
    },
    /// The journal itself is damaged.
    #[error("the journal is damaged: {detail}")]
    Damaged {
        /// What is wrong.
        detail: String,
    },
    /// The workflow asked to be parked for a person.
    #[error("parked by the workflow: {reason}")]
    Requested {
        /// What the person is told.
        reason: String,
    },
}

impl Fault {
    /// Its short name, for programs to count by; it stays as it is.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Nondeterministic(_) => "nondeterministic",
            Self::ForeignAwait { .. } => "foreign_await",
            Self::StrayCall => "stray_call",
            Self::BusyLoop { .. } => "busy_loop",
            Self::Panicked { .. } => "panicked",
            Self::UndecodableInput { .. } => "undecodable_input",
            Self::UndecodableValue { .. } => "undecodable_value",
            Self::Unregistered { .. } => "unregistered",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::HistoryTooLong { .. } => "history_too_long",
            Self::Damaged { .. } => "damaged",
            Self::Requested { .. } => "requested",
        }
    }

    /// What helps, in a sentence.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Nondeterministic(_) => {
                "keep the call for the runs that made it: ask ctx.version where the code changed"
            }
            Self::ForeignAwait { .. } => {
                "await durable calls only, and move the rest into an activity"
            }
            Self::StrayCall => "make durable calls in the workflow's own code only",
            Self::BusyLoop { .. } => "make a durable call in every turn of the loop",
            Self::Panicked { .. } => "repair the code that panics",
            Self::UndecodableInput { .. } | Self::UndecodableValue { .. } => {
                "let the type read what was written before: a default, an alias, or a new name for a new type"
            }
            Self::Unregistered { .. } => "register it under this name as long as open runs need it",
            Self::UnsupportedVersion { .. } => "support the version as long as open runs go by it",
            Self::HistoryTooLong { .. } => "continue as new more often",
            Self::Damaged { .. } => "restore the run's rows; no code repairs them",
            Self::Requested { .. } => "the workflow asks for a person: see its reason",
        }
    }
}

/// Where journal and code part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The place in the journal.
    pub position: Position,
    /// What the journal holds there.
    pub recorded: Asked,
    /// What the code did instead; `None` if it did nothing.
    pub asked: Option<Asked>,
}

/// A command as the journal or the code names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The number of the command.
    pub command: CommandId,
    /// The kind of record that it leaves.
    pub kind: RecordKind,
    /// The name of the activity, signal, child or value.
    pub name: Arc<str>,
    /// The hash of what it asked for.
    pub fingerprint: u64,
}

impl Asked {
    /// Whether both name the same call, with whatever input.
    #[must_use]
    pub fn is_same_call(&self, other: &Self) -> bool {
        self.command == other.command && self.kind == other.kind && self.name == other.name
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at position {} the journal holds {}, ",
            self.position, self.recorded
        )?;
        match &self.asked {
            None => write!(f, "but the code made no such command by then"),
            Some(asked) if self.recorded.is_same_call(asked) => {
                write!(
                    f,
                    "and the code made the same call with another input (fingerprint {:016x}, recorded {:016x})",
                    asked.fingerprint, self.recorded.fingerprint
                )
            }
            Some(asked) => write!(f, "but the code made {asked}"),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "command {} {:?} {:?}",
            self.command, self.kind, self.name
        )
    }
}
