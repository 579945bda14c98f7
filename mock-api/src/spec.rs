//! What each kind of record offers over HTTP: one table row per kind.

mod groups;
mod people;

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
            Self::Campus => &people::CAMPUS,
            Self::Person => &people::PERSON,
            Self::Household => &people::HOUSEHOLD,
            Self::HouseholdMembership => &people::HOUSEHOLD_MEMBERSHIP,
            Self::Email => &people::EMAIL,
            Self::PhoneNumber => &people::PHONE_NUMBER,
            Self::Address => &people::ADDRESS,
            Self::PersonMerger => &people::PERSON_MERGER,
            Self::GroupType => &groups::GROUP_TYPE,
            Self::Group => &groups::GROUP,
            Self::Membership => &groups::MEMBERSHIP,
            Self::Event => &groups::EVENT,
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
