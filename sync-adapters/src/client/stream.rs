//! Walking a list in bounded memory, with pages fetched ahead.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use serde_json::value::RawValue;
use sync_core::{Entity, manifest::Paginator};
use tokio::task::JoinHandle;

use super::{
    ApiClient, Error, ListRequest, Next, Page, PageToken,
    api::Fetched,
    page::Position,
    walk::{offset_of, page_of},
};

/// The most pages that are ever in flight for one walk.
const MOST_AHEAD: usize = 32;

impl ApiClient {
    /// The pages of a list, in order, from `start` or from the beginning.
    ///
    /// Up to `ahead` further pages are fetched while the consumer works on one: side by side once the
    /// total is known, where the API pages by offset or number; else the next one. At most `ahead + 1`
    /// pages are in memory. The stream ends after the first error, and after a page whose
    /// [`Next`](Page::next) is no further page: look there whether the walk is complete. Dropping the
    /// stream cancels what is in flight.
    pub fn stream_pages(
        &self,
        request: ListRequest,
        start: Option<PageToken>,
        ahead: usize,
    ) -> impl Stream<Item = Result<Page, Error>> + Send + use<> {
        let walk = Walk {
            client: self.clone(),
            request: Arc::new(request),
            token: Some(start.unwrap_or_else(PageToken::start)),
            in_flight: VecDeque::new(),
            ahead: ahead.min(MOST_AHEAD),
            plan: None,
        };
        stream::unfold(walk, Walk::step)
    }

    /// Every row of a list, one after the other, two pages at most in memory.
    ///
    /// A walk that ends before its list does gives [`Error::Incomplete`] as its last item.
    pub fn stream_all(
        &self,
        request: ListRequest,
    ) -> impl Stream<Item = Result<Box<RawValue>, Error>> + Send + use<> {
        let entity = request.entity().clone();
        let pages = self.stream_pages(request, None, 1);
        pages.map_ok(move |page| rows(page, &entity)).try_flatten()
    }
}

/// The rows of a page, and an error behind them when the walk ends early.
fn rows(
    page: Page,
    entity: &sync_core::EntityName,
) -> impl Stream<Item = Result<Box<RawValue>, Error>> + Send + use<> {
    let early = match page.next {
        Next::Incomplete(why) => Some(Err(Error::Incomplete {
            entity: entity.clone(),
            why,
        })),
        Next::Page(_) | Next::End => None,
    };
    stream::iter(page.records.into_iter().map(Ok)).chain(stream::iter(early))
}

/// A walk over a list.
struct Walk {
    client: ApiClient,
    request: Arc<ListRequest>,
    /// The page to deliver next; none when the walk is over.
    token: Option<PageToken>,
    /// Fetches for that page and for those expected behind it, in order.
    in_flight: VecDeque<Fetch>,
    ahead: usize,
    plan: Option<Plan>,
}

/// Where pages will lie, once one has told how many rows it holds and how many there are.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rows: u64,
    total: u64,
}

/// A fetch that runs while the consumer works; dropping it cancels it.
struct Fetch {
    position: Position,
    task: JoinHandle<Result<Fetched, Error>>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Walk {
    async fn step(mut self) -> Option<(Result<Page, Error>, Self)> {
        let token = self.token.take()?;
        let delivered = self.deliver(&token).await;
        if let Ok(page) = &delivered {
            self.token = page.next.token().cloned();
            self.look_ahead(page);
        } else {
            self.in_flight.clear();
        }
        Some((delivered, self))
    }

    async fn deliver(&mut self, token: &PageToken) -> Result<Page, Error> {
        let mut fetch = match self.in_flight.pop_front() {
            Some(fetch) if fetch.position == token.position => fetch,
            _ => {
                // The page before was not as long as foreseen: what was fetched ahead lies elsewhere.
                self.in_flight.clear();
                self.fetch(token.position.clone())
            }
        };
        let fetched = match (&mut fetch.task).await {
            Ok(fetched) => fetched?,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        };
        self.client.conclude(&self.request, token, fetched)
    }

    /// Begins to fetch what will be asked for next.
    fn look_ahead(&mut self, page: &Page) {
        let Some(token) = self.token.as_ref().filter(|_| self.ahead > 0) else {
            self.in_flight.clear();
            return;
        };
        let mut position = token.position.clone();
        self.plan = self.plan.or_else(|| Plan::of(page));
        if self
            .in_flight
            .front()
            .is_some_and(|fetch| fetch.position != position)
        {
            self.in_flight.clear();
        }
        if let Some(last) = self.in_flight.back() {
            match self.foresee(&last.position) {
                Some(next) => position = next,
                None => return,
            }
        }
        while self.in_flight.len() < self.ahead {
            let fetch = self.fetch(position.clone());
            self.in_flight.push_back(fetch);
            match self.foresee(&position) {
                Some(next) => position = next,
                None => return,
            }
        }
    }

    /// The place of the page behind this one, when it can be told without having seen this one.
    fn foresee(&self, position: &Position) -> Option<Position> {
        let plan = self.plan?;
        let entity: &Entity = self.client.entity(self.request.entity()).ok()?;
        let (next, rows_before) = match &entity.pagination.paginator {
            Paginator::Offset { .. } => {
                let offset = offset_of(position) + plan.rows;
                (Position::Offset(offset), offset)
            }
            Paginator::Page { first, .. } => {
                let number = page_of(position, *first) + 1;
                (
                    Position::Page(number),
                    number.saturating_sub(u64::from(*first)) * plan.rows,
                )
            }
            Paginator::CursorParam { .. }
            | Paginator::LinkHeader
            | Paginator::JsonNext { .. }
            | Paginator::LastId { .. } => return None,
        };
        let end = entity
            .pagination
            .max_window
            .map_or(plan.total, |window| window.min(plan.total));
        (rows_before < end).then_some(next)
    }

    fn fetch(&self, position: Position) -> Fetch {
        let (client, request, place) =
            (self.client.clone(), self.request.clone(), position.clone());
        let task = tokio::spawn(async move { client.fetch(&request, &place).await });
        Fetch { position, task }
    }
}

impl Plan {
    fn of(page: &Page) -> Option<Self> {
        let rows = page.records.len() as u64;
        Some(Self {
            rows,
            total: page.total?,
        })
        .filter(|plan| plan.rows > 0)
    }
}
