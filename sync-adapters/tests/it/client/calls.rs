//! Single records, writes, and errors.

use mock_api::{Effect, Entity, Fault};
use serde_json::{Value, json};
use sync_adapters::{ApiClient, Credentials, Draft, ListRequest, client::Error, planning_center};

use super::{builder, client, entity, id, id_of, mock};

#[tokio::test]
async fn a_record_is_created_read_changed_and_deleted() {
    let api = mock(50).await;
    let client = client(&api);
    let person = entity("Person");
    let draft = Draft::new()
        .set("first_name", "Ada")
        .set("last_name", "Lovelace");
    let created = client.create(&person, None, &draft).await.unwrap();
    let ada = id(&id_of(&created));
    let changed = Draft::new().set("first_name", "Augusta Ada");
    client.update(&person, &ada, None, &changed).await.unwrap();
    let read = client.get(&person, &ada, None).await.unwrap();
    let read: Value = serde_json::from_str(read.get()).unwrap();
    assert_eq!(read["attributes"]["first_name"], "Augusta Ada");
    assert_eq!(read["attributes"]["last_name"], "Lovelace");
    client.delete(&person, &ada, None).await.unwrap();
    assert!(matches!(
        client.get(&person, &ada, None).await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_draft_that_does_not_fit_the_schema_never_leaves() {
    let api = mock(50).await;
    let client = client(&api);
    let before = api.control().log().requests;
    let draft = Draft::new()
        .set("first_name", 7)
        .set("child", "maybe")
        .set("no_such_column", 1);
    let refused = client.create(&entity("Person"), None, &draft).await;
    let Err(Error::Validation { fields }) = refused else {
        panic!("{refused:?}");
    };
    let named: Vec<_> = fields.iter().map(|field| field.field.as_str()).collect();
    assert_eq!(named, ["child", "first_name", "no_such_column"]);
    assert_eq!(api.control().log().requests, before);
}

#[tokio::test]
async fn every_status_has_its_kind() {
    let api = mock(50).await;
    let client = builder(&api, 1_000_000).retries(0).build().unwrap();
    let kinds = [
        (400, "BadRequest"),
        (401, "Unauthenticated"),
        (403, "Forbidden"),
        (404, "NotFound"),
        (405, "Unsupported"),
        (409, "Conflict"),
        (422, "Validation"),
        (500, "Unavailable"),
        (503, "Unavailable"),
    ];
    for (status, kind) in kinds {
        api.control().arm(
            Fault::new(Effect::status(status))
                .entity(Entity::Person)
                .once(),
        );
        let error = client
            .fetch_page(&ListRequest::new(entity("Person")), None)
            .await
            .unwrap_err();
        assert_eq!(format!("{:?}", error.kind().unwrap()), kind, "{status}");
    }
}

#[tokio::test]
async fn a_create_with_an_unknown_outcome_is_not_sent_again() {
    let api = mock(50).await;
    let client = client(&api);
    let draft = Draft::new()
        .set("first_name", "Once")
        .set("last_name", "Only");
    let faults = [
        Effect::status(503),
        Effect::Cut,
        Effect::Truncate,
        Effect::Html { status: 502 },
    ];
    for effect in faults {
        api.control().clear_log();
        api.control()
            .arm(Fault::new(effect.clone()).method("POST").once());
        let error = client
            .create(&entity("Person"), None, &draft)
            .await
            .unwrap_err();
        assert!(error.outcome_is_unknown(), "{effect:?}: {error:?}");
        assert_eq!(api.control().log().requests, 1, "{effect:?}");
    }
}

#[tokio::test]
async fn a_create_that_was_rate_limited_is_sent_again_once_it_may() {
    let api = mock(50).await;
    let client = client(&api);
    let limited = Effect::Status {
        status: 429,
        retry_after_seconds: Some(0),
        spelling: Default::default(),
    };
    api.control().arm(Fault::new(limited).method("POST").once());
    let draft = Draft::new()
        .set("first_name", "Twice")
        .set("last_name", "Sent");
    client
        .create(&entity("Person"), None, &draft)
        .await
        .unwrap();
    assert_eq!(api.control().log().by_status[&429], 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_network_error_without_secrets() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let manifest = planning_center::manifest().with_base_url(format!("http://127.0.0.1:{port}"));
    let client = ApiClient::builder(manifest.unwrap(), Credentials::basic("app", "hush-hush"))
        .retries(0)
        .build()
        .unwrap();
    let error = client
        .fetch_page(&ListRequest::new(entity("Person")), None)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Network(_)), "{error:?}");
    assert!(!error.outcome_is_unknown());
    assert!(!format!("{error:?} {client:?}").contains("hush"));
}

#[tokio::test]
async fn basic_and_bearer_are_both_accepted_and_a_wrong_one_is_not() {
    let api = mock(50).await;
    let manifest = planning_center::manifest()
        .with_base_url(api.base_url())
        .unwrap();
    let token = &api.tokens()[0];
    let request = ListRequest::new(entity("Campus"));
    let accepted = [
        Credentials::bearer(token.bearer.clone()),
        Credentials::basic(token.app_id.clone(), token.secret.clone()),
    ];
    for credentials in accepted {
        let client = ApiClient::builder(manifest.clone(), credentials)
            .build()
            .unwrap();
        client.fetch_page(&request, None).await.unwrap();
    }
    let client = ApiClient::builder(manifest, Credentials::bearer("wrong"))
        .build()
        .unwrap();
    let refused = client.fetch_page(&request, None).await;
    assert!(
        matches!(refused, Err(Error::Unauthenticated { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_the_manifest_does_not_offer_is_not_asked_for() {
    let api = mock(50).await;
    let client = client(&api);
    let nobody = client.get(&entity("Nobody"), &id("1"), None).await;
    assert!(matches!(nobody, Err(Error::UnknownEntity { .. })));
    let traversal = client.get(&entity("Person"), &id(".."), None).await;
    assert!(matches!(traversal, Err(Error::InvalidRequest { .. })));
    let strange = client.get(&entity("Person"), &id("1/../2?x#y"), None).await;
    assert!(
        matches!(strange, Err(Error::NotFound { .. })),
        "{strange:?}"
    );
    let unfiltered = ListRequest::new(entity("Group")).changed_since(jiff::Timestamp::UNIX_EPOCH);
    assert!(matches!(
        client.fetch_page(&unfiltered, None).await,
        Err(Error::InvalidRequest { .. })
    ));
    assert_eq!(json!(client.manifest().adapter()), json!("pco"));
}
