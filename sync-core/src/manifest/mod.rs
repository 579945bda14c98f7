//! What an adapter says of its API: entities, their shape, calls, pages, cursors, deletions, dependencies.

mod check;
mod endpoint;
mod entity;
mod error;
mod limits;
mod pagination;
mod tracking;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::{
    endpoint::{Endpoint, Endpoints, Method},
    entity::{Dependency, Entity},
    error::{EntityProblem, Error},
    limits::{ErrorKind, ErrorRule, RateLimit, RateLimitHeaders},
    pagination::{Pagination, Paginator, Stop},
    tracking::{
        CursorFilter, CursorSpec, Deletes, DeltaMethod, Direction, FilterOp, FullWalk, Granularity,
        ParentWalk, Sort, TimeFormat,
    },
};
use crate::{
    mapping::Mapper,
    names::{AdapterName, EntityName},
};

/// A manifest as it is written down, before it is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestSpec {
    /// The adapter's name.
    pub adapter: AdapterName,
    /// The version of schema and mapping; running syncs pin it.
    pub version: String,
    /// Where the API lives, without a slash at the end.
    pub base_url: String,
    /// Headers of every request. Never a credential.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The rate limit of one credential.
    pub rate_limit: RateLimit,
    /// Answers that mean something else than their status says; the first that matches counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorRule>,
    /// The entities.
    pub entities: Vec<Entity>,
}

/// A checked manifest: what it says of itself is consistent.
///
/// Whether it tells the truth about the API is another question, which only probing answers.
///
/// ```
/// # use sync_core::Manifest;
/// let manifest = Manifest::from_yaml(r#"
/// adapter: notes
/// version: "1"
/// base_url: https://api.example.com
/// rate_limit: { requests: 10, period_seconds: 1 }
/// entities:
///   - name: Note
///     record_type: note
///     schema:
///       - { name: title, type: text, required: true }
///       - { name: updated_at, type: timestamp }
///     mapping:
///       id: id
///       fields:
///         - { column: title, from: title }
///         - { column: updated_at, from: updated_at }
///     endpoints:
///       list: { method: GET, path: /notes }
///     pagination:
///       paginator: { kind: page, param: page }
///       stop: { kind: short_page }
///       page_size: 50
/// "#)?;
/// assert_eq!(manifest.entities().len(), 1);
/// # Ok::<(), sync_core::manifest::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ManifestSpec", into = "ManifestSpec")]
pub struct Manifest {
    spec: ManifestSpec,
    fingerprint: u128,
}

impl Manifest {
    /// Checks a manifest.
    ///
    /// # Errors
    /// The first inconsistency, with the entity and the field that it is in.
    pub fn new(spec: ManifestSpec) -> Result<Self, Error> {
        check::check(&spec)?;
        let json = serde_json::to_vec(&spec).map_err(Error::Unserialisable)?;
        Ok(Self {
            spec,
            fingerprint: xxhash_rust::xxh3::xxh3_128(&json),
        })
    }

    /// Reads a manifest from YAML and checks it.
    ///
    /// # Errors
    /// A syntax error with its place, or an inconsistency with its entity and field.
    pub fn from_yaml(text: &str) -> Result<Self, Error> {
        Self::new(serde_norway::from_str(text).map_err(Error::Yaml)?)
    }

    /// Reads a manifest from JSON and checks it.
    ///
    /// # Errors
    /// A syntax error with its place, or an inconsistency with its entity and field.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        Self::new(serde_json::from_str(text).map_err(Error::Json)?)
    }

    /// The same manifest for another address of the API, such as a mock.
    ///
    /// # Errors
    /// The address is no http or https URL without a query.
    pub fn with_base_url(&self, base_url: impl Into<String>) -> Result<Self, Error> {
        let mut spec = self.spec.clone();
        spec.base_url = base_url.into().trim_end_matches('/').to_owned();
        Self::new(spec)
    }

    /// The same manifest with only these entities enabled.
    ///
    /// # Errors
    /// One of them is not in the manifest.
    pub fn with_only(&self, names: &[EntityName]) -> Result<Self, Error> {
        if let Some(unknown) = names.iter().find(|name| self.entity(name).is_none()) {
            return Err(Error::UnknownEntity {
                entity: unknown.clone(),
            });
        }
        let mut spec = self.spec.clone();
        for entity in &mut spec.entities {
            entity.enabled = entity.enabled && names.contains(&entity.name);
        }
        Self::new(spec)
    }

    /// The adapter's name.
    pub fn adapter(&self) -> &AdapterName {
        &self.spec.adapter
    }

    /// The version of schema and mapping.
    pub fn version(&self) -> &str {
        &self.spec.version
    }

    /// Where the API lives, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.spec.base_url
    }

    /// Headers of every request.
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.spec.headers
    }

    /// The rate limit of one credential.
    pub fn rate_limit(&self) -> &RateLimit {
        &self.spec.rate_limit
    }

    /// Every entity, also the disabled ones, in the order of the file.
    pub fn entities(&self) -> &[Entity] {
        &self.spec.entities
    }

    /// The entity of this name.
    pub fn entity(&self, name: &EntityName) -> Option<&Entity> {
        self.spec
            .entities
            .iter()
            .find(|entity| entity.name == *name)
    }

    /// What an answer means; `None` for a success.
    pub fn error_kind(&self, status: u16, body: &str) -> Option<ErrorKind> {
        let rule = self
            .spec
            .errors
            .iter()
            .find(|rule| rule.matches(status, body));
        rule.map(|rule| rule.kind)
            .or_else(|| ErrorKind::of_status(status))
    }

    /// The mapper of an entity, ready to map documents; `None` when there is no such entity.
    pub fn mapper(&self, name: &EntityName) -> Option<Mapper> {
        let entity = self.entity(name)?;
        Some(Mapper::compile(entity, &self.spec.entities).expect("the manifest was checked"))
    }

    /// A digest of everything that the manifest says, address included.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// The manifest as it is written down.
    pub fn spec(&self) -> &ManifestSpec {
        &self.spec
    }
}

impl TryFrom<ManifestSpec> for Manifest {
    type Error = Error;

    fn try_from(spec: ManifestSpec) -> Result<Self, Error> {
        Self::new(spec)
    }
}

impl From<Manifest> for ManifestSpec {
    fn from(manifest: Manifest) -> Self {
        manifest.spec
    }
}
