//! Following changes by a timestamp of the source.
//!
//! A [`Cursor`] is an instant and the records already seen at it: timestamps tie, and a cursor without the
//! ids would either miss records or never end. It is made of source timestamps only, never of the local
//! clock. [`CursorWalk`] watches one walk through a list and tells how far the durable cursor may move:
//! page by page where the list is a keyset whose ascending order it has verified row by row, else only
//! after the walk ended completely.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    manifest::{CursorSpec, Direction},
    names::ExternalId,
    record::{ContentHash, Quarantined, Record},
};

/// The most records that may share the cursor's instant; bounds the cursor's size.
pub const MAX_TIED: usize = 10_000;

/// How often one window may be read again because rows moved; an order that never holds still would
/// otherwise be read forever.
pub const MAX_RESTARTS: u32 = 100;

/// How far an entity has been followed: an instant, and the records seen at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    at: Timestamp,
    seen: BTreeMap<ExternalId, ContentHash>,
}

impl Cursor {
    /// The instant.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// How many records were seen at it.
    pub fn tied(&self) -> usize {
        self.seen.len()
    }

    /// Whether this very version of the record was already seen at the instant.
    pub fn has_seen(&self, row: &Row<'_>) -> bool {
        row.at == Some(self.at) && self.seen.get(row.id) == Some(&row.hash)
    }

    fn starting_with(at: Timestamp, row: &Row<'_>) -> Self {
        Self {
            at,
            seen: BTreeMap::from([(row.id.clone(), row.hash)]),
        }
    }
}

/// What a walk sees of a record.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its id.
    pub id: &'a ExternalId,
    /// When it last changed, as the source says.
    pub at: Option<Timestamp>,
    /// Its content.
    pub hash: ContentHash,
}

impl<'a> From<&'a Record> for Row<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            id: &record.external_id,
            at: record.source_updated_at,
            hash: record.content_hash,
        }
    }
}

/// Why a walk cannot be followed further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More records share one instant than a cursor can hold.
    #[error("more than {MAX_TIED} records share the instant {at}")]
    TooManyTied {
        /// The instant.
        at: Timestamp,
    },
    /// More rows share one instant, or have none, than one window may page through.
    #[error("more rows share one instant than a window of {max_window} rows holds")]
    InstantTooLarge {
        /// The window.
        max_window: u64,
    },
    /// Rows move again and again: the source does not keep the order.
    #[error("rows moved {MAX_RESTARTS} times inside one window")]
    Unstable,
    /// A page was empty, but the source says that there is more.
    #[error("the page is empty, but the source says that there is more")]
    Stalled,
}

/// How a walk asks for its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Paging {
    /// Filtered from an instant, oldest first, by offset inside one window; each page begins at the last
    /// row of the page before, so that rows that moved are noticed. A new window begins at the newest
    /// instant seen.
    Keyset {
        /// The rows that one window may page through.
        max_window: Option<u64>,
    },
    /// Each page begins behind a number of rows, or at a token: rows that shift in between can slip past.
    Positions,
}

/// What a page showed against the request. Anything but zeros is a claim of the manifest that is not true,
/// or a clock that is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Rows older than the row before them, where ascending order was asked for.
    pub out_of_order: u64,
    /// Rows older than the instant that was filtered by.
    pub older_than_asked: u64,
    /// Rows without a timestamp.
    pub undated: u64,
    /// Rows from after the source's own clock; they do not move the cursor.
    pub from_the_future: u64,
    /// Rows whose very version the cursor had already seen.
    pub repeated: u64,
}

impl Findings {
    /// Whether the source did not keep the filter.
    pub fn filter_ignored(&self) -> bool {
        self.older_than_asked > 0
    }

    /// Whether the source did not keep the order.
    pub fn order_ignored(&self) -> bool {
        self.out_of_order > 0
    }
}

/// The watch over one walk. Serialisable, so that a walk goes on after a restart.
///
/// ```
/// # use sync_core::{ContentHash, ExternalId, cursor::{CursorWalk, Paging, Row}, manifest::*};
/// # let spec: CursorSpec = serde_json::from_value(serde_json::json!({
/// #     "field": "updated_at", "granularity": "second", "overlap_seconds": 60,
/// #     "filter": {"param": "since", "op": "gte"},
/// #     "sort": {"direction": "asc", "param": "order", "value": "updated_at"},
/// # })).unwrap();
/// let mut walk = CursorWalk::begin(&spec, None, Paging::Keyset { max_window: None });
/// let id = ExternalId::from(1_u64);
/// let at = "2025-03-20T12:00:00Z".parse()?;
/// walk.observe([Row { id: &id, at: Some(at), hash: ContentHash([0; 16]) }], None)?;
/// assert_eq!(walk.durable().unwrap().at(), at);
///
/// // The next delta begins one overlap earlier.
/// let next = CursorWalk::begin(&spec, walk.complete(), Paging::Keyset { max_window: None });
/// assert_eq!(next.asked_from().unwrap().to_string(), "2025-03-20T11:59:00Z");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorWalk {
    /// The cursor that the walk began with; it never moves back behind it.
    start: Option<Cursor>,
    /// The newest instant applied so far.
    high_water: Option<Cursor>,
    asked_from: Option<Timestamp>,
    paging: Paging,
    direction: Option<Direction>,
    last: Option<Timestamp>,
    order_holds: bool,
}

impl CursorWalk {
    /// Begins a walk at the stored cursor, or through everything when there is none.
    pub fn begin(spec: &CursorSpec, start: Option<Cursor>, paging: Paging) -> Self {
        let asked_from = start.as_ref().map(|cursor| ask_from(spec, cursor.at));
        Self {
            start,
            high_water: None,
            asked_from,
            paging,
            direction: spec.direction(),
            last: None,
            order_holds: true,
        }
    }

    /// The first instant that the answer must hold: the cursor's less the overlap. `None` asks for everything.
    pub fn asked_from(&self) -> Option<Timestamp> {
        self.asked_from
    }

    /// Takes the rows of one page, which have been applied, in the order received. `source_now` is the
    /// source's own clock, from its `Date` header: rows after it do not move the cursor.
    ///
    /// # Errors
    /// More rows share one instant than a cursor can hold.
    pub fn observe<'r>(
        &mut self,
        rows: impl IntoIterator<Item = Row<'r>>,
        source_now: Option<Timestamp>,
    ) -> Result<Findings, Error> {
        // A header has no fractions of a second, and a second may pass on the way.
        let ceiling = source_now.and_then(|now| now.checked_add(SignedDuration::from_secs(2)).ok());
        let mut findings = Findings::default();
        for row in rows {
            findings.repeated += u64::from(self.is_repeat(&row));
            let Some(at) = row.at else {
                findings.undated += 1;
                continue;
            };
            findings.older_than_asked += u64::from(self.asked_from.is_some_and(|from| at < from));
            findings.out_of_order += u64::from(self.falls_back(at));
            self.last = Some(at);
            if ceiling.is_some_and(|ceiling| at > ceiling) {
                findings.from_the_future += 1;
            } else {
                self.raise(at, &row)?;
            }
        }
        self.order_holds &= findings.out_of_order == 0;
        Ok(findings)
    }

    /// Whether this very version of the row was seen before, by an earlier walk or by this one.
    pub fn is_repeat(&self, row: &Row<'_>) -> bool {
        [&self.start, &self.high_water]
            .into_iter()
            .flatten()
            .any(|cursor| cursor.has_seen(row))
    }

    /// Whether a newest-first walk has come to what earlier walks have seen: the rest is older.
    pub fn has_reached_start(&self) -> bool {
        self.direction == Some(Direction::Desc)
            && self.order_holds
            && self
                .last
                .zip(self.asked_from)
                .is_some_and(|(last, from)| last < from)
    }

    /// The cursor that may be stored together with the pages observed so far.
    pub fn durable(&self) -> Option<&Cursor> {
        if self.moves_mid_run() {
            self.newest()
        } else {
            self.start.as_ref()
        }
    }

    /// The cursor to store once the walk has ended completely, and only then.
    pub fn complete(self) -> Option<Cursor> {
        self.newest().cloned()
    }

    /// Where a keyset begins.
    pub fn first_position(&self) -> KeysetPosition {
        KeysetPosition {
            from: self.asked_from,
            ..KeysetPosition::default()
        }
    }

    /// Takes one page of a keyset that was asked for at `position`, as [`CursorWalk::observe`] does, and
    /// tells where the next one begins; `None` when the walk is complete.
    ///
    /// When the page does not begin with the row that it should begin with, rows have moved and some may have
    /// slipped past: the page's rows may be applied, but they move no cursor, and the walk goes on from
    /// the newest instant seen before.
    ///
    /// # Errors
    /// As [`CursorWalk::observe`]; an instant is too large for a window; rows move without end; or the
    /// page was empty, but the source says that there is more.
    pub fn observe_keyset<'r>(
        &mut self,
        position: &KeysetPosition,
        page: &KeysetPage,
        rows: impl IntoIterator<Item = Row<'r>>,
        source_now: Option<Timestamp>,
    ) -> Result<(Findings, Option<KeysetPosition>), Error> {
        if !position.is_continued_by(page) {
            let restart = self.new_window(position)?;
            // The window begins before the rows that have been seen.
            self.last = None;
            return Ok((Findings::default(), Some(restart)));
        }
        let findings = self.observe(rows, source_now)?;
        if page.ended {
            return Ok((findings, None));
        }
        if page.received == 0 {
            return Err(Error::Stalled);
        }
        let deeper = position.deeper(page);
        let Paging::Keyset {
            max_window: Some(max_window),
        } = self.paging
        else {
            return Ok((findings, Some(deeper)));
        };
        if deeper.offset < max_window {
            return Ok((findings, Some(deeper)));
        }
        let next = self.new_window(position)?;
        if next.from == position.from {
            return Err(Error::InstantTooLarge { max_window });
        }
        self.last = None;
        Ok((findings, Some(next)))
    }

    /// A window at the newest instant seen.
    fn new_window(&self, position: &KeysetPosition) -> Result<KeysetPosition, Error> {
        let reached = self.high_water.as_ref().map(|cursor| cursor.at);
        let from = reached.max(position.from);
        let restarts = if from == position.from {
            position.restarts + 1
        } else {
            0
        };
        if restarts > MAX_RESTARTS {
            return Err(Error::Unstable);
        }
        Ok(KeysetPosition {
            from,
            restarts,
            ..KeysetPosition::default()
        })
    }

    fn moves_mid_run(&self) -> bool {
        matches!(self.paging, Paging::Keyset { .. })
            && self.direction == Some(Direction::Asc)
            && self.order_holds
    }

    fn newest(&self) -> Option<&Cursor> {
        match (&self.start, &self.high_water) {
            (Some(start), Some(high)) if start.at > high.at => Some(start),
            (_, Some(high)) => Some(high),
            (start, None) => start.as_ref(),
        }
    }

    fn falls_back(&self, at: Timestamp) -> bool {
        let Some(last) = self.last else { return false };
        match self.direction {
            Some(Direction::Asc) => at < last,
            Some(Direction::Desc) => at > last,
            None => false,
        }
    }

    fn raise(&mut self, at: Timestamp, row: &Row<'_>) -> Result<(), Error> {
        match &mut self.high_water {
            Some(high) if at < high.at => {}
            Some(high) if at == high.at => {
                high.seen.insert(row.id.clone(), row.hash);
                if high.seen.len() > MAX_TIED {
                    return Err(Error::TooManyTied { at });
                }
            }
            // What an earlier walk saw at this instant stays seen.
            high => match &self.start {
                Some(start) if start.at == at => {
                    let mut cursor = start.clone();
                    cursor.seen.insert(row.id.clone(), row.hash);
                    *high = Some(cursor);
                }
                Some(_) | None => *high = Some(Cursor::starting_with(at, row)),
            },
        }
        Ok(())
    }
}

/// A place in a keyset: an instant, and a number of rows to skip from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysetPosition {
    /// The instant; `None` is the beginning, where rows without a timestamp are.
    pub from: Option<Timestamp>,
    /// The rows to skip.
    pub offset: u64,
    /// The row that the page must begin with if no row has moved.
    pub anchor: Option<Anchor>,
    /// How often this window has been begun again.
    pub restarts: u32,
}

impl KeysetPosition {
    fn is_continued_by(&self, page: &KeysetPage) -> bool {
        self.anchor.is_none() || self.anchor == page.first
    }

    /// The place of the last row received, so that the next page shows it again; behind it where the page
    /// held nothing else, or its last row cannot be told.
    fn deeper(&self, page: &KeysetPage) -> Self {
        let anchor = page.last.clone().filter(|_| page.received > 1);
        let offset = self.offset + page.received - u64::from(anchor.is_some());
        Self {
            from: self.from,
            offset,
            anchor,
            restarts: self.restarts,
        }
    }
}

/// A row by which the next page proves that nothing moved: it must begin with the same row, unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The row.
    pub id: ExternalId,
    /// When it last changed. A row that changed has moved.
    pub at: Option<Timestamp>,
}

/// What came for a [`KeysetPosition`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysetPage {
    /// How many documents came.
    pub received: u64,
    /// The first of them, if its id could be read.
    pub first: Option<Anchor>,
    /// The last of them, if its id could be read.
    pub last: Option<Anchor>,
    /// Whether the source gave its explicit sign that nothing follows.
    pub ended: bool,
}

impl KeysetPage {
    /// The page whose documents were mapped to these, in the order received.
    pub fn of(mapped: &[Result<Record, Quarantined>], ended: bool) -> Self {
        let anchor = |mapped: &Result<Record, Quarantined>| match mapped {
            Ok(record) => Some(Anchor {
                id: record.external_id.clone(),
                at: record.source_updated_at,
            }),
            Err(set_aside) => Some(Anchor {
                id: set_aside.external_id.clone()?,
                at: None,
            }),
        };
        Self {
            received: mapped.len() as u64,
            first: mapped.first().and_then(anchor),
            last: mapped.last().and_then(anchor),
            ended,
        }
    }
}

fn ask_from(spec: &CursorSpec, at: Timestamp) -> Timestamp {
    at.checked_sub(spec.overlap()).unwrap_or(Timestamp::MIN)
}
