//! What proves to the API who is asking. Never printed, never serialised.

use std::fmt;

use reqwest::{RequestBuilder, header::AUTHORIZATION, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use xxhash_rust::xxh3::xxh3_64;

/// A credential.
///
/// ```
/// use sync_adapters::Credentials;
/// let credentials = Credentials::basic("application-id", "secret");
/// assert_eq!(format!("{credentials:?}"), "Basic { user: \"application-id\", .. }");
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// No credential: an open API.
    Anonymous,
    /// A token in the `Authorization` header.
    Bearer(SecretString),
    /// A user name and a password.
    Basic {
        /// The user name, which is no secret.
        user: String,
        /// The password.
        password: SecretString,
    },
}

impl Credentials {
    /// A bearer token.
    pub fn bearer(token: impl Into<String>) -> Self {
        Self::Bearer(SecretString::from(token.into()))
    }

    /// A user name and its password.
    pub fn basic(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Basic {
            user: user.into(),
            password: SecretString::from(password.into()),
        }
    }

    /// A name for the credential by which its budget of requests is kept, and which gives nothing away.
    pub fn identity(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Bearer(token) => {
                format!("bearer:{:016x}", xxh3_64(token.expose_secret().as_bytes()))
            }
            Self::Basic { user, .. } => format!("basic:{user}"),
        }
    }

    /// Puts the credential on a request.
    pub(super) fn attach(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Anonymous => request,
            Self::Bearer(token) => request.bearer_auth(token.expose_secret()),
            Self::Basic { user, password } => {
                request.basic_auth(user, Some(password.expose_secret()))
            }
        }
    }

    /// Whether the credential can stand in a header at all.
    pub(super) fn is_sendable(&self) -> bool {
        match self {
            Self::Bearer(token) => HeaderValue::from_str(token.expose_secret()).is_ok(),
            Self::Anonymous | Self::Basic { .. } => true,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Bearer(_) => f.write_str("Bearer(..)"),
            Self::Basic { user, .. } => f
                .debug_struct("Basic")
                .field("user", user)
                .finish_non_exhaustive(),
        }
    }
}

/// The header that carries a credential; nothing else may set it.
pub(super) const CREDENTIAL_HEADER: reqwest::header::HeaderName = AUTHORIZATION;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_identity_shows_the_secret() {
        for credentials in [
            Credentials::bearer("hush-hush"),
            Credentials::basic("app", "hush-hush"),
        ] {
            assert!(!format!("{credentials:?}").contains("hush"));
            assert!(!credentials.identity().contains("hush"));
        }
    }

    #[test]
    fn one_token_has_one_identity() {
        let identity = |token: &str| Credentials::bearer(token).identity();
        assert_eq!(identity("a"), identity("a"));
        assert_ne!(identity("a"), identity("b"));
    }
}
