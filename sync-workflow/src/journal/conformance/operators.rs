//! Cancellation, termination, parking.

use std::sync::Arc;

use super::world::{World, closing, going_on, latest, new_run, record};
use crate::{
    id::Position,
    journal::{
        Error, Journal, ParentCloses, Result, RunCommit, RunFilter, RunOutcome, RunSelector,
        Transition, WakeAt, WokenRun,
    },
    record::{Record, RecordKind},
    status::RunStatus,
};

/// A record that ends a run; its position is the journal's to choose.
fn terminated() -> Record {
    Record {
        payload: "enough".into(),
        command: Record::RUN,
        ..record(0, RecordKind::Terminated)
    }
}

pub async fn a_run_is_asked_to_cancel_once(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let held = WokenRun {
        run,
        node: Some(world.node),
    };
    assert!(!world.arrived(run).await?.cancel_requested);
    assert_eq!(world.request_cancel(&latest("a")).await?, Some(held));
    let inbox = world.arrived(run).await?;
    assert!(inbox.cancel_requested);
    assert!(inbox.count > 0);
    assert_eq!(
        world.request_cancel(&RunSelector::Run(run)).await?,
        Some(held)
    );
    assert!(world.info(run).await?.cancel_requested);
    assert_eq!(world.arrived(run).await?.count, inbox.count);
    Ok(())
}

pub async fn a_sleeping_run_wakes_to_cancel(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.suspend(run, 0, WakeAt::Arrival).await?;
    assert_eq!(
        world.request_cancel(&RunSelector::Run(run)).await?,
        Some(WokenRun { run, node: None })
    );
    assert_eq!(world.claimed().await?, [run]);
    Ok(())
}

pub async fn a_closed_run_cannot_be_asked_to_cancel(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.close(run, 1).await?;
    assert_eq!(world.request_cancel(&RunSelector::Run(run)).await?, None);
    assert_eq!(world.request_cancel(&latest("nobody")).await?, None);
    assert!(!world.info(run).await?.cancel_requested);
    Ok(())
}

pub async fn terminating_a_run_fences_its_owner(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.append(run, 1).await?;
    let woken = world.terminate(&latest("a"), &terminated()).await?;
    assert_eq!(
        woken,
        Some(WokenRun {
            run,
            node: Some(world.node)
        })
    );

    assert_eq!(world.append(run, 2).await?, RunOutcome::Lost);
    assert_eq!(world.append(run, 3).await?, RunOutcome::Lost);
    assert_eq!(world.push(closing(run, 2)).await?.runs, [RunOutcome::Lost]);
    let records = world.records(run).await?;
    assert_eq!(records.len(), 3);
    assert_eq!(
        records[2],
        Record {
            position: Position(2),
            ..terminated()
        }
    );
    let closed = world.outcome(run).await?.expect("it has ended");
    assert_eq!(
        (closed.status, &closed.payload[..]),
        (RunStatus::Terminated, &b"enough"[..])
    );
    assert!(world.owned(world.node).await?.is_empty());
    Ok(())
}

pub async fn terminating_a_run_tells_its_parent_and_its_children(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let middle = world
        .born_child("middle", parent, ParentCloses::Cancel)
        .await?;
    let child = world
        .born_child("child", middle, ParentCloses::Cancel)
        .await?;
    let abandoned = world
        .born_child("abandoned", middle, ParentCloses::Abandon)
        .await?;
    let seen = world.arrived(parent).await?.count;
    world.suspend(parent, seen, WakeAt::Arrival).await?;
    world
        .terminate(&RunSelector::Run(middle), &terminated())
        .await?;

    assert!(world.arrived(child).await?.cancel_requested);
    assert!(!world.arrived(abandoned).await?.cancel_requested);
    assert_eq!(world.claimed().await?, [parent]);
    let children = world.inbox(parent, &[middle], 1).await?.children;
    assert_eq!(
        children[0].closed.as_ref().map(|closed| closed.status),
        Some(RunStatus::Terminated)
    );
    Ok(())
}

pub async fn a_sleeping_run_can_be_terminated(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let new = new_run("a");
    world.start(&new).await?;
    let woken = world
        .terminate(&RunSelector::Run(new.run), &terminated())
        .await?;
    assert_eq!(
        woken,
        Some(WokenRun {
            run: new.run,
            node: None
        })
    );
    assert_eq!(world.claimed().await?, []);
    let info = world.info(new.run).await?;
    assert_eq!((info.status, info.wake_at), (RunStatus::Terminated, None));
    assert!(info.closed_at.is_some());
    Ok(())
}

pub async fn only_an_open_run_can_be_terminated(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.close(run, 1).await?;
    assert_eq!(
        world
            .terminate(&RunSelector::Run(run), &terminated())
            .await?,
        None
    );
    assert_eq!(
        world.terminate(&latest("nobody"), &terminated()).await?,
        None
    );
    assert_eq!(world.records(run).await?.len(), 2);
    assert_eq!(world.status(run).await?, RunStatus::Completed);
    Ok(())
}

pub async fn parked_runs_are_listed_with_reason_time_and_place(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let before = world.now().await?;
    let mut runs = Vec::new();
    for (id, reason) in [("a", "card 7 was declined"), ("b", "100% of _ are \\ gone")] {
        let run = world.born(id).await?;
        world.append(run, 1).await?;
        let park = RunCommit {
            transition: Transition::Park {
                reason: reason.into(),
            },
            ..going_on(run)
        };
        world.push(park).await?;
        runs.push(run);
    }
    world.born("c").await?;
    let after = world.now().await?;
    let parked = world.list(&RunFilter::parked()).await?.items;
    assert_eq!(parked.len(), 2);
    for info in parked {
        assert_eq!(info.parked_position, Some(Position(2)));
        let at = info.parked_at.expect("it is parked");
        assert!(before <= at && at <= after, "{before} {at} {after}");
    }
    let found = async |text: &str| {
        let filter = RunFilter {
            parked_for: Some(text.into()),
            ..RunFilter::default()
        };
        let page = world.list(&filter).await?;
        Ok::<_, Error>(page.items.iter().map(|info| info.run).collect::<Vec<_>>())
    };
    assert_eq!(found("was declined").await?, [runs[0]]);
    assert_eq!(found("% of _ are \\").await?, [runs[1]]);
    assert_eq!(found("a%d").await?, []);

    // What was is not told of a run that goes on, or has ended.
    world.unpark(&latest("a")).await?;
    world
        .terminate(&RunSelector::Run(runs[1]), &terminated())
        .await?;
    for run in runs {
        let info = world.info(run).await?;
        assert_eq!(
            (info.parked_reason, info.parked_at, info.parked_position),
            (None, None, None)
        );
    }
    assert_eq!(found("").await?, []);
    Ok(())
}

pub async fn a_parked_run_waits_for_a_person(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    assert_eq!(world.unpark(&RunSelector::Run(run)).await?, None);
    let reason = "the code does not match".to_owned();
    let park = RunCommit {
        transition: Transition::Park {
            reason: reason.clone(),
        },
        ..going_on(run)
    };
    assert_eq!(world.push(park).await?.runs, [RunOutcome::Committed]);
    let info = world.info(run).await?;
    assert_eq!(
        (info.status, info.node, info.parked_reason),
        (RunStatus::Parked, None, Some(reason))
    );

    // What arrives is kept, but does not wake it.
    world.signal_run(run, "one").await?;
    world.request_cancel(&RunSelector::Run(run)).await?;
    assert_eq!(world.claimed().await?, []);
    assert_eq!(
        world.unpark(&latest("a")).await?,
        Some(WokenRun { run, node: None })
    );
    let claimed = world.claim_all().await?.runs;
    assert_eq!((claimed[0].run, claimed[0].attempts), (run, 1));
    assert_eq!(world.arrived(run).await?.signals.len(), 1);
    assert_eq!(world.info(run).await?.parked_reason, None);
    Ok(())
}
