//! Step `sync-pages`: writes the pages that are there, and moves the walk behind them.

use std::time::{Duration, Instant};

use sync_adapters::client;
use sync_core::{ExternalId, Quarantined, Record, SyncType, manifest::Deletes};
use sync_workflow::{Activity, ActivityContext};

use super::{Deps, Opened, Shared, Step, StepInput, StepOutput, wait_or_fail};
use crate::{
    failure::StepFailure,
    ledger,
    options::Options,
    requests::counted,
    state::Phase,
    walk::{End, Prepared},
};

/// Parents that are taken from the destination at a time.
const PARENTS: u32 = 200;

/// Records that one statement writes at most, give or take a page: more make it no cheaper by the record.
const RECORDS_PER_STATEMENT: usize = 1_000;

/// How long a step waits for more pages once it has one: a full step costs less than many small ones, and a
/// slow source is not waited for.
const GATHERING: Duration = Duration::from_millis(50);

/// The same once the step has written: its transaction is open, and others may wait for it.
const GATHERING_MORE: Duration = Duration::from_millis(5);

pub(crate) struct SyncPages(pub(crate) Shared);

/// What one statement writes.
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

/// What a step may still write.
struct Budget {
    records: usize,
    pages: usize,
}

impl Budget {
    fn of(options: &Options) -> Self {
        Self {
            records: options.records_per_step,
            pages: options.pages_per_step,
        }
    }

    fn spend(&mut self, batch: &Batch) {
        self.records = self.records.saturating_sub(batch.records.len());
        self.pages = self.pages.saturating_sub(batch.pages as usize);
    }

    fn has_room_for_more_than(&self, batch: &Batch) -> bool {
        batch.records.len() < self.records.min(RECORDS_PER_STATEMENT)
            && (batch.pages as usize) < self.pages
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
        let mut budget = Budget::of(&deps.options);
        let first = match gather(deps, &mut step, &budget).await? {
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
        budget.spend(&first);
        write(&mut step, first, &mut work.connection()?).await?;
        while let Some(batch) = gather_more(deps, &mut step, &budget).await? {
            budget.spend(&batch);
            write(&mut step, batch, &mut work.connection()?).await?;
        }
        // What asks the source does so in a step of its own, before that one opens a transaction.
        if step.state.walk.end().is_some() && !weighs_deletions(&step) {
            step.state.phase = Phase::Concluding;
        }
        deps.close(step, work).await
    }
}

/// Takes pages while they come: the first one is waited for, the others for a moment. An error that follows
/// pages is left for the next step, which meets it again.
async fn gather(
    deps: &Deps,
    step: &mut Step,
    budget: &Budget,
) -> Result<Result<Batch, client::Error>, StepFailure> {
    let mut batch = Batch::default();
    let mut deadline = Instant::now();
    while budget.has_room_for_more_than(&batch) {
        if let Some(after) = step.state.walk.wants_parents() {
            let after = after.cloned();
            let parents = parents(deps, step, after.as_ref()).await?;
            step.state.walk.give_parents(parents);
        }
        let Some(place) = step.state.walk.place() else {
            break;
        };
        look_ahead(step, deps.options.pages_ahead.max(1));
        if batch.pages > 0 && !step.flight.has(&place, deadline).await {
            break;
        }
        let page = match step.flight.page(&step.source, &place).await {
            Ok(page) => page,
            Err(_) if batch.pages > 0 => break,
            Err(error) if step.state.walk.skip_parent(&error) => continue,
            Err(error) => return Ok(Err(error)),
        };
        if batch.pages == 0 {
            deadline = Instant::now() + GATHERING;
        }
        take(step, page, &mut batch)?;
    }
    look_ahead(step, deps.options.pages_ahead);
    Ok(Ok(batch))
}

/// Takes pages that are there already, for a step that has written. What takes more than a page to go on, or
/// fails, is left for the next step.
async fn gather_more(
    deps: &Deps,
    step: &mut Step,
    budget: &Budget,
) -> Result<Option<Batch>, StepFailure> {
    let mut batch = Batch::default();
    let mut deadline = Instant::now();
    while budget.has_room_for_more_than(&batch) {
        let Some(place) = step.state.walk.place() else {
            break;
        };
        if !step.flight.has(&place, deadline).await {
            break;
        }
        let Ok(page) = step.flight.page(&step.source, &place).await else {
            break;
        };
        if batch.pages == 0 {
            deadline = Instant::now() + GATHERING_MORE;
        }
        take(step, page, &mut batch)?;
        look_ahead(step, deps.options.pages_ahead);
    }
    Ok((batch.pages > 0).then_some(batch))
}

fn take(step: &mut Step, mut page: Prepared, batch: &mut Batch) -> Result<(), StepFailure> {
    let parent = step.state.walk.observe(&mut page, step.source.entity())?;
    batch.take(page, parent);
    Ok(())
}

fn look_ahead(step: &mut Step, pages: usize) {
    let ahead = step.state.walk.foresee(pages);
    step.flight.look_ahead(&step.source, &ahead);
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
    if !weighs_deletions(step) {
        step.state.phase = Phase::Concluding;
        return Ok(());
    }
    let entity = step.source.entity();
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

/// Whether the walk, now that it is over, may prove that records are gone.
fn weighs_deletions(step: &Step) -> bool {
    let deletes = &step.source.entity().deletes;
    step.state.sync_type == SyncType::Reconciliation
        && matches!(deletes, Deletes::Audit { .. } | Deletes::ListReplace)
        && step.state.walk.end() == Some(&End::Complete)
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
