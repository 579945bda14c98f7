//! A Planning-Center-style API server with seeded data and faults on demand, for authors of adapters.
//!
//! The server speaks JSON:API as the real one does: the same envelopes, links and `meta`, the same clamps and
//! silences (`per_page=500` gives 100 rows, an unknown `where` is ignored with status 200), the same errors and
//! rate-limit headers. Its data comes from a seed: the same seed and size give the same records, byte for byte. A
//! control plane changes the data under a walk, arms faults and tells what was asked.
//!
//! ```
//! use mock_api::{Effect, Entity, Fault, MockApi};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let api = MockApi::builder().seed(7).people(250).rate_limit(None).start().await?;
//!
//! // The second page of people fails once.
//! api.control().arm(Fault::new(Effect::status(503)).entity(Entity::Person).page(1).once());
//!
//! let timeout = std::time::Duration::from_secs(10);
//! let client = reqwest::Client::builder().timeout(timeout).build()?;
//! let page = |offset: usize| {
//!     let url = format!("{}/people/v2/people?per_page=100&offset={offset}", api.base_url());
//!     client.get(url).bearer_auth(api.token()).send()
//! };
//! assert_eq!(page(0).await?.status(), 200);
//! assert_eq!(page(100).await?.status(), 503);
//! assert_eq!(page(100).await?.status(), 200);
//! assert_eq!(api.control().log().by_entity[&Entity::Person], 3);
//! # Ok(())
//! # }
//! ```
//!
//! # How it answers
//!
//! ```text
//! request -> token -> rate limit -> armed faults -> query -> selection -> page -> log
//!                                                              |           |
//!                                      sorted and filtered position      the bytes of each record,
//!                                      lists, kept until data changes    written when it last changed
//! ```
//!
//! Every record holds its own document as bytes, so a page of a plain list is a copy. Sorted lists are computed once
//! and kept until the next change; a window of `updated_at` is found in them by bisection.
//!
//! # Time
//!
//! Data lives on a virtual clock that starts at [`Seconds::START`], later than everything generated, and moves only
//! by [`Control::advance`]. The rate limit lives on the runtime's clock, so that a client that honours `Retry-After`
//! is served.

mod admin;
mod answer;
mod api;
mod attributes;
mod condition;
mod control;
mod draft;
mod entity;
mod error;
mod fault;
mod generate;
mod limit;
mod log;
mod mutation;
mod names;
mod organisation;
mod outgoing;
mod page;
mod query;
mod read;
mod record;
mod route;
mod seconds;
mod select;
mod serve;
mod server;
mod size;
mod spec;
mod store;
mod timeline;
mod token;
mod write;

pub use api::{Builder, MockApi};
pub use control::Control;
pub use entity::{Entity, Product};
pub use error::Error;
pub use fault::{Armed, Effect, Fault, Spelling};

pub use limit::RateLimit;
pub use log::{Log, Request};
pub use mutation::Mutation;
pub use organisation::Row;
pub use seconds::Seconds;
pub use size::Size;
pub use token::Token;
