//! Commits of nodes: one transaction per batch.

use std::collections::HashSet;

use futures_util::future::join;
use sqlx::SqliteConnection;

use super::{
    attempt,
    bulk::{self, Bound},
    error::{StepEnded, failed},
    node as lease, published, record, run, signal, start, tag,
    transition::{self, Arrivals, Suspension},
    value::Micros,
};
use crate::{
    id::{NodeId, Position, RunId},
    journal::{
        Batch, BatchOutcome, Error, NewRun, Result, RunCommit, RunOutcome, RunSelector,
        StartOutcome, TransactionCommit, Transition,
    },
    record::Record,
    status::RunStatus,
};

pub(super) async fn commit(
    connection: &mut SqliteConnection,
    node: NodeId,
    batch: &Batch,
    now: Micros,
) -> Result<BatchOutcome> {
    let all: Vec<&RunCommit> = batch.runs.iter().collect();
    // Seldom is a run lost, so the statements get their values while the journal looks.
    let (lost, appends) = join(record::refused(connection, node, &batch.runs), async {
        appends(&all, now)
    })
    .await;
    let lost = lost?;
    // A node that is gone holds no runs: its row went in the transaction that freed them.
    if !lost.is_empty() || batch.runs.is_empty() {
        lease::check(connection, node).await?;
    }
    let (happening, appends) = match lost.is_empty() {
        true => (all, appends),
        false => {
            let mut kept = all;
            kept.retain(|commit| !lost.contains(&commit.run));
            let appends = self::appends(&kept, now);
            (kept, appends)
        }
    };
    let transitions = Transitions::of(&happening);
    let mut outcome = BatchOutcome::default();
    let mut arrivals = Arrivals::new();

    bulk::execute(connection, appends).await?;
    write_rows(connection, &happening).await?;
    outcome.watched = publish(connection, &happening, now).await?;
    outcome.awaited =
        transition::close(connection, &transitions.closings, &mut arrivals, now).await?;
    start::continue_as_new(connection, &transitions.next, node, now).await?;
    outcome.rejected_children = start_children(connection, &happening, node, now).await?;
    transition::leave_children(connection, &transitions.parents, &mut arrivals).await?;
    let starts: Vec<&NewRun> = batch.starts.iter().collect();
    outcome.starts = start::start(connection, &starts, Some(node), now).await?;

    // Everything that arrives with the batch has arrived before a run may suspend.
    let arrivals: Vec<_> = arrivals.into_iter().collect();
    outcome.woken = run::arrive(connection, &arrivals, now).await?;
    let awake = transition::suspend(connection, &transitions.suspensions).await?;
    transition::release(connection, &transitions.releases, now).await?;
    transition::park(connection, &transitions.parks, now).await?;
    // A run may give up its place in the very batch in which something arrives for it.
    let parked = transitions.parks.iter().map(|(run, _)| run);
    let gone: HashSet<&RunId> = transitions.releases.iter().chain(parked).collect();
    for woken in &mut outcome.woken {
        woken.node = woken.node.filter(|_| !gone.contains(&woken.run));
    }
    outcome.runs = batch
        .runs
        .iter()
        .map(|commit| run_outcome(commit.run, &lost, &awake))
        .collect();
    Ok(outcome)
}

fn run_outcome(run: RunId, lost: &HashSet<RunId>, awake: &HashSet<RunId>) -> RunOutcome {
    if lost.contains(&run) {
        RunOutcome::Lost
    } else if awake.contains(&run) {
        RunOutcome::StillAwake
    } else {
        RunOutcome::Committed
    }
}

/// The transitions of a batch, sorted by what they do.
#[derive(Debug, Default)]
struct Transitions<'a> {
    suspensions: Vec<Suspension>,
    releases: Vec<RunId>,
    parks: Vec<(RunId, &'a str)>,
    closings: Vec<(RunId, RunStatus)>,
    next: Vec<&'a NewRun>,
    /// The closed runs that may have open children.
    parents: Vec<RunId>,
}

impl<'a> Transitions<'a> {
    fn of(commits: &[&'a RunCommit]) -> Self {
        let mut sorted = Self::default();
        for commit in commits {
            let run = commit.run;
            match &commit.transition {
                Transition::Continue => {}
                Transition::Suspend {
                    wake_at,
                    seen_inbox,
                } => {
                    sorted.suspensions.push(Suspension {
                        run,
                        wake_at: *wake_at,
                        seen_inbox: *seen_inbox,
                    });
                }
                Transition::Release => sorted.releases.push(run),
                Transition::Park { reason } => sorted.parks.push((run, reason)),
                Transition::Close(close) => {
                    sorted.closings.push((run, close.status));
                    sorted.next.extend(&close.next);
                    if close.has_open_children {
                        sorted.parents.push(run);
                    }
                }
            }
        }
        sorted
    }
}

/// The statements that append the records of runs.
fn appends(commits: &[&RunCommit], now: Micros) -> Vec<Bound> {
    record::inserts(&of_runs(commits, |commit| &commit.records), now).collect()
}

/// Writes what belongs to the runs alone, beside their records.
async fn write_rows(connection: &mut SqliteConnection, commits: &[&RunCommit]) -> Result<()> {
    tag::change(connection, &of_runs(commits, |commit| &commit.tags)).await?;
    attempt::keep(connection, &of_runs(commits, |commit| &commit.attempts)).await?;
    let settled: Vec<_> = of_runs(commits, |commit| &commit.settled_attempts)
        .iter()
        .map(|(run, id)| (*run, **id))
        .collect();
    attempt::settle(connection, &settled).await?;
    let consumed: Vec<_> = of_runs(commits, |commit| &commit.consumed_signals)
        .iter()
        .map(|(run, id)| (*run, **id))
        .collect();
    signal::consume(connection, &consumed).await
}

/// Writes what runs publish, and returns those of them that somebody awaits.
async fn publish(
    connection: &mut SqliteConnection,
    commits: &[&RunCommit],
    now: Micros,
) -> Result<Vec<RunId>> {
    let published = of_runs(commits, |commit| &commit.published);
    if published.is_empty() {
        return Ok(Vec::new());
    }
    published::publish(connection, &published, now).await?;
    let mut runs: Vec<RunId> = published.iter().map(|(run, _)| *run).collect();
    runs.dedup();
    published::watched(connection, &runs).await
}

/// What the commits of all runs hold of one kind, each with its run.
fn of_runs<'a, T>(
    commits: &[&'a RunCommit],
    of: impl Fn(&'a RunCommit) -> &'a Vec<T>,
) -> Vec<(RunId, &'a T)> {
    commits
        .iter()
        .flat_map(|commit| of(commit).iter().map(|item| (commit.run, item)))
        .collect()
}

/// Starts children, and returns those that could not be started.
async fn start_children(
    connection: &mut SqliteConnection,
    commits: &[&RunCommit],
    node: NodeId,
    now: Micros,
) -> Result<Vec<RunId>> {
    let children: Vec<&NewRun> = commits.iter().flat_map(|commit| &commit.children).collect();
    let outcomes = start::start(connection, &children, Some(node), now).await?;
    let rejected = children
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| *outcome != StartOutcome::Started);
    Ok(rejected.map(|(child, _)| child.run).collect())
}

/// Writes the record of a transactional step into the step's own transaction.
pub(super) async fn step(
    connection: &mut SqliteConnection,
    commit: &TransactionCommit,
    now: Micros,
) -> Result<()> {
    check_in_transaction(connection).await?;
    lease::check(connection, commit.node).await?;
    let held = run::select(connection, &RunSelector::Run(commit.run)).await?;
    let is_held = held.is_some_and(|run| run.node == Some(commit.node));
    if !is_held || record::next_position(connection, commit.run).await? != commit.record.position {
        return Err(Error::RunLost { run: commit.run });
    }
    record::append(connection, &[(commit.run, &commit.record)], now).await?;
    let settled: Vec<_> = commit
        .settled_attempt
        .iter()
        .map(|command| (commit.run, *command))
        .collect();
    attempt::settle(connection, &settled).await
}

/// Makes sure that the step's transaction still lasts. SQLite ends one by itself on some errors; the
/// record would then be written without the step's own writes.
async fn check_in_transaction(connection: &mut SqliteConnection) -> Result<()> {
    if sqlx::raw_sql("BEGIN")
        .execute(&mut *connection)
        .await
        .is_err()
    {
        return Ok(());
    }
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    Err(Error::Refused(Box::new(StepEnded)))
}

/// Whether a batch has happened; nothing if it holds nothing to tell it by.
pub(super) async fn was_committed(
    connection: &mut SqliteConnection,
    node: NodeId,
    batch: &Batch,
) -> Result<Option<bool>> {
    // The runs of a dead node may have gone on elsewhere, with records that look the same.
    lease::check(connection, node).await?;
    let mut found = None;
    for commit in &batch.runs {
        let Some(first) = commit.records.first() else {
            continue;
        };
        let present = is_present(connection, commit.run, first).await?;
        let held = run::select(connection, &RunSelector::Run(commit.run)).await?;
        if !present && held.is_some_and(|run| run.node == Some(node)) {
            return Ok(Some(false));
        }
        found = Some(found.unwrap_or(false) || present);
    }
    for start in &batch.starts {
        let present = run::select(connection, &RunSelector::Run(start.run))
            .await?
            .is_some();
        found = Some(found.unwrap_or(false) || present);
    }
    Ok(found)
}

async fn is_present(
    connection: &mut SqliteConnection,
    run: RunId,
    record: &Record,
) -> Result<bool> {
    if record::next_position(connection, run).await? <= record.position {
        return Ok(false);
    }
    let page = record::page(connection, run, record.position, 1).await?;
    Ok(page.first().is_some_and(|found| found.record == *record))
}

/// Ends an open run with a record at its next position, and returns whom that concerns.
pub(super) async fn terminate(
    connection: &mut SqliteConnection,
    run: RunId,
    record: &Record,
    status: RunStatus,
    now: Micros,
) -> Result<()> {
    let position: Position = record::next_position(connection, run).await?;
    record::append(
        connection,
        &[(
            run,
            &Record {
                position,
                ..record.clone()
            },
        )],
        now,
    )
    .await?;
    let mut arrivals = Arrivals::new();
    transition::close(connection, &[(run, status)], &mut arrivals, now).await?;
    transition::leave_children(connection, &[run], &mut arrivals).await?;
    let arrivals: Vec<_> = arrivals.into_iter().collect();
    run::arrive(connection, &arrivals, now).await.map(drop)
}
