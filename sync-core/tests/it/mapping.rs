use proptest::prelude::*;
use serde_json::{Value as Json, json, value::RawValue};
use sync_core::{
    EntityName, ExternalId, Manifest, Mapper, QuarantineReason, Quarantined, Record, Value,
};

use super::manifest::GOOD;

const EVERY_TYPE: &str = r#"
adapter: sample
version: "1"
base_url: https://api.example.com
rate_limit: { requests: 1, period_seconds: 1 }
entities:
  - name: Thing
    record_type: thing
    schema:
      - { name: label, type: text }
      - { name: number, type: integer }
      - { name: ratio, type: float }
      - { name: flag, type: boolean }
      - { name: day, type: date }
      - { name: moment, type: timestamp }
      - { name: extra, type: json }
      - { name: inner, type: text }
      - { name: owner_id, type: text, references: { entity: Thing } }
      - { name: member_ids, type: json }
    mapping:
      id: meta.id
      updated_at: moment
      ignore: [links, a.volatile]
      fields:
        - { column: label, from: a.label }
        - { column: number, from: a.number }
        - { column: ratio, from: a.ratio }
        - { column: flag, from: a.flag }
        - { column: day, from: a.day }
        - { column: moment, from: a.moment }
        - { column: extra, from: a.extra }
        - { column: inner, from: a.extra.inner }
        - { column: owner_id, from: owner }
        - { column: member_ids, from: members, convert: reference_ids }
    endpoints: { list: { method: GET, path: /things } }
    pagination:
      paginator: { kind: last_id, param: after }
      stop: { kind: has_more_false, flag: has_more }
      page_size: 10
"#;

fn mapper(manifest: &str, entity: &str) -> Mapper {
    let manifest = Manifest::from_yaml(manifest).unwrap();
    manifest.mapper(&EntityName::new(entity).unwrap()).unwrap()
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn map(json: &str) -> Result<Record, Quarantined> {
    mapper(EVERY_TYPE, "Thing").map(&raw(json), None)
}

fn value(json: &str, column: &str) -> Value {
    let mapper = mapper(EVERY_TYPE, "Thing");
    let record = mapper.map(&raw(json), None).unwrap();
    let index = mapper
        .fields()
        .iter()
        .position(|field| field.name.as_str() == column)
        .unwrap();
    record.values[index].clone()
}

fn check_reason(json: &str, expected: &str) {
    let reason = map(json).expect_err("it is quarantined").reason;
    assert_eq!(reason.to_string(), expected, "{json}");
}

#[test]
fn every_type_finds_its_column() {
    let record = map(
        r#"{"meta":{"id":7},"a":{"label":"x","number":1,"ratio":1.5,"flag":true,"day":"2025-01-31",
            "moment":"2025-01-31T12:00:00Z","extra":{"inner":"deep","n":[1,2]}},
            "owner":{"type":"thing","id":"8"},"members":[{"id":1},{"type":"thing","id":"2"},null]}"#,
    )
    .unwrap();
    assert_eq!(record.external_id.as_str(), "7");
    assert_eq!(
        record.source_updated_at.unwrap().to_string(),
        "2025-01-31T12:00:00Z"
    );
    insta::assert_json_snapshot!(record.values);
}

#[test]
fn what_is_absent_or_null_is_null() {
    let record =
        map(r#"{"meta":{"id":"7"},"a":{"label":null,"extra":null},"owner":null}"#).unwrap();
    assert!(record.values.iter().all(Value::is_null));
}

#[test]
fn a_bad_value_sets_its_document_aside() {
    check_reason(
        r#"{"meta":{"id":1},"a":{"number":"many"}}"#,
        "number: a text cannot become integer",
    );
    check_reason(
        r#"{"meta":{"id":1},"a":{"label":{"x":1}}}"#,
        "label: an object cannot become text",
    );
    check_reason(
        r#"{"meta":{"id":1},"a":{"day":"2025-02-30"}}"#,
        "day: a text cannot become date",
    );
    check_reason(
        r#"{"meta":{"id":1},"owner":[1]}"#,
        "owner_id: an array cannot become a reference",
    );
    check_reason(
        r#"{"meta":{"id":1},"members":{"id":1}}"#,
        "member_ids: an object cannot become json",
    );
    let open = r#"{"meta":{"id":1},"owner":{"type":"thing"}}"#;
    check_reason(open, "owner_id: an object cannot become a reference");
    let null = r#"{"meta":{"id":1},"owner":{"type":"thing","id":null}}"#;
    check_reason(null, "owner_id: null cannot become a reference");
    let stranger = r#"{"meta":{"id":1},"owner":{"type":"stranger","id":1}}"#;
    check_reason(
        stranger,
        "owner_id refers to a \"stranger\", not to a \"thing\"",
    );
}

#[test]
fn a_document_without_a_usable_id_is_set_aside_without_one() {
    check_reason("{}", "the document has no id");
    check_reason(r#"{"meta":{"id":null}}"#, "the document has no id");
    check_reason(r#"{"meta":{"id":""}}"#, "the document's id is not valid");
    check_reason(
        r#"{"meta":{"id":{"x":1}}}"#,
        "the document's id is not valid",
    );
    check_reason(r#"{"meta":{"id":1.5}}"#, "the document's id is not valid");
    check_reason("[1]", "the document is no readable JSON object");
}

#[test]
fn a_bad_value_keeps_the_id_and_the_document() {
    let json = r#"{"meta":{"id":42},"a":{"flag":"perhaps"}}"#;
    let quarantined = map(json).unwrap_err();
    assert_eq!(quarantined.external_id.unwrap().as_str(), "42");
    assert_eq!(quarantined.raw.get(), json);
}

#[test]
fn a_document_of_another_type_keeps_no_id() {
    let mapper = mapper(GOOD, "Group");
    let map = |json| mapper.map(&raw(json), None);
    assert!(
        map(r#"{"id":"1","type":"Team","attributes":{"title":"x"}}"#).is_ok(),
        "an alias"
    );
    let stranger = map(r#"{"id":"1","type":"Tag","attributes":{"title":"x"}}"#).unwrap_err();
    assert_eq!(stranger.external_id, None);
    let expected = ("Group".to_owned(), "Tag".to_owned());
    let (expected, found) = expected;
    assert_eq!(
        stranger.reason,
        QuarantineReason::WrongRecordType { expected, found }
    );
}

#[test]
fn a_nested_record_has_its_parent_and_unix_time_is_an_instant() {
    let mapper = mapper(GOOD, "Member");
    let document = raw(r#"{"id":1,"updated":1700000000}"#);
    let parents = ["g1", "g2"].map(|parent| ExternalId::new(parent).unwrap());
    let [one, two] = parents
        .each_ref()
        .map(|it| mapper.map(&document, Some(it)).unwrap());
    assert_eq!(one.values[0], Value::Text("g1".into()));
    assert_eq!(one.source_updated_at.unwrap().as_second(), 1_700_000_000);
    assert_ne!(
        one.content_hash, two.content_hash,
        "another parent is another content"
    );
    let reason = mapper.map(&document, None).unwrap_err().reason;
    assert_eq!(reason.to_string(), "group_id is required, but has no value");
}

#[test]
fn a_sparse_row_gives_at_least_its_id() {
    let mapper = mapper(GOOD, "Group");
    assert_eq!(mapper.identify(&raw(r#"{"id":5}"#)).unwrap().as_str(), "5");
    assert_eq!(
        mapper.identify(&raw("{}")),
        Err(QuarantineReason::MissingId)
    );
}

#[test]
fn hostile_documents_harm_nothing() {
    let deep = format!(
        r#"{{"meta":{{"id":1}},"x":{}{}}}"#,
        "[".repeat(500),
        "]".repeat(500)
    );
    check_reason(&deep, "the document is no readable JSON object");
    let nul = value(r#"{"meta":{"id":1},"a":{"label":"a\u0000b"}}"#, "label");
    assert_eq!(nul, Value::Text("a\u{fffd}b".into()));
    let huge = value(
        r#"{"meta":{"id":1},"a":{"label":18446744073709551615}}"#,
        "label",
    );
    assert_eq!(huge, Value::Text("18446744073709551615".into()));
    assert!(map(r#"{"meta":{"id":1},"a":{"ratio":1e999}}"#).is_err());
    assert!(map(r#"{"meta":{"id":1},"a":5,"owner":{"deep":{"id":"9"},"id":"8"}}"#).is_ok());
    let long = format!(
        r#"{{"meta":{{"id":1}},"a":{{"label":"{}"}}}}"#,
        "x".repeat(1 << 20)
    );
    assert!(map(&long).is_ok());
}

fn hash(json: &str) -> String {
    format!("{:?}", map(json).unwrap().content_hash)
}

#[test]
fn the_content_hash_sees_every_change_but_those_left_out() {
    let base = hash(r#"{"meta":{"id":1},"a":{"label":"x","other":[1,2]}}"#);
    let same = [
        r#"{ "a" : { "other":[1, 2] ,"label":"\u0078"}, "meta":{"id":1}}"#,
        r#"{"meta":{"id":1},"a":{"label":"x","other":[1.0,2]},"links":{"self":"elsewhere"}}"#,
        r#"{"meta":{"id":1},"a":{"label":"x","other":[1,2],"volatile":"token"}}"#,
    ];
    for json in same {
        assert_eq!(hash(json), base, "{json}");
    }
    let other = [
        r#"{"meta":{"id":1},"a":{"label":"x","other":[2,1]}}"#,
        r#"{"meta":{"id":1},"a":{"label":"x","other":[1,2],"new":null}}"#,
        r#"{"meta":{"id":1},"a":{"label":"x","other":[[1,2]]}}"#,
        r#"{"meta":{"id":1},"a":{"label":"x","other":["1","2"]}}"#,
        r#"{"meta":{"id":"1"},"a":{"label":"x","other":[1,2]}}"#,
        r#"{"meta":{"id":1},"a":{"label":"x"},"other":[1,2]}"#,
    ];
    for json in other {
        assert_ne!(hash(json), base, "{json}");
    }
}

#[test]
fn the_content_hash_stays_what_it_was() {
    // Stored hashes are compared with new ones: if this changes, every row is rewritten once.
    let json = r#"{"meta":{"id":1},"a":{"label":"x","number":2,"moment":"2025-01-31T12:00:00Z","extra":{"k":[true,null,1.5]}}}"#;
    insta::assert_snapshot!(hash(json));
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        ".{0,8}".prop_map(Json::from),
        Just(json!("2025-01-31T12:00:00Z")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("id|type|inner|[a-c]", inner, 0..4)
                .prop_map(|map| Json::from(serde_json::Map::from_iter(map))),
        ]
    })
}

fn any_document() -> impl Strategy<Value = Json> {
    let columns = [
        "label", "number", "ratio", "flag", "day", "moment", "extra", "other",
    ];
    let attributes = prop::collection::vec(any_json(), columns.len());
    (any_json(), attributes, any_json(), any_json()).prop_map(
        move |(id, values, owner, members)| {
            let attributes = columns.into_iter().map(str::to_owned).zip(values);
            let attributes = serde_json::Map::from_iter(attributes);
            json!({"meta": {"id": id}, "a": attributes, "owner": owner, "members": members})
        },
    )
}

proptest! {
    #[test]
    fn no_document_makes_the_mapper_panic_and_each_keeps_its_bytes(document in any_document()) {
        let text = document.to_string();
        match map(&text) {
            Ok(record) => {
                prop_assert_eq!(record.raw.get(), &text);
                prop_assert_eq!(record.values.len(), 10);
            }
            Err(quarantined) => prop_assert_eq!(quarantined.raw.get(), &text),
        }
    }

    #[test]
    fn white_space_does_not_change_the_content_hash(document in any_document()) {
        let (Ok(one), Ok(other)) = (map(&document.to_string()), map(&format!("{document:#}"))) else {
            return Ok(());
        };
        prop_assert_eq!(one.content_hash, other.content_hash);
    }

    #[test]
    fn a_changed_attribute_changes_the_content_hash(document in any_document(), other in any_json()) {
        let mut changed = document.clone();
        changed["a"]["other"] = other;
        prop_assume!(changed["a"]["other"] != document["a"]["other"]);
        prop_assume!(!changed["a"]["other"].is_number() || !document["a"]["other"].is_number());
        if let (Ok(one), Ok(two)) = (map(&document.to_string()), map(&changed.to_string())) {
            prop_assert_ne!(one.content_hash, two.content_hash);
        }
    }
}
