//! Runs that come from other journals.

use std::sync::Arc;

use jiff::Timestamp;

use super::world::{QUEUE, WORKFLOW, World, latest, new_run, record, run_id, workflow_id};
use crate::{
    id::RunId,
    journal::{HistoryRecord, ImportedRun, Journal, Result, RunSelector, StartOutcome},
    record::RecordKind,
    status::RunStatus,
    tag::Tags,
};

fn imported(id: &str, closed: Option<RunStatus>) -> ImportedRun {
    let last = match closed {
        Some(_) => RecordKind::Completed,
        None => RecordKind::ActivityCompleted,
    };
    let kinds = [RecordKind::Started, RecordKind::ActivityFailed, last];
    let records = (0..).zip(kinds).map(|(position, kind)| HistoryRecord {
        record: record(position, kind),
        recorded_at: Timestamp::from_second(1_000 + i64::from(position)).expect("a time"),
    });
    ImportedRun {
        run: run_id(),
        workflow_id: workflow_id(id),
        workflow: WORKFLOW.into(),
        queue: QUEUE.into(),
        closed,
        tags: Tags::new().with("tenant", "42").expect("a tag"),
        records: records.collect(),
    }
}

fn existing(run: RunId, status: RunStatus) -> StartOutcome {
    StartOutcome::Existing { run, status }
}

pub async fn an_imported_run_is_here_as_it_was_there(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = imported("a", Some(RunStatus::Completed));
    assert_eq!(world.import(&run).await?, StartOutcome::Started);
    let history = world.history(run.run, crate::id::Position(0), 10).await?;
    assert_eq!(history.items.len(), run.records.len());
    for (found, sent) in history.items.iter().zip(&run.records) {
        assert_eq!(found.record, sent.record);
        assert_eq!(found.recorded_at, sent.recorded_at);
    }
    let info = world.info(run.run).await?;
    assert_eq!(info.status, RunStatus::Completed);
    assert_eq!(info.created_at, run.records[0].recorded_at);
    assert_eq!(info.closed_at, Some(run.records[2].recorded_at));
    assert_eq!(info.tags, run.tags);
    let closed = world.outcome(run.run).await?.expect("it has ended");
    assert_eq!(closed.payload, run.records[2].record.payload);
    assert_eq!(world.claimed().await?, []);
    Ok(())
}

pub async fn an_imported_run_that_is_open_waits_to_be_resumed(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = imported("a", None);
    world.import(&run).await?;
    assert_eq!(world.status(run.run).await?, RunStatus::Paused);
    assert_eq!(world.claimed().await?, []);
    world.resume(&latest("a")).await?;
    assert_eq!(world.claimed().await?, [run.run]);
    assert_eq!(world.records(run.run).await?.len(), 3);
    world.append(run.run, 3).await?;
    Ok(())
}

pub async fn a_run_is_imported_where_nothing_is_in_its_way(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = imported("a", Some(RunStatus::Completed));
    world.import(&run).await?;
    let completed = existing(run.run, RunStatus::Completed);
    assert_eq!(world.import(&run).await?, completed);
    // The workflow id was used.
    let other = imported("a", None);
    assert_eq!(world.import(&other).await?, completed);
    assert_eq!(world.records(other.run).await?, []);
    // The run was, under another id.
    let renamed = ImportedRun {
        run: run.run,
        ..imported("b", None)
    };
    assert_eq!(world.import(&renamed).await?, completed);
    let started = new_run("c");
    world.start(&started).await?;
    let taken = imported("c", None);
    let pending = existing(started.run, RunStatus::Pending);
    assert_eq!(world.import(&taken).await?, pending);
    assert!(world.describe(&RunSelector::Run(taken.run)).await?.is_none());
    assert_eq!(world.records(run.run).await?.len(), 3);
    Ok(())
}
