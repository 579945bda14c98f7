//! A list that is paged by the number of rows to skip, and how rows that shift meanwhile are noticed.
//!
//! Each page begins with the last row of the page before. When a page shows none of the rows of the page
//! before, rows have shifted and some may have slipped past: the walk goes back until it meets known ones.

use serde::{Deserialize, Serialize};
use sync_core::{ContentHash, ExternalId};

use super::{At, Prepared};
use crate::failure::StepFailure;

/// How often a walk goes back before it gives up: a list that never holds still has no end.
const MOST_REWINDS: u32 = 200;

/// A place in a list, and what was seen just before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowsPosition {
    pub(super) since: Option<jiff::Timestamp>,
    pub(super) sorted: bool,
    pub(super) skip: u64,
    /// The ids of the page before.
    tail: Vec<ExternalId>,
    /// The last record of the page before, as it was.
    last: Option<(ExternalId, ContentHash)>,
    /// How many rows the next page steps back: it doubles with each page that shows nothing known.
    back: u64,
    rewinds: u32,
}

impl RowsPosition {
    pub(super) fn beginning(since: Option<jiff::Timestamp>, sorted: bool) -> Self {
        Self {
            since,
            sorted,
            skip: 0,
            tail: Vec::new(),
            last: None,
            back: 0,
            rewinds: 0,
        }
    }

    pub(super) fn newest_first() -> Self {
        Self::beginning(None, true)
    }

    pub(super) fn at(&self) -> At {
        At::Rows {
            since: self.since,
            skip: self.skip,
            sorted: self.sorted,
        }
    }

    /// Whether the page follows what was seen without a gap.
    pub(super) fn is_continued_by(&self, page: &Prepared) -> bool {
        self.skip == 0 || self.tail.is_empty() || page.ids.iter().any(|id| self.tail.contains(id))
    }

    /// Goes back to where the rows that were seen may be now.
    pub(super) fn rewind(&mut self, page_size: u64) -> Result<(), StepFailure> {
        self.rewinds += 1;
        if self.rewinds > MOST_REWINDS {
            return Err(StepFailure::Unwalkable {
                detail: format!("rows moved {MOST_REWINDS} times"),
            });
        }
        self.back = (self.back * 2).max(page_size.saturating_sub(1).max(1));
        self.skip = self.skip.saturating_sub(self.back);
        Ok(())
    }

    /// Removes the row that the page repeats from the page before.
    pub(super) fn drop_repeated(&self, page: &mut Prepared) {
        let Some((id, hash)) = &self.last else { return };
        page.records
            .retain(|record| record.external_id != *id || record.content_hash != *hash);
    }

    /// Goes on behind a page. The next one begins with the last row of this one.
    pub(super) fn advance(&mut self, page: &Prepared, last: Option<(ExternalId, ContentHash)>) {
        let step = page.rows.saturating_sub(1).max(1);
        self.skip += step;
        self.back = 0;
        self.last = last;
        // A page of one row does not repeat it: the next one begins behind it, and shows nothing known.
        self.tail = if page.rows > 1 {
            page.ids.clone()
        } else {
            Vec::new()
        };
    }
}
