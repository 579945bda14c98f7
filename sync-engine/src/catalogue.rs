//! What this process can sync: adapters by their manifests, and organisations by their credentials.

use std::{collections::BTreeMap, sync::Arc};

use sync_adapters::{
    ApiClient, Credentials,
    client::{LimitStore, MemoryLimits},
    destination::{Rows, Table},
};
use sync_core::{
    AdapterName, DependencyGraph, Entity, EntityName, Manifest, Mapper, OrgId,
    manifest::ManifestSpec,
};

use crate::{
    error::Error, failure::StepFailure, key::EntityKey, options::Options, requests::Counted,
};

/// The budgets of all credentials, counted by the fetch that uses them.
pub(crate) type Limits = Arc<Counted<MemoryLimits>>;

/// An organisation's account at an adapter.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) org: OrgId,
    pub(crate) adapter: AdapterName,
    pub(crate) credentials: Credentials,
}

/// All adapters and accounts.
pub(crate) struct Catalogue {
    adapters: BTreeMap<AdapterName, Arc<Adapter>>,
    clients: BTreeMap<(OrgId, AdapterName), ApiClient>,
}

/// One adapter, with what follows from its manifest.
pub(crate) struct Adapter {
    pub(crate) manifest: Manifest,
    /// What the manifest says, but for the address and the budget of the API.
    pub(crate) fingerprint: String,
    pub(crate) graph: DependencyGraph,
    pub(crate) tables: Vec<Table>,
    parts: BTreeMap<EntityName, Arc<Parts>>,
}

/// What a walk needs of its entity's manifest.
pub(crate) struct Parts {
    pub(crate) entity: Entity,
    pub(crate) mapper: Mapper,
    table: Table,
    parent: Option<Table>,
}

/// Where the records of one entity of one organisation come from, and where they go.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) client: ApiClient,
    pub(crate) parts: Arc<Parts>,
    pub(crate) rows: Rows,
    pub(crate) parents: Option<Rows>,
    pub(crate) fingerprint: String,
}

impl Source {
    pub(crate) fn entity(&self) -> &Entity {
        &self.parts.entity
    }
}

impl Catalogue {
    pub(crate) fn new(
        manifests: Vec<Manifest>,
        accounts: Vec<Account>,
        options: &Options,
    ) -> Result<Self, Error> {
        let limits: Limits = Arc::new(Counted::new(MemoryLimits::new()));
        let mut adapters = BTreeMap::new();
        for manifest in manifests {
            let name = manifest.adapter().clone();
            if adapters
                .insert(name.clone(), Arc::new(Adapter::new(manifest)?))
                .is_some()
            {
                return Err(Error::DuplicateAdapter { adapter: name });
            }
        }
        let mut clients = BTreeMap::new();
        for account in accounts {
            let Account {
                org,
                adapter,
                credentials,
            } = account;
            let Some(found) = adapters.get(&adapter) else {
                return Err(unknown(&adapter, &adapters));
            };
            let limits = Arc::clone(&limits) as Arc<dyn LimitStore>;
            let client = ApiClient::builder(found.manifest.clone(), credentials)
                .limits(limits)
                .longest_wait(options.longest_wait)
                .retries(options.call_retries)
                .retry_pause(options.call_pause)
                .build()
                .map_err(Error::Source)?;
            clients.insert((org, adapter), client);
        }
        Ok(Self { adapters, clients })
    }

    pub(crate) fn adapters(&self) -> impl Iterator<Item = &Arc<Adapter>> {
        self.adapters.values()
    }

    pub(crate) fn adapter(&self, name: &AdapterName) -> Result<&Arc<Adapter>, Error> {
        self.adapters
            .get(name)
            .ok_or_else(|| unknown(name, &self.adapters))
    }

    /// An adapter for which the organisation has credentials.
    pub(crate) fn connected(
        &self,
        org: &OrgId,
        name: &AdapterName,
    ) -> Result<&Arc<Adapter>, Error> {
        let adapter = self.adapter(name)?;
        if self.clients.contains_key(&(org.clone(), name.clone())) {
            return Ok(adapter);
        }
        Err(Error::NotConnected {
            org: org.clone(),
            adapter: name.clone(),
        })
    }

    pub(crate) fn source(&self, key: &EntityKey) -> Result<Source, StepFailure> {
        let unconfigured = |detail: String| StepFailure::Unconfigured { detail };
        let adapter = self
            .connected(&key.org, &key.adapter)
            .map_err(|error| unconfigured(error.to_string()))?;
        let parts = adapter.parts.get(&key.entity).ok_or_else(|| {
            unconfigured(format!(
                "adapter {} has no entity {}",
                key.adapter, key.entity
            ))
        })?;
        let client = self.clients[&(key.org.clone(), key.adapter.clone())].clone();
        Ok(Source {
            client,
            rows: parts.table.rows_of(key.org.clone()),
            parents: parts
                .parent
                .as_ref()
                .map(|table| table.rows_of(key.org.clone())),
            parts: Arc::clone(parts),
            fingerprint: adapter.fingerprint.clone(),
        })
    }
}

fn unknown(name: &AdapterName, adapters: &BTreeMap<AdapterName, Arc<Adapter>>) -> Error {
    let known: Vec<&str> = adapters.keys().map(AdapterName::as_str).collect();
    Error::UnknownAdapter {
        adapter: name.clone(),
        known: known.join(", "),
    }
}

impl Adapter {
    fn new(manifest: Manifest) -> Result<Self, Error> {
        let graph = DependencyGraph::new(&manifest).map_err(Error::Graph)?;
        let tables = Table::all(&manifest).map_err(Error::Destination)?;
        let mut parts = BTreeMap::new();
        for entity in manifest.entities().iter().filter(|entity| entity.enabled) {
            let table = Table::of(&manifest, &entity.name).map_err(Error::Destination)?;
            let parent = entity
                .parent
                .as_ref()
                .map(|walk| Table::of(&manifest, &walk.entity));
            let part = Parts {
                mapper: manifest
                    .mapper(&entity.name)
                    .expect("the entity is the manifest's own"),
                parent: parent.transpose().map_err(Error::Destination)?,
                entity: entity.clone(),
                table,
            };
            parts.insert(entity.name.clone(), Arc::new(part));
        }
        Ok(Self {
            fingerprint: fingerprint(&manifest)?,
            manifest,
            graph,
            tables,
            parts,
        })
    }
}

/// A digest of what decides how records are read and written. Another address or budget does not.
fn fingerprint(manifest: &Manifest) -> Result<String, Error> {
    let mut spec: ManifestSpec = manifest.spec().clone();
    spec.base_url = "https://source.invalid".to_owned();
    spec.rate_limit.requests = 1;
    spec.rate_limit.period_seconds = 1;
    let neutral = Manifest::new(spec).map_err(Error::Manifest)?;
    Ok(format!("{:032x}", neutral.fingerprint()))
}
