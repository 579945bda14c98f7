//! One organisation's records, and every way in which they change.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::draft::Draft;
use crate::entity::Entity;
use crate::error::Error;
use crate::record::{Facts, Home, Record};
use crate::seconds::Seconds;
use crate::spec::Reference;
use crate::store::Store;

/// All records of one organisation.
pub(crate) struct Organisation {
    pub(crate) home: Home,
    stores: [Store; Entity::ALL.len()],
}

/// One record as the source holds it; what a destination is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its id, unique within its kind.
    pub id: String,
    /// When it last changed; kinds without `updated_at` have their creation here, and it is not in the attributes.
    pub updated_at: Seconds,
    /// Every attribute, as documents show them.
    pub attributes: Map<String, Value>,
    /// The ids it refers to, by the name of the reference (`person_id`, `primary_campus_id`, `group_id`); `None` is null.
    pub references: BTreeMap<String, Option<String>>,
    /// The people of a household, in its order; empty for other kinds.
    pub members: Vec<String>,
}

impl Organisation {
    pub(crate) fn new(home: Home) -> Self {
        Self {
            home,
            stores: Entity::ALL.map(Store::new),
        }
    }

    pub(crate) fn store(&self, entity: Entity) -> &Store {
        &self.stores[entity.index()]
    }

    pub(crate) fn store_mut(&mut self, entity: Entity) -> &mut Store {
        &mut self.stores[entity.index()]
    }

    pub(crate) fn find(&self, entity: Entity, id: u64) -> Result<&Record, Error> {
        self.store(entity)
            .find(id)
            .ok_or(Error::UnknownRecord { entity, id })
    }

    pub(crate) fn rows(&self, entity: Entity) -> Vec<Row> {
        let records = self.store(entity).records();
        records.iter().map(|record| row(entity, record)).collect()
    }

    pub(crate) fn row(&self, entity: Entity, id: u64) -> Result<Row, Error> {
        self.find(entity, id).map(|record| row(entity, record))
    }

    /// Creates a record from `changes` over the blank of its kind, and returns its id.
    ///
    /// Keys of references (`person_id`) are taken from the changes too.
    pub(crate) fn create(
        &mut self,
        entity: Entity,
        changes: Map<String, Value>,
        now: Seconds,
    ) -> Result<u64, Error> {
        let spec = entity.spec();
        let mut draft = Draft {
            id: self.store(entity).next_id(),
            created_at: now,
            updated_at: now,
            slots: [0; 2],
            members: Vec::new(),
            attributes: serde_json::from_str(spec.blank).expect("every blank is a JSON object"),
        };
        for name in ["created_at", "updated_at"] {
            if let Some(value) = draft.attributes.get_mut(name) {
                *value = now.to_string().into();
            }
        }
        draft.apply(entity, changes);
        for reference in spec.references.iter().filter(|reference| reference.owned) {
            if self
                .store(reference.entity)
                .find(draft.slots[reference.slot])
                .is_none()
            {
                return Err(Error::MissingReference {
                    entity,
                    key: reference.key,
                });
            }
        }
        let (id, slots) = (draft.id, draft.slots);
        self.put(entity, draft);
        match entity {
            Entity::HouseholdMembership => self.add_member(slots[0], slots[1], now),
            Entity::Membership => self.recount_memberships(&HashSet::from([slots[0]])),
            _ => {}
        }
        Ok(id)
    }

    /// Changes attributes and references; a silent change does not move `updated_at`.
    pub(crate) fn update(
        &mut self,
        entity: Entity,
        id: u64,
        changes: Map<String, Value>,
        stamp: Option<Seconds>,
    ) -> Result<(), Error> {
        let mut draft = Draft::of(self.find(entity, id)?);
        draft.apply(entity, changes);
        if let Some(now) = stamp {
            draft.touch(now);
        }
        self.put(entity, draft);
        Ok(())
    }

    pub(crate) fn touch(&mut self, entity: Entity, ids: &[u64], now: Seconds) -> Result<(), Error> {
        for &id in ids {
            self.update(entity, id, Map::new(), Some(now))?;
        }
        Ok(())
    }

    /// Deletes records with all that belongs to them; what merely refers to them is set to null.
    pub(crate) fn delete(&mut self, entity: Entity, ids: &HashSet<u64>, now: Seconds) -> usize {
        let owners = match entity {
            Entity::HouseholdMembership | Entity::Membership => self.owners(entity, ids),
            _ => HashSet::new(),
        };
        let pairs = match entity {
            Entity::HouseholdMembership => self.places(ids),
            _ => Vec::new(),
        };
        let gone = self.store_mut(entity).remove(ids);
        for (child, reference) in referrers_of(entity) {
            let held = self.holding(child, reference.slot, &gone);
            if held.is_empty() {
                continue;
            }
            if reference.owned {
                self.delete(child, &held, now);
            } else {
                self.unset(child, reference.slot, &held);
            }
        }
        match entity {
            Entity::HouseholdMembership => self.drop_members(&pairs, now),
            Entity::Membership => self.recount_memberships(&owners),
            _ => {}
        }
        gone.len()
    }

    /// Merges one person into another: what belonged to `remove` moves to `keep`, `remove` is gone,
    /// and a record of the merge appears. Returns its id.
    pub(crate) fn merge(&mut self, keep: u64, remove: u64, now: Seconds) -> Result<u64, Error> {
        self.find(Entity::Person, keep)?;
        self.find(Entity::Person, remove)?;
        for entity in [Entity::Email, Entity::PhoneNumber, Entity::Address] {
            for id in self.holding(entity, 0, &HashSet::from([remove])) {
                self.rebind(entity, id, 0, keep, Some(now));
            }
        }
        for entity in [Entity::HouseholdMembership, Entity::Membership] {
            self.move_places(entity, keep, remove, now);
        }
        self.touch(Entity::Person, &[keep], now)?;
        self.delete(Entity::Person, &HashSet::from([remove]), now);
        let mut changes = Map::new();
        changes.insert("person_to_keep_id".to_owned(), json!(keep.to_string()));
        changes.insert("person_to_remove_id".to_owned(), json!(remove.to_string()));
        self.create(Entity::PersonMerger, changes, now)
    }

    /// Moves places in households or groups, except where the survivor already has one.
    fn move_places(&mut self, entity: Entity, keep: u64, remove: u64, now: Seconds) {
        let (slot, owner) = (1, 0);
        let taken: HashSet<u64> = self
            .holding(entity, slot, &HashSet::from([keep]))
            .into_iter()
            .filter_map(|id| {
                self.store(entity)
                    .find(id)
                    .map(|record| record.slots[owner])
            })
            .collect();
        for id in self.holding(entity, slot, &HashSet::from([remove])) {
            let Some(place) = self
                .store(entity)
                .find(id)
                .map(|record| record.slots[owner])
            else {
                continue;
            };
            if !taken.contains(&place) {
                self.rebind(entity, id, slot, keep, Some(now));
                if entity == Entity::HouseholdMembership {
                    self.add_member(place, keep, now);
                }
            }
        }
    }

    fn rebind(&mut self, entity: Entity, id: u64, slot: usize, to: u64, stamp: Option<Seconds>) {
        let Some(record) = self.store(entity).find(id) else {
            return;
        };
        let mut draft = Draft::of(record);
        draft.slots[slot] = to;
        if let Some(now) = stamp {
            draft.touch(now);
        }
        self.put(entity, draft);
    }

    fn unset(&mut self, entity: Entity, slot: usize, ids: &HashSet<u64>) {
        for &id in ids {
            self.rebind(entity, id, slot, 0, None);
        }
    }

    fn owners(&self, entity: Entity, ids: &HashSet<u64>) -> HashSet<u64> {
        let records = ids.iter().filter_map(|id| self.store(entity).find(*id));
        records.map(|record| record.slots[0]).collect()
    }

    fn places(&self, ids: &HashSet<u64>) -> Vec<(u64, u64)> {
        let store = self.store(Entity::HouseholdMembership);
        let records = ids.iter().filter_map(|id| store.find(*id));
        records
            .map(|record| (record.slots[0], record.slots[1]))
            .collect()
    }

    fn holding(&self, entity: Entity, slot: usize, targets: &HashSet<u64>) -> HashSet<u64> {
        let records = self.store(entity).records().iter();
        records
            .filter(|record| record.slots[slot] != 0 && targets.contains(&record.slots[slot]))
            .map(|record| record.id)
            .collect()
    }

    fn add_member(&mut self, household: u64, person: u64, now: Seconds) {
        let Some(record) = self.store(Entity::Household).find(household) else {
            return;
        };
        let mut draft = Draft::of(record);
        if !draft.members.contains(&person) {
            draft.members = draft.members.iter().copied().chain([person]).collect();
            draft.touch(now);
            self.put(Entity::Household, draft);
        }
    }

    fn drop_members(&mut self, places: &[(u64, u64)], now: Seconds) {
        let mut by_household: BTreeMap<u64, HashSet<u64>> = BTreeMap::new();
        for (household, person) in places {
            by_household.entry(*household).or_default().insert(*person);
        }
        for (household, people) in by_household {
            let Some(record) = self.store(Entity::Household).find(household) else {
                continue;
            };
            let mut draft = Draft::of(record);
            draft.members.retain(|person| !people.contains(person));
            draft.touch(now);
            self.put(Entity::Household, draft);
        }
    }

    /// A group's count follows its memberships; nothing else about it moves.
    fn recount_memberships(&mut self, groups: &HashSet<u64>) {
        for &group in groups {
            let count = self.store(Entity::Membership).referring(0, group).count();
            let Some(record) = self.store(Entity::Group).find(group) else {
                continue;
            };
            let mut draft = Draft::of(record);
            draft
                .attributes
                .insert("memberships_count".to_owned(), json!(count));
            self.put(Entity::Group, draft);
        }
    }

    fn put(&mut self, entity: Entity, mut draft: Draft) {
        self.derive(entity, &mut draft);
        let attributes =
            serde_json::to_vec(&draft.attributes).expect("a map of JSON values is JSON");
        let facts = Facts {
            id: draft.id,
            created_at: draft.created_at,
            updated_at: draft.updated_at,
            slots: draft.slots,
            members: draft.members.into(),
            attributes: &attributes,
        };
        let record = Record::new(entity.spec(), &self.home, facts);
        self.store_mut(entity).put(record);
    }

    /// Attributes that follow from others.
    fn derive(&self, entity: Entity, draft: &mut Draft) {
        match entity {
            Entity::Person => {
                let part = |name: &str| draft.attributes[name].as_str().map(str::to_owned);
                let parts = [part("first_name"), part("last_name")];
                let name = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
                draft.attributes.insert("name".to_owned(), name.into());
            }
            Entity::Household => {
                let contact = self.store(Entity::Person).find(draft.slots[0]);
                let id = contact.map(|person| person.id.to_string());
                let name = contact.map(|person| person.attribute("name"));
                draft
                    .attributes
                    .insert("primary_contact_id".to_owned(), json!(id));
                draft
                    .attributes
                    .insert("primary_contact_name".to_owned(), json!(name));
                draft
                    .attributes
                    .insert("member_count".to_owned(), json!(draft.members.len()));
            }
            Entity::HouseholdMembership => {
                let person = self.store(Entity::Person).find(draft.slots[1]);
                let name = person.map(|person| person.attribute("name"));
                draft
                    .attributes
                    .insert("person_name".to_owned(), json!(name));
            }
            Entity::PhoneNumber => derive_phone_number(&mut draft.attributes),
            Entity::Campus
            | Entity::Email
            | Entity::Address
            | Entity::PersonMerger
            | Entity::GroupType
            | Entity::Group
            | Entity::Membership
            | Entity::Event => {}
        }
    }
}

fn derive_phone_number(attributes: &mut Map<String, Value>) {
    let number = attributes["number"].as_str().unwrap_or_default();
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let national = number.to_owned();
    attributes.insert("e164".to_owned(), format!("+1{digits}").into());
    attributes.insert("international".to_owned(), format!("+1 {national}").into());
    attributes.insert("national".to_owned(), national.into());
}

/// Every reference in the data to records of `entity`.
fn referrers_of(entity: Entity) -> impl Iterator<Item = (Entity, &'static Reference)> {
    Entity::ALL.into_iter().flat_map(move |child| {
        let references = child.spec().references.iter();
        references
            .filter(move |reference| reference.entity == entity)
            .map(move |reference| (child, reference))
    })
}

fn row(entity: Entity, record: &Record) -> Row {
    let references = entity.spec().references.iter().map(|reference| {
        let id = record.slots[reference.slot];
        (reference.key.to_owned(), (id != 0).then(|| id.to_string()))
    });
    Row {
        id: record.id.to_string(),
        updated_at: record.updated_at,
        attributes: record.attribute_map(),
        references: references.collect(),
        members: record.members.iter().map(u64::to_string).collect(),
    }
}
