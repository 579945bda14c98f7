//! What each kind of record offers over HTTP: one table row per kind.

use crate::entity::{Entity, Product};

/// The rules of one kind of record.
pub(crate) struct Spec {
    pub(crate) entity: Entity,
    pub(crate) product: Product,
    pub(crate) kind: &'static str,
    pub(crate) collection: &'static str,
    /// The slot and kind of the record beneath which alone it is listed.
    pub(crate) parent: Option<(usize, Entity)>,
    /// References to one record each, in the order of their names.
    pub(crate) references: &'static [Reference],
    /// Relationships that are always null here.
    pub(crate) nulls: &'static [&'static str],
    /// Whether its documents name their organisation.
    pub(crate) organization: bool,
    pub(crate) nested: &'static [Nested],
    pub(crate) order: &'static [&'static str],
    pub(crate) query: &'static [&'static str],
    pub(crate) filter: &'static [&'static str],
    pub(crate) create: Create,
    pub(crate) update: bool,
    pub(crate) delete: bool,
    pub(crate) writable: &'static [&'static str],
    pub(crate) required: &'static [&'static str],
    /// The attributes of a record that a caller creates, before what the caller sets.
    pub(crate) blank: &'static str,
}

/// A reference to one other record.
pub(crate) struct Reference {
    pub(crate) name: &'static str,
    pub(crate) entity: Entity,
    /// The `type` that documents give for it, which is not always the target's own.
    pub(crate) kind: &'static str,
    pub(crate) slot: usize,
    pub(crate) shown: bool,
    /// Whether the record goes when its target goes; otherwise the reference becomes null.
    pub(crate) owned: bool,
    /// The attribute that sets it on writes.
    pub(crate) key: &'static str,
}

/// A path beneath a record; also what `include` accepts.
pub(crate) struct Nested {
    pub(crate) name: &'static str,
    pub(crate) entity: Entity,
    pub(crate) by: By,
    pub(crate) includable: bool,
}

/// How nested records are found.
#[derive(Clone, Copy)]
pub(crate) enum By {
    /// This record's own reference.
    One(usize),
    /// Records whose slot refers to this one.
    Slot(usize),
    /// The people named by a household.
    Members,
    /// The households of a person, through household memberships.
    Households,
}

/// Where a record is created.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Create {
    Never,
    Top,
    /// Beneath the record that this slot refers to.
    Under(usize),
}

impl Entity {
    pub(crate) fn spec(self) -> &'static Spec {
        match self {
            Self::Campus => &CAMPUS,
            Self::Person => &PERSON,
            Self::Household => &HOUSEHOLD,
            Self::HouseholdMembership => &HOUSEHOLD_MEMBERSHIP,
            Self::Email => &EMAIL,
            Self::PhoneNumber => &PHONE_NUMBER,
            Self::Address => &ADDRESS,
            Self::PersonMerger => &PERSON_MERGER,
            Self::GroupType => &GROUP_TYPE,
            Self::Group => &GROUP,
            Self::Membership => &MEMBERSHIP,
            Self::Event => &EVENT,
        }
    }
}

impl Spec {
    pub(crate) fn nested(&self, name: &str) -> Option<&'static Nested> {
        let spec = self.entity.spec();
        spec.nested.iter().find(|nested| nested.name == name)
    }

    pub(crate) fn includes(&self) -> impl Iterator<Item = &'static str> {
        let spec = self.entity.spec();
        let includable = spec.nested.iter().filter(|nested| nested.includable);
        includable.map(|nested| nested.name)
    }
}

const NOTHING: Spec = Spec {
    entity: Entity::Campus,
    product: Product::People,
    kind: "",
    collection: "",
    parent: None,
    references: &[],
    nulls: &[],
    organization: false,
    nested: &[],
    order: &[],
    query: &[],
    filter: &[],
    create: Create::Never,
    update: false,
    delete: false,
    writable: &[],
    required: &[],
    blank: "{}",
};

const OWNER: Reference = Reference {
    name: "person",
    entity: Entity::Person,
    kind: "Person",
    slot: 0,
    shown: true,
    owned: true,
    key: "person_id",
};

const OF_PERSON: Nested = one("person", Entity::Person, 0);

const fn one(name: &'static str, entity: Entity, slot: usize) -> Nested {
    Nested {
        name,
        entity,
        by: By::One(slot),
        includable: true,
    }
}

const fn children(name: &'static str, entity: Entity, slot: usize, includable: bool) -> Nested {
    Nested {
        name,
        entity,
        by: By::Slot(slot),
        includable,
    }
}

static CAMPUS: Spec = Spec {
    entity: Entity::Campus,
    kind: "Campus",
    collection: "campuses",
    organization: true,
    order: &["name", "created_at", "updated_at"],
    query: &["id", "created_at", "updated_at"],
    create: Create::Top,
    update: true,
    delete: true,
    writable: &[
        "church_center_enabled",
        "city",
        "contact_email_address",
        "country",
        "date_format",
        "description",
        "latitude",
        "longitude",
        "name",
        "phone_number",
        "state",
        "street",
        "time_zone",
        "website",
        "zip",
    ],
    required: &["name"],
    blank: r#"{"avatar_url":null,"church_center_enabled":false,"city":null,"contact_email_address":null,"country":null,"created_at":null,"date_format":null,"description":null,"latitude":null,"longitude":null,"name":null,"phone_number":null,"state":null,"street":null,"time_zone":null,"updated_at":null,"website":null,"zip":null}"#,
    ..NOTHING
};

static PERSON: Spec = Spec {
    entity: Entity::Person,
    kind: "Person",
    collection: "people",
    references: &[Reference {
        name: "primary_campus",
        entity: Entity::Campus,
        kind: "PrimaryCampus",
        slot: 0,
        shown: true,
        owned: false,
        key: "primary_campus_id",
    }],
    nested: &[
        children("addresses", Entity::Address, 0, true),
        children("emails", Entity::Email, 0, true),
        children(
            "household_memberships",
            Entity::HouseholdMembership,
            1,
            false,
        ),
        Nested {
            name: "households",
            entity: Entity::Household,
            by: By::Households,
            includable: true,
        },
        children("memberships", Entity::Membership, 1, false),
        children("phone_numbers", Entity::PhoneNumber, 0, true),
        one("primary_campus", Entity::Campus, 0),
    ],
    order: &[
        "accounting_administrator",
        "anniversary",
        "birthdate",
        "child",
        "given_name",
        "grade",
        "graduation_year",
        "middle_name",
        "nickname",
        "people_permissions",
        "site_administrator",
        "gender",
        "inactivated_at",
        "created_at",
        "updated_at",
        "first_name",
        "last_name",
        "remote_id",
        "membership",
        "status",
    ],
    query: &[
        "accounting_administrator",
        "anniversary",
        "birthdate",
        "child",
        "given_name",
        "grade",
        "graduation_year",
        "middle_name",
        "nickname",
        "people_permissions",
        "site_administrator",
        "gender",
        "inactivated_at",
        "medical_notes",
        "membership",
        "created_at",
        "updated_at",
        "search_name",
        "search_name_or_email",
        "first_name",
        "last_name",
        "id",
        "primary_campus_id",
        "remote_id",
        "status",
    ],
    filter: &["admins"],
    create: Create::Top,
    update: true,
    delete: true,
    writable: &[
        "anniversary",
        "avatar",
        "birthdate",
        "child",
        "first_name",
        "gender",
        "given_name",
        "grade",
        "graduation_year",
        "inactivated_at",
        "last_name",
        "medical_notes",
        "membership",
        "middle_name",
        "nickname",
        "primary_campus_id",
        "remote_id",
        "status",
    ],
    required: &["first_name"],
    blank: r#"{"accounting_administrator":false,"anniversary":null,"avatar":null,"birthdate":null,"can_create_forms":false,"can_email_lists":false,"child":false,"created_at":null,"demographic_avatar_url":null,"directory_status":"no_access","first_name":null,"gender":null,"given_name":null,"grade":null,"graduation_year":null,"inactivated_at":null,"last_name":null,"login_identifier":null,"medical_notes":null,"membership":null,"middle_name":null,"name":null,"nickname":null,"passed_background_check":false,"people_permissions":null,"remote_id":null,"resource_permission_flags":null,"school_type":null,"site_administrator":false,"status":"active","updated_at":null}"#,
    ..NOTHING
};

static HOUSEHOLD: Spec = Spec {
    entity: Entity::Household,
    kind: "Household",
    collection: "households",
    references: &[Reference {
        name: "primary_contact",
        entity: Entity::Person,
        kind: "Person",
        slot: 0,
        shown: true,
        owned: false,
        key: "primary_contact_id",
    }],
    nested: &[
        children(
            "household_memberships",
            Entity::HouseholdMembership,
            0,
            false,
        ),
        Nested {
            name: "people",
            entity: Entity::Person,
            by: By::Members,
            includable: true,
        },
        one("primary_contact", Entity::Person, 0),
    ],
    order: &[
        "name",
        "member_count",
        "primary_contact_name",
        "created_at",
        "updated_at",
    ],
    query: &[
        "name",
        "member_count",
        "primary_contact_name",
        "created_at",
        "updated_at",
        "id",
    ],
    create: Create::Top,
    update: true,
    delete: true,
    writable: &["avatar", "name", "primary_contact_id"],
    required: &["name"],
    blank: r#"{"avatar":null,"created_at":null,"member_count":0,"name":null,"primary_contact_id":null,"primary_contact_name":null,"updated_at":null}"#,
    ..NOTHING
};

static HOUSEHOLD_MEMBERSHIP: Spec = Spec {
    entity: Entity::HouseholdMembership,
    kind: "HouseholdMembership",
    collection: "household_memberships",
    parent: Some((0, Entity::Household)),
    references: &[
        Reference {
            name: "household",
            entity: Entity::Household,
            kind: "Household",
            slot: 0,
            shown: false,
            owned: true,
            key: "household_id",
        },
        Reference { slot: 1, ..OWNER },
    ],
    nested: &[one("person", Entity::Person, 1)],
    order: &["pending", "person_name"],
    query: &["pending", "person_name"],
    create: Create::Under(0),
    update: true,
    delete: true,
    writable: &["pending", "person_id"],
    required: &["person_id"],
    blank: r#"{"pending":false,"person_name":null}"#,
    ..NOTHING
};

static EMAIL: Spec = Spec {
    entity: Entity::Email,
    kind: "Email",
    collection: "emails",
    references: &[OWNER],
    nested: &[OF_PERSON],
    order: &["address", "location", "primary", "created_at", "updated_at"],
    query: &[
        "address",
        "blocked",
        "location",
        "primary",
        "created_at",
        "updated_at",
        "id",
    ],
    create: Create::Under(0),
    update: true,
    delete: true,
    writable: &["address", "location", "primary"],
    required: &["address", "location"],
    blank: r#"{"address":null,"blocked":false,"created_at":null,"location":null,"primary":false,"updated_at":null}"#,
    ..NOTHING
};

static PHONE_NUMBER: Spec = Spec {
    entity: Entity::PhoneNumber,
    kind: "PhoneNumber",
    collection: "phone_numbers",
    references: &[OWNER],
    nested: &[OF_PERSON],
    order: &[
        "carrier",
        "location",
        "number",
        "primary",
        "created_at",
        "updated_at",
    ],
    query: &[
        "carrier",
        "location",
        "number",
        "primary",
        "created_at",
        "updated_at",
        "id",
    ],
    create: Create::Under(0),
    update: true,
    delete: true,
    writable: &["carrier", "country_code", "location", "number", "primary"],
    required: &["number", "location"],
    blank: r#"{"carrier":null,"country_code":"US","created_at":null,"e164":null,"international":null,"location":null,"national":null,"number":null,"primary":false,"updated_at":null}"#,
    ..NOTHING
};

static ADDRESS: Spec = Spec {
    entity: Entity::Address,
    kind: "Address",
    collection: "addresses",
    references: &[OWNER],
    nested: &[OF_PERSON],
    order: &[
        "city",
        "country_code",
        "location",
        "primary",
        "state",
        "street_line_1",
        "street_line_2",
        "zip",
        "created_at",
        "updated_at",
    ],
    query: &[
        "city",
        "country_code",
        "location",
        "primary",
        "state",
        "street_line_1",
        "street_line_2",
        "zip",
    ],
    create: Create::Under(0),
    update: true,
    delete: true,
    writable: &[
        "city",
        "country_code",
        "location",
        "primary",
        "state",
        "street_line_1",
        "street_line_2",
        "zip",
    ],
    required: &["location"],
    blank: r#"{"city":null,"country_code":"US","country_name":"United States","created_at":null,"location":null,"primary":false,"state":null,"street_line_1":null,"street_line_2":null,"updated_at":null,"zip":null}"#,
    ..NOTHING
};

static PERSON_MERGER: Spec = Spec {
    entity: Entity::PersonMerger,
    kind: "PersonMerger",
    collection: "person_mergers",
    order: &["created_at"],
    query: &["created_at", "person_to_keep_id", "person_to_remove_id"],
    blank: r#"{"created_at":null,"person_to_keep_id":null,"person_to_remove_id":null}"#,
    ..NOTHING
};

static GROUP_TYPE: Spec = Spec {
    entity: Entity::GroupType,
    product: Product::Groups,
    kind: "GroupType",
    collection: "group_types",
    order: &["name", "position"],
    query: &["id", "name"],
    blank: r##"{"church_center_visible":true,"color":"#4fd2a0","description":null,"name":null,"position":0}"##,
    ..NOTHING
};

static GROUP: Spec = Spec {
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

static MEMBERSHIP: Spec = Spec {
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

static EVENT: Spec = Spec {
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
