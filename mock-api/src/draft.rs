//! A record being changed.

use serde_json::{Map, Value};

use crate::entity::Entity;
use crate::record::Record;
use crate::seconds::Seconds;

/// A record being changed.
pub(crate) struct Draft {
    pub(crate) id: u64,
    pub(crate) created_at: Seconds,
    pub(crate) updated_at: Seconds,
    pub(crate) slots: [u64; 2],
    pub(crate) members: Vec<u64>,
    pub(crate) attributes: Map<String, Value>,
}

impl Draft {
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            id: record.id,
            created_at: record.created_at,
            updated_at: record.updated_at,
            slots: record.slots,
            members: record.members.to_vec(),
            attributes: record.attribute_map(),
        }
    }

    pub(crate) fn touch(&mut self, now: Seconds) {
        self.updated_at = now;
        if let Some(value) = self.attributes.get_mut("updated_at") {
            *value = now.to_string().into();
        }
    }

    /// Takes over the changes; keys of references go to their slots, times to the sort keys.
    pub(crate) fn apply(&mut self, entity: Entity, changes: Map<String, Value>) {
        for (name, value) in changes {
            let references = entity.spec().references.iter();
            if let Some(reference) = references
                .into_iter()
                .find(|reference| reference.key == name)
            {
                self.slots[reference.slot] = id_of(&value);
                continue;
            }
            let at = value.as_str().and_then(Seconds::parse);
            match (name.as_str(), at) {
                ("created_at", Some(at)) => self.created_at = at,
                ("updated_at", Some(at)) => self.updated_at = at,
                _ => {}
            }
            self.attributes.insert(name, value);
        }
    }
}

/// Ids come as strings or as numbers; anything else is null.
pub(crate) fn id_of(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.parse().unwrap_or(0),
        Value::Number(number) => number.as_u64().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => 0,
    }
}
