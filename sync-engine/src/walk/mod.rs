//! The way through the list of an entity, page by page: where it stands, what follows, whether it is over.
//!
//! Pure: the pages are arguments. A [`Walk`] is stored between steps, and goes on in another process.

mod list;
mod parents;
mod rows;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_adapters::{
    ListRequest, PageToken,
    client::{self, Next},
};
use sync_core::{
    Cursor, CursorWalk, Entity, ExternalId, Quarantined, Record,
    cursor::{KeysetPage, Paging},
    manifest::{DeltaMethod, FullWalk, Paginator},
};

pub(crate) use self::list::List;
use self::{parents::Parents, rows::RowsPosition};
use crate::failure::StepFailure;

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// To see everything.
    Everything,
    /// To see what changed since the cursor.
    Changes,
}

/// A page to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The record under which the list lies.
    pub(crate) parent: Option<ExternalId>,
    pub(crate) at: At,
}

/// A place in one list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum At {
    /// Behind so many of the rows that changed since an instant.
    Rows {
        since: Option<Timestamp>,
        skip: u64,
        sorted: bool,
    },
    /// Where the source's own pointer leads.
    Token {
        since: Option<Timestamp>,
        token: Option<PageToken>,
    },
}

impl Place {
    /// The request for the page.
    pub(crate) fn request(&self, entity: &Entity) -> (ListRequest, Option<PageToken>) {
        let mut request = ListRequest::new(entity.name.clone());
        if let Some(parent) = &self.parent {
            request = request.under(parent.clone());
        }
        match &self.at {
            At::Rows {
                since,
                skip,
                sorted,
            } => {
                if let Some(since) = since {
                    request = request.changed_since(*since);
                }
                if *sorted {
                    request = request.sorted();
                }
                if let (Paginator::Offset { param }, 1..) = (&entity.pagination.paginator, *skip) {
                    request = request.param(param.clone(), skip.to_string());
                }
                (request, None)
            }
            At::Token { since, token } => {
                if let Some(since) = since {
                    request = request.changed_since(*since);
                }
                (request, token.clone())
            }
        }
    }

    /// Whether its total is that of the whole list.
    pub(crate) fn is_unfiltered(&self) -> bool {
        match &self.at {
            At::Rows { since, .. } | At::Token { since, .. } => since.is_none(),
        }
    }
}

/// A page whose documents have become records.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The ids of all documents that have one, in the order received.
    pub(crate) ids: Vec<ExternalId>,
    pub(crate) records: Vec<Record>,
    pub(crate) quarantined: Vec<Quarantined>,
    /// How many documents came.
    pub(crate) rows: u64,
    /// Its first and its last document, by which a keyset knows that nothing moved.
    pub(crate) shown: KeysetPage,
    pub(crate) total: Option<u64>,
    pub(crate) next: Next,
    pub(crate) server_date: Option<Timestamp>,
    /// Requests that it took.
    pub(crate) requests: u64,
}

/// How a walk, or one list of it, ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// By the source's explicit signal, with the counts in agreement.
    Complete,
    /// Before the list did.
    Incomplete(String),
}

/// A walk through the list of an entity, or through one list under each of its parents.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Walk {
    list: List,
    parents: Option<Parents>,
    cursor: Option<CursorWalk>,
    /// The source's clock at the first page.
    began_at: Option<Timestamp>,
    end: Option<End>,
    /// Rows of the whole list at the beginning, when the source tells.
    pub(crate) total: Option<u64>,
    pub(crate) pages: u64,
    pub(crate) unidentified: u64,
    /// Lists that could not be read.
    pub(crate) failed_lists: u64,
    /// Why the last of them could not.
    pub(crate) failed_list: Option<String>,
}

impl Walk {
    /// A walk that has not begun. A walk for changes needs the cursor that it begins at.
    pub(crate) fn begin(entity: &Entity, purpose: Purpose, start: Option<Cursor>) -> Self {
        let (list, cursor) = match (&entity.cursor, purpose) {
            (Some(spec), Purpose::Changes) => changes(entity, spec, start),
            (Some(spec), Purpose::Everything) => everything(entity, spec),
            (None, _) => (List::whole(entity), None),
        };
        Self {
            list,
            parents: entity.parent.as_ref().map(|_| Parents::default()),
            cursor,
            began_at: None,
            end: None,
            total: None,
            pages: 0,
            unidentified: 0,
            failed_lists: 0,
            failed_list: None,
        }
    }

    /// The page to ask for next; none when the walk is over, or when parents must be given first.
    pub(crate) fn place(&self) -> Option<Place> {
        if self.end.is_some() {
            return None;
        }
        let parent = match &self.parents {
            None => None,
            Some(parents) => Some(parents.current()?.clone()),
        };
        Some(Place {
            parent,
            at: self.list.at(),
        })
    }

    /// Where the pages behind that one will lie, as far as can be told, the nearest first.
    pub(crate) fn foresee(&self, most: usize) -> Vec<Place> {
        let Some(next) = self.place() else {
            return Vec::new();
        };
        let parent = next.parent.clone();
        let mut places = vec![next];
        let deeper = self.list.foresee(most.saturating_sub(1));
        places.extend(deeper.into_iter().map(|at| Place {
            parent: parent.clone(),
            at,
        }));
        let others = self.parents.iter().flat_map(Parents::waiting);
        places.extend(others.map(|parent| Place {
            parent: Some(parent.clone()),
            at: self.list.beginning(),
        }));
        places.truncate(most);
        places
    }

    /// Whether it needs the next parents, and behind which one they follow.
    pub(crate) fn wants_parents(&self) -> Option<Option<&ExternalId>> {
        let parents = self.parents.as_ref()?;
        (self.end.is_none() && parents.current().is_none()).then(|| parents.last())
    }

    /// Takes the next parents; none of them end the walk.
    pub(crate) fn give_parents(&mut self, next: Vec<ExternalId>) {
        let Some(parents) = &mut self.parents else {
            return;
        };
        if next.is_empty() {
            self.end = Some(End::Complete);
        }
        parents.extend(next);
    }

    /// Takes a page that was asked for at [`Self::place`], removes what this walk has taken before from it,
    /// and goes on to the next place. Tells the parent whose list is through, if one is.
    pub(crate) fn observe(
        &mut self,
        page: &mut Prepared,
        entity: &Entity,
    ) -> Result<Option<ExternalId>, StepFailure> {
        if self.pages == 0 {
            self.began_at = page.server_date;
        }
        if self.total.is_none() && self.place().is_some_and(|place| place.is_unfiltered()) {
            self.total = page.total;
        }
        self.pages += 1;
        let unidentified = page
            .quarantined
            .iter()
            .filter(|document| document.external_id.is_none());
        self.unidentified += unidentified.count() as u64;
        let ended = self
            .list
            .observe(page, entity, self.cursor.as_mut(), self.began_at)?;
        match (ended, &mut self.parents) {
            (None, _) => Ok(None),
            (Some(end), None) => {
                self.end = Some(end);
                Ok(None)
            }
            (Some(end), Some(parents)) => {
                self.list = self.list.anew();
                let parent = parents.advance();
                if let End::Incomplete(why) = end {
                    self.failed_lists += 1;
                    self.failed_list = Some(why);
                    return Ok(None);
                }
                Ok(parent)
            }
        }
    }

    /// Leaves out the current parent, whose list cannot be read. False when there is no parent to leave out.
    pub(crate) fn skip_parent(&mut self, error: &client::Error) -> bool {
        let is_gone = matches!(error, client::Error::NotFound { .. });
        let is_refused = matches!(error, client::Error::Forbidden { .. });
        let Some(parents) = self.parents.as_mut().filter(|_| is_gone || is_refused) else {
            return false;
        };
        // A parent that is gone has no list any more; its own deletion is its own entity's to prove.
        if is_refused {
            self.failed_lists += 1;
            self.failed_list = Some(error.to_string());
        }
        parents.advance();
        self.list = self.list.anew();
        true
    }

    /// How the walk ended, once it has.
    pub(crate) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Whether the walk saw everything that it was to see.
    pub(crate) fn is_complete(&self) -> bool {
        self.end == Some(End::Complete) && self.failed_lists == 0
    }

    /// Why the walk did not see everything, if it is over and did not.
    pub(crate) fn shortfall(&self) -> Option<String> {
        match &self.end {
            Some(End::Incomplete(why)) => Some(format!("the list ended early: {why}")),
            _ if self.failed_lists > 0 => {
                let why = self.failed_list.as_deref().unwrap_or("unknown");
                Some(format!(
                    "{} lists could not be read, the last one: {why}",
                    self.failed_lists
                ))
            }
            _ => None,
        }
    }

    /// The cursor to store when the walk stops here.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        let walk = self.cursor.as_ref()?;
        if self.is_complete() {
            walk.clone().complete()
        } else {
            walk.durable().cloned()
        }
    }
}

fn changes(
    entity: &Entity,
    spec: &sync_core::manifest::CursorSpec,
    start: Option<Cursor>,
) -> (List, Option<CursorWalk>) {
    match entity.delta_method() {
        DeltaMethod::Filtered if spec.is_keyset() && has_offset(entity) => {
            keyset(entity, spec, start)
        }
        DeltaMethod::Filtered => {
            let walk = CursorWalk::begin(spec, start, Paging::Positions);
            (List::since(entity, walk.asked_from()), Some(walk))
        }
        DeltaMethod::DescendingToWatermark if has_offset(entity) => {
            let walk = CursorWalk::begin(spec, start, Paging::Positions);
            (List::Rows(RowsPosition::newest_first()), Some(walk))
        }
        DeltaMethod::DescendingToWatermark | DeltaMethod::HashCompare => everything(entity, spec),
    }
}

fn everything(
    entity: &Entity,
    spec: &sync_core::manifest::CursorSpec,
) -> (List, Option<CursorWalk>) {
    if entity.full_walk == FullWalk::Keyset && spec.is_keyset() && has_offset(entity) {
        return keyset(entity, spec, None);
    }
    let walk = CursorWalk::begin(spec, None, Paging::Positions);
    (List::whole(entity), Some(walk))
}

fn keyset(
    entity: &Entity,
    spec: &sync_core::manifest::CursorSpec,
    start: Option<Cursor>,
) -> (List, Option<CursorWalk>) {
    let paging = Paging::Keyset {
        max_window: entity.pagination.max_window,
    };
    let walk = CursorWalk::begin(spec, start, paging);
    (List::keyset(walk.first_position()), Some(walk))
}

fn has_offset(entity: &Entity) -> bool {
    matches!(entity.pagination.paginator, Paginator::Offset { .. })
}
