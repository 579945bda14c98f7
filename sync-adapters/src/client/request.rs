//! What is asked of an API, in the terms of the manifest, and the URL that it becomes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_core::{
    Entity, EntityName, ExternalId,
    manifest::{CursorFilter, CursorSpec, Endpoint, FilterOp, Granularity, Paginator, TimeFormat},
};
use url::Url;

use super::{Error, error::ProtocolProblem, page::Position};

/// Which rows of an entity's list are asked for, and how.
///
/// ```
/// use sync_adapters::ListRequest;
/// use sync_core::EntityName;
///
/// let since = "2025-03-20T12:00:00Z".parse().expect("a timestamp");
/// let changed = ListRequest::new(EntityName::new("Person")?).changed_since(since).sorted();
/// assert_eq!(changed.entity().as_str(), "Person");
/// # Ok::<(), sync_core::InvalidName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRequest {
    entity: EntityName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<ExternalId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed_since: Option<Timestamp>,
    #[serde(default)]
    sorted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page_size: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    query: BTreeMap<String, String>,
}

impl ListRequest {
    /// The whole list of an entity, in the API's own order.
    pub fn new(entity: EntityName) -> Self {
        Self {
            entity,
            parent: None,
            changed_since: None,
            sorted: false,
            page_size: None,
            query: BTreeMap::new(),
        }
    }

    /// The list under one record of the parent entity.
    #[must_use]
    pub fn under(mut self, parent: ExternalId) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Only rows changed at or after this instant, by the filter that the manifest declares.
    #[must_use]
    pub fn changed_since(mut self, since: Timestamp) -> Self {
        self.changed_since = Some(since);
        self
    }

    /// In the order of the cursor's column, as the manifest declares it.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.sorted = true;
        self
    }

    /// So many rows in a page, instead of the manifest's number.
    #[must_use]
    pub fn page_size(mut self, rows: u32) -> Self {
        self.page_size = Some(rows);
        self
    }

    /// One more query parameter, which wins over the manifest's.
    #[must_use]
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.insert(name.into(), value.into());
        self
    }

    /// The entity whose list is asked for.
    pub fn entity(&self) -> &EntityName {
        &self.entity
    }

    /// The parent record under which the list lies.
    pub fn parent(&self) -> Option<&ExternalId> {
        self.parent.as_ref()
    }

    /// The instant since which rows must have changed.
    pub fn since(&self) -> Option<Timestamp> {
        self.changed_since
    }

    /// Rows asked for in one page.
    pub(super) fn asked(&self, entity: &Entity) -> u32 {
        self.page_size.unwrap_or(entity.pagination.page_size).max(1)
    }

    /// The URL of one page.
    pub(super) fn url(
        &self,
        base: &Url,
        entity: &Entity,
        position: &Position,
    ) -> Result<Url, Error> {
        if let Position::Url(next) = position {
            return same_server(base, next);
        }
        let endpoint = &entity.endpoints.list;
        let mut query = endpoint.query.clone();
        if let Some(param) = &entity.pagination.page_size_param {
            query.insert(param.clone(), self.asked(entity).to_string());
        }
        if self.sorted || self.changed_since.is_some() {
            self.follow_changes(entity, &mut query)?;
        }
        query.extend(self.query.clone());
        if let Some((param, value)) = position_param(&entity.pagination.paginator, position) {
            query.insert(param, value);
        }
        let mut url = endpoint_url(base, entity, endpoint, None, self.parent.as_ref())?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(&query);
        }
        Ok(url)
    }

    fn follow_changes(
        &self,
        entity: &Entity,
        query: &mut BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let Some(cursor) = &entity.cursor else {
            return Err(invalid(entity, "it has no cursor"));
        };
        if let Some(since) = self.changed_since {
            let Some(filter) = &cursor.filter else {
                return Err(invalid(entity, "its list has no filter by change"));
            };
            query.insert(filter.param.clone(), filter_value(cursor, filter, since));
        }
        if self.sorted {
            let Some(sort) = &cursor.sort else {
                return Err(invalid(entity, "its list has no order by change"));
            };
            query.insert(sort.param.clone(), sort.value.clone());
        }
        Ok(())
    }
}

/// The value of the filter that keeps every row changed at or after `since`.
fn filter_value(cursor: &CursorSpec, filter: &CursorFilter, since: Timestamp) -> String {
    let from = match filter.op {
        FilterOp::Gte => since,
        FilterOp::Gt => since
            .checked_sub(cursor.granularity.step())
            .unwrap_or(Timestamp::MIN),
    };
    match (filter.format, cursor.granularity) {
        (TimeFormat::UnixSeconds, _) => from.as_second().to_string(),
        (TimeFormat::UnixMillis, _) => from.as_millisecond().to_string(),
        (TimeFormat::Rfc3339, Granularity::Millisecond) => format!("{from:.3}"),
        (TimeFormat::Rfc3339, Granularity::Second | Granularity::Day) => format!("{from:.0}"),
    }
}

fn position_param(paginator: &Paginator, position: &Position) -> Option<(String, String)> {
    let value = match position {
        Position::Start | Position::Url(_) => return None,
        Position::Offset(number) | Position::Page(number) => number.to_string(),
        Position::Cursor(token) | Position::LastId(token) => token.clone(),
    };
    match paginator {
        Paginator::Offset { param }
        | Paginator::Page { param, .. }
        | Paginator::CursorParam { param, .. }
        | Paginator::LastId { param } => Some((param.clone(), value)),
        Paginator::LinkHeader | Paginator::JsonNext { .. } => None,
    }
}

/// The URL of an endpoint, with the ids of the record and of its parent in their places.
pub(super) fn endpoint_url(
    base: &Url,
    entity: &Entity,
    endpoint: &Endpoint,
    id: Option<&ExternalId>,
    parent: Option<&ExternalId>,
) -> Result<Url, Error> {
    let parent_param = entity.parent.as_ref().map(|walk| walk.path_param.as_str());
    let mut url = base.clone();
    let mut segments = url
        .path_segments_mut()
        .map_err(|()| invalid(entity, "the base URL cannot hold a path"))?;
    segments.pop_if_empty();
    for segment in endpoint
        .path
        .split('/')
        .filter(|segment| !segment.is_empty())
    {
        let Some(name) = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        else {
            segments.push(segment);
            continue;
        };
        let value = if Some(name) == parent_param {
            parent
        } else {
            id
        };
        let Some(value) = value else {
            return Err(invalid(entity, &format!("the path needs {{{name}}}")));
        };
        // A URL swallows these two segments, and the request would go to another endpoint.
        if matches!(value.as_str(), "." | "..") {
            return Err(invalid(entity, "the id cannot stand in a path"));
        }
        segments.push(value.as_str());
    }
    drop(segments);
    Ok(url)
}

/// A URL that the API gave, if it leads to the same server: the credential goes nowhere else.
fn same_server(base: &Url, next: &str) -> Result<Url, Error> {
    let foreign = || Error::from(ProtocolProblem::ForeignUrl);
    let url = base.join(next).map_err(|_| foreign())?;
    if url.origin() != base.origin() {
        return Err(foreign());
    }
    Ok(url)
}

pub(super) fn invalid(entity: &Entity, reason: &str) -> Error {
    Error::InvalidRequest {
        entity: entity.name.clone(),
        reason: reason.to_owned(),
    }
}
