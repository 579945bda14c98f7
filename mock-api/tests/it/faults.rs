//! Each fault, as a caller sees it.

use mock_api::{Effect, Entity, Fault, Mutation, Spelling};
use serde_json::json;

use crate::source::{Source, data, ids};

const PEOPLE: &str = "/people/v2/people?per_page=20";

#[tokio::test]
async fn a_status_comes_once_with_its_retry_after() {
    let source = Source::of(100).await;
    let effect = Effect::Status {
        status: 503,
        retry_after_seconds: Some(7),
        spelling: Spelling::Seconds,
    };
    source.control().arm(Fault::new(effect).once());
    let got = source.get(PEOPLE).await;
    assert_eq!(
        (got.status, got.headers["retry-after"].to_str().unwrap()),
        (503, "7")
    );
    assert_eq!(got.body["errors"][0]["status"], "503");
    assert_eq!(source.get(PEOPLE).await.status, 200);
    assert_eq!(source.control().faults()[0].struck, 1);
}

#[tokio::test]
async fn a_fault_can_wait_for_one_page_of_one_entity() {
    let source = Source::of(100).await;
    source.control().arm(
        Fault::new(Effect::status(500))
            .entity(Entity::Person)
            .page(2),
    );
    for (path, status) in [
        ("/people/v2/people?per_page=20&offset=20", 200),
        ("/people/v2/people?per_page=20&offset=40", 500),
        ("/people/v2/emails?per_page=20&offset=40", 200),
    ] {
        assert_eq!(source.get(path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn every_third_request_fails_after_the_first_two_pass() {
    let source = Source::of(30).await;
    source
        .control()
        .arm(Fault::new(Effect::status(500)).skip(2).every(3).times(2));
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(source.get(PEOPLE).await.status);
    }
    let failed: Vec<usize> = (1..=12).filter(|nth| statuses[nth - 1] == 500).collect();
    assert_eq!(failed, [5, 8]);
}

#[tokio::test]
async fn html_comes_with_any_status() {
    let source = Source::of(30).await;
    for status in [200, 502] {
        source
            .control()
            .arm(Fault::new(Effect::Html { status }).once());
        let got = source.get(PEOPLE).await;
        assert_eq!(got.status, status);
        assert!(
            got.headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html")
        );
        assert!(got.body.as_str().unwrap().starts_with("<html>"));
    }
}

#[tokio::test]
async fn a_cut_body_is_an_error_of_the_connection_and_a_truncated_one_is_not() {
    let source = Source::of(100).await;
    source.control().arm(Fault::new(Effect::Cut).once());
    assert!(source.try_get(PEOPLE).await.is_err());
    source.control().arm(Fault::new(Effect::Truncate).once());
    let got = source.get(PEOPLE).await;
    assert_eq!(got.status, 200);
    assert!(got.body.is_string(), "half a document is not JSON");
}

#[tokio::test]
async fn a_delayed_answer_runs_into_the_timeout_of_the_caller() {
    let source = Source::of(30).await;
    source.control().arm(
        Fault::new(Effect::Delay {
            milliseconds: 3_600_000,
        })
        .once(),
    );
    let request = source.request(reqwest::Method::GET, PEOPLE);
    let hurried = request
        .timeout(std::time::Duration::from_millis(50))
        .send()
        .await;
    assert!(hurried.unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_held_request_is_answered_once_the_fault_is_disarmed() {
    let source = Source::of(30).await;
    let held = source
        .control()
        .arm(Fault::new(Effect::Hold).entity(Entity::Person));
    let answer = tokio::spawn(source.request(reqwest::Method::GET, PEOPLE).send());
    while source.control().faults()[0].struck == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!answer.is_finished());
    assert!(source.control().disarm(held));
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn an_empty_page_hides_what_is_there() {
    let source = Source::of(100).await;
    source.control().arm(Fault::new(Effect::EmptyPage).once());
    let body = source.body(PEOPLE).await;
    assert_eq!(body["data"], json!([]));
    assert_eq!(body["meta"]["total_count"], 100);
    assert!(body["links"]["next"].is_null());
}

#[tokio::test]
async fn a_dropped_next_ends_a_walk_early() {
    let source = Source::of(100).await;
    source.control().arm(Fault::new(Effect::DropNext).page(1));
    assert_eq!(source.walk(PEOPLE).await.len(), 40);
}

#[tokio::test]
async fn a_capped_total_hides_the_rest() {
    let source = Source::of(100).await;
    source
        .control()
        .arm(Fault::new(Effect::CapTotal { rows: 50 }).entity(Entity::Person));
    assert_eq!(source.walk(PEOPLE).await.len(), 50);
    let body = source.body("/people/v2/people?offset=60").await;
    assert_eq!(
        (data(&body).len(), &body["meta"]["total_count"]),
        (0, &json!(50))
    );
}

#[tokio::test]
async fn filters_and_order_can_be_ignored() {
    let source = Source::of(100).await;
    let path = "/people/v2/people?where[updated_at][gte]=2099-01-01&order=-updated_at";
    assert_eq!(source.body(path).await["meta"]["total_count"], 0);
    source.control().arm(Fault::new(Effect::IgnoreFilters));
    source.control().arm(Fault::new(Effect::IgnoreOrder));
    let body = source.body(path).await;
    assert_eq!(body["meta"]["total_count"], 100);
    let plain = source.body("/people/v2/people").await;
    assert_eq!(ids(data(&body)), ids(data(&plain)));
}

#[tokio::test]
async fn a_delete_between_two_pages_makes_a_walk_skip_a_row() {
    let source = Source::of(100).await;
    let gone = source.id(Entity::Person, 0);
    let skipped = source.id(Entity::Person, 20).to_string();
    let delete = Mutation::Delete {
        entity: Entity::Person,
        ids: vec![gone],
    };
    source
        .control()
        .mutate_before_page(Entity::Person, 1, vec![delete]);
    let walked = ids(&source.walk(PEOPLE).await);
    assert_eq!(walked.len(), 99);
    assert!(
        !walked.contains(&skipped),
        "the first row of the second page moved to the first"
    );
    assert!(
        source
            .control()
            .row(Entity::Person, skipped.parse().unwrap())
            .is_ok()
    );
}

#[tokio::test]
async fn faults_are_disarmed_one_by_one_and_together() {
    let source = Source::of(30).await;
    let control = source.control();
    let first = control.arm(Fault::new(Effect::status(500)));
    control.arm(Fault::new(Effect::status(502)));
    assert_eq!(source.get(PEOPLE).await.status, 502);
    assert!(control.disarm(first) && !control.disarm(first));
    control.reset();
    assert_eq!(source.get(PEOPLE).await.status, 200);
    assert_eq!(control.log().requests, 1);
}
