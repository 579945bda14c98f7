//! The groups product.

use super::{Create, NOTHING, OWNER, Reference, Spec, children, one};
use crate::entity::{Entity, Product};

pub(super) static GROUP_TYPE: Spec = Spec {
    entity: Entity::GroupType,
    product: Product::Groups,
    kind: "GroupType",
    collection: "group_types",
    order: &["name", "position"],
    query: &["id", "name"],
    blank: r##"{"church_center_visible":true,"color":"#4fd2a0","description":null,"name":null,"position":0}"##,
    ..NOTHING
};

pub(super) static GROUP: Spec = Spec {
    entity: Entity::Group,
    product: Product::Groups,
    kind: "Group",
    collection: "groups",
    references: &[Reference {
        name: "group_type",
        entity: Entity::GroupType,
        kind: "GroupType",
        slot: 0,
        shown: true,
        owned: false,
        key: "group_type_id",
    }],
    nulls: &["location"],
    nested: &[
        children("events", Entity::Event, 0, false),
        one("group_type", Entity::GroupType, 0),
        children("memberships", Entity::Membership, 0, false),
    ],
    order: &["name"],
    query: &["archive_status", "name"],
    update: true,
    writable: &[
        "contact_email",
        "description",
        "events_visibility",
        "location_type_preference",
        "name",
        "schedule",
        "virtual_location_url",
    ],
    blank: r#"{"archived_at":null,"contact_email":null,"created_at":null,"description":null,"events_visibility":"members","header_image":{"thumbnail":null,"medium":null,"original":null},"location_type_preference":"physical","memberships_count":0,"name":null,"public_church_center_web_url":null,"schedule":null,"virtual_location_url":null}"#,
    ..NOTHING
};

pub(super) static MEMBERSHIP: Spec = Spec {
    entity: Entity::Membership,
    product: Product::Groups,
    kind: "Membership",
    collection: "memberships",
    parent: Some((0, Entity::Group)),
    references: &[
        Reference {
            name: "group",
            entity: Entity::Group,
            kind: "Group",
            slot: 0,
            shown: true,
            owned: true,
            key: "group_id",
        },
        Reference { slot: 1, ..OWNER },
    ],
    nested: &[
        one("group", Entity::Group, 0),
        one("person", Entity::Person, 1),
    ],
    order: &["first_name", "last_name", "joined_at", "role"],
    query: &["role"],
    create: Create::Under(0),
    update: true,
    delete: true,
    writable: &["joined_at", "person_id", "role"],
    required: &["person_id"],
    blank: r#"{"joined_at":null,"role":"member"}"#,
    ..NOTHING
};

pub(super) static EVENT: Spec = Spec {
    entity: Entity::Event,
    product: Product::Groups,
    kind: "Event",
    collection: "events",
    references: &[
        Reference {
            name: "attendance_submitter",
            entity: Entity::Person,
            kind: "Person",
            slot: 1,
            shown: true,
            owned: false,
            key: "attendance_submitter_id",
        },
        Reference {
            name: "group",
            entity: Entity::Group,
            kind: "Group",
            slot: 0,
            shown: true,
            owned: true,
            key: "group_id",
        },
    ],
    nulls: &["location", "repeating_event"],
    nested: &[
        one("attendance_submitter", Entity::Person, 1),
        one("group", Entity::Group, 0),
    ],
    order: &["name", "starts_at", "ends_at"],
    query: &["name", "starts_at", "ends_at"],
    filter: &["upcoming", "past", "canceled", "not_canceled"],
    blank: r#"{"attendance_requests_enabled":false,"automated_reminder_enabled":false,"canceled":false,"canceled_at":null,"description":null,"ends_at":null,"location_type_preference":"physical","multi_day":false,"name":null,"reminders_sent":false,"reminders_sent_at":null,"repeating":false,"starts_at":null,"virtual_location_url":null,"visitors_count":null}"#,
    ..NOTHING
};
