//! Step `conclude-entity`: writes down how the sync of an entity ended, and where the next one begins.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_adapters::destination::Connection;
use sync_core::{SyncStatus, SyncType};
use sync_workflow::{Activity, ActivityContext};

use super::{Shared, begin::DELTA, judge::PENDING};
use crate::{
    catalogue::Source,
    failure::StepFailure,
    key::EntityKey,
    ledger::{self, Writer},
    report::EntityReport,
    state::EntityState,
};

pub(crate) struct ConcludeEntity(pub(crate) Shared);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ConcludeInput {
    #[serde(flatten)]
    pub(crate) key: EntityKey,
    pub(crate) walk: String,
    pub(crate) outcome: Outcome,
}

/// How the steps of an entity's sync ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// There is nothing left to do.
    Finished,
    /// A step failed for good.
    Failed { reason: String },
    /// Somebody stopped it.
    Cancelled,
}

impl Activity for ConcludeEntity {
    const NAME: &'static str = "conclude-entity";
    type Input = ConcludeInput;
    type Output = EntityReport;
    type Error = StepFailure;

    async fn run(
        &self,
        context: ActivityContext,
        input: ConcludeInput,
    ) -> Result<EntityReport, StepFailure> {
        let deps = &self.0;
        deps.flights.forget(&input.walk);
        let source = deps.catalogue.source(&input.key)?;
        let writer = {
            let mut reading = deps.target.reading().await?;
            ledger::writer(&mut reading.connection(), &input.key).await?
        };
        let writer = writer
            .filter(|writer| writer.walk == input.walk)
            .ok_or(StepFailure::Superseded)?;
        let state: EntityState = serde_json::from_str(&writer.state)?;
        if let Some(status) = &writer.status {
            // It was concluded before, and only the answer was lost.
            let status = serde_json::from_value(status.as_str().into())?;
            return Ok(report(
                &input,
                &state,
                status,
                writer.reason.clone(),
                &writer,
                0,
            ));
        }
        let (status, reason) = match &input.outcome {
            Outcome::Finished => state.status(),
            Outcome::Failed { reason } => (SyncStatus::Failed, Some(reason.clone())),
            Outcome::Cancelled => (SyncStatus::Cancelled, None),
        };
        let mut work = deps.target.begin(&context).await?;
        let mut connection = work.connection()?;
        let stale = settle(&mut connection, &source, &input, &state, &writer, status).await?;
        let is_closed = ledger::close(
            &mut connection,
            &input.key,
            &input.walk,
            status.as_str(),
            reason.as_deref(),
            &writer.state,
        )
        .await?;
        if !is_closed {
            return Err(StepFailure::Superseded);
        }
        work.commit().await?;
        tracing::info!(key = %input.key, %status, "entity_synced");
        Ok(report(&input, &state, status, reason, &writer, stale))
    }
}

/// Stores the cursor that was reached and ends the walk's generation. Tells how many records had changed
/// behind the back of the deltas.
async fn settle(
    connection: &mut Connection<'_>,
    source: &Source,
    input: &ConcludeInput,
    state: &EntityState,
    writer: &Writer,
    status: SyncStatus,
) -> Result<u64, StepFailure> {
    if let Some(cursor) = state
        .walk
        .cursor()
        .filter(|_| writer.manifest == source.fingerprint)
    {
        connection
            .save_cursor(&source.rows, DELTA, &cursor, &source.fingerprint)
            .await?;
    }
    let Some(generation) = state.generation else {
        return Ok(0);
    };
    let stale = match state.deltas_until {
        Some(until) if state.sync_type == SyncType::Reconciliation => {
            ledger::stale(
                connection,
                &source.rows,
                generation,
                until,
                &writer.started_at,
            )
            .await?
        }
        _ => 0,
    };
    if state.pending > 0 {
        // What the walk met must be known until a person has decided.
        return Ok(stale);
    }
    if state.approved {
        connection.forget_cursor(&source.rows, PENDING).await?;
    }
    ledger::forget_parents(connection, &input.key, generation).await?;
    let is_complete = status.moves_cursor() && state.walk.is_complete();
    connection
        .end_generation(&source.rows, generation, is_complete)
        .await?;
    Ok(stale)
}

fn report(
    input: &ConcludeInput,
    state: &EntityState,
    status: SyncStatus,
    reason: Option<String>,
    writer: &Writer,
    stale: u64,
) -> EntityReport {
    let started: Option<Timestamp> = writer.started_at.parse().ok();
    let seconds = started.map_or(0.0, |started| {
        Timestamp::now().duration_since(started).as_secs_f64()
    });
    EntityReport {
        counts: state.counts,
        seconds,
        stale,
        pending_deletions: state.pending,
        ..EntityReport::empty(input.key.entity.clone(), status, reason)
    }
}
