//! Building an engine.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use sync_adapters::{Credentials, Destination};
use sync_core::{AdapterName, DeletionPolicy, Manifest, OrgId};
use sync_workflow::{
    RetryPolicy, Worker,
    journal::{self, Journal},
};

use crate::{
    activities::{
        AwaitWriter, BeginEntity, CheckReferences, ConcludeEntity, ConfirmDeletions, Deps,
        JudgeDeletions, PlanRun, SyncPages,
    },
    catalogue::{Account, Catalogue},
    engine::SyncEngine,
    entity_sync::EntitySync,
    error::Error,
    flight::Flights,
    ledger,
    options::Options,
    orchestrator::MainSyncOrchestrator,
    target::{Target, TargetError},
};

/// Builds a [`SyncEngine`]: a journal, a destination, adapters, accounts; everything else has a default.
#[derive(Default)]
#[must_use = "nothing runs before `start`"]
pub struct SyncEngineBuilder {
    journal: Option<Place<Arc<dyn Journal>>>,
    destination: Option<Place<Destination>>,
    manifests: Vec<Manifest>,
    accounts: Vec<Account>,
    options: Options,
    lease: Option<Duration>,
    evict_after: Option<Duration>,
    poll_interval: Option<Duration>,
}

/// Something that is open already, or its address.
enum Place<T> {
    At(String),
    Open(T),
}

impl SyncEngineBuilder {
    /// Where the workflows are journaled: `postgres://…`, `sqlite:path` or `memory:`.
    pub fn journal_url(mut self, url: impl Into<String>) -> Self {
        self.journal = Some(Place::At(url.into()));
        self
    }

    /// An open journal.
    pub fn journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = Some(Place::Open(journal));
        self
    }

    /// Where the records go: `postgres://…` or `sqlite:path`. Where it is the journal's database, a page and
    /// its record commit together.
    pub fn destination_url(mut self, url: impl Into<String>) -> Self {
        self.destination = Some(Place::At(url.into()));
        self
    }

    /// An open destination.
    pub fn destination(mut self, destination: Destination) -> Self {
        self.destination = Some(Place::Open(destination));
        self
    }

    /// An API, by its manifest.
    pub fn adapter(mut self, manifest: Manifest) -> Self {
        self.manifests.push(manifest);
        self
    }

    /// An organisation's account at an adapter. Credentials stay in this process: neither a workflow's input
    /// nor the journal ever holds them.
    pub fn account(mut self, org: OrgId, adapter: AdapterName, credentials: Credentials) -> Self {
        self.accounts.push(Account {
            org,
            adapter,
            credentials,
        });
        self
    }

    /// How many pages of each entity are fetched while others are written; 16 if not set, 32 at most.
    pub fn pages_ahead(mut self, pages: usize) -> Self {
        self.options.pages_ahead = pages.min(32);
        self
    }

    /// How many records one step writes at most, give or take a page; 4,000 if not set. What a crash repeats
    /// grows with it; at most 1,000 of them are in memory at once, beside the pages that were fetched ahead.
    pub fn records_per_step(mut self, records: usize) -> Self {
        self.options.records_per_step = records.max(1);
        self
    }

    /// After how many steps an entity's workflow goes on with an empty journal; 500 if not set.
    pub fn steps_per_run(mut self, steps: u64) -> Self {
        self.options.steps_per_run = steps.max(1);
        self
    }

    /// How failed steps are repeated; 8 attempts from 0.5 s to 30 s apart if not set.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.options.retry = retry;
        self
    }

    /// How often one call of the source is repeated before its step fails, and the pause before the first
    /// repetition; 4 times from 200 ms on if not set.
    pub fn call_retries(mut self, retries: usize, pause: Duration) -> Self {
        self.options.call_retries = retries;
        self.options.call_pause = pause;
        self
    }

    /// The longest wait for the source's budget that a step sits out; 5 s if not set. A longer one becomes a
    /// durable timer.
    pub fn longest_wait(mut self, wait: Duration) -> Self {
        self.options.longest_wait = wait;
        self
    }

    /// What it takes to believe that records are gone.
    pub fn deletions(mut self, policy: DeletionPolicy) -> Self {
        self.options.deletions = policy;
        self
    }

    /// How long this process may be silent before its syncs go to others; 15 s if not set.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How long a workflow that only waits stays in memory; 1 s if not set.
    pub fn evict_after(mut self, idle: Duration) -> Self {
        self.evict_after = Some(idle);
        self
    }

    /// How often to look for work that no hint announced; 5 s if not set.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = Some(interval);
        self
    }

    /// Opens journal and destination, makes the tables, and begins to run syncs.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without a journal or a destination; otherwise what cannot be opened, read or made.
    pub async fn start(self) -> Result<SyncEngine, Error> {
        let journal = match self.journal {
            Some(Place::At(url)) => journal::connect(&url).await.map_err(Error::Journal)?,
            Some(Place::Open(journal)) => journal,
            None => return Err(Error::Missing { what: "journal" }),
        };
        let destination = match self.destination {
            Some(Place::At(url)) => Destination::connect(&url)
                .await
                .map_err(Error::Destination)?,
            Some(Place::Open(destination)) => destination,
            None => {
                return Err(Error::Missing {
                    what: "destination",
                });
            }
        };
        let catalogue = Catalogue::new(self.manifests, self.accounts, &self.options)?;
        prepare(&destination, &catalogue).await?;
        let target = Target::of(destination, &*journal)
            .await
            .map_err(|error| match error {
                TargetError::Journal(error) => Error::Journal(error),
                TargetError::Destination(error) => Error::Destination(error),
            })?;
        tracing::debug!(is_journal = target.is_journal(), "destination_ready");
        let deps = Arc::new(Deps {
            catalogue,
            target,
            flights: Flights::default(),
            options: self.options,
            client: OnceLock::new(),
        });
        let mut worker = register(&deps);
        if let Some(lease) = self.lease {
            worker = worker.lease(lease);
        }
        if let Some(idle) = self.evict_after {
            worker = worker.evict_after(idle);
        }
        if let Some(interval) = self.poll_interval {
            worker = worker.poll_interval(interval);
        }
        let worker = worker.start_on(journal).await.map_err(Error::Worker)?;
        let client = worker.client();
        // Set once: the dependencies are this engine's own.
        let _was_unset = deps.client.set(client.clone());
        Ok(SyncEngine::new(worker, client, deps))
    }
}

impl std::fmt::Debug for SyncEngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncEngineBuilder")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

async fn prepare(destination: &Destination, catalogue: &Catalogue) -> Result<(), Error> {
    for adapter in catalogue.adapters() {
        destination
            .prepare(&adapter.manifest)
            .await
            .map_err(Error::Destination)?;
    }
    let mut transaction = destination.begin().await.map_err(Error::Destination)?;
    ledger::create(&mut transaction.connection())
        .await
        .map_err(Error::Destination)?;
    transaction.commit().await.map_err(Error::Destination)
}

fn register(deps: &Arc<Deps>) -> sync_workflow::worker::WorkerBuilder {
    let deps = || Arc::clone(deps);
    Worker::builder()
        .workflow(MainSyncOrchestrator::new(deps()))
        .workflow(EntitySync::new(deps()))
        .activity(PlanRun(deps()))
        .activity(BeginEntity(deps()))
        .activity(SyncPages(deps()))
        .activity(JudgeDeletions(deps()))
        .activity(ConfirmDeletions(deps()))
        .activity(ConcludeEntity(deps()))
        .activity(AwaitWriter(deps()))
        .activity(CheckReferences(deps()))
}
