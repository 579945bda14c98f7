//! The client against the mock of Planning Center, and against a stub for what that API never does.

mod calls;
mod limits;
mod lists;
mod paginators;
mod stub;

use std::time::Duration;

use mock_api::MockApi;
use sync_adapters::{ApiClient, Credentials, client::ApiClientBuilder, planning_center};
use sync_core::{EntityName, ExternalId};

/// An API of so many people, without a rate limit.
async fn mock(people: usize) -> MockApi {
    MockApi::builder()
        .seed(7)
        .people(people)
        .rate_limit(None)
        .start()
        .await
        .unwrap()
}

/// A client of it whose own budget is no hindrance, and which does not pause between attempts.
fn client(api: &MockApi) -> ApiClient {
    builder(api, 1_000_000).build().unwrap()
}

fn builder(api: &MockApi, requests: u32) -> ApiClientBuilder {
    let mut spec = planning_center::manifest().spec().clone();
    spec.base_url = api.base_url();
    spec.rate_limit.requests = requests;
    let manifest = sync_core::Manifest::new(spec).unwrap();
    ApiClient::builder(manifest, Credentials::bearer(api.token()))
        .retry_pause(Duration::from_millis(1))
}

fn entity(name: &str) -> EntityName {
    EntityName::new(name).unwrap()
}

fn id(text: &str) -> ExternalId {
    ExternalId::new(text).unwrap()
}

/// The id of a JSON:API document.
fn id_of(document: &serde_json::value::RawValue) -> String {
    let value: serde_json::Value = serde_json::from_str(document.get()).unwrap();
    value["id"].as_str().unwrap().to_owned()
}
