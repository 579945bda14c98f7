//! Commits of a node: one statement and one round trip for everything that its runs produced.

mod answer;
mod columns;
mod doubt;
mod sql;

use std::collections::HashSet;

use sqlx::query_as;
use uuid::Uuid;

use answer::Answer;
pub(super) use columns::not_before;
use columns::{Columns, Sender};
pub(super) use doubt::{Doubts, was_committed};

use super::{
    connection::Shared,
    failure::{self, Effect},
    lane::{Lane, LaneError},
    start,
};
use crate::{
    id::{NodeId, RunId},
    journal::{Batch, BatchOutcome, Error, NewRun, Result, RunOutcome, StartOutcome},
    status::RunStatus,
};

/// How often a commit is sent again before it gives up, without the runs that are lost, or after a look at
/// another one. A second time needs an operator who ends runs at that very moment, or a second doubt.
const MAX_ROUNDS: u32 = 16;

/// Which statement carries a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Starts,
    Records,
    Ends,
    Transitions,
    Everything,
}

/// Commits a batch.
///
/// A position that is taken aborts the whole statement, and a run that the node does not hold keeps it
/// from doing anything. The runs concerned are then set aside as lost and the others are committed,
/// again in one statement. Where another commit of the node was looked for meanwhile, this one is sent again.
pub(super) async fn commit(
    lane: &Lane,
    shared: &Shared,
    doubts: &Doubts,
    node: NodeId,
    batch: &Batch,
) -> Result<BatchOutcome> {
    let mut lost = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let columns = Columns::of(batch, |commit| !lost.contains(&commit.run));
        match execute(lane, doubts.sender(node), &columns).await {
            Ok(answer) if answer.is_void() => doubts.learn(shared, node).await?,
            Ok(answer) if answer.holds_not_all() => {
                lost.extend(not_held(shared, node, batch, &lost).await?);
            }
            Ok(answer) => return report(shared, node, batch, &lost, &answer).await,
            Err(LaneError::Answer(error)) if failure::is_taken_position(&error) => {
                let taken = taken(shared, batch, &lost).await?;
                if taken.is_empty() {
                    return Err(Error::Contended(error.into()));
                }
                lost.extend(taken);
            }
            Err(error) => return Err(error.with(Effect::Commit)),
        }
    }
    Err(Error::Contended("runs were lost again and again".into()))
}

async fn execute(lane: &Lane, sender: Sender, columns: &Columns<'_>) -> Result<Answer, LaneError> {
    let rows = match columns.part() {
        Part::Starts => {
            let query = columns.bind_starts(sender, query_as(sql::STARTS));
            one(lane.rows(Effect::Commit, query).await?).map(Answer::of_starts)
        }
        Part::Records => {
            let query = columns.bind_records(sender, query_as(sql::RECORDS));
            one(lane.rows(Effect::Commit, query).await?).map(Answer::of_records)
        }
        Part::Ends => {
            let query = columns.bind_records(sender, query_as(sql::ENDS));
            let query = columns.bind_ends(query);
            one(lane.rows(Effect::Commit, query).await?).map(Answer::of_ends)
        }
        Part::Transitions => {
            let query = columns.bind_records(sender, query_as(sql::TRANSITIONS));
            let query = columns.bind_transitions(query);
            one(lane.rows(Effect::Commit, query).await?).map(Answer::of_transitions)
        }
        Part::Everything => {
            let query = columns.bind_records(sender, query_as(sql::EVERYTHING));
            let query = columns.bind_everything_else(columns.bind_transitions(query));
            one(lane.rows(Effect::Commit, query).await?).map(Answer::of_everything)
        }
    };
    rows.ok_or(LaneError::Answer(sqlx::Error::RowNotFound))
}

fn one<Row>(rows: Vec<Row>) -> Option<Row> {
    rows.into_iter().next()
}

/// The runs of the batch that the node does not hold.
async fn not_held(
    shared: &Shared,
    node: NodeId,
    batch: &Batch,
    lost: &HashSet<RunId>,
) -> Result<Vec<RunId>> {
    let runs = batch.runs.iter().map(|commit| commit.run);
    let runs: Vec<Uuid> = runs
        .filter(|run| !lost.contains(run))
        .map(|run| run.as_uuid())
        .collect();
    let query = query_as::<_, (Uuid,)>(sql::NOT_HELD)
        .bind(node.as_uuid())
        .bind(&runs);
    let rows = shared.rows(Effect::None, query).await?;
    let rows = rows.into_iter();
    Ok(rows.map(|(run,)| RunId::from_uuid(run)).collect())
}

/// The runs of the batch whose next position somebody else has written.
async fn taken(shared: &Shared, batch: &Batch, lost: &HashSet<RunId>) -> Result<Vec<RunId>> {
    let (runs, positions): (Vec<Uuid>, Vec<i32>) = batch
        .runs
        .iter()
        .filter(|commit| !lost.contains(&commit.run))
        .flat_map(|commit| {
            commit
                .records
                .iter()
                .map(|record| (commit.run.as_uuid(), record.position.0.cast_signed()))
        })
        .unzip();
    let query = query_as::<_, (Uuid,)>(sql::TAKEN)
        .bind(&runs)
        .bind(&positions);
    let rows = shared.rows(Effect::None, query).await?;
    Ok(rows
        .into_iter()
        .map(|(run,)| RunId::from_uuid(run))
        .collect())
}

/// Puts the outcome in the order of the batch.
///
/// The batch has happened by now: whatever fails here leaves only its outcome unknown.
async fn report(
    shared: &Shared,
    node: NodeId,
    batch: &Batch,
    lost: &HashSet<RunId>,
    answer: &Answer,
) -> Result<BatchOutcome> {
    let mut outcome = BatchOutcome {
        runs: batch
            .runs
            .iter()
            .map(|commit| match lost.contains(&commit.run) {
                true => RunOutcome::Lost,
                false => answer.outcome(commit),
            })
            .collect(),
        woken: answer.woken(),
        awaited: answer.awaited(),
        watched: answer.watched(),
        ..BatchOutcome::default()
    };
    for (commit, settled) in batch.runs.iter().zip(&outcome.runs) {
        if *settled != RunOutcome::Lost {
            outcome.woken.extend(answer.orphaned_at_birth(node, commit));
        }
    }
    let children = batch
        .runs
        .iter()
        .zip(&outcome.runs)
        .filter(|(_, settled)| **settled != RunOutcome::Lost)
        .flat_map(|(commit, _)| &commit.children);
    let missing: Vec<&NewRun> = children
        .chain(&batch.starts)
        .filter(|new| !answer.was_born(new.run))
        .collect();
    let obstacles = obstacles(shared, &missing).await.map_err(unknown)?;
    for commit in &batch.runs {
        for child in &commit.children {
            if let Some(obstacle) = obstacles.iter().find(|found| found.run == child.run)
                && !obstacle.exists
            {
                outcome.rejected_children.push(child.run);
            }
        }
    }
    for start in &batch.starts {
        let obstacle = obstacles.iter().find(|found| found.run == start.run);
        let started = settle_start(shared, start, obstacle).await;
        outcome.starts.push(started.map_err(unknown)?);
    }
    Ok(outcome)
}

/// What stood in the way of a run that was to start.
#[derive(Debug)]
struct Obstacle {
    run: RunId,
    /// The run itself: it was started before.
    exists: bool,
    /// The latest run of its workflow id.
    latest: Option<(RunId, RunStatus)>,
}

async fn obstacles(shared: &Shared, missing: &[&NewRun]) -> Result<Vec<Obstacle>> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let runs: Vec<Uuid> = missing.iter().map(|new| new.run.as_uuid()).collect();
    let workflow_ids: Vec<&str> = missing.iter().map(|new| new.workflow_id.as_str()).collect();
    let query = query_as::<_, (Uuid, bool, Option<Uuid>, Option<i16>)>(sql::NOT_STARTED)
        .bind(&runs)
        .bind(&workflow_ids);
    let rows = shared.rows(Effect::None, query).await?;
    Ok(rows
        .into_iter()
        .map(|(run, exists, latest, status)| Obstacle {
            run: RunId::from_uuid(run),
            exists,
            latest: latest
                .map(RunId::from_uuid)
                .zip(status.and_then(RunStatus::from_code)),
        })
        .collect())
}

async fn settle_start(
    shared: &Shared,
    new: &NewRun,
    obstacle: Option<&Obstacle>,
) -> Result<StartOutcome> {
    match obstacle {
        None | Some(Obstacle { exists: true, .. }) => Ok(StartOutcome::Started),
        Some(Obstacle {
            latest: Some((run, status)),
            ..
        }) if !start::makes_room(new.reuse, *status) => Ok(StartOutcome::Existing {
            run: *run,
            status: *status,
        }),
        // What stood in the way is gone by now.
        Some(_) => start::start(shared, new).await,
    }
}

fn unknown(error: Error) -> Error {
    match error {
        Error::Unknown(source) => Error::Unknown(source),
        other => Error::Unknown(other.into()),
    }
}
