use sync_core::{
    DependencyGraph, EntityName, Manifest,
    graph::Unmet,
    manifest::{EntityProblem, Error, ErrorKind},
};

/// A manifest of groups, their members and notes; each test breaks one part of it.
pub(crate) const GOOD: &str = r#"
adapter: sample
version: "1"
base_url: https://api.example.com/v1
rate_limit: { requests: 100, period_seconds: 20 }
errors:
  - { status: 400, body_contains: rate, kind: rate_limited }
entities:
  - name: Group
    record_type: Group
    aliases: [Team]
    schema:
      - { name: title, type: text, required: true }
      - { name: parent_group_id, type: text, references: { entity: Group } }
    mapping:
      id: id
      record_type: type
      fields:
        - { column: title, from: attributes.title }
        - { column: parent_group_id, from: links.parent }
    endpoints:
      list: { method: GET, path: /groups }
      get: { method: GET, path: "/groups/{id}" }
    pagination:
      paginator: { kind: offset, param: offset }
      stop: { kind: missing_next, next: meta.next }
      page_size: 100
    deletes: { kind: list_replace }
  - name: Member
    record_type: Member
    schema:
      - { name: group_id, type: text, required: true, references: { entity: Group } }
      - { name: note_id, type: text, references: { entity: Note } }
      - { name: updated_at, type: timestamp }
      - { name: archived, type: boolean }
    mapping:
      id: id
      fields:
        - { column: group_id, from: $parent }
        - { column: note_id, from: note }
        - { column: updated_at, from: updated, convert: unix_seconds }
        - { column: archived, from: archived }
    endpoints:
      list: { method: GET, path: "/groups/{group}/members" }
    parent: { entity: Group, path_param: group }
    pagination:
      paginator: { kind: link_header }
      stop: { kind: missing_next }
      page_size: 50
      max_window: 1000
    full_walk: keyset
    cursor:
      field: updated_at
      filter: { param: since, op: gt, format: unix_seconds }
      sort: { direction: asc, param: sort, value: updated }
      granularity: second
      overlap_seconds: 5
    deletes: { kind: archived_flag, column: archived }
"#;

fn check(from: &str, to: &str) -> Error {
    assert!(GOOD.contains(from), "{from}");
    Manifest::from_yaml(&GOOD.replacen(from, to, 1)).expect_err("the manifest is broken")
}

fn check_entity(from: &str, to: &str, at: &str, expected: EntityProblem) {
    let error = check(from, to);
    let Error::Entity {
        entity,
        field,
        problem,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(format!("{entity} {field}"), at);
    assert_eq!(problem, expected);
}

#[test]
fn a_consistent_manifest_is_read_and_written_again() {
    let manifest = Manifest::from_yaml(GOOD).unwrap();
    let json = serde_json::to_string(&manifest).unwrap();
    let again = Manifest::from_json(&json).unwrap();
    assert_eq!(again, manifest);
    assert_eq!(again.fingerprint(), manifest.fingerprint());
}

#[test]
fn a_typing_mistake_is_an_error() {
    assert!(matches!(
        check("page_size: 100", "page_sise: 100"),
        Error::Yaml(_)
    ));
    assert!(matches!(
        check("type: boolean", "type: bool"),
        Error::Yaml(_)
    ));
    assert!(matches!(
        check("name: title", "name: Title"),
        Error::Yaml(_)
    ));
    assert!(matches!(
        check("name: archived", "name: deleted_at"),
        Error::Yaml(_)
    ));
}

#[test]
fn the_address_is_a_plain_one() {
    for bad in [
        "ftp://x",
        "https://",
        "https://u:p@x",
        "https://x?a=b",
        "https://x/",
    ] {
        let error = check("https://api.example.com/v1", bad);
        assert!(
            matches!(
                error,
                Error::Invalid {
                    part: "base_url",
                    ..
                }
            ),
            "{bad}"
        );
    }
}

#[test]
fn a_credential_has_no_place_in_a_manifest() {
    let error = check(
        "rate_limit:",
        "headers: { Authorization: secret }\nrate_limit:",
    );
    assert!(matches!(
        error,
        Error::Invalid {
            part: "headers",
            ..
        }
    ));
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn two_entities_cannot_share_a_table() {
    let error = check("name: Member\n", "name: group\n");
    assert!(matches!(error, Error::DuplicateEntity { .. }), "{error:?}");
}

#[test]
fn a_required_column_needs_a_source() {
    check_entity(
        "        - { column: title, from: attributes.title }\n",
        "",
        "Group schema title",
        EntityProblem::Unmapped,
    );
}

#[test]
fn a_mapping_names_columns_that_exist_once() {
    let unknown = EntityProblem::UnknownColumn {
        column: "headline".to_owned(),
    };
    check_entity(
        "column: title",
        "column: headline",
        "Group mapping headline",
        unknown,
    );
    check_entity(
        "{ column: note_id, from: note }",
        "{ column: archived, from: note }",
        "Member mapping archived",
        EntityProblem::Duplicate,
    );
}

#[test]
fn a_hard_foreign_key_needs_its_entity_and_text() {
    let entity = EntityName::new("Team").unwrap();
    check_entity(
        "required: true, references: { entity: Group }",
        "required: true, references: { entity: Team }",
        "Member schema group_id",
        EntityProblem::UnknownEntity { entity },
    );
    let wrong = EntityProblem::WrongType {
        found: "integer",
        expected: "text",
    };
    check_entity(
        "name: group_id, type: text",
        "name: group_id, type: integer",
        "Member schema group_id",
        wrong,
    );
}

#[test]
fn a_path_has_only_placeholders_that_something_fills() {
    let path = |path: &str, reason| EntityProblem::Path {
        path: path.to_owned(),
        reason,
    };
    let unfilled = "has a placeholder that nothing fills";
    check_entity(
        "/groups }",
        "\"/{org}/groups\" }",
        "Group endpoints list",
        path("/{org}/groups", unfilled),
    );
    let unnamed = "does not name the record or the parent that it is about";
    check_entity(
        "\"/groups/{id}\"",
        "/groups/one",
        "Group endpoints get",
        path("/groups/one", unnamed),
    );
    check_entity(
        "/groups/{group}/members",
        "/members",
        "Member endpoints list",
        path("/members", unnamed),
    );
    let brace = "has a brace without its partner";
    check_entity(
        "/groups/{id}",
        "/groups/{id",
        "Group endpoints get",
        path("/groups/{id", brace),
    );
}

#[test]
fn a_cursor_follows_a_timestamp_and_a_keyset_needs_filter_and_order() {
    let wrong = EntityProblem::WrongType {
        found: "boolean",
        expected: "timestamp",
    };
    check_entity(
        "field: updated_at",
        "field: archived",
        "Member cursor field",
        wrong,
    );
    let what = "a cursor with a filter and an ascending sort";
    check_entity(
        "direction: asc",
        "direction: desc",
        "Member full_walk",
        EntityProblem::Needs { what },
    );
}

#[test]
fn sizes_have_bounds() {
    let out = |value, least, most| EntityProblem::OutOfBounds { value, least, most };
    check_entity(
        "page_size: 100",
        "page_size: 0",
        "Group pagination page_size",
        out(0, 1, 1_000),
    );
    let window = out(10, 50, u64::MAX);
    check_entity(
        "max_window: 1000",
        "max_window: 10",
        "Member pagination max_window",
        window,
    );
}

#[test]
fn the_end_of_a_list_must_be_knowable() {
    let needs = |what| EntityProblem::Needs { what };
    check_entity(
        "missing_next, next: meta.next",
        "total",
        "Group pagination stop",
        needs("a path to the total"),
    );
    check_entity(
        "missing_next, next: meta.next",
        "missing_next",
        "Group pagination stop",
        needs("a path to the next page"),
    );
}

#[test]
fn an_answer_means_what_the_manifest_says() {
    let manifest = Manifest::from_yaml(GOOD).unwrap();
    assert_eq!(
        manifest.error_kind(400, "rate exceeded"),
        Some(ErrorKind::RateLimited)
    );
    assert_eq!(
        manifest.error_kind(400, "nonsense"),
        Some(ErrorKind::BadRequest)
    );
    assert_eq!(manifest.error_kind(200, "rate"), None);
}

#[test]
fn another_address_is_another_fingerprint() {
    let manifest = Manifest::from_yaml(GOOD).unwrap();
    let moved = manifest.with_base_url("http://127.0.0.1:8080/").unwrap();
    assert_eq!(moved.base_url(), "http://127.0.0.1:8080");
    assert_ne!(moved.fingerprint(), manifest.fingerprint());
}

#[test]
fn leaving_an_entity_out_is_a_warning_for_those_that_need_it() {
    let manifest = Manifest::from_yaml(GOOD).unwrap();
    let only = manifest
        .with_only(&[EntityName::new("Member").unwrap()])
        .unwrap();
    let graph = DependencyGraph::new(&only).unwrap();
    assert_eq!(graph.order().len(), 1);
    let unmet: Vec<String> = graph.unmet().iter().map(Unmet::to_string).collect();
    assert_eq!(
        unmet,
        [
            "Member has a hard dependency on Group (group_id), which is disabled",
            "Member has a hard dependency on Group (listed under it), which is disabled",
            "Member has a soft dependency on Note (note_id (nullable)), which is not in the manifest",
        ]
    );
    let stranger = EntityName::new("Stranger").unwrap();
    assert!(matches!(
        manifest.with_only(&[stranger]),
        Err(Error::UnknownEntity { .. })
    ));
}
