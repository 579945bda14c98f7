//! A record to be created or changed, checked against the schema before it leaves.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sync_core::{
    Entity, ExternalId, Field, FieldType, JsonPath, Manifest,
    mapping::{Convert, Source},
};

use super::{Error, FieldProblem};

/// Values for columns of an entity, for a create or an update.
///
/// ```
/// use sync_adapters::Draft;
/// let draft = Draft::new().set("first_name", "Ada").set("child", false);
/// assert_eq!(draft.columns().count(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    values: BTreeMap<String, Value>,
}

impl Draft {
    /// A draft without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a canonical column; `null` clears it.
    #[must_use]
    pub fn set(mut self, column: impl Into<String>, value: impl Into<Value>) -> Self {
        self.values.insert(column.into(), value.into());
        self
    }

    /// The columns that are set.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The document that the API takes, in the shape in which it sends them.
    pub(super) fn document(
        &self,
        manifest: &Manifest,
        entity: &Entity,
        id: Option<&ExternalId>,
    ) -> Result<Value, Error> {
        let mut document = Value::Object(Map::new());
        if let Some(path) = &entity.mapping.record_type {
            put(&mut document, path, json!(entity.record_type));
        }
        if let Some(id) = id {
            put(&mut document, &entity.mapping.id, json!(id));
        }
        let mut problems = Vec::new();
        for (column, value) in &self.values {
            match place(manifest, entity, column, value) {
                Ok((path, value)) => put(&mut document, path, value),
                Err(problem) => {
                    problems.push(FieldProblem {
                        field: column.clone(),
                        problem: problem.into(),
                    });
                }
            }
        }
        if !problems.is_empty() {
            return Err(Error::Validation { fields: problems });
        }
        let mut body = Value::Object(Map::new());
        put(&mut body, &entity.pagination.records, document);
        Ok(body)
    }
}

/// Where a column's value goes in the document, and in which shape.
fn place<'e>(
    manifest: &Manifest,
    entity: &'e Entity,
    column: &str,
    value: &Value,
) -> Result<(&'e JsonPath, Value), &'static str> {
    let (_, field) = entity
        .schema
        .field(column)
        .ok_or("there is no such column")?;
    if value.is_null() && field.required {
        return Err("the column is required");
    }
    let mapped = entity
        .mapping
        .fields
        .iter()
        .find(|mapped| mapped.column == field.name);
    let mapped = mapped.ok_or("the API has no such field")?;
    let Source::Path(path) = &mapped.from else {
        return Err("the parent is part of the path");
    };
    let by_default = if field.references.is_some() {
        Convert::Reference
    } else {
        Convert::Typed
    };
    let shaped = shape(manifest, field, mapped.convert.unwrap_or(by_default), value);
    Ok((path, shaped.ok_or("the value does not fit the column")?))
}

fn shape(manifest: &Manifest, field: &Field, convert: Convert, value: &Value) -> Option<Value> {
    if value.is_null() {
        return Some(Value::Null);
    }
    match convert {
        Convert::Typed => fits(field.field_type, value).then(|| value.clone()),
        Convert::Reference => reference(manifest, field, value),
        Convert::ReferenceIds => {
            let ids = value
                .as_array()?
                .iter()
                .map(|id| reference(manifest, field, id));
            ids.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Convert::UnixSeconds => instant(value).map(|instant| json!(instant.as_second())),
        Convert::UnixMillis => instant(value).map(|instant| json!(instant.as_millisecond())),
    }
}

fn reference(manifest: &Manifest, field: &Field, id: &Value) -> Option<Value> {
    let id = ExternalId::new(id.as_str()?).ok()?;
    let target = manifest.entity(&field.references.as_ref()?.entity)?;
    Some(json!({ "type": target.record_type, "id": id }))
}

fn fits(field_type: FieldType, value: &Value) -> bool {
    match field_type {
        FieldType::Text => value.is_string(),
        FieldType::Integer => value.is_i64(),
        FieldType::Float => value.is_number(),
        FieldType::Boolean => value.is_boolean(),
        FieldType::Date => value
            .as_str()
            .is_some_and(|text| text.parse::<jiff::civil::Date>().is_ok()),
        FieldType::Timestamp => instant(value).is_some(),
        FieldType::Json => true,
    }
}

fn instant(value: &Value) -> Option<jiff::Timestamp> {
    value.as_str()?.parse().ok()
}

/// Puts a value at a path, making the objects on the way. The empty path is the document itself.
fn put(document: &mut Value, path: &JsonPath, value: Value) {
    let mut place = document;
    for key in path.segments() {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = place
            .as_object_mut()
            .expect("it was made an object above")
            .entry(&**key)
            .or_insert(Value::Null);
    }
    *place = value;
}
