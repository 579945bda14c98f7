//! Step `sync-pages`: writes the pages that are there, and moves the walk behind them.

use std::time::{Duration, Instant};

use sync_adapters::client;
use sync_core::{ExternalId, Quarantined, Record, SyncType, manifest::Deletes};
use sync_workflow::{Activity, ActivityContext};

use super::{Deps, Opened, Shared, Step, StepInput, StepOutput, wait_or_fail};
use crate::{failure::StepFailure, ledger, requests::counted, state::Phase, walk::Prepared};

/// Parents that are taken from the destination at a time.
const PARENTS: u32 = 200;

/// How long a step waits for more pages once it has one: a full step costs less than many small ones, and a
/// slow source is not waited for.
const GATHERING: Duration = Duration::from_millis(50);

pub(crate) struct SyncPages(pub(crate) Shared);

/// What one step writes.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    quarantined: Vec<Quarantined>,
    /// Parents whose lists are through.
    parents: Vec<ExternalId>,
    pages: u64,
    requests: u64,
}

impl Batch {
    fn take(&mut self, page: Prepared, parent: Option<ExternalId>) {
        self.records.extend(page.records);
        self.quarantined.extend(page.quarantined);
        self.parents.extend(parent);
        self.pages += 1;
        self.requests += page.requests;
    }
}

impl Activity for SyncPages {
    const NAME: &'static str = "sync-pages";
    type Input = StepInput;
    type Output = StepOutput;
    type Error = StepFailure;

    async fn run(
        &self,
        context: ActivityContext,
        input: StepInput,
    ) -> Result<StepOutput, StepFailure> {
        let deps = &self.0;
        let mut step = match deps.open(input).await? {
            Opened::Done(next) => return Ok(StepOutput::Next(next)),
            Opened::Step(step) => step,
        };
        let batch = match gather(deps, &mut step).await? {
            Ok(batch) => batch,
            Err(error) => {
                let Step {
                    input,
                    flight,
                    state,
                    ..
                } = *step;
                deps.flights
                    .give_back(&input.walk, flight, input.step, state);
                return wait_or_fail(error);
            }
        };
        if step.state.walk.end().is_some() {
            leave_walk(&mut step).await?;
        }
        let mut work = deps.target.begin(&context).await?;
        write(&mut step, batch, &mut work.connection()?).await?;
        deps.close(step, work).await
    }
}

/// Takes pages while they come: the first one is waited for, the others for a moment. An error that follows
/// pages is left for the next step, which meets it again.
async fn gather(deps: &Deps, step: &mut Step) -> Result<Result<Batch, client::Error>, StepFailure> {
    let options = &deps.options;
    let mut batch = Batch::default();
    let mut deadline = Instant::now();
    while batch.records.len() < options.records_per_step
        && (batch.pages as usize) < options.pages_per_step
    {
        if let Some(after) = step.state.walk.wants_parents() {
            let after = after.cloned();
            let parents = parents(deps, step, after.as_ref()).await?;
            step.state.walk.give_parents(parents);
        }
        let Some(place) = step.state.walk.place() else {
            break;
        };
        let ahead = step.state.walk.foresee(options.pages_ahead + 1);
        step.flight.look_ahead(&step.source, &ahead);
        if batch.pages > 0 && !step.flight.has(&place, deadline).await {
            break;
        }
        let mut page = match step.flight.page(&step.source, &place).await {
            Ok(page) => page,
            Err(_) if batch.pages > 0 => break,
            Err(error) if step.state.walk.skip_parent(&error) => continue,
            Err(error) => return Ok(Err(error)),
        };
        if batch.pages == 0 {
            deadline = Instant::now() + GATHERING;
        }
        let parent = step.state.walk.observe(&mut page, step.source.entity())?;
        batch.take(page, parent);
    }
    let ahead = step.state.walk.foresee(options.pages_ahead);
    step.flight.look_ahead(&step.source, &ahead);
    Ok(Ok(batch))
}

async fn parents(
    deps: &Deps,
    step: &Step,
    after: Option<&ExternalId>,
) -> Result<Vec<ExternalId>, StepFailure> {
    let Some(rows) = &step.source.parents else {
        return Ok(Vec::new());
    };
    let mut reading = deps.target.reading().await?;
    Ok(ledger::live_ids(&mut reading.connection(), rows, after, PARENTS).await?)
}

/// The walk is over: what follows depends on what it was for.
async fn leave_walk(step: &mut Step) -> Result<(), StepFailure> {
    let entity = step.source.entity();
    let finds_deletions = matches!(entity.deletes, Deletes::Audit { .. } | Deletes::ListReplace);
    let is_walked = step.state.walk.end() == Some(&crate::walk::End::Complete);
    if step.state.sync_type != SyncType::Reconciliation || !finds_deletions || !is_walked {
        step.state.phase = Phase::Concluding;
        return Ok(());
    }
    step.state.total_after = match (&entity.parent, &entity.pagination.total) {
        (None, Some(_)) => {
            let request = sync_adapters::ListRequest::new(entity.name.clone()).page_size(1);
            let (page, requests) = counted(step.source.client.fetch_page(&request, None)).await;
            step.state.counts.requests += requests;
            page?.total
        }
        _ => None,
    };
    step.state.phase = Phase::Judging;
    Ok(())
}

async fn write(
    step: &mut Step,
    batch: Batch,
    connection: &mut sync_adapters::destination::Connection<'_>,
) -> Result<(), StepFailure> {
    let Step {
        input,
        source,
        state,
        ..
    } = step;
    let written = connection
        .write_page(&source.rows, state.generation, &batch.records)
        .await?;
    connection
        .quarantine(&source.rows, state.generation, &batch.quarantined)
        .await?;
    state.counts.changes += written.counts;
    state.counts.changes.quarantined += batch.quarantined.len() as u64;
    state.counts.pages += batch.pages;
    state.counts.requests += batch.requests;
    if state.generation.is_none() {
        // A complete walk settles the quarantine when it ends; a delta does so record by record.
        let ids: Vec<ExternalId> = batch
            .records
            .iter()
            .map(|record| record.external_id.clone())
            .collect();
        connection.release_quarantined(&source.rows, &ids).await?;
    }
    if let Some(generation) = state.generation {
        ledger::note_parents(connection, &input.key, generation, &batch.parents).await?;
    }
    Ok(())
}
