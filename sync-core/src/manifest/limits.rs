//! The API's rate limit and its errors.

use serde::{Deserialize, Serialize};

/// The rate limit of one credential: the default before the API's own headers correct it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests allowed in one period.
    pub requests: u32,
    /// The period's length.
    pub period_seconds: u32,
    /// The share of the limit that is used, in percent.
    #[serde(default = "eighty")]
    pub target_percent: u8,
    /// The headers by which the API tells its limit.
    #[serde(default)]
    pub headers: RateLimitHeaders,
}

/// Names of response headers, each when the API has it. Lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitHeaders {
    /// Requests allowed in one period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The period in seconds, as `20` or `20 seconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// Requests already counted in this period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<String>,
    /// Requests left in this period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining: Option<String>,
    /// When the period ends, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<String>,
}

fn eighty() -> u8 {
    80
}

/// What an error answer means, whatever API it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request makes no sense to the API.
    BadRequest,
    /// The credential is missing, expired or revoked.
    Unauthenticated,
    /// The credential lacks a right.
    Forbidden,
    /// There is no such record or path.
    NotFound,
    /// The method does not exist there.
    Unsupported,
    /// Another write came in between.
    Conflict,
    /// Fields of the request are refused.
    Validation,
    /// Too many requests.
    RateLimited,
    /// The API is not able to answer now.
    Unavailable,
    /// The answer is not what the API promises: broken JSON, HTML, a truncated body.
    Protocol,
    /// No answer came.
    Network,
}

impl ErrorKind {
    /// What a status means where the manifest says nothing else; `None` for a success.
    pub fn of_status(status: u16) -> Option<Self> {
        Some(match status {
            200..=299 => return None,
            401 => Self::Unauthenticated,
            403 => Self::Forbidden,
            404 | 410 => Self::NotFound,
            405 | 501 => Self::Unsupported,
            409 => Self::Conflict,
            422 => Self::Validation,
            429 => Self::RateLimited,
            408 | 425 => Self::Unavailable,
            400..=499 => Self::BadRequest,
            500..=599 => Self::Unavailable,
            _ => Self::Protocol,
        })
    }

    /// Whether the same request can succeed later, as long as it is safe to send twice.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::RateLimited | Self::Unavailable | Self::Protocol | Self::Network => true,
            Self::BadRequest
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::NotFound
            | Self::Unsupported
            | Self::Conflict
            | Self::Validation => false,
        }
    }
}

/// An answer that means something else than its status says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorRule {
    /// The status that it applies to.
    pub status: u16,
    /// A text that the body holds; absent for any body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
    /// What the answer means.
    pub kind: ErrorKind,
}

impl ErrorRule {
    /// Whether the rule speaks of this answer.
    pub fn matches(&self, status: u16, body: &str) -> bool {
        self.status == status
            && self
                .body_contains
                .as_deref()
                .is_none_or(|needle| body.contains(needle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_meaning() {
        assert_eq!(ErrorKind::of_status(204), None);
        assert_eq!(ErrorKind::of_status(418), Some(ErrorKind::BadRequest));
        assert_eq!(ErrorKind::of_status(503), Some(ErrorKind::Unavailable));
        assert_eq!(ErrorKind::of_status(304), Some(ErrorKind::Protocol));
    }
}
