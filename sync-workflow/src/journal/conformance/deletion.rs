//! Runs that ended long ago, and are deleted.

use std::{sync::Arc, time::Duration};

use super::world::{
    LONG, WORKFLOW, World, appending, attempt, closing, continuing, latest, new_run, successor,
};
use crate::{
    id::{Position, RunId},
    journal::{
        Deletion, IdReuse, Journal, NewRun, ParentCloses, Placement, Publication, Result,
        RunCommit, RunFilter, RunSelector, SignalOutcome, StartOutcome,
    },
    tag::{TagChange, Tags},
};

fn everything_closed() -> Deletion {
    Deletion {
        workflow: WORKFLOW.into(),
        closed_for: Duration::ZERO,
        after: None,
    }
}

/// Deletes as a worker does, and tells how many runs are gone and how many deletions that took.
async fn delete_all(world: &World, mut deletion: Deletion) -> Result<(u32, u32)> {
    let (mut runs, mut rounds) = (0, 0);
    loop {
        let deleted = world.delete_closed(&deletion).await?;
        runs += deleted.runs;
        rounds += 1;
        deletion.after = deleted.after;
        if deletion.after.is_none() {
            return Ok((runs, rounds));
        }
    }
}

async fn exists(world: &World, run: RunId) -> Result<bool> {
    let is_described = world.describe(&RunSelector::Run(run)).await?.is_some();
    let has_records = !world.records(run).await?.is_empty();
    assert_eq!(is_described, has_records);
    Ok(is_described)
}

pub async fn runs_that_ended_long_enough_ago_are_deleted_with_all_that_is_theirs(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let tags = Tags::new().with("tenant", "42").expect("a tag");
    let new = NewRun {
        placement: Placement::Here,
        tags: tags.clone(),
        ..new_run("a")
    };
    let run = world.start_by_batch(new).await?;
    world.signal_run(run, "one").await?;
    let commit = RunCommit {
        published: vec![Publication {
            name: "state".into(),
            payload: "1".into(),
        }],
        attempts: vec![attempt(3, 1, world.now().await?)],
        tags: vec![TagChange {
            name: "stage".into(),
            value: Some("done".into()),
        }],
        ..appending(run, [1, 2])
    };
    world.push(commit).await?;
    assert_eq!(delete_all(&world, everything_closed()).await?.0, 0);
    world.close(run, 3).await?;
    assert_eq!(delete_all(&world, everything_closed()).await?.0, 1);

    assert!(!exists(&world, run).await?);
    assert_eq!(world.published(&latest("a"), "state").await?, None);
    assert_eq!(world.outcome(run).await?.map(|closed| closed.status), None);
    assert_eq!(world.arrived(run).await?.signals.len(), 0);
    let history = world.load(run, Position(0), 10).await?;
    assert_eq!((history.records, history.attempts), (vec![], vec![]));
    let tagged = RunFilter {
        tags,
        ..RunFilter::default()
    };
    assert_eq!(world.list(&tagged).await?.items.len(), 0);
    assert_eq!(world.list(&RunFilter::default()).await?.items.len(), 0);
    assert_eq!(delete_all(&world, everything_closed()).await?.0, 0);
    Ok(())
}

pub async fn an_open_run_and_a_run_of_another_workflow_stay(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let open = world.born("open").await?;
    let closed = world.born("closed").await?;
    let other = NewRun {
        workflow: "another".into(),
        placement: Placement::Here,
        ..new_run("other")
    };
    let other = world.start_by_batch(other).await?;
    world.close(closed, 1).await?;
    world.close(other, 1).await?;
    assert_eq!(delete_all(&world, everything_closed()).await?.0, 1);
    assert!(!exists(&world, closed).await?);
    assert!(exists(&world, open).await?);
    assert!(exists(&world, other).await?);
    Ok(())
}

pub async fn a_run_is_kept_for_as_long_as_was_asked(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.close(run, 1).await?;
    for closed_for in [LONG, Duration::MAX] {
        let long = Deletion {
            closed_for,
            ..everything_closed()
        };
        assert_eq!(delete_all(&world, long).await?.0, 0);
    }
    assert!(exists(&world, run).await?);
    Ok(())
}

pub async fn a_deletion_is_bounded_and_goes_on_where_it_left_off(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let runs = Deletion::MAX_RUNS + 7;
    for n in 0..runs {
        let run = world.born(&n.to_string()).await?;
        world.close(run, 1).await?;
    }
    let first = world.delete_closed(&everything_closed()).await?;
    assert_eq!(first.runs, Deletion::MAX_RUNS);
    let rest = Deletion {
        after: first.after,
        ..everything_closed()
    };
    assert_eq!(delete_all(&world, rest).await?, (7, 2));

    // Records are bounded too, but for those of one run.
    let long = Deletion::MAX_RECORDS + 2;
    for id in ["a", "b", "c"] {
        let run = world.born(id).await?;
        world.push(appending(run, 1..long)).await?;
        world.close(run, long).await?;
    }
    assert_eq!(delete_all(&world, everything_closed()).await?, (3, 4));
    Ok(())
}

pub async fn a_child_stays_while_its_parent_is_open(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let child = world
        .born_child("child", parent, ParentCloses::Cancel)
        .await?;
    let other = world.born("other").await?;
    world.close(child, 1).await?;
    world.close(other, 1).await?;
    assert_eq!(delete_all(&world, everything_closed()).await?.0, 1);
    assert!(exists(&world, child).await?);
    world.close(parent, 1).await?;
    assert_eq!(delete_all(&world, everything_closed()).await?.0, 2);
    Ok(())
}

pub async fn the_signals_of_a_chain_go_with_its_last_run(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.signal_run(run, "one").await?;
    let next = successor("a", run);
    let publishing = RunCommit {
        published: vec![Publication {
            name: "state".into(),
            payload: "1".into(),
        }],
        ..continuing(run, 1, next.clone())
    };
    world.push(publishing).await?;
    assert_eq!(delete_all(&world, everything_closed()).await?.0, 1);
    assert!(!exists(&world, run).await?);
    assert_eq!(world.arrived(next.run).await?.signals.len(), 1);
    assert!(world.published(&latest("a"), "state").await?.is_some());
    assert_eq!(
        world.signal_run(next.run, "one").await?,
        SignalOutcome::Duplicate
    );
    world.push(closing(next.run, 1)).await?;
    assert_eq!(delete_all(&world, everything_closed()).await?.0, 1);
    assert_eq!(world.describe(&latest("a")).await?.map(|info| info.run), None);
    Ok(())
}

pub async fn a_workflow_id_whose_runs_are_gone_starts_anew(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.signal_run(run, "one").await?;
    world.close(run, 1).await?;
    let again = new_run("a");
    let outcome = world.start(&again).await?;
    assert!(matches!(outcome, StartOutcome::Existing { .. }));
    delete_all(&world, everything_closed()).await?;
    assert_eq!(world.start(&again).await?, StartOutcome::Started);
    assert_eq!(world.info(again.run).await?.workflow_id, again.workflow_id);
    // The signal's id is as new as the run.
    let delivered = world.signal_run(again.run, "one").await?;
    assert!(matches!(delivered, SignalOutcome::Delivered(_)));

    // Where only the earlier run is gone, the later one is still the latest.
    let first = world.born("b").await?;
    world.close(first, 1).await?;
    let second = NewRun {
        reuse: IdReuse::StartNew,
        ..new_run("b")
    };
    world.start(&second).await?;
    assert_eq!(delete_all(&world, everything_closed()).await?.0, 1);
    let found = world.describe(&latest("b")).await?;
    assert_eq!(found.map(|info| info.run), Some(second.run));
    Ok(())
}

pub async fn deletions_at_once_delete_each_run_once(journal: Arc<dyn Journal>) -> Result<()> {
    const RUNS: u32 = 60;
    let world = World::new(journal).await?;
    for n in 0..RUNS {
        let run = world.born(&n.to_string()).await?;
        world.close(run, 1).await?;
    }
    let deletions = (0..8).map(|_| {
        let journal = Arc::clone(&world.journal);
        tokio::spawn(async move { journal.delete_closed(&everything_closed()).await })
    });
    let mut deleted = 0;
    for deletion in deletions.collect::<Vec<_>>() {
        deleted += deletion.await.expect("it does not panic")?.runs;
    }
    assert_eq!(deleted, RUNS);
    assert_eq!(world.list(&RunFilter::default()).await?.items.len(), 0);
    Ok(())
}
