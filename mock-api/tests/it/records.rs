//! Single records, nested lists, and errors.

use mock_api::{Entity, MockApi, Product, Token};
use reqwest::Method;
use serde_json::json;

use crate::source::{Source, data, ids, receive};

#[tokio::test]
async fn a_single_record_has_the_links_of_what_is_beneath_it() {
    let source = Source::of(60).await;
    let id = source.id(Entity::Person, 3);
    let body = source.body(&format!("/people/v2/people/{id}")).await;
    assert_eq!(body["data"]["id"], id.to_string());
    let links = &body["data"]["links"];
    let base = source.api.base_url();
    assert_eq!(
        links["emails"],
        format!("{base}/people/v2/people/{id}/emails")
    );
    assert!(links.as_object().unwrap().contains_key("primary_campus"));
    assert_eq!(body["meta"]["parent"]["type"], "Organization");
    assert!(body["links"].is_null());
}

#[tokio::test]
async fn nested_lists_hold_exactly_the_children_and_name_their_parent() {
    let source = Source::of(100).await;
    let person = source.truth(Entity::Email).into_values().next().unwrap();
    let owner = person.references["person_id"].clone().unwrap();
    let body = source
        .body(&format!("/people/v2/people/{owner}/emails?per_page=100"))
        .await;
    let expected: Vec<String> = source
        .control()
        .dump(Entity::Email)
        .into_iter()
        .filter(|row| row.references["person_id"].as_ref() == Some(&owner))
        .map(|row| row.id)
        .collect();
    assert_eq!(ids(data(&body)), expected);
    assert_eq!(
        body["meta"]["parent"],
        json!({ "id": owner, "type": "Person" })
    );
}

#[tokio::test]
async fn memberships_are_reached_from_both_ends_and_nowhere_else() {
    let source = Source::of(100).await;
    let membership = source.control().dump(Entity::Membership)[0].clone();
    let reference = |key: &str| membership.references[key].clone().unwrap();
    let (group, person) = (reference("group_id"), reference("person_id"));
    for path in [
        format!("/groups/v2/groups/{group}/memberships?per_page=100"),
        format!("/groups/v2/people/{person}/memberships?per_page=100"),
    ] {
        assert!(
            ids(data(&source.body(&path).await)).contains(&membership.id),
            "{path}"
        );
    }
    let one = format!("/groups/v2/groups/{group}/memberships/{}", membership.id);
    assert_eq!(source.body(&one).await["data"]["id"], membership.id);
    assert_eq!(source.get("/groups/v2/memberships").await.status, 404);
    assert_eq!(
        source.get("/people/v2/household_memberships").await.status,
        404
    );
}

#[tokio::test]
async fn the_households_of_a_person_and_the_people_of_a_household_agree() {
    let source = Source::of(100).await;
    for household in source
        .control()
        .dump(Entity::Household)
        .into_iter()
        .take(10)
    {
        let path = format!("/people/v2/households/{}/people?per_page=100", household.id);
        let mut members = household.members.clone();
        members.sort_by_key(|id| id.parse::<u64>().unwrap());
        assert_eq!(ids(data(&source.body(&path).await)), members);
        for member in &household.members {
            let body = source
                .body(&format!("/people/v2/people/{member}/households"))
                .await;
            assert!(ids(data(&body)).contains(&household.id));
        }
    }
}

#[tokio::test]
async fn a_unique_group_has_a_null_type() {
    let source = Source::of(300).await;
    let rows = source.walk("/groups/v2/groups?per_page=100").await;
    let unique = rows
        .iter()
        .filter(|row| row["relationships"]["group_type"]["data"].is_null());
    assert!(unique.count() > 0);
}

#[tokio::test]
async fn what_does_not_exist_is_404_in_the_shape_of_the_api() {
    let source = Source::of(10).await;
    let expected = json!({ "errors": [{
        "status": "404",
        "title": "Not Found",
        "detail": "The resource you requested could not be found",
    }] });
    for path in [
        "/people/v2/people/999999",
        "/people/v2/people/1/no_such_relation",
        "/people/v2/nonsense",
        "/nonsense/v2/people",
        "/people/v2/people/999999/emails",
    ] {
        let got = source.get(path).await;
        assert_eq!((got.status, got.body), (404, expected.clone()), "{path}");
    }
}

#[tokio::test]
async fn an_unset_reference_is_404_beneath_its_record() {
    let source = Source::of(100).await;
    let truth = source.truth(Entity::Person);
    let (id, _) = truth
        .iter()
        .find(|(_, row)| row.references["primary_campus_id"].is_none())
        .unwrap();
    let got = source
        .get(&format!("/people/v2/people/{id}/primary_campus"))
        .await;
    assert_eq!(got.status, 404);
}

#[tokio::test]
async fn credentials_are_checked() {
    let source = Source::of(10).await;
    let url = format!("{}/people/v2/people", source.api.base_url());
    let client = &source.client;
    let token = source.api.tokens().remove(0);
    for (request, status) in [
        (client.get(&url), 401),
        (client.get(&url).bearer_auth("wrong"), 401),
        (
            client.get(&url).basic_auth(&token.app_id, Some("wrong")),
            401,
        ),
        (
            client
                .get(&url)
                .basic_auth(&token.app_id, Some(&token.secret)),
            200,
        ),
        (client.get(&url).bearer_auth(&token.bearer), 200),
    ] {
        let got = receive(request).await.unwrap();
        assert_eq!(got.status, status);
        assert!(status == 200 || got.body["errors"][0]["status"] == "401");
    }
}

#[tokio::test]
async fn a_token_without_the_product_is_403_and_a_revoked_one_401() {
    let source = Source::of(10).await;
    let narrow = Token {
        name: "narrow".to_owned(),
        organisation: 0,
        bearer: "narrow".to_owned(),
        app_id: "narrow".to_owned(),
        secret: "narrow".to_owned(),
        products: Some([Product::People].into()),
    };
    source.control().add_token(narrow).unwrap();
    let status = async |path: &str| {
        let url = format!("{}{path}", source.api.base_url());
        receive(source.client.get(url).bearer_auth("narrow"))
            .await
            .unwrap()
            .status
    };
    assert_eq!(status("/people/v2/people").await, 200);
    assert_eq!(status("/groups/v2/groups").await, 403);
    source.control().revoke_token("narrow");
    assert_eq!(status("/people/v2/people").await, 401);
}

#[tokio::test]
async fn organisations_share_ids_and_nothing_else() {
    let builder = MockApi::builder()
        .people(40)
        .organisations(2)
        .rate_limit(None);
    let source = Source::start(builder).await;
    let second = source.api.tokens().remove(1);
    let url = format!("{}/people/v2/people?per_page=100", source.api.base_url());
    let theirs = receive(source.client.get(url).bearer_auth(second.bearer))
        .await
        .unwrap()
        .body;
    let ours = source.body("/people/v2/people?per_page=100").await;
    let shared = ids(data(&ours))
        .into_iter()
        .filter(|id| ids(data(&theirs)).contains(id))
        .count();
    assert!(shared > 0);
    assert_ne!(ours["data"], theirs["data"]);
    assert_eq!(theirs["meta"]["parent"]["id"], "900002");
    source
        .control()
        .organisation(1)
        .unwrap()
        .delete_share(Entity::Person, 100.0)
        .unwrap();
    assert_eq!(source.control().counts()[&Entity::Person], 40);
    assert!(source.control().organisation(2).is_err());
}

#[tokio::test]
async fn an_old_version_header_is_refused() {
    let source = Source::of(10).await;
    let request = source.request(Method::GET, "/people/v2/people");
    let got = receive(request.header("x-pco-api-version", "2017-01-01"))
        .await
        .unwrap();
    assert_eq!(got.status, 400);
}
