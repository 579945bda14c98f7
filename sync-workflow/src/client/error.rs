//! What can go wrong for a client.

use std::fmt;

use crate::{
    failure::{ErrorValue, Failure},
    id::{InvalidBuildId, InvalidWorkflowId},
    journal,
    tag::InvalidTag,
};

/// The error of a client's call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no workflow id.
    #[error("invalid workflow id")]
    InvalidWorkflowId(#[from] InvalidWorkflowId),
    /// The text is no tag.
    #[error("invalid tag")]
    InvalidTag(#[from] InvalidTag),
    /// The text is no build id.
    #[error("invalid build id")]
    InvalidBuildId(#[from] InvalidBuildId),
    /// There is no such run.
    #[error("no run found")]
    NotFound,
    /// There is no open run in the state that the call needs.
    #[error("no open run")]
    NotOpen,
    /// The input or value has no JSON form, or is too large.
    #[error("the value cannot be stored: {0}")]
    Unencodable(Failure),
    /// A stored value does not fit the type that the caller expects.
    #[error("the value cannot be read: {0}")]
    Undecodable(Failure),
    /// The journal failed. [`journal::Error::is_transient`] tells whether trying again may help;
    /// starts and signals with an id may be repeated safely.
    #[error("the journal failed")]
    Journal(#[from] journal::Error),
}

/// Why a run has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError<E = Failure> {
    /// The workflow returned this error.
    Failed(E),
    /// The run ended otherwise: it was cancelled or terminated, or its failure is not of the
    /// workflow's error type.
    Ended(Failure),
    /// The run is parked: a person must look at it. It is still open, and awaiting it again waits
    /// on.
    Parked {
        /// Why.
        reason: String,
    },
    /// The result could not be read.
    Client(Error),
}

impl<E: ErrorValue> RunError<E> {
    pub(crate) fn from_failure(failure: Failure) -> Self {
        match E::from_failure(&failure) {
            Some(error) => Self::Failed(error),
            None => Self::Ended(failure),
        }
    }
}

impl<E: fmt::Display> fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "the workflow failed: {error}"),
            Self::Ended(failure) => write!(f, "the workflow did not complete: {failure}"),
            Self::Parked { reason } => write!(f, "the run is parked: {reason}"),
            Self::Client(error) => write!(f, "the result could not be read: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for RunError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Client(error) => std::error::Error::source(error),
            Self::Failed(_) | Self::Ended(_) | Self::Parked { .. } => None,
        }
    }
}

impl<E> From<journal::Error> for RunError<E> {
    fn from(error: journal::Error) -> Self {
        Self::Client(Error::Journal(error))
    }
}
