//! Changes to the data that tests ask for.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::entity::Entity;
use crate::error::Error;
use crate::organisation::Organisation;
use crate::seconds::Seconds;

/// A change to an organisation's data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mutation {
    /// Creates a record. References are given by key: `person_id`, `primary_campus_id`.
    Create {
        /// The kind of record.
        entity: Entity,
        /// Attributes and references that differ from the blank.
        attributes: Map<String, Value>,
    },
    /// Changes a record.
    Update {
        /// The kind of record.
        entity: Entity,
        /// Its id.
        id: u64,
        /// Attributes and references to set.
        attributes: Map<String, Value>,
        /// Leaves `updated_at` as it is.
        #[serde(default)]
        silent: bool,
    },
    /// Moves `updated_at` and nothing else.
    Touch {
        /// The kind of record.
        entity: Entity,
        /// Their ids.
        ids: Vec<u64>,
    },
    /// Deletes records with all that belongs to them.
    Delete {
        /// The kind of record.
        entity: Entity,
        /// Their ids; those that do not exist are passed over.
        ids: Vec<u64>,
    },
    /// Merges one person into another.
    Merge {
        /// The survivor.
        keep: u64,
        /// The person who goes.
        remove: u64,
    },
    /// Changes an attribute of a share of the records, spread evenly over the list.
    ChangeShare {
        /// The kind of record.
        entity: Entity,
        /// How many of a hundred.
        percent: f64,
        /// Leaves `updated_at` as it is.
        #[serde(default)]
        silent: bool,
    },
    /// Moves `updated_at` of a share of the records.
    TouchShare {
        /// The kind of record.
        entity: Entity,
        /// How many of a hundred.
        percent: f64,
    },
    /// Deletes a share of the records.
    DeleteShare {
        /// The kind of record.
        entity: Entity,
        /// How many of a hundred.
        percent: f64,
    },
}

impl Mutation {
    /// Applies the change and returns the ids of the records it named or chose.
    pub(crate) fn apply(
        self,
        organisation: &mut Organisation,
        now: Seconds,
        serial: u64,
    ) -> Result<Vec<u64>, Error> {
        match self {
            Self::Create { entity, attributes } => organisation
                .create(entity, attributes, now)
                .map(|id| vec![id]),
            Self::Update {
                entity,
                id,
                attributes,
                silent,
            } => {
                organisation.update(entity, id, attributes, (!silent).then_some(now))?;
                Ok(vec![id])
            }
            Self::Touch { entity, ids } => {
                organisation.touch(entity, &ids, now)?;
                Ok(ids)
            }
            Self::Delete { entity, ids } => {
                delete(organisation, entity, &ids, now);
                Ok(ids)
            }
            Self::Merge { keep, remove } => organisation
                .merge(keep, remove, now)
                .map(|merger| vec![merger]),
            Self::ChangeShare {
                entity,
                percent,
                silent,
            } => {
                let ids = share(organisation, entity, percent);
                for &id in &ids {
                    let changes = change(organisation, entity, id, serial)?;
                    organisation.update(entity, id, changes, (!silent).then_some(now))?;
                }
                Ok(ids)
            }
            Self::TouchShare { entity, percent } => {
                let ids = share(organisation, entity, percent);
                organisation.touch(entity, &ids, now)?;
                Ok(ids)
            }
            Self::DeleteShare { entity, percent } => {
                let ids = share(organisation, entity, percent);
                delete(organisation, entity, &ids, now);
                Ok(ids)
            }
        }
    }
}

fn delete(organisation: &mut Organisation, entity: Entity, ids: &[u64], now: Seconds) {
    let ids: HashSet<u64> = ids.iter().copied().collect();
    organisation.delete(entity, &ids, now);
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a list is an approximate, small, positive number"
)]
fn share(organisation: &Organisation, entity: Entity, percent: f64) -> Vec<u64> {
    let records = organisation.store(entity).records();
    let wanted = (records.len() as f64 * percent.clamp(0.0, 100.0) / 100.0).round() as usize;
    (0..wanted)
        .map(|index| records[records.len() * index / wanted].id)
        .collect()
}

/// A change that is visible in the record's documents.
fn change(
    organisation: &Organisation,
    entity: Entity,
    id: u64,
    serial: u64,
) -> Result<Map<String, Value>, Error> {
    let record = organisation.find(entity, id)?;
    let text = |what: &str| json!(format!("{what} {serial}"));
    let (name, value) = match entity {
        Entity::Person => ("nickname", text("Nick")),
        Entity::Household => ("name", text("Renamed Household")),
        Entity::HouseholdMembership => (
            "pending",
            json!(record.attribute("pending") != Value::Bool(true)),
        ),
        Entity::Email => (
            "address",
            json!(format!("changed{serial}.{id}@example.org")),
        ),
        Entity::PhoneNumber => (
            "number",
            json!(format!("(555) {:03}-{:04}", serial % 1_000, id % 10_000)),
        ),
        Entity::Address => ("street_line_2", text("Apt")),
        Entity::Membership => {
            let leads = record.attribute("role") == "leader";
            ("role", json!(if leads { "member" } else { "leader" }))
        }
        Entity::PersonMerger => ("person_to_keep_id", json!(serial.to_string())),
        Entity::Campus | Entity::GroupType | Entity::Group | Entity::Event => {
            ("description", text("Changed"))
        }
    };
    Ok(Map::from_iter([(name.to_owned(), value)]))
}
