//! The outside world of the sync engine: the API client, the adapters and the destinations.

pub mod client;
pub mod destination;
pub mod planning_center;

pub use self::{
    client::{ApiClient, Credentials, Draft, ListRequest, Page, PageToken},
    destination::Destination,
};
