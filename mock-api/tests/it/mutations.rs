//! Changes through the control plane.

use mock_api::{Entity, Error, MockApi, Mutation};
use serde_json::{Map, json};

use crate::source::{Source, ids};

#[tokio::test]
async fn a_change_moves_updated_at_to_the_virtual_clock_and_a_silent_one_does_not() {
    let source = Source::of(60).await;
    let control = source.control();
    let id = source.id(Entity::Person, 4);
    let before = control.row(Entity::Person, id).unwrap();
    control
        .update_silently(Entity::Person, id, json!({ "nickname": "Silent" }))
        .unwrap();
    let silent = control.row(Entity::Person, id).unwrap();
    assert_eq!(silent.updated_at, before.updated_at);
    assert_eq!(silent.attributes["nickname"], "Silent");

    let now = control.advance(90);
    control
        .update(Entity::Person, id, json!({ "last_name": "Loud" }))
        .unwrap();
    let loud = control.row(Entity::Person, id).unwrap();
    assert_eq!(loud.updated_at, now);
    assert_eq!(loud.attributes["updated_at"], now.to_string());
    assert!(loud.attributes["name"].as_str().unwrap().ends_with(" Loud"));

    let path = format!("/people/v2/people?order=updated_at&where[updated_at][gte]={now}");
    assert_eq!(ids(&source.walk(&path).await), [id.to_string()]);
}

#[tokio::test]
async fn a_deleted_person_takes_along_what_is_theirs() {
    let source = Source::of(200).await;
    let control = source.control();
    let household = control
        .dump(Entity::Household)
        .into_iter()
        .find(|it| it.members.len() > 1);
    let household = household.unwrap();
    let person = household.members[0].clone();
    control
        .delete(Entity::Person, person.parse().unwrap())
        .unwrap();
    for entity in Entity::ALL {
        for row in control.dump(entity) {
            assert_ne!(
                row.references.get("person_id"),
                Some(&Some(person.clone())),
                "{entity}"
            );
            assert!(!row.members.contains(&person));
        }
    }
    let left = control
        .row(Entity::Household, household.id.parse().unwrap())
        .unwrap();
    assert_eq!(left.attributes["member_count"], household.members.len() - 1);
    assert_eq!(left.attributes["primary_contact_id"], json!(null));
    assert_eq!(
        source
            .get(&format!("/people/v2/people/{person}"))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_merge_moves_children_and_leaves_a_record() {
    let source = Source::of(200).await;
    let control = source.control();
    let (keep, remove) = (source.id(Entity::Person, 1), source.id(Entity::Person, 2));
    let owned = |person: u64| {
        let rows = control.dump(Entity::Email).into_iter();
        let theirs = rows.filter(|row| row.references["person_id"] == Some(person.to_string()));
        theirs.map(|row| row.id).collect::<Vec<_>>()
    };
    let email = json!({ "address": "moved@example.org", "location": "Home", "person_id": remove });
    control.create(Entity::Email, email).unwrap();
    let (kept, moved) = (owned(keep), owned(remove));
    let merger = control.merge(keep, remove).unwrap();
    let mut expected = [kept, moved].concat();
    expected.sort_by_key(|id| id.parse::<u64>().unwrap());
    assert_eq!(owned(keep), expected);
    assert!(matches!(
        control.row(Entity::Person, remove),
        Err(Error::UnknownRecord {
            entity: Entity::Person,
            ..
        })
    ));
    let path = format!("/people/v2/person_mergers?where[person_to_remove_id]={remove}");
    assert_eq!(ids(&source.walk(&path).await), [merger.to_string()]);
}

#[tokio::test]
async fn shares_are_changed_touched_and_deleted() {
    let source = Source::of(1_000).await;
    let control = source.control();
    let before = source.truth(Entity::Address);
    let changed = control.change_share(Entity::Address, 1.0).unwrap();
    let touched = control.touch_share(Entity::Email, 1.0).unwrap();
    assert_eq!((changed.len(), touched.len()), (12, 13));
    let after = source.truth(Entity::Address);
    let differing = after
        .iter()
        .filter(|(id, row)| before[*id] != **row)
        .count();
    assert_eq!(differing, 12);
    let deleted = control.delete_share(Entity::Address, 10.0).unwrap();
    assert_eq!(deleted.len(), 120);
    assert_eq!(control.counts()[&Entity::Address], 1_080);
}

#[tokio::test]
async fn a_new_membership_counts_in_its_group() {
    let source = Source::of(100).await;
    let control = source.control();
    let count = || control.row(Entity::Group, 1).unwrap().attributes["memberships_count"].clone();
    let before = count().as_u64().unwrap();
    let person = source.id(Entity::Person, 90);
    let id = control.create(
        Entity::Membership,
        json!({ "group_id": 1, "person_id": person }),
    );
    assert_eq!(count(), before + 1);
    control.delete(Entity::Membership, id.unwrap()).unwrap();
    assert_eq!(count(), before);
}

#[tokio::test]
async fn counts_in_generated_groups_and_households_are_true() {
    let source = Source::of(500).await;
    let memberships = source.control().dump(Entity::Membership);
    for group in source.control().dump(Entity::Group) {
        let mine = |row: &&mock_api::Row| row.references["group_id"].as_ref() == Some(&group.id);
        let count = memberships.iter().filter(mine).count();
        assert_eq!(
            group.attributes["memberships_count"], count,
            "group {}",
            group.id
        );
    }
    let places = source.control().dump(Entity::HouseholdMembership);
    for household in source.control().dump(Entity::Household) {
        let mine =
            |row: &&mock_api::Row| row.references["household_id"].as_ref() == Some(&household.id);
        assert_eq!(places.iter().filter(mine).count(), household.members.len());
    }
}

#[tokio::test]
async fn what_does_not_exist_cannot_be_changed_or_referred_to() {
    let source = Source::start(MockApi::builder().people(10)).await;
    let control = source.control();
    let unknown = control.update(Entity::Person, 999, json!({})).unwrap_err();
    assert!(matches!(unknown, Error::UnknownRecord { id: 999, .. }));
    let orphan = Mutation::Create {
        entity: Entity::Email,
        attributes: Map::new(),
    };
    assert!(matches!(
        control.mutate(orphan),
        Err(Error::MissingReference { .. })
    ));
}
