//! Step `judge-deletions`: weighs what the walk did not meet, before any record is asked for.

use sync_adapters::destination::Connection;
use sync_core::{
    DeletionPolicy, DeletionProof, ExternalId,
    manifest::Entity,
    proof::{Candidate, Confirmation, Generation, StoreEvidence},
};
use sync_workflow::{Activity, ActivityContext};

use super::{Opened, Shared, Step, StepInput, StepOutput};
use crate::{
    failure::StepFailure,
    state::{Phase, scope},
};

/// The kind under which the state of a walk is stored whose deletions wait for a person.
pub(super) const PENDING: &str = "pending-deletions";
/// Candidates that are listed in one statement.
const LISTED: u32 = 1_000;

pub(crate) struct JudgeDeletions(pub(crate) Shared);

impl Activity for JudgeDeletions {
    const NAME: &'static str = "judge-deletions";
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
        let mut work = deps.target.begin(&context).await?;
        judge(&mut step, &deps.options.deletions, &mut work.connection()?).await?;
        deps.close(step, work).await
    }
}

async fn judge(
    step: &mut Step,
    deletions: &DeletionPolicy,
    connection: &mut Connection<'_>,
) -> Result<(), StepFailure> {
    let Some(generation) = step.state.generation else {
        step.state.phase = Phase::Concluding;
        return Ok(());
    };
    let policy = policy(step.source.entity(), deletions);
    let store = evidence(step, generation, connection).await?;
    let candidates = candidates(step, generation, &store, &policy, connection).await?;
    step.state.phase = Phase::Concluding;
    if candidates.is_empty() {
        return Ok(());
    }
    let count = candidates.len() as u64;
    let is_nested = step.source.parents.is_some();
    let log = step.state.log(&step.input.key, generation, is_nested);
    match DeletionProof::establish(&log, &store, candidates, &policy, None) {
        Ok(_nothing_is_confirmed_yet) => {
            step.state.phase = Phase::Confirming { after: None };
        }
        Err(refusal) => {
            if refusal.is_approvable() {
                connection
                    .request_deletion(&step.source.rows, generation, &refusal, count)
                    .await?;
                step.state.pending = count;
                step.state.refusal = Some(refusal.to_string());
                // The evidence waits with them: other syncs may follow before a person decides.
                let (rows, manifest) = (&step.source.rows, &step.source.fingerprint);
                connection
                    .save_cursor(rows, PENDING, &step.state, manifest)
                    .await?;
            }
            step.state.refusal = Some(refusal.to_string());
        }
    }
    Ok(())
}

/// The policy for an entity: what its API cannot tell is not asked of it.
pub(super) fn policy(entity: &Entity, options: &DeletionPolicy) -> DeletionPolicy {
    DeletionPolicy {
        needs_totals: options.needs_totals && entity.pagination.total.is_some(),
        needs_confirmation: options.needs_confirmation && entity.endpoints.get.is_some(),
        ..*options
    }
}

pub(super) async fn evidence(
    step: &Step,
    generation: Generation,
    connection: &mut Connection<'_>,
) -> Result<StoreEvidence, StepFailure> {
    let counts = connection
        .generation_counts(&step.source.rows, generation)
        .await?;
    Ok(StoreEvidence {
        scope: scope(&step.input.key),
        live_before: counts.live_before,
        stamped: counts.stamped,
        quarantined: counts.quarantined,
    })
}

/// The records that the walk did not meet: all of them, or just more than may go without approval.
async fn candidates(
    step: &Step,
    generation: Generation,
    store: &StoreEvidence,
    policy: &DeletionPolicy,
    connection: &mut Connection<'_>,
) -> Result<Vec<Candidate>, StepFailure> {
    let share = store
        .live_before
        .saturating_mul(u64::from(policy.max_percent))
        / 100;
    let enough = share.max(policy.always_allowed) + 1;
    let mut candidates: Vec<Candidate> = Vec::new();
    loop {
        let after: Option<ExternalId> = candidates.last().map(|candidate| candidate.id.clone());
        let rows = connection
            .candidates(&step.source.rows, generation, after.as_ref(), LISTED)
            .await?;
        let is_last = rows.len() < LISTED as usize;
        candidates.extend(rows.into_iter().map(|row| Candidate {
            id: row.id,
            parent: row.parent,
            confirmation: Confirmation::Unknown,
        }));
        if is_last || candidates.len() as u64 > enough {
            return Ok(candidates);
        }
    }
}
