//! One list, in one of the ways in which lists are paged.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_adapters::{
    PageToken,
    client::{Incomplete, Next},
};
use sync_core::{
    ContentHash, CursorWalk, Entity, ExternalId, Record,
    cursor::{Findings, KeysetPosition, Row},
    manifest::{Pagination, Paginator},
};

use super::{At, End, Prepared, rows::RowsPosition};
use crate::failure::StepFailure;

/// Where a walk stands in one list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum List {
    /// In a keyset: filtered from an instant, oldest first.
    Keyset {
        position: KeysetPosition,
        outlook: Outlook,
    },
    /// Behind a number of rows.
    Rows(RowsPosition),
    /// Behind a number of rows, with what the last page told.
    Counted {
        position: RowsPosition,
        outlook: Outlook,
    },
    /// At the source's own pointer.
    Token {
        since: Option<Timestamp>,
        token: Option<PageToken>,
    },
}

/// What the last page told of the pages behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outlook {
    rows: u64,
    total: u64,
}

impl List {
    /// The whole list in the source's own order.
    pub(super) fn whole(entity: &Entity) -> Self {
        Self::since(entity, None)
    }

    /// What changed since an instant, in the source's own order.
    pub(super) fn since(entity: &Entity, since: Option<Timestamp>) -> Self {
        match entity.pagination.paginator {
            Paginator::Offset { .. } => Self::Rows(RowsPosition::beginning(since, false)),
            _ => Self::Token { since, token: None },
        }
    }

    pub(super) fn keyset(position: KeysetPosition) -> Self {
        Self::Keyset {
            position,
            outlook: Outlook::default(),
        }
    }

    /// The same list from its beginning: that of the next parent.
    pub(super) fn anew(&self) -> Self {
        match self {
            Self::Keyset { position, outlook } => Self::Keyset {
                position: KeysetPosition {
                    from: position.from,
                    ..KeysetPosition::default()
                },
                outlook: *outlook,
            },
            Self::Rows(position) | Self::Counted { position, .. } => {
                Self::Rows(RowsPosition::beginning(position.since, position.sorted))
            }
            Self::Token { since, .. } => Self::Token {
                since: *since,
                token: None,
            },
        }
    }

    pub(super) fn beginning(&self) -> At {
        self.anew().at()
    }

    pub(super) fn at(&self) -> At {
        match self {
            Self::Keyset { position, .. } => At::Rows {
                since: position.from,
                skip: position.offset,
                sorted: true,
            },
            Self::Rows(position) | Self::Counted { position, .. } => position.at(),
            Self::Token { since, token } => At::Token {
                since: *since,
                token: token.clone(),
            },
        }
    }

    /// Where the pages behind the next one will lie, if each shows as many rows as the last one.
    pub(super) fn foresee(&self, most: usize) -> Vec<At> {
        let (since, skip, sorted, outlook) = match self {
            Self::Keyset { position, outlook } => (position.from, position.offset, true, outlook),
            Self::Counted { position, outlook } => {
                (position.since, position.skip, position.sorted, outlook)
            }
            Self::Rows(_) | Self::Token { .. } => return Vec::new(),
        };
        let stride = outlook.rows.saturating_sub(1);
        if stride == 0 {
            return Vec::new();
        }
        let places = (1..=most as u64).map(|page| skip + page * stride);
        // The last row of each page is the first one of the next: behind the last of all there is nothing.
        let within = places.take_while(|skip| skip + 1 < outlook.total);
        within
            .map(|skip| At::Rows {
                since,
                skip,
                sorted,
            })
            .collect()
    }

    /// Takes a page, and goes on; the end when there is nothing to go on to.
    pub(super) fn observe(
        &mut self,
        page: &mut Prepared,
        entity: &Entity,
        cursor: Option<&mut CursorWalk>,
        began_at: Option<Timestamp>,
    ) -> Result<Option<End>, StepFailure> {
        match self {
            Self::Keyset { position, outlook } => {
                let cursor = cursor.ok_or_else(|| unwalkable("a keyset needs a cursor"))?;
                let (next, end) = keyset(position, page, entity, cursor)?;
                *outlook = Outlook::of(page);
                *position = next;
                Ok(end)
            }
            Self::Rows(position) | Self::Counted { position, .. } => {
                let end = rows(position, page, entity, cursor, began_at)?;
                let (position, outlook) = (position.clone(), Outlook::of(page));
                *self = Self::Counted { position, outlook };
                Ok(end)
            }
            Self::Token { token, .. } => {
                follow(cursor, page, began_at)?;
                let end = match &page.next {
                    Next::Page(next) => {
                        *token = Some(next.clone());
                        None
                    }
                    Next::End => Some(End::Complete),
                    Next::Incomplete(why) => Some(End::Incomplete(why.to_string())),
                };
                Ok(end)
            }
        }
    }
}

impl Outlook {
    fn of(page: &Prepared) -> Self {
        Self {
            rows: page.rows,
            total: page.total.unwrap_or(0),
        }
    }
}

/// One page of a keyset.
fn keyset(
    position: &KeysetPosition,
    page: &mut Prepared,
    entity: &Entity,
    cursor: &mut CursorWalk,
) -> Result<(KeysetPosition, Option<End>), StepFailure> {
    if let (Some(anchor), Some(first)) = (&position.anchor, page.records.first())
        && first.external_id == anchor.id
        && cursor.is_repeat(&Row::from(first))
    {
        // What the page before held as its last row is written already.
        let _repeated = page.records.remove(0);
    }
    let end = end_of(page, position.offset, &entity.pagination);
    page.shown.ended = end.is_some();
    let rows = page.records.iter().map(Row::from);
    let observed = cursor.observe_keyset(position, &page.shown, rows, page.server_date);
    let (findings, next) = observed.map_err(|error| unwalkable(&error.to_string()))?;
    check(findings)?;
    match next {
        Some(next) => Ok((next, None)),
        None => Ok((position.clone(), end)),
    }
}

/// One page of a list that is paged by rows.
fn rows(
    position: &mut RowsPosition,
    page: &mut Prepared,
    entity: &Entity,
    mut cursor: Option<&mut CursorWalk>,
    began_at: Option<Timestamp>,
) -> Result<Option<End>, StepFailure> {
    if !position.is_continued_by(page) {
        position.rewind(u64::from(entity.pagination.page_size))?;
        return Ok(None);
    }
    let last = page.records.last().map(identity);
    position.drop_repeated(page);
    let findings = follow(cursor.as_deref_mut(), page, began_at)?;
    if position.sorted && findings.order_ignored() {
        return Err(broken("the order of the list"));
    }
    if position.since.is_some() && findings.filter_ignored() {
        return Err(broken("the filter by change"));
    }
    if let Some(end) = end_of(page, position.skip, &entity.pagination) {
        return Ok(Some(end));
    }
    if position.sorted && cursor.is_some_and(|cursor| cursor.has_reached_start()) {
        return Ok(Some(End::Complete));
    }
    position.advance(page, last);
    let window = entity.pagination.max_window;
    if let Some(max_window) = window.filter(|window| position.skip >= *window) {
        let why = Incomplete::WindowExhausted { max_window };
        return Ok(Some(End::Incomplete(why.to_string())));
    }
    Ok(None)
}

/// Shows the rows to the cursor. It never moves past the beginning of the walk: a row that changes after
/// its page was read is the next delta's.
fn follow(
    cursor: Option<&mut CursorWalk>,
    page: &Prepared,
    began_at: Option<Timestamp>,
) -> Result<Findings, StepFailure> {
    let Some(cursor) = cursor else {
        return Ok(Findings::default());
    };
    let observed = cursor.observe(page.records.iter().map(Row::from), began_at);
    observed.map_err(|error| unwalkable(&error.to_string()))
}

/// The end of a list, when the page behind `skip` rows is its last one.
fn end_of(page: &Prepared, skip: u64, pagination: &Pagination) -> Option<End> {
    let reached = skip + page.rows;
    let told = match &page.next {
        Next::Page(_) => return None,
        Next::End => page.total,
        // The client counts from the first row that it was asked for.
        Next::Incomplete(Incomplete::FewerThanTotal { total, .. }) => Some(*total),
        Next::Incomplete(why) => return Some(End::Incomplete(why.to_string())),
    };
    if let Some(cap) = pagination.capped_total.filter(|cap| *cap == reached) {
        return Some(End::Incomplete(Incomplete::CappedTotal { cap }.to_string()));
    }
    match told {
        Some(total) if reached < total => {
            let received = reached;
            let why = Incomplete::FewerThanTotal { received, total };
            Some(End::Incomplete(why.to_string()))
        }
        _ => Some(End::Complete),
    }
}

fn check(findings: Findings) -> Result<(), StepFailure> {
    if findings.order_ignored() {
        return Err(broken("the order of the list"));
    }
    if findings.filter_ignored() {
        return Err(broken("the filter by change"));
    }
    Ok(())
}

fn identity(record: &Record) -> (ExternalId, ContentHash) {
    (record.external_id.clone(), record.content_hash)
}

fn broken(claim: &str) -> StepFailure {
    StepFailure::ClaimBroken {
        claim: claim.to_owned(),
    }
}

fn unwalkable(detail: &str) -> StepFailure {
    StepFailure::Unwalkable {
        detail: detail.to_owned(),
    }
}
