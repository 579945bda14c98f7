//! The rules that a manifest must keep to be used.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Deletes, Endpoint, Entity, EntityProblem, Error, FullWalk, ManifestSpec, Pagination, Paginator,
    ParentWalk, Stop,
};
use crate::{
    mapping::{Convert, FieldMapping, Mapper, Source},
    names::EntityName,
    schema::{Field, FieldType, Strength},
};

/// Headers that carry credentials; a manifest is no place for them.
const SECRET_HEADERS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// The most entities of one manifest.
const MAX_ENTITIES: usize = 500;

/// The most columns of one entity; destinations have limits of their own above it.
const MAX_FIELDS: usize = 500;

type Problem = (String, EntityProblem);

/// Checks the whole manifest and reports the first inconsistency.
pub(super) fn check(spec: &ManifestSpec) -> Result<(), Error> {
    check_base_url(&spec.base_url)?;
    check_headers(spec)?;
    check_rate_limit(spec)?;
    check_names(&spec.entities)?;
    for entity in &spec.entities {
        check_entity(entity, &spec.entities).map_err(|(field, problem)| Error::Entity {
            entity: entity.name.clone(),
            field,
            problem,
        })?;
    }
    Ok(())
}

fn invalid(part: &'static str, reason: impl Into<String>) -> Error {
    Error::Invalid {
        part,
        reason: reason.into(),
    }
}

fn check_base_url(base_url: &str) -> Result<(), Error> {
    let rest = base_url
        .strip_prefix("https://")
        .or_else(|| base_url.strip_prefix("http://"));
    let reason = match rest {
        None => "it is no http or https URL",
        Some("") => "it has no host",
        Some(rest) if rest.contains(['?', '#']) => "it has a query or a fragment",
        Some(rest) if rest.contains('@') => "it holds a credential",
        Some(rest) if rest.contains(char::is_whitespace) => "it has white space",
        Some(rest) if rest.ends_with('/') => "it ends with a slash",
        Some(_) => return Ok(()),
    };
    Err(invalid("base_url", reason))
}

fn check_headers(spec: &ManifestSpec) -> Result<(), Error> {
    let secret = |name: &&String| {
        SECRET_HEADERS
            .iter()
            .any(|it| it.eq_ignore_ascii_case(name))
    };
    match spec.headers.keys().find(secret) {
        Some(name) => Err(invalid(
            "headers",
            format!("{name} belongs to the credentials"),
        )),
        None => Ok(()),
    }
}

fn check_rate_limit(spec: &ManifestSpec) -> Result<(), Error> {
    let limit = &spec.rate_limit;
    if limit.requests == 0 || limit.period_seconds == 0 {
        return Err(invalid(
            "rate_limit",
            "a limit of nothing lets no request through",
        ));
    }
    if !(1..=100).contains(&limit.target_percent) {
        return Err(invalid(
            "rate_limit",
            "target_percent is not between 1 and 100",
        ));
    }
    Ok(())
}

fn check_names(entities: &[Entity]) -> Result<(), Error> {
    if entities.is_empty() {
        return Err(invalid("entities", "there are none"));
    }
    if entities.len() > MAX_ENTITIES {
        return Err(invalid(
            "entities",
            format!("there are more than {MAX_ENTITIES}"),
        ));
    }
    let mut tables: BTreeMap<String, &EntityName> = BTreeMap::new();
    for entity in entities {
        if let Some(first) = tables.insert(entity.name.snake_case(), &entity.name) {
            let (first, second) = (first.clone(), entity.name.clone());
            return Err(Error::DuplicateEntity { first, second });
        }
    }
    Ok(())
}

fn check_entity(entity: &Entity, entities: &[Entity]) -> Result<(), Problem> {
    if entity.record_type.is_empty() {
        return Err(("record_type".to_owned(), EntityProblem::Empty));
    }
    check_schema(entity, entities)?;
    check_mapping(entity, entities)?;
    check_endpoints(entity)?;
    check_pagination(&entity.pagination)?;
    check_cursor(entity)?;
    check_deletes(entity, entities)?;
    if let Some(parent) = &entity.parent {
        check_parent(entity, parent, entities)?;
    }
    for dependency in &entity.depends_on {
        let place = || format!("depends_on {}", dependency.entity);
        if dependency.why.trim().is_empty() {
            return Err((place(), EntityProblem::Needs { what: "a reason" }));
        }
        if dependency.strength == Strength::Hard {
            known(&dependency.entity, entities).map_err(|problem| (place(), problem))?;
        }
    }
    Ok(())
}

fn known(name: &EntityName, entities: &[Entity]) -> Result<(), EntityProblem> {
    if entities.iter().any(|entity| entity.name == *name) {
        return Ok(());
    }
    Err(EntityProblem::UnknownEntity {
        entity: name.clone(),
    })
}

fn check_schema(entity: &Entity, entities: &[Entity]) -> Result<(), Problem> {
    let fields = &entity.schema.fields;
    bounds("schema", fields.len() as u64, 1, MAX_FIELDS as u64)?;
    let mut names = BTreeSet::new();
    for field in fields {
        let place = || format!("schema {}", field.name);
        if !names.insert(&field.name) {
            return Err((place(), EntityProblem::Duplicate));
        }
        let Some(key) = &field.references else {
            continue;
        };
        if field.field_type != FieldType::Text {
            return Err((place(), wrong_type(field, "text")));
        }
        if field.strength() == Some(Strength::Hard) {
            known(&key.entity, entities).map_err(|problem| (place(), problem))?;
        }
    }
    Ok(())
}

fn check_mapping(entity: &Entity, entities: &[Entity]) -> Result<(), Problem> {
    let mut columns = BTreeSet::new();
    for mapped in &entity.mapping.fields {
        check_field_mapping(entity, mapped)
            .map_err(|problem| (format!("mapping {}", mapped.column), problem))?;
        if !columns.insert(&mapped.column) {
            return Err((
                format!("mapping {}", mapped.column),
                EntityProblem::Duplicate,
            ));
        }
    }
    let mut unmapped = entity
        .schema
        .fields
        .iter()
        .filter(|field| !columns.contains(&field.name));
    if let Some(field) = unmapped.find(|field| field.required) {
        return Err((format!("schema {}", field.name), EntityProblem::Unmapped));
    }
    if let Some(column) = &entity.mapping.updated_at {
        timestamp_column(entity, column.as_str())
            .map_err(|problem| ("mapping updated_at".to_owned(), problem))?;
    }
    if entity.mapping.id.is_root() {
        return Err(("mapping id".to_owned(), EntityProblem::Empty));
    }
    Mapper::compile(entity, entities).map_err(|problem| ("mapping".to_owned(), problem))?;
    Ok(())
}

fn check_field_mapping(entity: &Entity, mapped: &FieldMapping) -> Result<(), EntityProblem> {
    let field = column(entity, mapped.column.as_str())?;
    if mapped.from == Source::Parent {
        let needs = EntityProblem::Needs {
            what: "a parent walk",
        };
        entity.parent.as_ref().ok_or(needs)?;
        return has_type(field, FieldType::Text);
    }
    match mapped.convert {
        None | Some(Convert::Typed) => Ok(()),
        Some(Convert::Reference) => has_type(field, FieldType::Text),
        Some(Convert::ReferenceIds) => has_type(field, FieldType::Json),
        Some(Convert::UnixSeconds | Convert::UnixMillis) => has_type(field, FieldType::Timestamp),
    }
}

fn column<'e>(entity: &'e Entity, name: &str) -> Result<&'e Field, EntityProblem> {
    let found = entity.schema.field(name).map(|(_, field)| field);
    found.ok_or_else(|| EntityProblem::UnknownColumn {
        column: name.to_owned(),
    })
}

fn timestamp_column(entity: &Entity, name: &str) -> Result<(), EntityProblem> {
    has_type(column(entity, name)?, FieldType::Timestamp)
}

fn has_type(field: &Field, expected: FieldType) -> Result<(), EntityProblem> {
    if field.field_type == expected {
        return Ok(());
    }
    Err(wrong_type(field, expected.as_str()))
}

fn wrong_type(field: &Field, expected: &'static str) -> EntityProblem {
    EntityProblem::WrongType {
        found: field.field_type.as_str(),
        expected,
    }
}

fn check_endpoints(entity: &Entity) -> Result<(), Problem> {
    let parent = entity
        .parent
        .as_ref()
        .map(|parent| parent.path_param.as_str());
    for (call, endpoint) in entity.endpoints.all() {
        let by_id = !matches!(call, "list" | "create");
        let fills = |name: &str| match call {
            // A new record is created under the records that it refers to.
            "create" => entity
                .schema
                .field(name)
                .is_some_and(|(_, it)| it.references.is_some()),
            _ => by_id && name == "id",
        };
        let fills = |name: &str| parent == Some(name) || fills(name);
        let needs = if by_id {
            Some("id")
        } else {
            parent.filter(|_| call == "list")
        };
        check_path(endpoint, needs, fills).map_err(|reason| {
            (
                format!("endpoints {call}"),
                EntityProblem::Path {
                    path: endpoint.path.clone(),
                    reason,
                },
            )
        })?;
    }
    Ok(())
}

fn check_path(
    endpoint: &Endpoint,
    needs: Option<&str>,
    fills: impl Fn(&str) -> bool,
) -> Result<(), &'static str> {
    let path = &endpoint.path;
    if !path.starts_with('/') || path.contains(char::is_whitespace) || path.contains(['?', '#']) {
        return Err("does not begin with a slash, or has white space, a query or a fragment");
    }
    let names: Vec<&str> = endpoint.placeholders().collect();
    if path.matches(['{', '}']).count() != 2 * names.len() {
        return Err("has a brace without its partner");
    }
    if needs.is_some_and(|needed| !names.contains(&needed)) {
        return Err("does not name the record or the parent that it is about");
    }
    if !names.iter().all(|name| fills(name)) {
        return Err("has a placeholder that nothing fills");
    }
    Ok(())
}

fn bounds(field: &str, value: u64, least: u64, most: u64) -> Result<(), Problem> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err((
        field.to_owned(),
        EntityProblem::OutOfBounds { value, least, most },
    ))
}

fn check_pagination(pagination: &Pagination) -> Result<(), Problem> {
    let page_size = u64::from(pagination.page_size);
    bounds(
        "pagination page_size",
        page_size,
        1,
        u64::from(Pagination::MAX_PAGE_SIZE),
    )?;
    if let Some(window) = pagination.max_window {
        bounds("pagination max_window", window, page_size, u64::MAX)?;
    }
    let needs = |what| Err(("pagination stop".to_owned(), EntityProblem::Needs { what }));
    match (&pagination.stop, &pagination.paginator) {
        (Stop::Total, _) if pagination.total.is_none() => needs("a path to the total"),
        (Stop::MissingNext { next: None }, Paginator::LinkHeader) => Ok(()),
        (Stop::MissingNext { next: None }, _) => needs("a path to the next page"),
        _ => Ok(()),
    }
}

fn check_cursor(entity: &Entity) -> Result<(), Problem> {
    if let Some(cursor) = &entity.cursor {
        timestamp_column(entity, cursor.field.as_str())
            .map_err(|problem| ("cursor field".to_owned(), problem))?;
        if cursor.filter.is_none() && cursor.sort.is_none() {
            let problem = EntityProblem::Needs {
                what: "a filter or a sort",
            };
            return Err(("cursor".to_owned(), problem));
        }
    }
    let is_keyset = entity
        .cursor
        .as_ref()
        .is_some_and(|cursor| cursor.is_keyset());
    if entity.full_walk == FullWalk::Keyset && !is_keyset {
        let what = "a cursor with a filter and an ascending sort";
        return Err(("full_walk".to_owned(), EntityProblem::Needs { what }));
    }
    Ok(())
}

fn check_deletes(entity: &Entity, entities: &[Entity]) -> Result<(), Problem> {
    let problem = match &entity.deletes {
        Deletes::None | Deletes::Webhook | Deletes::ListReplace | Deletes::Audit { .. } => Ok(()),
        Deletes::ArchivedFlag { column: name } => {
            column(entity, name.as_str()).and_then(|field| match field.field_type {
                FieldType::Boolean | FieldType::Timestamp => Ok(()),
                _ => Err(wrong_type(field, "boolean or timestamp")),
            })
        }
        Deletes::Log { entity: log } => known(log, entities),
    };
    problem.map_err(|problem| ("deletes".to_owned(), problem))
}

fn check_parent(entity: &Entity, parent: &ParentWalk, all: &[Entity]) -> Result<(), Problem> {
    let place = || "parent".to_owned();
    known(&parent.entity, all).map_err(|problem| (place(), problem))?;
    if parent.entity == entity.name {
        let what = "a parent other than itself";
        return Err((place(), EntityProblem::Needs { what }));
    }
    if parent.path_param.is_empty() || parent.path_param == "id" {
        let what = "a path parameter that is not the record's own id";
        return Err((place(), EntityProblem::Needs { what }));
    }
    Ok(())
}
