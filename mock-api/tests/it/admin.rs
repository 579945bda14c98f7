//! The control plane over HTTP.

use mock_api::{Armed, Effect, Entity, Fault, Log, Row};
use reqwest::Method;
use serde_json::{Value, json};

use crate::source::{Got, Source, client, receive};

async fn admin(source: &Source, method: Method, path: &str, body: Value) -> Got {
    let url = format!("{}{path}", source.api.admin_url());
    receive(source.client.request(method, url).json(&body))
        .await
        .unwrap()
}

#[tokio::test]
async fn data_is_counted_dumped_and_changed() {
    let source = Source::of(40).await;
    let counts = admin(&source, Method::GET, "/counts", json!(null)).await;
    assert_eq!(counts.body["person"], 40);
    let change = json!([
        { "do": "create", "entity": "person", "attributes": { "first_name": "New" } },
        { "do": "delete_share", "entity": "email", "percent": 50.0 },
    ]);
    let made = admin(&source, Method::POST, "/mutations", change).await;
    let id = &made.body[0][0];
    let row = admin(
        &source,
        Method::GET,
        &format!("/records/person/{id}"),
        json!(null),
    )
    .await;
    let row: Row = serde_json::from_value(row.body).unwrap();
    assert_eq!(row.attributes["first_name"], "New");
    let emails = admin(&source, Method::GET, "/records/emails", json!(null)).await;
    assert_eq!(emails.body.as_array().unwrap().len(), 26);
    let missing = admin(&source, Method::GET, "/counts?organisation=7", json!(null)).await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn the_clock_moves_when_told() {
    let source = Source::of(10).await;
    let before = source.control().now();
    let after = admin(&source, Method::POST, "/clock", json!({ "seconds": 60 })).await;
    assert_eq!(source.control().now().0, before.0 + 60);
    assert_eq!(after.body, source.control().now().to_string());
}

#[tokio::test]
async fn faults_are_armed_listed_and_disarmed() {
    let source = Source::of(10).await;
    let fault =
        json!({ "effect": { "kind": "status", "status": 502 }, "entity": "person", "times": 1 });
    let armed = admin(&source, Method::POST, "/faults", fault).await;
    assert_eq!(source.get("/people/v2/people").await.status, 502);
    let list = admin(&source, Method::GET, "/faults", json!(null)).await;
    let list: Vec<Armed> = serde_json::from_value(list.body).unwrap();
    assert_eq!(list[0].struck, 1);
    assert_eq!(
        list[0].fault,
        Fault::new(Effect::status(502))
            .entity(Entity::Person)
            .once()
    );
    let path = format!("/faults/{}", armed.body["id"]);
    assert_eq!(
        admin(&source, Method::DELETE, &path, json!(null))
            .await
            .status,
        204
    );
    assert_eq!(
        admin(&source, Method::DELETE, &path, json!(null))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn the_log_counts_by_path_entity_token_and_status() {
    let source = Source::of(40).await;
    let id = source.id(Entity::Person, 0);
    source.get("/people/v2/people?per_page=10").await;
    source.get(&format!("/people/v2/people/{id}")).await;
    source.get(&format!("/people/v2/people/{id}/emails")).await;
    source.get("/people/v2/nonsense").await;
    let log = admin(&source, Method::GET, "/log", json!(null)).await;
    let log: Log = serde_json::from_value(log.body).unwrap();
    assert_eq!(log, source.control().log());
    assert_eq!(log.requests, 4);
    assert_eq!(log.by_path["GET /people/v2/people/{id}/emails"], 1);
    assert_eq!(log.by_path["GET unknown"], 1);
    assert_eq!(log.by_entity[&Entity::Person], 2);
    assert_eq!((log.by_status[&200], log.by_status[&404]), (3, 1));
    assert_eq!(log.by_token["token-0"], 4);
    assert_eq!(log.recent[0].query, "per_page=10");
    admin(&source, Method::DELETE, "/log", json!(null)).await;
    assert_eq!(source.control().log(), Log::default());
}

#[tokio::test]
async fn the_limit_and_tokens_are_set() {
    let source = Source::of(10).await;
    let limit = json!({ "requests": 1, "period_seconds": 3_600 });
    assert_eq!(
        admin(&source, Method::PUT, "/rate-limit", limit)
            .await
            .status,
        204
    );
    assert_eq!(source.get("/people/v2/people").await.status, 200);
    assert_eq!(source.get("/people/v2/people").await.status, 429);
    admin(&source, Method::POST, "/reset", json!(null)).await;
    assert_eq!(source.get("/people/v2/people").await.status, 200);
    admin(&source, Method::PUT, "/rate-limit", json!(null)).await;
    assert_eq!(source.get("/people/v2/people").await.status, 200);
    admin(&source, Method::DELETE, "/tokens/token-0", json!(null)).await;
    assert_eq!(source.get("/people/v2/people").await.status, 401);
}

#[tokio::test]
async fn a_stopped_server_takes_no_more_connections() {
    let source = Source::of(10).await;
    let url = format!("{}/people/v2/people", source.api.base_url());
    source.api.stop().await;
    let refused = client().get(url).send().await.unwrap_err();
    assert!(refused.is_connect());
}
