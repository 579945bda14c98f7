//! The API client: what a manifest declares, called over HTTP.
//!
//! ```text
//! ListRequest ── request ─▶ URL ─▶ transport ─▶ answer ─▶ envelope ─▶ walk ─▶ Page
//!                                  │  budget (limit)       typed       one     end, next or
//!                                  │  deadline, retries    errors      pass    incomplete
//! ```
//!
//! [`ApiClient::fetch_page`] is the primitive that a durable walk checkpoints between: a [`PageToken`]
//! is small and can be stored. [`ApiClient::stream_pages`] and [`ApiClient::stream_all`] are the same in
//! bounded memory, with pages fetched ahead. Rows stay the bytes that the source sent.

mod answer;
mod api;
mod credentials;
mod draft;
mod envelope;
mod error;
mod limit;
mod page;
mod request;
mod retry_after;
mod stream;
mod transport;
mod walk;

pub use self::{
    api::{ApiClient, ApiClientBuilder},
    credentials::Credentials,
    draft::Draft,
    error::{Error, FieldProblem, NetworkProblem, ProtocolProblem},
    limit::{LimitKey, LimitStore, LimitStoreError, MemoryLimits, Observation, Permit, Rate},
    page::{Incomplete, Next, Page, PageToken},
    request::ListRequest,
};
