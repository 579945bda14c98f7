//! Faults that tests arm: when they strike, what they do, how often.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::entity::Entity;
use crate::mutation::Mutation;

/// A fault, its conditions and its bounds. All conditions must hold.
///
/// ```
/// use mock_api::{Effect, Entity, Fault};
///
/// // The third page of people fails once.
/// let fault = Fault::new(Effect::status(500)).entity(Entity::Person).page(2).once();
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// What happens.
    pub effect: Effect,
    /// Only requests with this method (`GET`).
    #[serde(default)]
    pub method: Option<String>,
    /// Only requests for records of this kind, nested lists included.
    #[serde(default)]
    pub entity: Option<Entity>,
    /// Only requests whose path starts with this.
    #[serde(default)]
    pub path: Option<String>,
    /// Only this page, counted from zero: `offset / per_page`.
    #[serde(default)]
    pub page: Option<usize>,
    /// Only requests at this offset or beyond.
    #[serde(default)]
    pub min_offset: Option<usize>,
    /// Only requests with the token of this name.
    #[serde(default)]
    pub token: Option<String>,
    /// Lets this many matching requests pass first.
    #[serde(default)]
    pub skip: u64,
    /// Strikes every n-th matching request; zero and one mean each.
    #[serde(default)]
    pub every: u64,
    /// Strikes at most this many times; `None` means until it is disarmed.
    #[serde(default)]
    pub times: Option<u64>,
}

/// What a fault does. Several armed faults may strike one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Effect {
    /// Answers with this status in the API's error shape.
    Status {
        /// The status, such as 429 or 503.
        status: u16,
        /// What `Retry-After` says, if it is there.
        #[serde(default)]
        retry_after_seconds: Option<u64>,
        /// How `Retry-After` says it.
        #[serde(default)]
        spelling: Spelling,
    },
    /// Answers with this status and a page of HTML; 200 is the nastiest.
    Html {
        /// The status.
        status: u16,
    },
    /// Waits before the request is handled.
    Delay {
        /// How long.
        milliseconds: u64,
    },
    /// Keeps the request waiting until the fault is disarmed.
    Hold,
    /// Closes the connection in the middle of the body.
    Cut,
    /// Answers with half of the body as if it were whole.
    Truncate,
    /// Answers a list with no rows and no `next`, whatever there is.
    EmptyPage,
    /// Leaves out `next`.
    DropNext,
    /// Pretends that a list ends after this many rows.
    CapTotal {
        /// The cap.
        rows: usize,
    },
    /// Ignores every `where` and `filter`, with status 200.
    IgnoreFilters,
    /// Ignores `order`, with status 200.
    IgnoreOrder,
    /// Spells the headers of the rate limit differently.
    Spell {
        /// How `Retry-After` is given with 429.
        #[serde(default)]
        retry_after: Spelling,
        /// What `X-PCO-API-Request-Rate-Period` says, such as `20 seconds`.
        #[serde(default)]
        period: Option<String>,
    },
    /// Lowers the rate limit for the requests that match; `skip`, `every` and `times` do not apply.
    Limit {
        /// Requests per period.
        requests: u32,
    },
    /// Changes the data just before the request is handled.
    Mutate {
        /// The changes, in order.
        mutations: Vec<Mutation>,
    },
}

/// How `Retry-After` is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spelling {
    /// A number of seconds.
    #[default]
    Seconds,
    /// An HTTP date.
    Date,
    /// The header is missing.
    Absent,
}

impl Effect {
    /// This status, without `Retry-After`.
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            retry_after_seconds: None,
            spelling: Spelling::Seconds,
        }
    }
}

impl Fault {
    /// A fault that strikes every request until it is disarmed.
    pub fn new(effect: Effect) -> Self {
        Self {
            effect,
            method: None,
            entity: None,
            path: None,
            page: None,
            min_offset: None,
            token: None,
            skip: 0,
            every: 0,
            times: None,
        }
    }

    /// Only requests for records of this kind.
    #[must_use]
    pub fn entity(self, entity: Entity) -> Self {
        Self {
            entity: Some(entity),
            ..self
        }
    }

    /// Only this page, counted from zero.
    #[must_use]
    pub fn page(self, page: usize) -> Self {
        Self {
            page: Some(page),
            ..self
        }
    }

    /// Only requests with this method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        Self {
            method: Some(method.to_owned()),
            ..self
        }
    }

    /// Only requests whose path starts with this.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..self
        }
    }

    /// Only requests at this offset or beyond.
    #[must_use]
    pub fn min_offset(self, offset: usize) -> Self {
        Self {
            min_offset: Some(offset),
            ..self
        }
    }

    /// Lets this many matching requests pass first.
    #[must_use]
    pub fn skip(self, requests: u64) -> Self {
        Self {
            skip: requests,
            ..self
        }
    }

    /// Strikes every n-th matching request.
    #[must_use]
    pub fn every(self, n: u64) -> Self {
        Self { every: n, ..self }
    }

    /// Strikes at most this many times.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    /// Strikes once.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    fn matches(&self, target: &Target<'_>) -> bool {
        self.method
            .as_deref()
            .is_none_or(|method| method.eq_ignore_ascii_case(target.method))
            && self
                .entity
                .is_none_or(|entity| target.entity == Some(entity))
            && self
                .path
                .as_deref()
                .is_none_or(|path| target.path.starts_with(path))
            && self.page.is_none_or(|page| target.page == Some(page))
            && self.min_offset.is_none_or(|offset| target.offset >= offset)
            && self
                .token
                .as_deref()
                .is_none_or(|token| target.token == token)
    }
}

/// What faults look at in a request.
pub(crate) struct Target<'r> {
    pub(crate) method: &'r str,
    pub(crate) path: &'r str,
    pub(crate) entity: Option<Entity>,
    pub(crate) page: Option<usize>,
    pub(crate) offset: usize,
    pub(crate) token: &'r str,
}

/// A fault that is armed, and how often it struck.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Armed {
    /// Its number, by which it is disarmed.
    pub id: u64,
    /// The fault.
    pub fault: Fault,
    /// How many requests matched its conditions.
    pub matched: u64,
    /// How many of them it struck.
    pub struck: u64,
}

/// The armed faults.
#[derive(Default)]
pub(crate) struct Faults {
    armed: Vec<Armed>,
    last_id: u64,
    disarmed: watch::Sender<()>,
}

/// An effect that strikes a request, and the fault that it is of.
pub(crate) struct Strike {
    pub(crate) fault: u64,
    pub(crate) effect: Effect,
}

impl Faults {
    pub(crate) fn arm(&mut self, fault: Fault) -> u64 {
        self.last_id += 1;
        self.armed.push(Armed {
            id: self.last_id,
            fault,
            matched: 0,
            struck: 0,
        });
        self.last_id
    }

    pub(crate) fn disarm(&mut self, id: u64) -> bool {
        let before = self.armed.len();
        self.armed.retain(|armed| armed.id != id);
        self.disarmed.send_replace(());
        self.armed.len() < before
    }

    pub(crate) fn clear(&mut self) {
        self.armed.clear();
        self.disarmed.send_replace(());
    }

    pub(crate) fn is_armed(&self, id: u64) -> bool {
        self.armed.iter().any(|armed| armed.id == id)
    }

    /// Tells whenever faults were disarmed.
    pub(crate) fn disarmed(&self) -> watch::Receiver<()> {
        self.disarmed.subscribe()
    }

    pub(crate) fn list(&self) -> Vec<Armed> {
        self.armed.clone()
    }

    /// The lowest armed limit for this request.
    pub(crate) fn limit(&self, target: &Target<'_>) -> Option<u32> {
        let matching = self
            .armed
            .iter()
            .filter(|armed| armed.fault.matches(target));
        let limits = matching.filter_map(|armed| match armed.fault.effect {
            Effect::Limit { requests } => Some(requests),
            _ => None,
        });
        limits.min()
    }

    /// How the headers of a refused request are spelled; striking it is not counted.
    pub(crate) fn spell(&self, target: &Target<'_>) -> Option<Effect> {
        let matching = self
            .armed
            .iter()
            .filter(|armed| armed.fault.matches(target));
        let mut spellings = matching.map(|armed| &armed.fault.effect);
        spellings
            .rfind(|effect| matches!(effect, Effect::Spell { .. }))
            .cloned()
    }

    /// The effects that strike this request, in the order in which they were armed.
    pub(crate) fn strike(&mut self, target: &Target<'_>) -> Vec<Strike> {
        let matching = self
            .armed
            .iter_mut()
            .filter(|armed| armed.fault.matches(target));
        matching.filter_map(Armed::strike).collect()
    }
}

impl Armed {
    fn strike(&mut self) -> Option<Strike> {
        self.matched += 1;
        let turn = self
            .matched
            .checked_sub(self.fault.skip)
            .filter(|turn| *turn > 0)?;
        let spent = self.fault.times.is_some_and(|times| self.struck >= times);
        if spent || !turn.is_multiple_of(self.fault.every.max(1)) {
            return None;
        }
        self.struck += 1;
        Some(Strike {
            fault: self.id,
            effect: self.fault.effect.clone(),
        })
    }
}
