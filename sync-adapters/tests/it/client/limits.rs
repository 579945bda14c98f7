//! Budgets against a server that enforces its own.

use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use mock_api::{Effect, Entity, Fault, MockApi, RateLimit, Spelling};
use sync_adapters::{
    ListRequest,
    client::{Error, MemoryLimits},
};

use super::{builder, entity, mock};

#[tokio::test]
async fn a_walk_within_the_limit_that_the_headers_tell_meets_no_429() {
    let limit = RateLimit {
        requests: 20,
        period_seconds: 1,
    };
    let api = MockApi::builder()
        .seed(7)
        .people(900)
        .rate_limit(Some(limit))
        .start()
        .await
        .unwrap();
    // The manifest promises far more than the server grants.
    let client = builder(&api, 1_000).build().unwrap();
    let request = ListRequest::new(entity("Person")).page_size(25);
    let pages: Vec<_> = client
        .stream_pages(request, None, 8)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(pages.len(), 36);
    assert_eq!(api.control().log().too_many_requests, 0);
}

#[tokio::test]
async fn clients_with_one_credential_and_one_store_share_a_budget() {
    let limit = RateLimit {
        requests: 20,
        period_seconds: 1,
    };
    let api = MockApi::builder()
        .seed(7)
        .people(300)
        .rate_limit(Some(limit))
        .start()
        .await
        .unwrap();
    let limits = Arc::new(MemoryLimits::new());
    let walk = |_| {
        let client = builder(&api, 20).limits(limits.clone()).build().unwrap();
        let request = ListRequest::new(entity("Email")).page_size(25);
        tokio::spawn(async move {
            client
                .stream_pages(request, None, 4)
                .try_collect::<Vec<_>>()
                .await
        })
    };
    let walks: Vec<_> = (0..2).map(walk).collect();
    for walk in walks {
        walk.await.unwrap().unwrap();
    }
    assert_eq!(api.control().log().too_many_requests, 0);
}

#[tokio::test]
async fn retry_after_is_honoured_as_seconds_as_a_date_and_when_it_is_missing() {
    for spelling in [Spelling::Seconds, Spelling::Date, Spelling::Absent] {
        let api = mock(50).await;
        let limited = Effect::Status {
            status: 429,
            retry_after_seconds: Some(600),
            spelling,
        };
        api.control()
            .arm(Fault::new(limited).entity(Entity::Person).once());
        let client = builder(&api, 1_000)
            .longest_wait(Duration::from_secs(5))
            .build()
            .unwrap();
        let request = ListRequest::new(entity("Person"));
        let error = client.fetch_page(&request, None).await.unwrap_err();
        let Error::RateLimited { retry_after } = error else {
            panic!("{error:?}");
        };
        // Without the header the whole key waits for one period of the manifest.
        let most = if spelling == Spelling::Absent {
            20
        } else {
            600
        };
        assert!(
            retry_after <= Duration::from_secs(most),
            "{spelling:?}: {retry_after:?}"
        );
        assert!(
            retry_after > Duration::from_secs(most / 2),
            "{spelling:?}: {retry_after:?}"
        );
        // The whole key waits: nothing else is sent, whatever it asks for.
        let campus = client
            .fetch_page(&ListRequest::new(entity("Campus")), None)
            .await;
        assert!(matches!(campus, Err(Error::RateLimited { .. })));
        assert_eq!(api.control().log().requests, 1);
    }
}
