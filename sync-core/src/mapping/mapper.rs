//! The compiled mapping of one entity.

use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    Convert, Source,
    convert::{self, Scalar},
    digest::Digest,
    plan::{Plan, Slot},
    walk::{Compound, Sink, json_digest, walk},
};
use crate::{
    manifest::{Entity, EntityProblem},
    names::ExternalId,
    record::{ContentHash, QuarantineReason, Quarantined, Record, Value},
    schema::{Field, FieldType},
};

/// The longest part of a foreign type name that a quarantine reason keeps.
const MAX_FOUND: usize = 40;

/// The mapping of one entity, compiled: give it documents, take records. Cheap to share, holds no state.
#[derive(Debug, Clone)]
pub struct Mapper {
    plan: Plan,
    ids: Plan,
    fields: Vec<Field>,
    /// The names that a document may call itself; the first is the API's own.
    record_types: Vec<String>,
    /// The names that a reference may use, for each field that is one.
    targets: Vec<Option<Vec<String>>>,
    from_parent: Vec<usize>,
    updated_at: Option<usize>,
}

impl Mapper {
    /// Compiles the mapping of an entity; its foreign keys look up their targets among `entities`.
    ///
    /// # Errors
    /// The column that is mapped but not in the schema, by name.
    pub(crate) fn compile(entity: &Entity, entities: &[Entity]) -> Result<Self, EntityProblem> {
        let mapping = &entity.mapping;
        let mut plan = Plan::new();
        let mut from_parent = Vec::new();
        plan.read(&mapping.id, Slot::Id);
        if let Some(path) = &mapping.record_type {
            plan.read(path, Slot::RecordType);
        }
        mapping.ignore.iter().for_each(|path| plan.ignore(path));
        for field_mapping in &mapping.fields {
            let (index, field) = column(entity, field_mapping.column.as_str())?;
            match &field_mapping.from {
                Source::Path(path) => {
                    let convert = field_mapping
                        .convert
                        .unwrap_or_else(|| default_convert(field));
                    plan.read_column(path, index, field.field_type, convert);
                }
                Source::Parent => from_parent.push(index),
            }
        }
        let mut ids = Plan::new();
        ids.read(&mapping.id, Slot::Id);
        let cursor = entity.cursor.as_ref().map(|cursor| &cursor.field);
        let updated_at = mapping.updated_at.as_ref().or(cursor);
        let updated_at = updated_at
            .map(|name| column(entity, name.as_str()))
            .transpose()?;
        Ok(Self {
            plan,
            ids,
            record_types: names_of(entity),
            targets: entity
                .schema
                .fields
                .iter()
                .map(|field| target(field, entities))
                .collect(),
            fields: entity.schema.fields.clone(),
            from_parent,
            updated_at: updated_at.map(|(index, _)| index),
        })
    }

    /// Maps one document. `parent` is the record under which it was listed, for nested lists.
    ///
    /// # Errors
    /// The document set aside, with the first reason found. It never fails the page that it is on.
    pub fn map(&self, raw: &RawValue, parent: Option<&ExternalId>) -> Result<Record, Quarantined> {
        self.map_owned(raw.to_owned(), parent)
    }

    /// Maps one document as [`Mapper::map`] does, and keeps it without copying it.
    ///
    /// # Errors
    /// As [`Mapper::map`].
    pub fn map_owned(
        &self,
        raw: Box<RawValue>,
        parent: Option<&ExternalId>,
    ) -> Result<Record, Quarantined> {
        let mut reading = Reading::new(self);
        let walked = walk(&self.plan, &mut reading, &raw);
        let Ok(digest) = walked else {
            return Err(reading.set_aside(raw, QuarantineReason::Unreadable));
        };
        self.fill_from_parent(&mut reading.values, parent);
        if let Some(reason) = reading.first_problem() {
            return Err(reading.set_aside(raw, reason));
        }
        let values = reading.values;
        Ok(Record {
            content_hash: content_hash(&values, parent, digest),
            source_updated_at: self
                .updated_at
                .and_then(|index| values[index].as_timestamp()),
            external_id: reading
                .external_id
                .expect("a record without id has a problem"),
            values,
            raw,
            parent_id: parent.cloned(),
        })
    }

    /// Reads only the id of a document, such as a sparse row of an audit walk.
    ///
    /// # Errors
    /// Why the document has no usable id.
    pub fn identify(&self, raw: &RawValue) -> Result<ExternalId, QuarantineReason> {
        let mut reading = Reading::new(self);
        walk(&self.ids, &mut reading, raw).map_err(|_| QuarantineReason::Unreadable)?;
        let problem = reading.problem.unwrap_or(QuarantineReason::MissingId);
        reading.external_id.ok_or(problem)
    }

    /// The fields of the schema, in the order of a record's values.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn fill_from_parent(&self, values: &mut [Value], parent: Option<&ExternalId>) {
        for index in &self.from_parent {
            values[*index] =
                parent.map_or(Value::Null, |parent| Value::Text(parent.as_str().into()));
        }
    }
}

fn column<'e>(entity: &'e Entity, name: &str) -> Result<(usize, &'e Field), EntityProblem> {
    let found = entity.schema.field(name);
    found.ok_or_else(|| EntityProblem::UnknownColumn {
        column: name.to_owned(),
    })
}

fn default_convert(field: &Field) -> Convert {
    if field.references.is_some() {
        Convert::Reference
    } else {
        Convert::Typed
    }
}

fn names_of(entity: &Entity) -> Vec<String> {
    std::iter::once(&entity.record_type)
        .chain(&entity.aliases)
        .cloned()
        .collect()
}

/// The names that a reference may use; `None` when any name will do.
fn target(field: &Field, entities: &[Entity]) -> Option<Vec<String>> {
    let key = field.references.as_ref()?;
    entities
        .iter()
        .find(|entity| entity.name == key.entity)
        .map(names_of)
}

/// What one walk has found so far.
struct Reading<'m> {
    mapper: &'m Mapper,
    external_id: Option<ExternalId>,
    values: Vec<Value>,
    problem: Option<QuarantineReason>,
    /// The column whose reference is an object that has not yet told its id.
    open_reference: Option<usize>,
}

impl<'m> Reading<'m> {
    fn new(mapper: &'m Mapper) -> Self {
        let values = vec![Value::Null; mapper.fields.len()];
        Self {
            mapper,
            external_id: None,
            values,
            problem: None,
            open_reference: None,
        }
    }

    /// The first reason why this is no record: what the walk met, a missing id, a missing value.
    fn first_problem(&mut self) -> Option<QuarantineReason> {
        if let Some(problem) = self.problem.take() {
            return Some(problem);
        }
        if self.external_id.is_none() {
            return Some(QuarantineReason::MissingId);
        }
        let mut columns = self.mapper.fields.iter().zip(&self.values);
        let (field, _) = columns.find(|(field, value)| field.required && value.is_null())?;
        Some(QuarantineReason::MissingValue {
            column: field.name.clone(),
        })
    }

    /// Of a document of another type the id is not kept: ids are unique within a type only.
    fn set_aside(self, raw: Box<RawValue>, reason: QuarantineReason) -> Quarantined {
        let is_foreign = matches!(reason, QuarantineReason::WrongRecordType { .. });
        let external_id = self.external_id.filter(|_| !is_foreign);
        Quarantined {
            external_id,
            reason,
            raw,
        }
    }

    fn object_to(&mut self, reason: QuarantineReason) {
        self.problem.get_or_insert(reason);
    }

    fn bad_value(&mut self, index: usize, found: &str) {
        let field = &self.mapper.fields[index];
        let expected = if field.references.is_some() {
            "a reference"
        } else {
            field.field_type.as_str()
        };
        self.object_to(QuarantineReason::BadValue {
            column: field.name.clone(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        });
    }

    fn check_record_type(&mut self, found: &str) {
        if self.mapper.record_types.iter().all(|name| name != found) {
            let expected = self.mapper.record_types[0].clone();
            let found = found.chars().take(MAX_FOUND).collect();
            self.object_to(QuarantineReason::WrongRecordType { expected, found });
        }
    }

    fn check_target(&mut self, index: usize, found: &str) {
        let mapper = self.mapper;
        let Some(names) = &mapper.targets[index] else {
            return;
        };
        if names.iter().all(|name| name != found) {
            self.object_to(QuarantineReason::WrongReference {
                column: mapper.fields[index].name.clone(),
                expected: names.first().cloned().unwrap_or_default(),
                found: found.chars().take(MAX_FOUND).collect(),
            });
        }
    }

    fn refer(&mut self, index: usize, id: &ExternalId) {
        self.values[index] = Value::Text(id.as_str().into());
        if self.open_reference == Some(index) {
            self.open_reference = None;
        }
    }

    /// A slot for a scalar at a place that another slot reads whole.
    fn shared(&mut self, slot: Slot, raw: &RawValue) {
        let value: serde_json::Value = serde_json::from_str(raw.get()).unwrap_or_default();
        match convert::of_json(&value) {
            Some(found) => self.scalar(slot, found),
            None if value.is_array() => self.misfit(slot, Compound::Array),
            None => self.misfit(slot, Compound::Object),
        }
    }
}

impl Sink for Reading<'_> {
    fn scalar(&mut self, slot: Slot, found: Scalar<'_>) {
        match slot {
            Slot::Id => match found.external_id() {
                Some(id) => self.external_id = Some(id),
                None if matches!(found, Scalar::Null) => {}
                None => self.object_to(QuarantineReason::InvalidId),
            },
            Slot::RecordType => match found {
                Scalar::Text(text) => self.check_record_type(text),
                other => self.check_record_type(other.kind()),
            },
            Slot::Column {
                index,
                field_type,
                convert,
            } => match convert::scalar(found, field_type, convert) {
                Some(value) => self.values[index] = value,
                None => self.bad_value(index, found.kind()),
            },
            Slot::Reference { index } if matches!(found, Scalar::Null) => {
                self.values[index] = Value::Null;
            }
            Slot::Reference { index } | Slot::ReferenceId { index } => match found.external_id() {
                Some(id) => self.refer(index, &id),
                None => self.bad_value(index, found.kind()),
            },
            Slot::ReferenceType { index } => {
                if let Scalar::Text(text) = found {
                    self.check_target(index, text);
                }
            }
        }
    }

    fn misfit(&mut self, slot: Slot, kind: Compound) {
        match slot {
            Slot::Id => self.object_to(QuarantineReason::InvalidId),
            Slot::RecordType => self.check_record_type(kind.as_str()),
            // Its id has still to come.
            Slot::Reference { index } if kind == Compound::Object => {
                self.open_reference = Some(index)
            }
            Slot::Column { index, .. }
            | Slot::Reference { index }
            | Slot::ReferenceId { index }
            | Slot::ReferenceType { index } => self.bad_value(index, kind.as_str()),
        }
    }

    fn closed(&mut self) {
        if let Some(index) = self.open_reference.take() {
            self.bad_value(index, Compound::Object.as_str());
        }
    }

    fn whole(&mut self, slot: Slot, raw: &RawValue) {
        let read = match slot {
            Slot::Column {
                index,
                convert: Convert::ReferenceIds,
                ..
            } => Some((index, convert::reference_ids(raw))),
            Slot::Column {
                index,
                field_type: FieldType::Json,
                convert: Convert::Typed,
            } => {
                let is_null = raw.get() == "null";
                Some((
                    index,
                    Some(if is_null {
                        Value::Null
                    } else {
                        Value::Json(raw.to_owned())
                    }),
                ))
            }
            _ => None,
        };
        match read {
            Some((index, Some(value))) => self.values[index] = value,
            Some((index, None)) => self.bad_value(index, kind_of(raw)),
            None => self.shared(slot, raw),
        }
    }
}

fn kind_of(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') | None => "null",
        Some(_) => "a number",
    }
}

/// Digests the canonical values, so that a changed mapping counts, the parent and the document.
fn content_hash(values: &[Value], parent: Option<&ExternalId>, document: Digest) -> ContentHash {
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(&document.to_le_bytes());
    let mut text = |tag: u8, text: &[u8]| {
        bytes.push(tag);
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text);
    };
    text(0, parent.map_or("", ExternalId::as_str).as_bytes());
    for value in values {
        match value {
            Value::Null => text(1, &[]),
            Value::Text(found) => text(2, found.as_bytes()),
            Value::Integer(found) => text(3, &found.to_le_bytes()),
            Value::Float(found) => text(4, &found.to_bits().to_le_bytes()),
            Value::Boolean(found) => text(5, &[u8::from(*found)]),
            Value::Date(found) => {
                let [high, low] = found.year().to_le_bytes();
                text(6, &[high, low, found.month() as u8, found.day() as u8]);
            }
            Value::Timestamp(found) => text(7, &found.as_nanosecond().to_le_bytes()),
            Value::Json(found) => text(8, &json_digest(found).to_le_bytes()),
        }
    }
    ContentHash(xxh3_128(&bytes).to_be_bytes())
}
