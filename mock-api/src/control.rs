//! The control plane as a Rust API: change the data, move the clock, arm faults, read the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::entity::Entity;
use crate::error::Error;
use crate::fault::{Armed, Effect, Fault};
use crate::limit::RateLimit;
use crate::log::Log;
use crate::mutation::Mutation;
use crate::organisation::Row;
use crate::seconds::Seconds;
use crate::server::Server;
use crate::token::Token;

/// Controls a running server. Data methods act on one organisation; everything else on the whole server.
///
/// Cheap to clone, and usable from any thread.
#[derive(Clone)]
pub struct Control {
    server: Arc<Server>,
    organisation: usize,
}

impl Control {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            organisation: 0,
        }
    }

    /// The same control plane for another organisation, counted from zero.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownOrganisation`] when the server has fewer.
    pub fn organisation(&self, number: usize) -> Result<Self, Error> {
        if number >= self.server.organisations() {
            return Err(Error::UnknownOrganisation(number));
        }
        Ok(Self {
            server: Arc::clone(&self.server),
            organisation: number,
        })
    }

    /// Applies a change and returns the ids of the records it named or chose.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownRecord`] and [`Error::MissingReference`] when the change names what does not exist. A change
    /// of several records stops at the first such name.
    pub fn mutate(&self, mutation: Mutation) -> Result<Vec<u64>, Error> {
        self.server.mutate(self.organisation, mutation)
    }

    /// Creates a record from a JSON object of attributes and references, and returns its id.
    ///
    /// # Errors
    ///
    /// [`Error::MissingReference`] when it must belong to a record that does not exist.
    pub fn create(&self, entity: Entity, attributes: Value) -> Result<u64, Error> {
        let attributes = object(attributes);
        let ids = self.mutate(Mutation::Create { entity, attributes })?;
        Ok(ids[0])
    }

    /// Changes a record by a JSON object of attributes and references, and moves its `updated_at`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownRecord`] when it does not exist.
    pub fn update(&self, entity: Entity, id: u64, attributes: Value) -> Result<(), Error> {
        let attributes = object(attributes);
        self.mutate(Mutation::Update {
            entity,
            id,
            attributes,
            silent: false,
        })
        .map(drop)
    }

    /// Changes a record and leaves its `updated_at` as it is.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownRecord`] when it does not exist.
    pub fn update_silently(&self, entity: Entity, id: u64, attributes: Value) -> Result<(), Error> {
        let attributes = object(attributes);
        self.mutate(Mutation::Update {
            entity,
            id,
            attributes,
            silent: true,
        })
        .map(drop)
    }

    /// Moves the `updated_at` of a record and nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownRecord`] when it does not exist.
    pub fn touch(&self, entity: Entity, id: u64) -> Result<(), Error> {
        self.mutate(Mutation::Touch {
            entity,
            ids: vec![id],
        })
        .map(drop)
    }

    /// Deletes a record with all that belongs to it.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownRecord`] when it does not exist.
    pub fn delete(&self, entity: Entity, id: u64) -> Result<(), Error> {
        self.server.read(self.organisation).find(entity, id)?;
        self.mutate(Mutation::Delete {
            entity,
            ids: vec![id],
        })
        .map(drop)
    }

    /// Merges one person into another, and returns the id of the record of the merge.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownRecord`] when either does not exist.
    pub fn merge(&self, keep: u64, remove: u64) -> Result<u64, Error> {
        let ids = self.mutate(Mutation::Merge { keep, remove })?;
        Ok(ids[0])
    }

    /// Changes an attribute of a share of the records, and returns their ids.
    ///
    /// # Errors
    ///
    /// None that a share of existing records can meet.
    pub fn change_share(&self, entity: Entity, percent: f64) -> Result<Vec<u64>, Error> {
        self.mutate(Mutation::ChangeShare {
            entity,
            percent,
            silent: false,
        })
    }

    /// Moves the `updated_at` of a share of the records, and returns their ids.
    ///
    /// # Errors
    ///
    /// None that a share of existing records can meet.
    pub fn touch_share(&self, entity: Entity, percent: f64) -> Result<Vec<u64>, Error> {
        self.mutate(Mutation::TouchShare { entity, percent })
    }

    /// Deletes a share of the records with all that belongs to them, and returns their ids.
    ///
    /// # Errors
    ///
    /// None that a share of existing records can meet.
    pub fn delete_share(&self, entity: Entity, percent: f64) -> Result<Vec<u64>, Error> {
        self.mutate(Mutation::DeleteShare { entity, percent })
    }

    /// The virtual clock. It stamps changes, and stands still between calls of [`advance`](Self::advance).
    pub fn now(&self) -> Seconds {
        self.server.now()
    }

    /// Moves the virtual clock forward and returns the new time.
    pub fn advance(&self, seconds: u32) -> Seconds {
        self.server.advance(seconds.into())
    }

    /// How many records there are of each kind, archived groups included.
    pub fn counts(&self) -> BTreeMap<Entity, usize> {
        let organisation = self.server.read(self.organisation);
        Entity::ALL
            .into_iter()
            .map(|entity| (entity, organisation.store(entity).len()))
            .collect()
    }

    /// Every record of a kind by id: the truth that a destination is compared with.
    pub fn dump(&self, entity: Entity) -> Vec<Row> {
        self.server.read(self.organisation).rows(entity)
    }

    /// One record.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownRecord`] when it does not exist.
    pub fn row(&self, entity: Entity, id: u64) -> Result<Row, Error> {
        self.server.read(self.organisation).row(entity, id)
    }

    /// Arms a fault and returns its number.
    pub fn arm(&self, fault: Fault) -> u64 {
        self.server.faults().arm(fault)
    }

    /// Arms a change of this organisation's data that happens once, just before page `page` of the list is read
    /// for the first time: between pages `page - 1` and `page` of a walk.
    pub fn mutate_before_page(&self, entity: Entity, page: usize, mutations: Vec<Mutation>) -> u64 {
        self.arm(
            Fault::new(Effect::Mutate { mutations })
                .entity(entity)
                .page(page)
                .once(),
        )
    }

    /// Disarms a fault; says whether it was there.
    pub fn disarm(&self, id: u64) -> bool {
        self.server.faults().disarm(id)
    }

    /// Disarms every fault.
    pub fn disarm_all(&self) {
        self.server.faults().clear();
    }

    /// The armed faults, spent ones included, with how often they struck.
    pub fn faults(&self) -> Vec<Armed> {
        self.server.faults().list()
    }

    /// A copy of the request log.
    pub fn log(&self) -> Log {
        self.server.log().clone()
    }

    /// Empties the request log.
    pub fn clear_log(&self) {
        *self.server.log() = Log::default();
    }

    /// Sets the rate limit, or turns it off; all windows start afresh.
    pub fn set_rate_limit(&self, limit: Option<RateLimit>) {
        let mut limiter = self.server.limiter();
        limiter.limit = limit;
        limiter.reset();
    }

    /// Adds a token, such as one that reaches a single product.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownOrganisation`] when its organisation does not exist.
    pub fn add_token(&self, token: Token) -> Result<(), Error> {
        self.organisation(token.organisation)?;
        self.server.tokens().add(token);
        Ok(())
    }

    /// Revokes the token of this name: its requests are answered with 401 from now on.
    pub fn revoke_token(&self, name: &str) {
        self.server.tokens().revoke(name);
    }

    /// Disarms all faults, empties the log and starts all windows of the rate limit afresh. The data stays.
    pub fn reset(&self) {
        self.disarm_all();
        self.clear_log();
        self.server.limiter().reset();
    }
}

/// A JSON object; anything else changes nothing.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}
