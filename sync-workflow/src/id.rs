//! Identities: of runs, nodes and workflows, and the numbers inside a run.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps an id that came from storage or from a caller.
            #[must_use]
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The id as a uuid.
            #[must_use]
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

uuid_id! {
    /// One execution of a workflow: a version 7 uuid, so that ids sort by the time of their start.
    RunId
}

uuid_id! {
    /// One incarnation of one process: random and fresh at each start, never reused.
    ///
    /// A random id cannot rewind. After a lossy failover of the database, a counter would.
    NodeId
}

/// The caller's name for a workflow: its idempotency key.
///
/// At most one run of a workflow id is open at any time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkflowId(std::sync::Arc<str>);

impl WorkflowId {
    /// The longest id, in bytes: what a b-tree key takes with room to spare.
    pub const MAX_BYTES: usize = 512;

    /// Checks and wraps an id.
    ///
    /// # Errors
    ///
    /// [`InvalidWorkflowId`] when the id is empty, longer than [`Self::MAX_BYTES`], or holds a NUL,
    /// which Postgres cannot store in text.
    pub fn new(id: impl AsRef<str>) -> Result<Self, InvalidWorkflowId> {
        let id = id.as_ref();
        if id.is_empty() {
            return Err(InvalidWorkflowId::Empty);
        }
        if id.len() > Self::MAX_BYTES {
            return Err(InvalidWorkflowId::TooLong { bytes: id.len() });
        }
        if id.contains('\0') {
            return Err(InvalidWorkflowId::Nul);
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkflowId({:?})", &*self.0)
    }
}

impl TryFrom<String> for WorkflowId {
    type Error = InvalidWorkflowId;

    fn try_from(id: String) -> Result<Self, Self::Error> {
        Self::new(id)
    }
}

impl TryFrom<&str> for WorkflowId {
    type Error = InvalidWorkflowId;

    fn try_from(id: &str) -> Result<Self, Self::Error> {
        Self::new(id)
    }
}

impl From<WorkflowId> for String {
    fn from(id: WorkflowId) -> Self {
        id.0.as_ref().into()
    }
}

/// Why a text cannot be a [`WorkflowId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidWorkflowId {
    /// The id is the empty text.
    #[error("workflow id is empty")]
    Empty,
    /// The id is longer than [`WorkflowId::MAX_BYTES`].
    #[error("workflow id has {bytes} bytes, more than {}", WorkflowId::MAX_BYTES)]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The id holds a NUL character.
    #[error("workflow id holds a NUL character")]
    Nul,
}

/// A build of the code of workers: what [`WorkerBuilder::build_id`](crate::WorkerBuilder::build_id) was given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BuildId(std::sync::Arc<str>);

impl BuildId {
    /// The longest build id, in bytes: a hash or a version with a date has room.
    pub const MAX_BYTES: usize = 128;

    /// Checks and wraps a build id.
    ///
    /// # Errors
    ///
    /// [`InvalidBuildId`] when it is empty, longer than [`Self::MAX_BYTES`], or holds a NUL.
    pub fn new(build: impl AsRef<str>) -> Result<Self, InvalidBuildId> {
        let build = build.as_ref();
        match build.is_empty() || build.len() > Self::MAX_BYTES || build.contains('\0') {
            true => Err(InvalidBuildId),
            false => Ok(Self(build.into())),
        }
    }

    /// The build id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({:?})", &*self.0)
    }
}

impl TryFrom<String> for BuildId {
    type Error = InvalidBuildId;

    fn try_from(build: String) -> Result<Self, Self::Error> {
        Self::new(build)
    }
}

impl From<BuildId> for String {
    fn from(build: BuildId) -> Self {
        build.0.as_ref().into()
    }
}

/// Why a text cannot be a [`BuildId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a build id has 1 to {} bytes and no NUL character",
    BuildId::MAX_BYTES
)]
pub struct InvalidBuildId;

/// The number of a command: its place in the order in which workflow code built its durable calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub u32);

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of a record in its run's journal, counted from zero without gaps.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Position(pub u32);

impl Position {
    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
