use serde::{Deserialize, Serialize};
use serde_json::{Map, value::RawValue};
use sync_core::{
    DependencyGraph, EntityName, ExternalId, Manifest, Quarantined, Record, Strength,
    manifest::{Deletes, DeltaMethod, FullWalk},
};

use super::manifest;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
}

/// A mapped document by column name, as a person would check it.
#[derive(Serialize)]
#[serde(untagged)]
enum Mapped {
    Record {
        id: ExternalId,
        updated_at: Option<String>,
        columns: Map<String, serde_json::Value>,
    },
    Quarantined {
        id: Option<ExternalId>,
        reason: String,
    },
}

fn name(text: &str) -> EntityName {
    EntityName::new(text).unwrap()
}

fn check(entity: &str, document: &str, parent: Option<&str>) -> Vec<Mapped> {
    let manifest = manifest();
    let mapper = manifest.mapper(&name(entity)).unwrap();
    let parent = parent.map(|parent| ExternalId::new(parent).unwrap());
    let envelope: Envelope<'_> = serde_json::from_str(document).unwrap();
    let mapped = envelope
        .data
        .into_iter()
        .map(|raw| mapper.map(raw, parent.as_ref()));
    mapped
        .map(|mapped| readable(&manifest, entity, mapped))
        .collect()
}

fn readable(manifest: &Manifest, entity: &str, mapped: Result<Record, Quarantined>) -> Mapped {
    let record = match mapped {
        Ok(record) => record,
        Err(Quarantined {
            external_id,
            reason,
            ..
        }) => {
            return Mapped::Quarantined {
                id: external_id,
                reason: reason.to_string(),
            };
        }
    };
    let fields = &manifest.entity(&name(entity)).unwrap().schema.fields;
    let columns = fields.iter().zip(&record.values);
    let columns = columns
        .map(|(field, value)| (field.name.to_string(), serde_json::to_value(value).unwrap()))
        .collect();
    let updated_at = record.source_updated_at.map(|instant| instant.to_string());
    Mapped::Record {
        id: record.external_id,
        updated_at,
        columns,
    }
}

macro_rules! documents {
    ($($test:ident: $entity:literal from $file:literal $(under $parent:literal)?;)*) => {$(
        #[test]
        fn $test() {
            let document = include_str!(concat!("../../tests/documents/", $file, ".json"));
            let parent = None $(.or(Some($parent)))?;
            insta::assert_json_snapshot!($file, check($entity, document, parent));
        }
    )*};
}

documents! {
    campuses_are_mapped: "Campus" from "campuses";
    households_are_mapped: "Household" from "households";
    people_are_mapped_and_bad_ones_set_aside: "Person" from "people";
    emails_are_mapped: "Email" from "emails";
    phone_numbers_are_mapped: "PhoneNumber" from "phone_numbers";
    addresses_are_mapped: "Address" from "addresses";
    groups_are_mapped: "Group" from "groups";
    memberships_are_mapped_under_their_group: "Membership" from "memberships" under "77";
    events_are_mapped: "Event" from "events";
}

#[test]
fn households_come_before_people_and_people_before_what_is_theirs() {
    let graph = DependencyGraph::new(&manifest()).unwrap();
    let order: Vec<&str> = graph.order().iter().map(EntityName::as_str).collect();
    let expected = [
        "Campus",
        "Household",
        "Person",
        "Address",
        "Email",
        "Group",
        "Event",
        "Membership",
        "PhoneNumber",
    ];
    assert_eq!(order, expected);
    assert!(graph.unmet().is_empty());
}

#[test]
fn the_primary_contact_is_resolved_in_the_final_pass() {
    let graph = DependencyGraph::new(&manifest()).unwrap();
    let household = name("Household");
    let deferred: Vec<_> = graph.deferred(&household).collect();
    assert_eq!(deferred.len(), 1);
    assert_eq!(
        (deferred[0].0.as_str(), deferred[0].1.as_str()),
        ("primary_contact_id", "Person")
    );
    assert!(graph.edges().all(|edge| edge.gave_way.is_none()));
    let soft = graph
        .edges()
        .filter(|edge| edge.strength == Strength::Soft)
        .count();
    assert_eq!(
        soft, 3,
        "campus and household of a person, submitter of an event"
    );
}

#[test]
fn the_graph_is_drawn_with_its_reasons() {
    insta::assert_snapshot!(
        "graph",
        DependencyGraph::new(&manifest()).unwrap().to_mermaid()
    );
}

#[test]
fn each_entity_has_the_sync_method_that_the_api_supports() {
    let manifest = manifest();
    let of = |text: &str| {
        let entity = manifest.entity(&name(text)).unwrap();
        (entity.delta_method(), entity.full_walk)
    };
    for entity in ["Campus", "Household", "Person", "Email", "PhoneNumber"] {
        assert_eq!(
            of(entity),
            (DeltaMethod::Filtered, FullWalk::Keyset),
            "{entity}"
        );
    }
    assert_eq!(
        of("Address"),
        (DeltaMethod::DescendingToWatermark, FullWalk::Pages)
    );
    for entity in ["Group", "Membership", "Event"] {
        assert_eq!(
            of(entity),
            (DeltaMethod::HashCompare, FullWalk::Pages),
            "{entity}"
        );
        let deletes = &manifest.entity(&name(entity)).unwrap().deletes;
        assert_eq!(*deletes, Deletes::ListReplace, "{entity}");
    }
}

#[test]
fn the_manifest_survives_json() {
    let manifest = manifest();
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(Manifest::from_json(&json).unwrap(), manifest);
}

#[test]
fn another_host_changes_no_content_hash() {
    let document = include_str!("../../tests/documents/people.json");
    let elsewhere = document.replace("https://api.planningcenteronline.com", "http://127.0.0.1:1");
    let hash = |document: &str| {
        let envelope: Envelope<'_> = serde_json::from_str(document).unwrap();
        let mapper = manifest().mapper(&name("Person")).unwrap();
        mapper.map(envelope.data[0], None).unwrap().content_hash
    };
    assert_eq!(hash(document), hash(&elsewhere));
    assert_ne!(
        hash(document),
        hash(&document.replace("Countess", "Baroness"))
    );
    let unmapped = document.replacen(
        "\"site_administrator\": false",
        "\"site_administrator\": true",
        1,
    );
    assert_ne!(
        hash(document),
        hash(&unmapped),
        "attributes without a column count too"
    );
}
