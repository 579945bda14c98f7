//! The request log: counts for assertions, and the last requests for eyes.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::entity::Entity;

/// How many requests are remembered one by one; the counts cover all.
const MAX_RECENT: usize = 10_000;

/// What was asked of the server since it started or its log was cleared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// All requests, refused ones included.
    pub requests: u64,
    /// Requests that were answered with 429, by limit or by fault.
    pub too_many_requests: u64,
    /// Rows in all answers.
    pub rows: u64,
    /// Requests by the status of their answer.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests by method and path, ids replaced: `GET /people/v2/people/{id}/emails`.
    pub by_path: BTreeMap<String, u64>,
    /// Requests by the kind of record they are about.
    pub by_entity: BTreeMap<Entity, u64>,
    /// Requests by the name of their token.
    pub by_token: BTreeMap<String, u64>,
    /// The last 10,000 requests, oldest first.
    pub recent: VecDeque<Request>,
}

/// One request and how it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path, ids included.
    pub path: String,
    /// The query string as it came.
    pub query: String,
    /// The kind of record it is about.
    pub entity: Option<Entity>,
    /// The name of its token, if that was known.
    pub token: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// Rows in the answer.
    pub rows: usize,
}

impl Log {
    pub(crate) fn add(&mut self, request: Request, template: String) {
        self.requests += 1;
        self.too_many_requests += u64::from(request.status == 429);
        self.rows += request.rows as u64;
        *self.by_status.entry(request.status).or_default() += 1;
        *self.by_path.entry(template).or_default() += 1;
        if let Some(entity) = request.entity {
            *self.by_entity.entry(entity).or_default() += 1;
        }
        if let Some(token) = &request.token {
            *self.by_token.entry(token.clone()).or_default() += 1;
        }
        if self.recent.len() == MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(request);
    }
}
