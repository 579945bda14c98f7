//! Who may ask: bearer tokens and pairs of application id and secret.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::entity::Product;

/// Credentials for one organisation; both kinds are the same token to the rate limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its name in the log and in faults.
    pub name: String,
    /// The number of its organisation, from zero.
    pub organisation: usize,
    /// What follows `Bearer`.
    pub bearer: String,
    /// The user name for Basic authentication.
    pub app_id: String,
    /// The password for Basic authentication.
    pub secret: String,
    /// The products it reaches; `None` means all.
    #[serde(default)]
    pub products: Option<BTreeSet<Product>>,
}

impl Token {
    /// The token that every organisation has from the start.
    pub(crate) fn first_of(organisation: usize) -> Self {
        Self {
            name: format!("token-{organisation}"),
            organisation,
            bearer: format!("mock-token-{organisation}"),
            app_id: format!("mock-app-{organisation}"),
            secret: format!("mock-secret-{organisation}"),
            products: None,
        }
    }

    pub(crate) fn reaches(&self, product: Product) -> bool {
        self.products
            .as_ref()
            .is_none_or(|products| products.contains(&product))
    }
}

/// The known tokens.
#[derive(Default)]
pub(crate) struct Tokens {
    by_bearer: HashMap<String, Arc<Token>>,
    by_basic: HashMap<String, Arc<Token>>,
}

impl Tokens {
    pub(crate) fn add(&mut self, token: Token) {
        let token = Arc::new(token);
        self.by_basic.insert(
            format!("{}:{}", token.app_id, token.secret),
            Arc::clone(&token),
        );
        self.by_bearer.insert(token.bearer.clone(), token);
    }

    pub(crate) fn revoke(&mut self, name: &str) {
        self.by_bearer.retain(|_, token| token.name != name);
        self.by_basic.retain(|_, token| token.name != name);
    }

    /// The token that an `Authorization` header carries.
    pub(crate) fn find(&self, authorization: &str) -> Option<Arc<Token>> {
        let (scheme, credentials) = authorization.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.by_bearer.get(credentials.trim()).cloned();
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = STANDARD.decode(credentials.trim()).ok()?;
        self.by_basic
            .get(std::str::from_utf8(&decoded).ok()?)
            .cloned()
    }
}
