//! Creates, changes and deletes by callers of the API.

use mock_api::Entity;
use reqwest::Method;
use serde_json::{Value, json};

use crate::source::{Source, ids};

fn document(kind: &str, attributes: Value) -> Value {
    json!({ "data": { "type": kind, "attributes": attributes } })
}

#[tokio::test]
async fn a_person_is_created_changed_and_deleted() {
    let source = Source::of(30).await;
    let attributes = json!({ "first_name": "Zsófia", "last_name": "Új", "birthdate": "no date" });
    let made = source
        .send(
            Method::POST,
            "/people/v2/people",
            document("Person", attributes),
        )
        .await;
    assert_eq!(made.status, 201);
    let person = &made.body["data"];
    assert_eq!(person["attributes"]["name"], "Zsófia Új");
    assert_eq!(person["attributes"]["birthdate"], json!(null));
    assert_eq!(
        person["attributes"]["updated_at"],
        source.control().now().to_string()
    );

    let path = format!("/people/v2/people/{}", person["id"].as_str().unwrap());
    source.control().advance(5);
    let change = document(
        "Person",
        json!({ "nickname": "Zsó", "primary_campus_id": "1" }),
    );
    let changed = source.send(Method::PATCH, &path, change).await;
    assert_eq!(changed.status, 200);
    let campus = &changed.body["data"]["relationships"]["primary_campus"]["data"];
    assert_eq!(campus, &json!({ "type": "PrimaryCampus", "id": "1" }));
    let updated_at = &changed.body["data"]["attributes"]["updated_at"];
    assert_eq!(updated_at, &source.control().now().to_string());

    assert_eq!(
        source.send(Method::DELETE, &path, json!(null)).await.status,
        204
    );
    assert_eq!(source.get(&path).await.status, 404);
    assert_eq!(
        source.send(Method::DELETE, &path, json!(null)).await.status,
        404
    );
}

#[tokio::test]
async fn contact_data_is_created_beneath_its_person_only() {
    let source = Source::of(30).await;
    let id = source.id(Entity::Person, 0);
    let email = || {
        document(
            "Email",
            json!({ "address": "new@example.org", "location": "Home" }),
        )
    };
    let made = source
        .send(
            Method::POST,
            &format!("/people/v2/people/{id}/emails"),
            email(),
        )
        .await;
    assert_eq!(made.status, 201);
    assert_eq!(
        made.body["data"]["relationships"]["person"]["data"]["id"],
        id.to_string()
    );
    assert_eq!(
        source
            .send(Method::POST, "/people/v2/emails", email())
            .await
            .status,
        405
    );
    let nobody = source
        .send(Method::POST, "/people/v2/people/99999/emails", email())
        .await;
    assert_eq!(nobody.status, 404);
}

#[tokio::test]
async fn a_household_takes_in_the_people_it_names() {
    let source = Source::of(30).await;
    let people = [source.id(Entity::Person, 0), source.id(Entity::Person, 1)];
    let linkage = people.map(|id| json!({ "type": "Person", "id": id.to_string() }));
    let body = json!({ "data": {
        "type": "Household",
        "attributes": { "name": "New Household" },
        "relationships": {
            "people": { "data": linkage },
            "primary_contact": { "data": linkage[0] },
        },
    } });
    let made = source
        .send(Method::POST, "/people/v2/households", body)
        .await;
    assert_eq!(made.status, 201);
    let household = &made.body["data"];
    assert_eq!(household["attributes"]["member_count"], 2);
    let named = household["relationships"]["people"]["data"]
        .as_array()
        .unwrap();
    assert_eq!(ids(named), people.map(|id| id.to_string()));
    let id = household["id"].as_str().unwrap();
    let places = source
        .walk(&format!("/people/v2/households/{id}/household_memberships"))
        .await;
    assert_eq!(places.len(), 2);

    let place = ids(&places)[0].clone();
    let path = format!("/people/v2/households/{id}/household_memberships/{place}");
    assert_eq!(
        source.send(Method::DELETE, &path, json!(null)).await.status,
        204
    );
    let body = source.body(&format!("/people/v2/households/{id}")).await;
    assert_eq!(body["data"]["attributes"]["member_count"], 1);
}

#[tokio::test]
async fn invalid_writes_name_the_attribute() {
    let source = Source::of(30).await;
    let id = source.id(Entity::Person, 0);
    let person = format!("/people/v2/people/{id}");
    for (method, path, attributes, parameter) in [
        (
            Method::POST,
            "/people/v2/people",
            json!({ "last_name": "X" }),
            "first_name",
        ),
        (
            Method::PATCH,
            person.as_str(),
            json!({ "name": "X" }),
            "name",
        ),
        (
            Method::PATCH,
            person.as_str(),
            json!({ "status": "asleep" }),
            "status",
        ),
        (
            Method::POST,
            "/people/v2/campuses",
            json!({ "name": " " }),
            "name",
        ),
    ] {
        let got = source.send(method, path, document("Any", attributes)).await;
        assert_eq!(got.status, 422, "{path}");
        assert_eq!(got.body["errors"][0]["source"]["parameter"], parameter);
    }
    let got = source
        .send(Method::POST, "/people/v2/people", json!([]))
        .await;
    assert_eq!(got.status, 400);
}

#[tokio::test]
async fn read_only_resources_refuse_writes() {
    let source = Source::of(100).await;
    for (method, path) in [
        (Method::DELETE, "/groups/v2/groups/1"),
        (Method::POST, "/groups/v2/groups"),
        (Method::PATCH, "/groups/v2/events/1"),
        (Method::PATCH, "/people/v2/person_mergers/1"),
    ] {
        let got = source.send(method, path, document("Any", json!({}))).await;
        assert_eq!(got.status, 405, "{path}");
    }
    let change = document("Group", json!({ "name": "Renamed" }));
    let got = source
        .send(Method::PATCH, "/groups/v2/groups/1", change)
        .await;
    assert_eq!(
        (got.status, &got.body["data"]["attributes"]["name"]),
        (200, &json!("Renamed"))
    );
}
