//! Pages fetched ahead of the step that writes them. Invisible to durability: after a restart they are
//! fetched again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sync_adapters::{Page, client};
use sync_core::{Quarantined, Record, cursor::KeysetPage};
use tokio::task::JoinHandle;

use crate::{
    catalogue::{Parts, Source},
    requests::counted,
    state::EntityState,
    walk::{Place, Prepared},
};

/// A page that has waited longer than this is fetched again: the source lives on.
const FRESH: Duration = Duration::from_secs(120);
/// A walk that has not moved for so long here has moved to another process, or waits.
const IDLE: Duration = Duration::from_secs(300);
/// The walks that one process fetches ahead for.
const MOST_FLIGHTS: usize = 512;

/// The walks of this process, each with what is in flight for it.
#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<String, Flight>>);

/// What is in memory of one walk between two steps.
pub(crate) struct Flight {
    /// The state as the last step left it, if its commit succeeds.
    state: Option<(i64, EntityState)>,
    fetches: VecDeque<Fetch>,
    touched: Instant,
}

/// A fetch that runs while a step is written; dropping it cancels it.
struct Fetch {
    place: Place,
    started: Instant,
    task: JoinHandle<Result<Prepared, client::Error>>,
    /// The page, once somebody has waited for it.
    page: Option<Result<Prepared, client::Error>>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Flights {
    /// Takes the walk's flight for the time of a step.
    pub(crate) fn take(&self, walk: &str) -> Flight {
        self.lock().remove(walk).unwrap_or_else(Flight::new)
    }

    /// Gives a flight back, with the state that the next step begins with.
    pub(crate) fn give_back(&self, walk: &str, mut flight: Flight, step: i64, state: EntityState) {
        flight.state = Some((step, state));
        flight.touched = Instant::now();
        let mut flights = self.lock();
        flights.retain(|_, flight| flight.touched.elapsed() < IDLE);
        if flights.len() < MOST_FLIGHTS {
            flights.insert(walk.to_owned(), flight);
        }
    }

    /// Forgets a walk that is over.
    pub(crate) fn forget(&self, walk: &str) {
        self.lock().remove(walk);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Flight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    fn new() -> Self {
        Self {
            state: None,
            fetches: VecDeque::new(),
            touched: Instant::now(),
        }
    }

    /// The state that this step begins with, if it is known here.
    pub(crate) fn state(&mut self, step: i64) -> Option<EntityState> {
        let (at, state) = self.state.take()?;
        (at == step).then_some(state)
    }

    /// Whether the page is there, or comes before the deadline.
    pub(crate) async fn has(&mut self, place: &Place, deadline: Instant) -> bool {
        match self.fetches.iter_mut().find(|fetch| fetch.place == *place) {
            Some(fetch) if fetch.is_fresh() => {
                let arrival = fetch.arrive();
                tokio::time::timeout_at(deadline.into(), arrival)
                    .await
                    .is_ok()
            }
            Some(_) | None => false,
        }
    }

    /// The page at a place, from what is in flight or anew.
    pub(crate) async fn page(
        &mut self,
        source: &Source,
        place: &Place,
    ) -> Result<Prepared, client::Error> {
        let found = self.fetches.iter().position(|fetch| fetch.place == *place);
        let fetch = found.and_then(|index| {
            // What lies before it is not where the walk went.
            self.fetches.drain(..index);
            self.fetches.pop_front()
        });
        let fetch = fetch.filter(Fetch::is_fresh);
        let mut fetch = fetch.unwrap_or_else(|| Fetch::start(source, place.clone()));
        fetch.arrive().await;
        fetch
            .page
            .take()
            .expect("it has arrived, and nobody else takes it")
    }

    /// Begins to fetch what will be asked for next, and gives up what will not.
    pub(crate) fn look_ahead(&mut self, source: &Source, places: &[Place]) {
        self.fetches.retain(|fetch| places.contains(&fetch.place));
        for place in places {
            if !self.fetches.iter().any(|fetch| fetch.place == *place) {
                self.fetches.push_back(Fetch::start(source, place.clone()));
            }
        }
    }
}

impl Fetch {
    fn start(source: &Source, place: Place) -> Self {
        let (source, asked) = (source.clone(), place.clone());
        let task = tokio::spawn(async move {
            let (page, requests) = counted(fetch(&source, &asked)).await;
            page.map(|page| prepare(page, &source.parts, &asked, requests))
        });
        Self {
            place,
            started: Instant::now(),
            task,
            page: None,
        }
    }

    fn is_fresh(&self) -> bool {
        self.started.elapsed() < FRESH
    }

    /// Waits for the page. Cancel safe.
    async fn arrive(&mut self) {
        if self.page.is_none() {
            self.page = Some(match (&mut self.task).await {
                Ok(page) => page,
                Err(failed) => std::panic::resume_unwind(failed.into_panic()),
            });
        }
    }
}

async fn fetch(source: &Source, place: &Place) -> Result<Page, client::Error> {
    let (request, token) = place.request(source.entity());
    source.client.fetch_page(&request, token.as_ref()).await
}

/// Maps the documents of a page, beside the step that writes the pages before.
fn prepare(page: Page, parts: &Parts, place: &Place, requests: u64) -> Prepared {
    let map = |document| parts.mapper.map_owned(document, place.parent.as_ref());
    let mapped: Vec<Result<Record, Quarantined>> = page.records.into_iter().map(map).collect();
    let mut prepared = Prepared {
        ids: Vec::with_capacity(mapped.len()),
        records: Vec::with_capacity(mapped.len()),
        quarantined: Vec::new(),
        rows: mapped.len() as u64,
        shown: KeysetPage::of(&mapped, false),
        total: page.total,
        next: page.next,
        server_date: page.server_date,
        requests,
    };
    for document in mapped {
        match document {
            Ok(record) => {
                prepared.ids.push(record.external_id.clone());
                prepared.records.push(record);
            }
            Err(set_aside) => {
                prepared.ids.extend(set_aside.external_id.clone());
                prepared.quarantined.push(set_aside);
            }
        }
    }
    prepared
}
