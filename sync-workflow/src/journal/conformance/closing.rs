//! The ends of runs.

use std::sync::Arc;

use super::world::{
    World, appending, attempt, closing, closing_with, continuing, going_on, latest, new_run, record, signal, successor,
};
use crate::{
    id::Position,
    journal::{
        Close, Journal, NewRun, ParentCloses, Placement, Result, RunCommit, RunOutcome, RunSelector, SignalOutcome,
        StartOutcome, WokenRun,
    },
    record::{Record, RecordKind},
    status::RunStatus,
};

pub async fn the_end_of_a_run_is_its_last_record(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    assert!(world.outcome(run).await?.is_none());
    world.append(run, 1).await?;
    world.close(run, 2).await?;
    let closed = world.outcome(run).await?.expect("it has ended");
    assert_eq!(
        (closed.status, &closed.payload[..], closed.next),
        (RunStatus::Completed, &b"payload 2"[..], None)
    );
    let info = world.info(run).await?;
    assert_eq!(
        (info.status, info.node, info.wake_at),
        (RunStatus::Completed, None, None)
    );
    assert!(info.closed_at.expect("a time") >= info.created_at);
    Ok(())
}

pub async fn a_run_that_is_awaited_is_reported_when_it_closes(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let awaited = world.born("awaited").await?;
    let ignored = world.born("ignored").await?;
    for _ in 0..2 {
        assert!(world.outcome(awaited).await?.is_none());
    }
    let outcome = world
        .push_all([closing(ignored, 1), closing(awaited, 1)])
        .await?;
    assert_eq!(outcome.awaited, [awaited]);
    Ok(())
}

pub async fn an_end_of_which_no_parent_hears_is_an_end(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let (ended, awaited, open) = (
        world.born("ended").await?,
        world.born("awaited").await?,
        world.born("open").await?,
    );
    assert!(world.outcome(awaited).await?.is_none());
    let now = world.now().await?;
    world
        .push(RunCommit {
            attempts: vec![attempt(1, 1, now)],
            ..appending(ended, [1])
        })
        .await?;
    let alone = |run, position| {
        let close = Close {
            status: RunStatus::Failed,
            next: None,
            has_open_children: false,
            has_parent: false,
        };
        closing_with(run, record(position, RecordKind::Failed), close)
    };
    let outcome = world
        .push_all([alone(ended, 2), appending(open, [1]), alone(awaited, 1)])
        .await?;
    assert_eq!(outcome.runs, [RunOutcome::Committed; 3]);
    assert_eq!((outcome.woken, outcome.awaited), (vec![], vec![awaited]));
    for run in [ended, awaited] {
        let info = world.info(run).await?;
        assert_eq!((info.status, info.node), (RunStatus::Failed, None));
        assert!(info.closed_at.expect("a time") >= info.created_at);
    }
    assert_eq!(world.load(ended, Position(0), 10).await?.attempts, []);
    assert_eq!(world.info(open).await?.node, Some(world.node));

    let late = world.push_all([alone(ended, 3), appending(open, [2])]).await?;
    assert_eq!(late.runs, [RunOutcome::Lost, RunOutcome::Committed]);
    assert_eq!(world.records(ended).await?.len(), 3);
    Ok(())
}

pub async fn a_closed_run_takes_nothing_more(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.close(run, 1).await?;
    assert_eq!(world.append(run, 2).await?, RunOutcome::Lost);
    assert_eq!(world.push(closing(run, 2)).await?.runs, [RunOutcome::Lost]);
    assert_eq!(world.push(going_on(run)).await?.runs, [RunOutcome::Lost]);
    assert_eq!(world.signal_run(run, "late").await?, SignalOutcome::NotOpen);
    assert_eq!(world.claimed().await?, []);
    assert!(world.owned(world.node).await?.is_empty());
    assert_eq!(world.records(run).await?.len(), 2);
    Ok(())
}

pub async fn a_run_that_continues_another_is_born_with_what_is_carried_over(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let carried_over: Vec<_> = (1..=2)
        .map(|position| Record {
            command: Record::RUN,
            name: "number".into(),
            ..record(position, RecordKind::SignalReceived)
        })
        .collect();
    for (id, placement) in [("here", Placement::Here), ("anywhere", Placement::Anywhere)] {
        let first = world.born(id).await?;
        let next = NewRun {
            placement,
            carried_over: carried_over.clone(),
            ..successor(id, first)
        };
        let batch = world.push(continuing(first, 1, next.clone())).await?;
        assert_eq!(batch.runs, [RunOutcome::Committed]);
        let records = world.records(next.run).await?;
        assert_eq!(records, next.born_with().collect::<Vec<_>>());
        assert_eq!(records[1..], carried_over);
    }
    Ok(())
}

pub async fn a_run_continues_as_new_in_a_run_of_its_chain(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let first = world.born("a").await?;
    let next = successor("a", first);
    let outcome = world.push(continuing(first, 1, next.clone())).await?;
    assert_eq!(outcome.runs, [RunOutcome::Committed]);

    let closed = world.outcome(first).await?.expect("it has ended");
    assert_eq!(
        (closed.status, closed.next),
        (RunStatus::ContinuedAsNew, Some(next.run))
    );
    assert_eq!(world.status(next.run).await?, RunStatus::Running);
    let owned = world.owned(world.node).await?;
    assert_eq!(
        (owned[0].run, owned[0].chain, owned[0].attempts),
        (next.run, first, 1)
    );
    assert_eq!(
        world.describe(&latest("a")).await?.map(|info| info.run),
        Some(next.run)
    );
    let again = world.start(&new_run("a")).await?;
    assert_eq!(
        again,
        StartOutcome::Existing {
            run: next.run,
            status: RunStatus::Running
        }
    );

    let last = successor("a", first);
    world
        .push(RunCommit {
            children: Vec::new(),
            ..continuing(next.run, 1, last.clone())
        })
        .await?;
    world.close(last.run, 1).await?;
    assert_eq!(
        world.outcome(next.run).await?.expect("it has ended").next,
        Some(last.run)
    );
    assert_eq!(
        world.outcome(first).await?.expect("it has ended").next,
        Some(next.run)
    );
    Ok(())
}

pub async fn signals_carry_over_when_a_run_continues_as_new(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let first = world.born("a").await?;
    world.signal_run(first, "consumed").await?;
    world.signal_run(first, "carried").await?;
    let waiting = world.arrived(first).await?.signals;
    let consumed = RunCommit {
        consumed_signals: vec![waiting[0].sequence],
        ..appending(first, [1])
    };
    world.push(consumed).await?;
    let next = successor("a", first);
    world.push(continuing(first, 2, next.clone())).await?;

    let carried = world.arrived(next.run).await?.signals;
    assert_eq!(
        carried
            .iter()
            .map(|signal| &signal.payload[..])
            .collect::<Vec<_>>(),
        [b"signal carried"]
    );
    // The chain remembers every id that it has seen.
    for id in ["consumed", "carried"] {
        assert_eq!(
            world.signal(&signal(latest("a"), id)).await?,
            SignalOutcome::Duplicate
        );
        assert_eq!(
            world.signal(&signal(RunSelector::Run(first), id)).await?,
            SignalOutcome::Duplicate
        );
    }
    let delivered = world.signal(&signal(latest("a"), "fresh")).await?;
    assert_eq!(
        delivered,
        SignalOutcome::Delivered(WokenRun {
            run: next.run,
            node: Some(world.node)
        })
    );
    Ok(())
}

pub async fn a_cancel_request_carries_over_when_a_run_continues_as_new(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let first = world.born("a").await?;
    world.journal.request_cancel(&latest("a")).await?;
    let next = successor("a", first);
    world.push(continuing(first, 1, next.clone())).await?;
    assert!(world.arrived(next.run).await?.cancel_requested);

    let calm = world.born("b").await?;
    let next = successor("b", calm);
    world.push(continuing(calm, 1, next.clone())).await?;
    assert!(!world.arrived(next.run).await?.cancel_requested);
    Ok(())
}

pub async fn the_parent_of_a_run_that_continues_as_new_is_told(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let child = world
        .born_child("child", parent, ParentCloses::Cancel)
        .await?;
    let link = world
        .owned(world.node)
        .await?
        .into_iter()
        .find(|claimed| claimed.run == child)
        .and_then(|it| it.parent);
    let next = NewRun {
        parent: link,
        ..successor("child", child)
    };
    let outcome = world.push(continuing(child, 1, next.clone())).await?;
    assert_eq!(
        outcome.woken,
        [WokenRun {
            run: parent,
            node: Some(world.node)
        }]
    );
    let children = world.inbox(parent, &[child, next.run], 10).await?.children;
    assert_eq!(children.len(), 1);
    assert_eq!(
        children[0].closed.as_ref().and_then(|closed| closed.next),
        Some(next.run)
    );
    world.push(closing(next.run, 1)).await?;
    assert_eq!(
        world
            .inbox(parent, &[child, next.run], 10)
            .await?
            .children
            .len(),
        2
    );
    assert_eq!(
        record(1, RecordKind::Completed).payload,
        world.records(next.run).await?[1].payload
    );
    Ok(())
}
