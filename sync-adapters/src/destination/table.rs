//! The table of an entity: its name, its columns, and the SQL that is made of them.

use std::sync::Arc;

use sync_core::{AdapterName, ColumnName, Entity, EntityName, FieldType, Manifest, OrgId, Record};

use super::{Error, postgres, sqlite};

/// The longest identifier that Postgres keeps whole.
const LONGEST_NAME: usize = 63;

/// The table that one entity of one adapter is stored in. Cheap to clone.
///
/// Beside the columns of the schema every table has `org_id` and `external_id` (its primary key),
/// `content_hash`, `raw`, `generation`, `source_updated_at`, `first_seen_at`, `synced_at`, `deleted_at`,
/// and two that no schema can name: `_parent_id`, the record under which a nested one was listed, and
/// `_merged_into`, the record that a merged one lives on in.
#[derive(Debug, Clone)]
pub struct Table(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    adapter: AdapterName,
    entity: EntityName,
    name: String,
    columns: Vec<Column>,
    postgres_write: postgres::WriteStatements,
}

/// One column of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: ColumnName,
    pub(super) field_type: FieldType,
    /// The entity that it points at, when it holds that entity's id.
    pub(super) references: Option<EntityName>,
}

impl Table {
    /// The table of an entity.
    ///
    /// # Errors
    /// The manifest has no such entity, or the table's name would be too long for a database.
    pub fn of(manifest: &Manifest, entity: &EntityName) -> Result<Self, Error> {
        let found = manifest.entity(entity);
        let found = found.ok_or_else(|| Error::UnknownEntity {
            entity: entity.clone(),
        })?;
        Self::new(manifest.adapter(), found)
    }

    /// The tables of every enabled entity.
    ///
    /// # Errors
    /// A table's name would be too long for a database.
    pub fn all(manifest: &Manifest) -> Result<Vec<Self>, Error> {
        let enabled = manifest.entities().iter().filter(|entity| entity.enabled);
        enabled
            .map(|entity| Self::new(manifest.adapter(), entity))
            .collect()
    }

    fn new(adapter: &AdapterName, entity: &Entity) -> Result<Self, Error> {
        let name = format!("{adapter}_{}", entity.name.snake_case());
        if name.len() > LONGEST_NAME {
            let (adapter, entity) = (adapter.clone(), entity.name.clone());
            return Err(Error::NameTooLong {
                adapter,
                entity,
                length: name.len(),
            });
        }
        let columns: Vec<Column> = entity.schema.fields.iter().map(Column::of).collect();
        Ok(Self(Arc::new(Inner {
            adapter: adapter.clone(),
            entity: entity.name.clone(),
            postgres_write: postgres::WriteStatements::new(&name, &columns),
            name,
            columns,
        })))
    }

    /// The table's name, `{adapter}_{entity}` in snake case.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The adapter.
    pub fn adapter(&self) -> &AdapterName {
        &self.0.adapter
    }

    /// The entity.
    pub fn entity(&self) -> &EntityName {
        &self.0.entity
    }

    /// The rows of one organisation in this table.
    pub fn rows_of(&self, org: OrgId) -> Rows {
        Rows {
            org,
            table: self.clone(),
        }
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.0.columns
    }

    pub(super) fn postgres_write(&self) -> &postgres::WriteStatements {
        &self.0.postgres_write
    }

    pub(super) fn sqlite_write(&self, rows: usize) -> String {
        sqlite::write_statement(&self.0.name, &self.0.columns, rows)
    }

    /// Every record must have a value for every column: the binding below relies on it.
    pub(super) fn check_shape(&self, records: &[Record]) -> Result<(), Error> {
        let wrong = records
            .iter()
            .position(|record| record.values.len() != self.0.columns.len());
        match wrong {
            None => Ok(()),
            Some(position) => Err(Error::Misshapen {
                table: self.0.name.clone(),
                position,
            }),
        }
    }
}

impl Column {
    fn of(field: &sync_core::Field) -> Self {
        let holds_an_id = field.field_type == FieldType::Text;
        let references = field.references.as_ref().filter(|_| holds_an_id);
        Self {
            name: field.name.clone(),
            field_type: field.field_type,
            references: references.map(|key| key.entity.clone()),
        }
    }
}

/// The rows that one organisation has of one entity: what every write and every question is about.
#[derive(Debug, Clone)]
pub struct Rows {
    pub(super) org: OrgId,
    pub(super) table: Table,
}

impl Rows {
    /// The organisation.
    pub fn org(&self) -> &OrgId {
        &self.org
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Organisation, adapter and entity: the key of every bookkeeping table.
    pub(super) fn key(&self) -> (&str, &str, &str) {
        (
            self.org.as_str(),
            self.table.0.adapter.as_str(),
            self.table.0.entity.as_str(),
        )
    }
}
