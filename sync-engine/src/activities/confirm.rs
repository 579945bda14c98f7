//! Step `confirm-deletions`: asks the source for each candidate, and puts a tombstone on those that are gone.

use futures_util::{StreamExt as _, stream};
use sync_adapters::{
    client,
    destination::{CandidateRow, Connection},
};
use sync_core::{
    DeletionProof, ExternalId,
    proof::{Candidate, Confirmation, Generation, SpareReason, WalkLog},
};
use sync_workflow::{Activity, ActivityContext};

use super::{Deps, Opened, Shared, Step, StepInput, StepOutput, judge, wait_or_fail};
use crate::{catalogue::Source, failure::StepFailure, ledger, requests::counted, state::Phase};

/// Candidates of one step.
const BATCH: u32 = 100;
/// Records that are asked for side by side.
const SIDE_BY_SIDE: usize = 4;

pub(crate) struct ConfirmDeletions(pub(crate) Shared);

impl Activity for ConfirmDeletions {
    const NAME: &'static str = "confirm-deletions";
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
        let (Some(generation), Phase::Confirming { after }) =
            (step.state.generation, step.state.phase.clone())
        else {
            return Err(StepFailure::Superseded);
        };
        let rows = batch(deps, &step, generation, after.as_ref()).await?;
        let last = rows.last().map(|row| row.id.clone());
        let asked = match ask(&step.source, rows).await {
            Ok(asked) => asked,
            Err(error) => return wait_or_fail(error),
        };
        step.state.counts.requests += asked.requests;
        step.state.phase = match last {
            Some(last) => Phase::Confirming { after: Some(last) },
            None => Phase::Concluding,
        };
        let mut work = deps.target.begin(&context).await?;
        if !asked.candidates.is_empty() {
            let is_nested = step.source.parents.is_some();
            let log = step.state.log(&step.input.key, generation, is_nested);
            bury(
                deps,
                &mut step,
                log,
                asked.candidates,
                &mut work.connection()?,
            )
            .await?;
        }
        deps.close(step, work).await
    }
}

async fn batch(
    deps: &Deps,
    step: &Step,
    generation: Generation,
    after: Option<&ExternalId>,
) -> Result<Vec<CandidateRow>, StepFailure> {
    let mut reading = deps.target.reading().await?;
    let mut connection = reading.connection();
    Ok(connection
        .candidates(&step.source.rows, generation, after, BATCH)
        .await?)
}

struct Asked {
    candidates: Vec<Candidate>,
    requests: u64,
}

/// Asks the source for each candidate.
async fn ask(source: &Source, rows: Vec<CandidateRow>) -> Result<Asked, client::Error> {
    let asked = stream::iter(rows.into_iter().map(|row| confirm(source, row)));
    let mut answers = asked.buffered(SIDE_BY_SIDE);
    let mut all = Asked {
        candidates: Vec::new(),
        requests: 0,
    };
    while let Some(answer) = answers.next().await {
        let (candidate, requests) = answer?;
        all.candidates.push(candidate);
        all.requests += requests;
    }
    Ok(all)
}

async fn confirm(source: &Source, row: CandidateRow) -> Result<(Candidate, u64), client::Error> {
    let CandidateRow { id, parent } = row;
    let entity = source.entity();
    if entity.endpoints.get.is_none() {
        let confirmation = Confirmation::NotAskable;
        return Ok((
            Candidate {
                id,
                parent,
                confirmation,
            },
            0,
        ));
    }
    let (answer, requests) = counted(source.client.get(&entity.name, &id, parent.as_ref())).await;
    let confirmation = match answer {
        Ok(_document) => Confirmation::StillThere,
        Err(client::Error::NotFound { .. }) => Confirmation::NotFound,
        // Nothing is known yet, and will be: the step is repeated.
        Err(error) if error.is_retryable() => return Err(error),
        Err(_) => Confirmation::Unknown,
    };
    Ok((
        Candidate {
            id,
            parent,
            confirmation,
        },
        requests,
    ))
}

async fn bury(
    deps: &Deps,
    step: &mut Step,
    mut log: WalkLog,
    candidates: Vec<Candidate>,
    connection: &mut Connection<'_>,
) -> Result<(), StepFailure> {
    let generation = log.generation();
    if let Some(parents) = &step.source.parents {
        let mut ids: Vec<ExternalId> = candidates
            .iter()
            .filter_map(|candidate| candidate.parent.clone())
            .collect();
        ids.sort();
        ids.dedup();
        let walked = ledger::walked_parents(connection, &step.input.key, generation, &ids).await?;
        let gone = ledger::tombstones(connection, parents, &ids).await?;
        walked
            .into_iter()
            .chain(gone)
            .for_each(|parent| log.parent_completed(parent));
    }
    let policy = judge::policy(step.source.entity(), &deps.options.deletions);
    let store = judge::evidence(step, generation, connection).await?;
    let approval = match step.state.approved {
        true => connection.approval(&step.source.rows, generation).await?,
        false => None,
    };
    let established =
        DeletionProof::establish(&log, &store, candidates, &policy, approval.as_ref());
    let proof = match established {
        Ok(proof) => proof,
        Err(refusal) => {
            step.state.refusal = Some(refusal.to_string());
            step.state.phase = Phase::Concluding;
            return Ok(());
        }
    };
    let done = connection.tombstone(&step.source.rows, &proof).await?;
    step.state.counts.changes.deleted += done.deleted + done.merged;
    let unproved = proof
        .spared()
        .iter()
        .filter(|(_, reason)| *reason != SpareReason::StillThere);
    step.state.unconfirmed += unproved.count() as u64;
    Ok(())
}
