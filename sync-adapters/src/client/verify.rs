//! Whether the rows of a page are those that were asked for: APIs ignore filters and orders that they
//! do not know, and answer with success.

use jiff::Timestamp;
use sync_core::{
    Entity, ExternalId, Record,
    manifest::{CursorSpec, Direction, Granularity},
};

/// A row that contradicts the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// The filter by change was asked for, and the row does not satisfy it.
    #[error("{external_id} changed at {found}, before {since}")]
    FilterIgnored {
        /// The row.
        external_id: ExternalId,
        /// When it changed.
        found: Timestamp,
        /// Since when rows were asked for.
        since: Timestamp,
    },
    /// The order by change was asked for, and the row is out of place.
    #[error("{external_id} of {found} follows a row of {previous}")]
    OrderBroken {
        /// The row.
        external_id: ExternalId,
        /// When it changed.
        found: Timestamp,
        /// When the row before it changed.
        previous: Timestamp,
    },
    /// The row does not tell when it changed, so that neither can be verified.
    #[error("{external_id} does not tell when it changed")]
    Unverifiable {
        /// The row.
        external_id: ExternalId,
    },
}

/// Verifies page after page of one walk.
#[derive(Debug, Clone)]
pub struct Verifier {
    column: usize,
    granularity: Granularity,
    since: Option<Timestamp>,
    direction: Option<Direction>,
    previous: Option<Timestamp>,
}

impl Verifier {
    /// A verifier for a walk over the entity's list, filtered from `since` if given, and ordered by
    /// change if `sorted`; `None` when the entity has no cursor.
    pub fn new(entity: &Entity, since: Option<Timestamp>, sorted: bool) -> Option<Self> {
        let cursor: &CursorSpec = entity.cursor.as_ref()?;
        let (column, _) = entity.schema.field(cursor.field.as_str())?;
        Some(Self {
            column,
            granularity: cursor.granularity,
            since,
            direction: cursor.direction().filter(|_| sorted),
            previous: None,
        })
    }

    /// The first row of the page that contradicts the request, if any.
    pub fn verify(&mut self, page: &[Record]) -> Option<Finding> {
        page.iter().find_map(|record| self.verify_record(record))
    }

    fn verify_record(&mut self, record: &Record) -> Option<Finding> {
        let external_id = || record.external_id.clone();
        let Some(found) = record
            .values
            .get(self.column)
            .and_then(|value| value.as_timestamp())
        else {
            return Some(Finding::Unverifiable {
                external_id: external_id(),
            });
        };
        // The source compares in its own steps: a row in the same step as `since` may lie before it.
        if let Some(since) = self.since
            && found
                .checked_add(self.granularity.step())
                .is_ok_and(|step_later| step_later <= since)
        {
            return Some(Finding::FilterIgnored {
                external_id: external_id(),
                found,
                since,
            });
        }
        let previous = self.previous.replace(found)?;
        let out_of_place = match self.direction? {
            Direction::Asc => found < previous,
            Direction::Desc => found > previous,
        };
        out_of_place.then(|| Finding::OrderBroken {
            external_id: external_id(),
            found,
            previous,
        })
    }
}
