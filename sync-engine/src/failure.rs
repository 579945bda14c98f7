//! Failures of steps: recorded in the journal, so that the workflow can decide by their kind.

use std::error::Error as StdError;

use serde::{Deserialize, Serialize};
use sync_adapters::{client, destination};
use sync_core::manifest::ErrorKind;
use sync_workflow::{Failure, TypedError};

/// Why a step of a sync did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepFailure {
    /// The source did not answer well.
    #[error("{detail}")]
    Source {
        /// What its answer means, when it is an answer.
        error: Option<ErrorKind>,
        /// What it said, without secrets.
        detail: String,
        /// Whether the same request can succeed later.
        passing: bool,
    },
    /// The destination did not take the records.
    #[error("{detail}")]
    Destination {
        /// What it said.
        detail: String,
        /// Whether the same write can succeed later.
        passing: bool,
    },
    /// The source does not do what the manifest claims of it.
    #[error("the source does not keep what the manifest claims: {claim}")]
    ClaimBroken {
        /// The claim.
        claim: String,
    },
    /// The list cannot be walked.
    #[error("the list cannot be walked: {detail}")]
    Unwalkable {
        /// Why.
        detail: String,
    },
    /// The manifest that this process has is not the one that the walk began with.
    #[error("the manifest changed during the walk")]
    ManifestChanged,
    /// Another sync writes this entity now; this one may write nothing more.
    #[error("another sync has taken over")]
    Superseded,
    /// This process has no such adapter, organisation or entity.
    #[error("{detail}")]
    Unconfigured {
        /// What is missing.
        detail: String,
    },
    /// The engine of this process is still starting.
    #[error("the engine is starting")]
    Starting,
    /// What was stored cannot be read, or the journal failed.
    #[error("{detail}")]
    Internal {
        /// What failed.
        detail: String,
    },
}

impl TypedError for StepFailure {
    fn is_final(&self) -> bool {
        match self {
            Self::Source { passing, .. } | Self::Destination { passing, .. } => !passing,
            Self::Starting | Self::Internal { .. } => false,
            Self::ClaimBroken { .. }
            | Self::Unwalkable { .. }
            | Self::ManifestChanged
            | Self::Superseded
            | Self::Unconfigured { .. } => true,
        }
    }
}

impl StepFailure {
    pub(crate) fn internal(error: &(dyn StdError + 'static)) -> Self {
        Self::Internal {
            detail: chain(error),
        }
    }
}

impl From<client::Error> for StepFailure {
    fn from(error: client::Error) -> Self {
        Self::Source {
            error: error.kind(),
            passing: error.is_retryable(),
            detail: chain(&error),
        }
    }
}

impl From<destination::Error> for StepFailure {
    fn from(error: destination::Error) -> Self {
        Self::Destination {
            passing: error.is_retryable(),
            detail: chain(&error),
        }
    }
}

impl From<sqlx::Error> for StepFailure {
    fn from(error: sqlx::Error) -> Self {
        destination::Error::from(error).into()
    }
}

impl From<serde_json::Error> for StepFailure {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<Failure> for StepFailure {
    fn from(failure: Failure) -> Self {
        Self::Internal {
            detail: failure.to_string(),
        }
    }
}

/// An error and its sources, outermost first.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
