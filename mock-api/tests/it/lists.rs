//! Pages, order, filters, includes and fields of lists.

use std::collections::{BTreeSet, HashMap};

use mock_api::{Entity, MockApi};
use serde_json::{Value, json};

use crate::source::{Source, data, id_of, ids, texts};

#[tokio::test]
async fn a_walk_gives_every_record_once_with_its_true_attributes() {
    let source = Source::of(230).await;
    for entity in Entity::ALL {
        let Some(path) = entity.list_path() else {
            continue;
        };
        let rows = source
            .walk(&format!(
                "{path}?per_page=100&where[archive_status]=include"
            ))
            .await;
        let truth = source.truth(entity);
        assert_eq!(rows.len(), truth.len(), "{entity}");
        for row in &rows {
            assert_eq!(row["type"], entity.kind());
            let expected = Value::Object(truth[&id_of(row)].attributes.clone());
            assert_eq!(row["attributes"], expected, "{entity}");
        }
        let unique: BTreeSet<String> = ids(&rows).into_iter().collect();
        assert_eq!(unique.len(), rows.len(), "{entity}");
    }
}

#[tokio::test]
async fn a_page_has_the_envelope_of_the_api() {
    let source = Source::of(100).await;
    let base = source.api.base_url();
    let body = source.body("/people/v2/people?per_page=10&offset=20").await;
    let link = |offset: usize| format!("{base}/people/v2/people?offset={offset}&per_page=10");
    let expected = json!({ "self": link(20), "next": link(30), "prev": link(10) });
    assert_eq!(body["links"], expected);
    let meta = &body["meta"];
    assert_eq!(meta["total_count"], 100);
    assert_eq!(meta["count"], 10);
    assert_eq!(meta["next"], json!({ "offset": 30 }));
    assert_eq!(meta["prev"], json!({ "offset": 10 }));
    assert_eq!(
        meta["parent"],
        json!({ "id": "900001", "type": "Organization" })
    );
    assert!(
        meta["can_order_by"]
            .as_array()
            .unwrap()
            .contains(&json!("updated_at"))
    );
    assert!(
        meta["can_include"]
            .as_array()
            .unwrap()
            .contains(&json!("emails"))
    );
    assert_eq!(body["included"], json!([]));
}

#[tokio::test]
async fn the_first_page_has_no_prev_and_the_last_no_next() {
    let source = Source::of(30).await;
    let first = source.body("/people/v2/people").await;
    assert_eq!(data(&first).len(), 25);
    assert!(first["links"]["prev"].is_null() && first["meta"]["prev"].is_null());
    let last = source.body("/people/v2/people?offset=25").await;
    assert_eq!(data(&last).len(), 5);
    assert!(last["links"]["next"].is_null() && last["meta"]["next"].is_null());
}

#[tokio::test]
async fn a_page_that_ends_exactly_at_the_end_has_no_next() {
    let source = Source::of(50).await;
    let body = source.body("/people/v2/people?per_page=25&offset=25").await;
    assert_eq!(data(&body).len(), 25);
    assert!(body["links"]["next"].is_null());
}

#[tokio::test]
async fn more_than_a_hundred_per_page_is_a_hundred_and_links_keep_the_wish() {
    let source = Source::of(230).await;
    let body = source.body("/people/v2/people?per_page=500").await;
    assert_eq!(data(&body).len(), 100);
    assert_eq!(body["meta"]["next"]["offset"], 100);
    let next = body["links"]["next"].as_str().unwrap();
    assert!(next.ends_with("?offset=100&per_page=500"), "{next}");
}

#[tokio::test]
async fn zero_per_page_is_an_endless_walk() {
    let source = Source::of(30).await;
    let body = source.body("/people/v2/people?per_page=0").await;
    assert_eq!(body["data"], json!([]));
    assert_eq!(body["meta"]["next"]["offset"], 0);
    assert_eq!(body["meta"]["total_count"], 30);
}

#[tokio::test]
async fn beyond_the_end_is_an_empty_page_with_a_prev() {
    let source = Source::of(30).await;
    let body = source
        .body("/people/v2/people?per_page=25&offset=99999")
        .await;
    assert_eq!(body["data"], json!([]));
    assert_eq!(body["meta"]["count"], 0);
    assert_eq!(body["meta"]["total_count"], 30);
    assert_eq!(body["meta"]["prev"]["offset"], 99_974);
    assert!(body["links"]["next"].is_null());
}

#[tokio::test]
async fn lists_are_sorted_by_id_unless_asked_otherwise() {
    let source = Source::of(150).await;
    let rows = source.walk("/people/v2/people?per_page=100").await;
    let numbers: Vec<u64> = ids(&rows).iter().map(|id| id.parse().unwrap()).collect();
    assert!(numbers.is_sorted());
}

#[tokio::test]
async fn order_by_time_breaks_ties_by_id_in_both_directions() {
    let source = Source::of(300).await;
    for (order, descending) in [("updated_at", false), ("-updated_at", true)] {
        let rows = source
            .walk(&format!("/people/v2/people?per_page=100&order={order}"))
            .await;
        let keys: Vec<(&str, u64)> = texts(&rows, "updated_at")
            .into_iter()
            .zip(ids(&rows).iter().map(|id| id.parse().unwrap()))
            .collect();
        let ordered = keys.is_sorted_by(|(left, left_id), (right, right_id)| {
            let times = if descending {
                right.cmp(left)
            } else {
                left.cmp(right)
            };
            times.then(left_id.cmp(right_id)).is_le()
        });
        assert!(ordered, "{order}");
    }
}

#[tokio::test]
async fn at_least_twenty_people_share_a_second() {
    let source = Source::of(100).await;
    let mut per_second: HashMap<String, usize> = HashMap::new();
    for row in source.truth(Entity::Person).into_values() {
        *per_second.entry(row.updated_at.to_string()).or_default() += 1;
    }
    assert!(per_second.values().any(|rows| *rows >= 20));
}

#[tokio::test]
async fn nulls_come_first_and_case_and_accents_do_not_count() {
    let source = Source::of(100).await;
    let people = source.control();
    for name in ["Ebba", "élodie", "Zoë", "eMIL"] {
        people
            .create(
                Entity::Person,
                json!({ "first_name": name, "last_name": "Sorted" }),
            )
            .unwrap();
    }
    let rows = source
        .walk("/people/v2/people?where[last_name]=Sorted&order=first_name")
        .await;
    assert_eq!(
        texts(&rows, "first_name"),
        ["Ebba", "élodie", "eMIL", "Zoë"]
    );
    let rows = source
        .walk("/people/v2/people?order=nickname&per_page=100")
        .await;
    let first_text = rows
        .iter()
        .position(|row| !row["attributes"]["nickname"].is_null())
        .unwrap();
    assert!(
        rows[first_text..]
            .iter()
            .all(|row| !row["attributes"]["nickname"].is_null())
    );
    assert!(first_text > 0);
}

#[tokio::test]
async fn several_order_keys_apply_in_turn() {
    let source = Source::of(200).await;
    let rows = source
        .walk("/people/v2/people?order=status,-birthdate&per_page=100")
        .await;
    let keys: Vec<(String, Option<String>)> = rows
        .iter()
        .map(|row| {
            let text = |name: &str| row["attributes"][name].as_str().map(str::to_owned);
            (text("status").unwrap(), text("birthdate"))
        })
        .collect();
    assert!(keys.is_sorted_by(|left, right| (&left.0, &right.1) <= (&right.0, &left.1)));
}

#[tokio::test]
async fn a_window_of_updated_at_is_exact() {
    let source = Source::of(400).await;
    let truth = source.truth(Entity::Email);
    let mut times: Vec<_> = truth.values().map(|row| row.updated_at).collect();
    times.sort_unstable();
    let (low, high) = (times[100], times[300]);
    for order in [
        "",
        "&order=updated_at",
        "&order=-updated_at",
        "&order=created_at",
    ] {
        for (lower, upper) in [("gte", "lte"), ("gt", "lt")] {
            let path = format!(
                "/people/v2/emails?per_page=100&where[updated_at][{lower}]={low}\
                 &where[updated_at][{upper}]={high}{order}"
            );
            let found: BTreeSet<String> = ids(&source.walk(&path).await).into_iter().collect();
            let within = |at| match lower {
                "gte" => (low..=high).contains(&at),
                _ => low < at && at < high,
            };
            let expected: BTreeSet<String> = truth
                .iter()
                .filter(|(_, row)| within(row.updated_at))
                .map(|(id, _)| id.clone())
                .collect();
            assert_eq!(found, expected, "{path}");
        }
    }
}

#[tokio::test]
async fn where_matches_text_wildcards_booleans_and_ids() {
    let source = Source::of(200).await;
    let truth = source.truth(Entity::Person);
    let count = |name: &str, value: Value| {
        truth
            .values()
            .filter(|row| row.attributes[name] == value)
            .count()
    };
    let total = async |path: &str| {
        let body = source.body(path).await;
        usize::try_from(body["meta"]["total_count"].as_u64().unwrap()).unwrap()
    };
    let inactive = total("/people/v2/people?where[status]=inactive").await;
    assert_eq!(inactive, count("status", json!("inactive")));
    let children = total("/people/v2/people?where[child]=true").await;
    assert_eq!(children, count("child", json!(true)));
    let smiths = total("/people/v2/people?where[last_name]=SMI%25").await;
    let starts = |row: &mock_api::Row| {
        row.attributes["last_name"]
            .as_str()
            .unwrap()
            .to_lowercase()
            .starts_with("smi")
    };
    assert_eq!(smiths, truth.values().filter(|row| starts(row)).count());
    let id = source.id(Entity::Person, 5);
    assert_eq!(total(&format!("/people/v2/people?where[id]={id}")).await, 1);
    let campus = total("/people/v2/people?where[primary_campus_id]=1").await;
    let at_campus =
        |row: &&mock_api::Row| row.references["primary_campus_id"].as_deref() == Some("1");
    assert_eq!(campus, truth.values().filter(at_campus).count());
    assert!(inactive > 0 && children > 0 && smiths > 0 && campus > 0);
}

#[tokio::test]
async fn a_search_finds_people_by_name_or_email() {
    let source = Source::of(100).await;
    let id = source.id(Entity::Person, 0);
    let email = json!({ "address": "needle@example.org", "location": "Home", "person_id": id });
    source.control().create(Entity::Email, email).unwrap();
    let rows = source
        .walk("/people/v2/people?where[search_name_or_email]=needle@")
        .await;
    assert_eq!(ids(&rows), [id.to_string()]);
    let rows = source
        .walk("/people/v2/people?where[search_name]=elodie")
        .await;
    assert!(rows.iter().all(|row| {
        row["attributes"]["name"]
            .as_str()
            .unwrap()
            .contains("lodie")
    }));
}

#[tokio::test]
async fn a_value_of_the_wrong_type_finds_nothing() {
    let source = Source::of(100).await;
    let body = source.body("/people/v2/people?where[grade]=abc").await;
    assert_eq!(body["meta"]["total_count"], 0);
}

#[tokio::test]
async fn unknown_filters_and_orders_are_ignored_with_200() {
    let source = Source::of(60).await;
    for parameter in [
        "where[nonsense]=1",
        "where[emails][address]=x",
        "order=id",
        "order=nonsense",
        "include=nonsense",
        "filter=nonsense",
    ] {
        let body = source.body(&format!("/people/v2/people?{parameter}")).await;
        assert_eq!(body["meta"]["total_count"], 60, "{parameter}");
    }
    let path = "/people/v2/addresses?where[updated_at][gte]=2099-01-01T00:00:00Z";
    assert_eq!(source.body(path).await["meta"]["total_count"], 72);
}

#[tokio::test]
async fn included_records_come_once_and_relationships_name_them() {
    let source = Source::of(100).await;
    let path = "/people/v2/people?per_page=50&include=emails,households.people,primary_campus";
    let body = source.body(path).await;
    let included = body["included"].as_array().unwrap();
    let keys: Vec<(String, String)> = included
        .iter()
        .map(|row| (row["type"].to_string(), id_of(row)))
        .collect();
    let unique: BTreeSet<_> = keys.iter().collect();
    assert_eq!(unique.len(), keys.len());
    let emails: BTreeSet<String> = source
        .truth(Entity::Email)
        .into_iter()
        .filter(|(_, row)| {
            let owner = row.references["person_id"].as_ref().unwrap();
            ids(data(&body)).contains(owner)
        })
        .map(|(id, _)| id)
        .collect();
    let is_email = |row: &&Value| row["type"] == "Email";
    let found: BTreeSet<String> = included.iter().filter(is_email).map(id_of).collect();
    assert_eq!(found, emails);
    for row in data(&body) {
        let person = id_of(row);
        let related = row["relationships"]["emails"]["links"]["related"]
            .as_str()
            .unwrap();
        assert!(related.ends_with(&format!("/people/v2/people/{person}/emails")));
        assert!(row["relationships"]["households"]["data"].is_array());
        let campus = &row["relationships"]["primary_campus"]["data"];
        assert!(
            campus.is_null() || campus["type"] == "PrimaryCampus",
            "{campus}"
        );
    }
    let household = included
        .iter()
        .find(|row| row["type"] == "Household")
        .unwrap();
    assert!(household["relationships"]["people"]["links"]["related"].is_string());
}

#[tokio::test]
async fn a_plain_list_of_households_names_their_people() {
    let source = Source::of(100).await;
    let truth = source.truth(Entity::Household);
    for row in source.walk("/people/v2/households?per_page=100").await {
        let people = ids(row["relationships"]["people"]["data"].as_array().unwrap());
        let expected = &truth[&id_of(&row)];
        assert_eq!(people, expected.members);
        assert_eq!(row["attributes"]["member_count"], people.len());
        let contact = &row["relationships"]["primary_contact"]["data"]["id"];
        assert_eq!(
            contact.as_str(),
            expected.references["primary_contact_id"].as_deref()
        );
    }
}

#[tokio::test]
async fn sparse_rows_have_only_what_was_asked() {
    let source = Source::of(60).await;
    let path = "/people/v2/people?per_page=10&include=emails&fields[Person]=first_name,emails\
                &fields[Email]=address";
    let body = source.body(path).await;
    let person = &data(&body)[0];
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&person["attributes"]), ["first_name"]);
    assert_eq!(names(&person["relationships"]), ["emails"]);
    assert_eq!(names(&body["included"][0]["attributes"]), ["address"]);
    let link = body["links"]["next"].as_str().unwrap();
    let expected = "?fields[Email]=address&fields[Person]=first_name%2Cemails&include=emails\
                    &offset=10&per_page=10";
    assert!(link.ends_with(expected), "{link}");
}

#[tokio::test]
async fn archived_groups_are_listed_only_on_request() {
    let source = Source::of(1_000).await;
    let total = async |value: &str| {
        let body = source.body(&format!("/groups/v2/groups{value}")).await;
        body["meta"]["total_count"].as_u64().unwrap()
    };
    assert_eq!(total("").await, 38);
    assert_eq!(total("?where[archive_status]=not_archived").await, 38);
    assert_eq!(total("?where[archive_status]=only").await, 2);
    assert_eq!(total("?where[archive_status]=include").await, 40);
}

#[tokio::test]
async fn named_filters_split_the_events() {
    let source = Source::of(500).await;
    let total = async |filter: &str| {
        let body = source
            .body(&format!("/groups/v2/events?filter={filter}"))
            .await;
        body["meta"]["total_count"].as_u64().unwrap()
    };
    let (upcoming, past) = (total("upcoming").await, total("past").await);
    let (canceled, kept) = (total("canceled").await, total("not_canceled").await);
    assert_eq!((upcoming + past, canceled + kept), (100, 100));
    assert!(upcoming > 0 && canceled > 0);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_data_and_another_seed_does_not() {
    let dump = async |seed: u64| {
        let builder = MockApi::builder().seed(seed).people(120);
        Source::start(builder).await.control().dump(Entity::Person)
    };
    let first = dump(3).await;
    assert_eq!(first, dump(3).await);
    assert_ne!(first, dump(4).await);
}

#[tokio::test]
async fn an_organisation_of_nobody_has_empty_lists() {
    let source = Source::of(0).await;
    for entity in Entity::ALL {
        if let Some(path) = entity.list_path() {
            assert_eq!(source.body(&path).await["data"], json!([]), "{entity}");
        }
    }
}
