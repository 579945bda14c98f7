//! The engine: runs syncs, starts them, and tells how they stand.

use std::sync::Arc;

use sync_adapters::destination::{PendingDeletion, Table};
use sync_core::{AdapterName, OrgId, SyncKey, SyncType};
use sync_workflow::{
    Client, Failure, RunError, RunHandle, Worker, Workflow as _,
    client::{self as workflows, IdReuse},
    status::RunStatus,
};

use crate::{
    activities::Deps,
    builder::SyncEngineBuilder,
    entity_sync::{EntityRequest, EntitySync},
    error::Error,
    key::EntityKey,
    ledger,
    orchestrator::{MainSyncOrchestrator, RunRequest},
    progress::EntityProgress,
    report::{EntityReport, RunReport},
};

/// Runs syncs for the adapters and accounts that it was given, until it is shut down.
///
/// Any number of processes may run one on the same journal and destination: they share the work, and one goes
/// on where another one died.
pub struct SyncEngine {
    worker: Worker,
    client: Client,
    deps: Arc<Deps>,
}

/// One sync of an organisation: new, or one that was under way already.
#[derive(Debug)]
pub struct SyncHandle(RunHandle<RunReport, Failure>);

impl SyncEngine {
    /// Begins to build an engine.
    pub fn builder() -> SyncEngineBuilder {
        SyncEngineBuilder::default()
    }

    pub(crate) fn new(worker: Worker, client: Client, deps: Arc<Deps>) -> Self {
        Self {
            worker,
            client,
            deps,
        }
    }

    /// Starts a sync. While one of the same organisation, adapter and type is open, that one is returned.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownAdapter`] and [`Error::NotConnected`]; [`Error::Workflow`] when the journal fails.
    pub async fn start(
        &self,
        org: &OrgId,
        adapter: &AdapterName,
        sync_type: SyncType,
    ) -> Result<SyncHandle, Error> {
        self.deps.catalogue.connected(org, adapter)?;
        let request = RunRequest {
            org: org.clone(),
            adapter: adapter.clone(),
            sync_type,
        };
        let key = SyncKey::main(org, adapter, sync_type);
        let start = self
            .client
            .start(MainSyncOrchestrator::workflow(), key.as_str(), request);
        let handle = start
            .reuse(IdReuse::StartNew)
            .await
            .map_err(Error::Workflow)?;
        Ok(SyncHandle(handle))
    }

    /// Starts a sync, or joins the one that is under way, and awaits its report.
    ///
    /// # Errors
    ///
    /// As [`Self::start`] and [`SyncHandle::report`].
    pub async fn run(
        &self,
        org: &OrgId,
        adapter: &AdapterName,
        sync_type: SyncType,
    ) -> Result<RunReport, Error> {
        self.start(org, adapter, sync_type).await?.report().await
    }

    /// The latest sync of this type, open or over; none if there was none. Whoever died before it had read the report
    /// finds it here, where [`Self::start`] would begin the next sync.
    ///
    /// # Errors
    ///
    /// [`Error::Workflow`] when the journal fails.
    pub async fn latest(
        &self,
        org: &OrgId,
        adapter: &AdapterName,
        sync_type: SyncType,
    ) -> Result<Option<SyncHandle>, Error> {
        let key = SyncKey::main(org, adapter, sync_type);
        let handle = self
            .client
            .handle(MainSyncOrchestrator::workflow(), key.as_str());
        match handle.await {
            Ok(handle) => Ok(Some(SyncHandle(handle))),
            Err(workflows::Error::NotFound) => Ok(None),
            Err(error) => Err(Error::Workflow(error)),
        }
    }

    /// Where the latest sync of this type stands as a workflow; none if there was none.
    ///
    /// # Errors
    ///
    /// [`Error::Workflow`] when the journal fails.
    pub async fn status(
        &self,
        org: &OrgId,
        adapter: &AdapterName,
        sync_type: SyncType,
    ) -> Result<Option<RunStatus>, Error> {
        let key = SyncKey::main(org, adapter, sync_type);
        match self.client.describe(key.as_str()).await {
            Ok(run) => Ok(Some(run.status)),
            Err(workflows::Error::NotFound) => Ok(None),
            Err(error) => Err(Error::Workflow(error)),
        }
    }

    /// How far the latest sync of each entity has come, by the destination: whichever process runs it.
    ///
    /// # Errors
    ///
    /// [`Error::Destination`] when it cannot be read.
    pub async fn progress(
        &self,
        org: &OrgId,
        adapter: &AdapterName,
    ) -> Result<Vec<EntityProgress>, Error> {
        let mut reading = self
            .deps
            .target
            .reading()
            .await
            .map_err(Error::Destination)?;
        let writers = ledger::writers(&mut reading.connection(), org, adapter).await;
        let writers = writers.map_err(Error::Destination)?;
        let progress = writers
            .into_iter()
            .map(|(entity, writer)| EntityProgress::of(entity, &writer));
        progress.collect()
    }

    /// Asks a sync to stop. Its entities write down how far they came.
    ///
    /// # Errors
    ///
    /// [`Error::Workflow`] when none is open.
    pub async fn cancel(
        &self,
        org: &OrgId,
        adapter: &AdapterName,
        sync_type: SyncType,
    ) -> Result<(), Error> {
        let key = SyncKey::main(org, adapter, sync_type);
        self.client
            .cancel(key.as_str())
            .await
            .map_err(Error::Workflow)
    }

    /// The deletions of an organisation that wait for a person, the newest first, at most 1,000.
    ///
    /// # Errors
    ///
    /// [`Error::Destination`] when it cannot be read.
    pub async fn pending_deletions(&self, org: &OrgId) -> Result<Vec<PendingDeletion>, Error> {
        let mut reading = self
            .deps
            .target
            .reading()
            .await
            .map_err(Error::Destination)?;
        let pending = reading.connection().pending_deletions(org, 1_000).await;
        pending.map_err(Error::Destination)
    }

    /// Approves the deletions that a reconciliation found but did not dare to make, and makes them: each one
    /// that the source still confirms. `by` says who approved.
    ///
    /// # Errors
    ///
    /// [`Error::NotPending`] when nothing waits for this decision.
    pub async fn approve_deletions(
        &self,
        org: &OrgId,
        pending: &PendingDeletion,
        by: &str,
    ) -> Result<EntityReport, Error> {
        self.decide(org, pending, true, by).await?;
        let key = EntityKey {
            org: org.clone(),
            adapter: pending.adapter.clone(),
            entity: pending.entity.clone(),
        };
        let request = EntityRequest {
            key,
            sync_type: SyncType::Reconciliation,
            approved: Some(pending.generation),
            progress: None,
        };
        let id = SyncKey::entity(
            org,
            &pending.adapter,
            &pending.entity,
            SyncType::Reconciliation,
        );
        let id = id.run(format_args!("approved-{}", pending.generation.0));
        let start = self.client.start(EntitySync::workflow(), &id, request);
        let handle = start.await.map_err(Error::Workflow)?;
        handle
            .result()
            .await
            .map_err(|error| Error::NoReport(Box::new(error)))
    }

    /// Refuses the deletions that a reconciliation found: the records stay until a later one finds them again.
    ///
    /// # Errors
    ///
    /// [`Error::NotPending`] when nothing waits for this decision.
    pub async fn refuse_deletions(
        &self,
        org: &OrgId,
        pending: &PendingDeletion,
        by: &str,
    ) -> Result<(), Error> {
        self.decide(org, pending, false, by).await
    }

    async fn decide(
        &self,
        org: &OrgId,
        pending: &PendingDeletion,
        approved: bool,
        by: &str,
    ) -> Result<(), Error> {
        let adapter = self.deps.catalogue.connected(org, &pending.adapter)?;
        let table = Table::of(&adapter.manifest, &pending.entity).map_err(Error::Destination)?;
        let rows = table.rows_of(org.clone());
        let destination = self.deps.target.destination();
        let mut transaction = destination.begin().await.map_err(Error::Destination)?;
        let mut connection = transaction.connection();
        let decided = connection
            .decide_deletion(&rows, pending.generation, approved, by)
            .await;
        let decided = decided.map_err(Error::Destination)?;
        transaction.commit().await.map_err(Error::Destination)?;
        if decided {
            Ok(())
        } else {
            Err(Error::NotPending)
        }
    }

    /// Whether a page and its record commit in one transaction, because journal and destination are one
    /// database.
    #[must_use]
    pub fn commits_together(&self) -> bool {
        self.deps.target.is_journal()
    }

    /// The client of the engine's workflows.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Stops: gives the syncs back, for this process or another one to go on with.
    pub async fn shutdown(self) {
        self.worker.shutdown().await;
    }
}

impl std::fmt::Debug for SyncEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncEngine")
            .field("worker", &self.worker)
            .field("destination", self.deps.target.destination())
            .finish_non_exhaustive()
    }
}

impl SyncHandle {
    /// Whether this call started the sync; false when one was under way already.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.0.is_new()
    }

    /// The id of its workflow.
    #[must_use]
    pub fn workflow_id(&self) -> &str {
        self.0.workflow_id().as_str()
    }

    /// The handle of its workflow.
    #[must_use]
    pub fn workflow(&self) -> &RunHandle<RunReport, Failure> {
        &self.0
    }

    /// Awaits the report. A sync whose entities failed has one too: look at its status. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`Error::NoReport`] when the sync was terminated, is parked, or failed as a whole.
    pub async fn report(&self) -> Result<RunReport, Error> {
        self.0
            .result()
            .await
            .map_err(|error: RunError<Failure>| Error::NoReport(Box::new(error)))
    }
}
