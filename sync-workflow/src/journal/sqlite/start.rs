//! Starts of runs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sqlx::SqliteConnection;

use super::{
    bulk::Bulk,
    record, run, tag,
    value::{Micros, column, micros, run_id},
};
use crate::{
    id::{NodeId, RunId, WorkflowId},
    journal::{IdReuse, NewRun, Placement, Result, StartOutcome},
    status::RunStatus,
};

/// The latest run of a workflow id.
#[derive(Debug, Clone, Copy)]
struct Occupant {
    run: RunId,
    status: RunStatus,
    sequence: i64,
}

impl Occupant {
    fn makes_room(self, reuse: IdReuse) -> bool {
        self.status.is_closed()
            && match reuse {
                IdReuse::ReturnExisting => false,
                IdReuse::StartNew => true,
                IdReuse::StartNewUnlessCompleted => self.status != RunStatus::Completed,
            }
    }
}

/// A run to insert, with its place among the runs of its workflow id.
type Admitted<'a> = (&'a NewRun, i64);

/// Starts one run that no node holds.
pub(super) async fn start_one(
    connection: &mut SqliteConnection,
    run: &NewRun,
    now: Micros,
) -> Result<StartOutcome> {
    let outcomes = start(connection, &[run], None, now).await?;
    Ok(outcomes
        .into_iter()
        .next()
        .expect("one start has one outcome"))
}

/// Starts those runs whose workflow id admits them, in order. Only a node can hold a run from its
/// birth.
pub(super) async fn start(
    connection: &mut SqliteConnection,
    runs: &[&NewRun],
    node: Option<NodeId>,
    now: Micros,
) -> Result<Vec<StartOutcome>> {
    let mut existing = existing(connection, runs).await?;
    let mut occupants = occupants(connection, runs).await?;
    let mut admitted = Vec::with_capacity(runs.len());
    let mut outcomes = Vec::with_capacity(runs.len());
    for &new in runs {
        if existing.contains(&new.run) {
            outcomes.push(StartOutcome::Started);
            continue;
        }
        let occupant = occupants.get(&new.workflow_id);
        if let Some(occupant) = occupant.filter(|occupant| !occupant.makes_room(new.reuse)) {
            outcomes.push(StartOutcome::Existing {
                run: occupant.run,
                status: occupant.status,
            });
            continue;
        }
        let sequence = occupant.map_or(0, |occupant| occupant.sequence + 1);
        let status = if is_born_here(new, node) {
            RunStatus::Running
        } else {
            RunStatus::Pending
        };
        occupants.insert(
            new.workflow_id.clone(),
            Occupant {
                run: new.run,
                status,
                sequence,
            },
        );
        existing.insert(new.run);
        admitted.push((new, sequence));
        outcomes.push(StartOutcome::Started);
    }
    insert(connection, &admitted, node, now).await?;
    Ok(outcomes)
}

/// Starts runs that continue runs which closed in this very transaction.
pub(super) async fn continue_as_new(
    connection: &mut SqliteConnection,
    runs: &[&NewRun],
    node: NodeId,
    now: Micros,
) -> Result<()> {
    let occupants = occupants(connection, runs).await?;
    let sequence = |new: &NewRun| {
        occupants
            .get(&new.workflow_id)
            .map_or(0, |occupant| occupant.sequence + 1)
    };
    // The requests to cancel and to pause go along.
    static CARRY_OVER: Bulk = Bulk::new(
        "UPDATE sync_workflow_runs
         SET cancel_requested = before.cancel_requested, pause_requested = before.pause_requested, inbox = 1,
             status = CASE WHEN before.pause_requested AND sync_workflow_runs.status = 0 THEN 3
                           ELSE sync_workflow_runs.status END
         FROM sync_workflow_runs AS before
         WHERE before.workflow_id = sync_workflow_runs.workflow_id
           AND before.sequence = sync_workflow_runs.sequence - 1
           AND (before.cancel_requested OR before.pause_requested)
           AND sync_workflow_runs.run IN (",
        "?",
        ")",
    );
    // A fork of the parent may have adopted the child meanwhile.
    static ADOPTED: Bulk = Bulk::new(
        "UPDATE sync_workflow_runs SET parent_run = before.parent_run
         FROM sync_workflow_runs AS before
         WHERE before.workflow_id = sync_workflow_runs.workflow_id
           AND before.sequence = sync_workflow_runs.sequence - 1
           AND before.parent_run <> sync_workflow_runs.parent_run
           AND sync_workflow_runs.run IN (",
        "?",
        ")",
    );
    let admitted: Vec<_> = runs.iter().map(|new| (*new, sequence(new))).collect();
    insert(connection, &admitted, Some(node), now).await?;
    tag::carry_over(connection, runs).await?;
    ADOPTED
        .execute(connection, runs, |statement, new| {
            statement.bind(new.run.as_uuid())
        })
        .await?;
    CARRY_OVER
        .execute(connection, runs, |statement, new| {
            statement.bind(new.run.as_uuid())
        })
        .await
}

/// The runs whose ids are in the journal: they were started before, by this very call.
async fn existing(connection: &mut SqliteConnection, runs: &[&NewRun]) -> Result<HashSet<RunId>> {
    static EXISTING: Bulk = Bulk::padded(
        "SELECT run FROM sync_workflow_runs WHERE run IN (",
        "?",
        ")",
    );
    let rows = EXISTING
        .fetch(connection, runs, |statement, new| {
            statement.bind(new.run.as_uuid())
        })
        .await?;
    rows.iter().map(|row| run_id(row, "run")).collect()
}

async fn occupants(
    connection: &mut SqliteConnection,
    runs: &[&NewRun],
) -> Result<HashMap<WorkflowId, Occupant>> {
    static OCCUPANTS: Bulk = Bulk::padded(
        "WITH wanted (workflow_id) AS (VALUES ",
        "(?)",
        ") SELECT latest.run AS run, latest.workflow_id AS workflow_id, status, sequence
           FROM wanted CROSS JOIN sync_workflow_runs AS latest
           -- One seek, however long the chain of runs is.
           WHERE latest.run = (SELECT run FROM sync_workflow_runs AS other
                               WHERE other.workflow_id = wanted.workflow_id ORDER BY sequence DESC LIMIT 1)",
    );
    let rows = OCCUPANTS
        .fetch(connection, runs, |statement, new| {
            statement.bind(String::from(new.workflow_id.clone()))
        })
        .await?;
    rows.iter()
        .map(|row| {
            let occupant = Occupant {
                run: run_id(row, "run")?,
                status: run::status(row)?,
                sequence: column(row, "sequence")?,
            };
            Ok((run::workflow_id(row)?, occupant))
        })
        .collect()
}

async fn insert(
    connection: &mut SqliteConnection,
    runs: &[Admitted<'_>],
    node: Option<NodeId>,
    now: Micros,
) -> Result<()> {
    static INSERT: Bulk = Bulk::padded(
        "WITH new (run, chain, workflow_id, sequence, workflow, queue, parent_run, parent_command, on_parent_close,
                   status, node, wake_at, claims, progress, created_at, queue_key, priority, admission, trace)
         AS (VALUES ",
        "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        ") INSERT INTO sync_workflow_runs
             (run, chain, workflow_id, sequence, workflow, queue, parent_run, parent_command, on_parent_close,
              status, node, wake_at, claims, progress, created_at, queue_key, priority, admission, trace,
              inbox, cancel_requested, awaited)
           SELECT new.*, 0, 0, 0 FROM new WHERE run IS NOT NULL",
    );
    INSERT
        .execute(connection, runs, |statement, (new, sequence)| {
            let holder = node.filter(|_| is_born_here(new, node));
            let (status, wake_at) = match (holder, new.placement) {
                (Some(_), _) => (RunStatus::Running, None),
                (None, Placement::Here | Placement::Anywhere) => (RunStatus::Pending, Some(now)),
                (None, Placement::NotBefore(at)) => (RunStatus::Pending, Some(micros(at))),
            };
            statement
                .bind(new.run.as_uuid())
                .bind(new.chain.as_uuid())
                .bind(String::from(new.workflow_id.clone()))
                .bind(*sequence)
                .bind(Arc::clone(&new.workflow))
                .bind(Arc::clone(&new.queue))
                .bind(new.parent.map(|parent| parent.run.as_uuid()))
                .bind(new.parent.map(|parent| parent.command.0))
                .bind(new.parent.map(|parent| parent.on_close as i16))
                .bind(status.code())
                .bind(holder.map(|node| node.as_uuid()))
                .bind(wake_at)
                .bind(holder.is_some())
                .bind(holder.is_some())
                .bind(now)
                .bind(Arc::clone(&new.ticket.key))
                .bind(new.ticket.priority)
                .bind(new.ticket.admission.code())
                .bind(new.trace.as_ref().map(|trace| trace.as_stored().to_owned()))
        })
        .await?;
    let records: Vec<_> = runs
        .iter()
        .flat_map(|(new, _)| new.born_with().map(|record| (new.run, record)))
        .collect();
    let records: Vec<_> = records.iter().map(|(run, record)| (*run, record)).collect();
    record::append(connection, &records, now).await?;
    let runs: Vec<&NewRun> = runs.iter().map(|(new, _)| *new).collect();
    tag::of_new(connection, &runs).await
}

fn is_born_here(new: &NewRun, node: Option<NodeId>) -> bool {
    node.is_some() && new.placement == Placement::Here
}
