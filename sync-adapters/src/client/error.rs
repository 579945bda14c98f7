//! What can go wrong when an API is called.

use std::time::Duration;

use sync_core::{EntityName, manifest::ErrorKind};

/// A call that did not succeed, in the same words for every API.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API refuses the request as senseless. Sending it again changes nothing.
    #[error("the API refuses the request ({status}): {detail}")]
    BadRequest {
        /// The HTTP status.
        status: u16,
        /// What the API says, shortened.
        detail: String,
    },
    /// The credential is missing, expired or revoked. It needs a new one, not a retry.
    #[error("the credential is not accepted: {detail}")]
    Unauthenticated {
        /// What the API says, shortened.
        detail: String,
    },
    /// The credential lacks a right. An entity that answers so is not empty, it is unseen.
    #[error("the credential lacks a right: {detail}")]
    Forbidden {
        /// What the API says, shortened.
        detail: String,
    },
    /// There is no such record or path.
    #[error("not found: {detail}")]
    NotFound {
        /// What the API says, shortened.
        detail: String,
    },
    /// The API does not know the method at this path.
    #[error("the API does not support this call ({status})")]
    Unsupported {
        /// The HTTP status.
        status: u16,
    },
    /// Another write came in between. Read again, then decide.
    #[error("conflict with another write: {detail}")]
    Conflict {
        /// What the API says, shortened.
        detail: String,
    },
    /// The API refuses fields of the request.
    #[error("the API refuses {} field(s) of the request", fields.len())]
    Validation {
        /// The fields, as the API names them.
        fields: Vec<FieldProblem>,
    },
    /// The budget of requests is used up. Nothing was done; wait, then send the same again.
    #[error("rate limited for {} s", retry_after.as_secs_f32())]
    RateLimited {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The API cannot answer now.
    #[error("the API is unavailable ({status})")]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// How long the API asks to wait, when it says so.
        retry_after: Option<Duration>,
    },
    /// The answer is not what the API promises.
    #[error("the answer breaks the protocol")]
    Protocol(#[source] ProtocolProblem),
    /// No answer came.
    #[error("no answer from the API")]
    Network(#[source] NetworkProblem),
    /// The walk does not move: the API offers a next page that is not further on.
    #[error("the list of {entity} does not advance after {received} rows")]
    PaginationStalled {
        /// The entity whose list is walked.
        entity: EntityName,
        /// Rows received before.
        received: u64,
    },
    /// The walk ended before the end of the list.
    #[error("the list of {entity} ended early")]
    Incomplete {
        /// The entity whose list is walked.
        entity: EntityName,
        /// Why the end is no clean one.
        #[source]
        why: super::Incomplete,
    },
    /// The manifest has no such entity.
    #[error("there is no entity {entity}")]
    UnknownEntity {
        /// The name asked for.
        entity: EntityName,
    },
    /// The manifest offers no such call, or the request does not fit it.
    #[error("{entity} cannot be asked so: {reason}")]
    InvalidRequest {
        /// The entity.
        entity: EntityName,
        /// What does not fit.
        reason: String,
    },
    /// The client itself cannot be built.
    #[error("the client cannot be built: {reason}")]
    InvalidClient {
        /// What is wrong.
        reason: String,
    },
    /// The store of rate limits does not answer.
    #[error("the rate limit store does not answer")]
    LimitStore(#[source] super::LimitStoreError),
}

/// A field that the API or the schema refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field, by the API's own name or pointer; empty when the API does not say.
    pub field: String,
    /// What is wrong with it, shortened.
    pub problem: String,
}

/// How an answer breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolProblem {
    /// The body is no JSON.
    #[error("the body is not JSON: {reason}")]
    NotJson {
        /// What the parser says.
        reason: String,
    },
    /// The body is JSON, but not the promised envelope.
    #[error("the envelope lacks {what}")]
    Envelope {
        /// What is missing or of the wrong kind.
        what: String,
    },
    /// The body is larger than the client takes.
    #[error("the body exceeds {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// The API points to another server, where the credential must not go.
    #[error("the API points to another server")]
    ForeignUrl,
    /// A status that no API of this kind answers, such as a redirect.
    #[error("unexpected status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkProblem {
    /// No connection: the request did not leave.
    #[error("no connection")]
    Connect(#[source] reqwest::Error),
    /// The deadline of the call passed.
    #[error("no answer within {} s", after.as_secs_f32())]
    Timeout {
        /// The time that the call had.
        after: Duration,
    },
    /// The connection broke while the request or its answer was on the way.
    #[error("the connection broke")]
    Interrupted(#[source] reqwest::Error),
}

impl Error {
    /// The same kind that manifests speak of; `None` for a failure on this side of the wire.
    pub fn kind(&self) -> Option<ErrorKind> {
        Some(match self {
            Self::BadRequest { .. } => ErrorKind::BadRequest,
            Self::Unauthenticated { .. } => ErrorKind::Unauthenticated,
            Self::Forbidden { .. } => ErrorKind::Forbidden,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Validation { .. } => ErrorKind::Validation,
            Self::RateLimited { .. } => ErrorKind::RateLimited,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Protocol(_) => ErrorKind::Protocol,
            Self::Network(_) => ErrorKind::Network,
            Self::PaginationStalled { .. }
            | Self::Incomplete { .. }
            | Self::UnknownEntity { .. }
            | Self::InvalidRequest { .. }
            | Self::InvalidClient { .. }
            | Self::LimitStore(_) => return None,
        })
    }

    /// Whether the same request can succeed later, as long as it is safe to send twice.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Protocol(ProtocolProblem::ForeignUrl | ProtocolProblem::TooLarge { .. }) => false,
            Self::LimitStore(_) => true,
            other => other.kind().is_some_and(ErrorKind::is_retryable),
        }
    }

    /// Whether the request may have taken effect although no good answer came.
    ///
    /// A create that fails so is looked up before it is sent again.
    pub fn outcome_is_unknown(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Protocol(_) => true,
            Self::Network(problem) => !matches!(problem, NetworkProblem::Connect(_)),
            _ => false,
        }
    }

    /// How long the API, or the budget, asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => Some(*retry_after),
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<ProtocolProblem> for Error {
    fn from(problem: ProtocolProblem) -> Self {
        Self::Protocol(problem)
    }
}
