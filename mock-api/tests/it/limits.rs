//! The rate limit. The tests run on tokio's paused clock where time matters, so nothing waits.

use mock_api::{Effect, Entity, Fault, MockApi, RateLimit, Spelling};

use crate::source::{Got, Source, receive};

async fn limited(requests: u32) -> Source {
    let limit = RateLimit {
        requests,
        period_seconds: 3_600,
    };
    Source::start(MockApi::builder().people(300).rate_limit(Some(limit))).await
}

fn header<'g>(got: &'g Got, name: &str) -> Option<&'g str> {
    got.headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn every_answer_says_where_the_token_stands() {
    let source = limited(10).await;
    for count in 1..=3 {
        let got = source.get("/people/v2/people?per_page=1").await;
        assert_eq!(header(&got, "x-pco-api-request-rate-limit"), Some("10"));
        assert_eq!(header(&got, "x-pco-api-request-rate-period"), Some("3600"));
        let expected = count.to_string();
        assert_eq!(
            header(&got, "x-pco-api-request-rate-count"),
            Some(expected.as_str())
        );
    }
}

#[tokio::test]
async fn over_the_limit_is_429_with_retry_after_and_only_for_that_token() {
    let limit = RateLimit {
        requests: 2,
        period_seconds: 3_600,
    };
    let builder = MockApi::builder()
        .people(10)
        .organisations(2)
        .rate_limit(Some(limit));
    let source = Source::start(builder).await;
    let path = "/people/v2/people";
    for _ in 0..2 {
        assert_eq!(source.get(path).await.status, 200);
    }
    let refused = source.get(path).await;
    assert_eq!(refused.status, 429);
    let wait: u64 = header(&refused, "retry-after").unwrap().parse().unwrap();
    assert!((1..=3_600).contains(&wait));
    let detail = "Rate limit exceeded: 3 of 2 requests per 3600 seconds";
    assert_eq!(refused.body["errors"][0]["detail"], detail);
    assert_eq!(refused.body["errors"][0]["code"], "429");
    let url = format!("{}{path}", source.api.base_url());
    let other = source
        .client
        .get(url)
        .bearer_auth(&source.api.tokens()[1].bearer);
    assert_eq!(receive(other).await.unwrap().status, 200);
    let log = source.control().log();
    assert_eq!((log.requests, log.too_many_requests), (4, 1));
    assert_eq!(log.by_token["token-0"], 3);
}

#[tokio::test]
async fn a_new_window_starts_afresh() {
    let source = limited(1).await;
    assert_eq!(source.get("/people/v2/people").await.status, 200);
    assert_eq!(source.get("/people/v2/people").await.status, 429);
    // The paused clock moves an hour at once and is let go again before the next request.
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(3_600)).await;
    tokio::time::resume();
    assert_eq!(source.get("/people/v2/people").await.status, 200);
}

#[tokio::test]
async fn without_a_limit_there_are_no_headers() {
    let source = Source::of(10).await;
    let got = source.get("/people/v2/people").await;
    assert_eq!(header(&got, "x-pco-api-request-rate-limit"), None);
}

#[tokio::test]
async fn the_limit_can_drop_at_deep_offsets() {
    let source = limited(100).await;
    source
        .control()
        .arm(Fault::new(Effect::Limit { requests: 1 }).min_offset(200));
    assert_eq!(source.get("/people/v2/people?offset=100").await.status, 200);
    let deep = source.get("/people/v2/people?offset=200").await;
    assert_eq!(header(&deep, "x-pco-api-request-rate-limit"), Some("1"));
    assert_eq!(deep.status, 429);
    assert_eq!(source.get("/people/v2/people?offset=100").await.status, 200);
}

#[tokio::test]
async fn retry_after_can_be_a_date_or_absent_and_the_period_a_phrase() {
    let source = limited(1).await;
    let period = Some("3600 seconds".to_owned());
    let spell = |retry_after| Effect::Spell {
        retry_after,
        period: period.clone(),
    };
    source
        .control()
        .arm(Fault::new(spell(Spelling::Date)).entity(Entity::Person));
    source
        .control()
        .arm(Fault::new(spell(Spelling::Absent)).entity(Entity::Email));
    let good = source.get("/people/v2/people").await;
    assert_eq!(
        header(&good, "x-pco-api-request-rate-period"),
        Some("3600 seconds")
    );
    let dated = source.get("/people/v2/people").await;
    assert_eq!(dated.status, 429);
    assert!(httpdate::parse_http_date(header(&dated, "retry-after").unwrap()).is_ok());
    let silent = source.get("/people/v2/emails").await;
    assert_eq!((silent.status, header(&silent, "retry-after")), (429, None));
}
