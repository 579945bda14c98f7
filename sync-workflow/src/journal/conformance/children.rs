//! Children and their parents.

use std::sync::Arc;

use super::world::{
    QUEUE, World, appending, child_of, closing, closing_with, going_on, new_run, record, run_id,
    suspending,
};
use crate::{
    id::{CommandId, Position},
    journal::{
        Close, Journal, NewRun, ParentCloses, Placement, Result, RunCommit, RunOutcome,
        StartOutcome, WakeAt, WokenRun,
    },
    record::{Record, RecordKind},
    status::RunStatus,
};

pub async fn a_child_born_here_is_owned_at_once(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let child = world
        .born_child("child", parent, ParentCloses::Cancel)
        .await?;

    let info = world.info(child).await?;
    assert_eq!(
        (info.status, info.node, info.attempts),
        (RunStatus::Running, Some(world.node), 1)
    );
    assert_eq!((info.parent, info.wake_at), (Some(parent), None));
    let started = &world.records(child).await?[0];
    assert_eq!(
        (started.kind, started.position, &started.payload[..]),
        (RecordKind::Started, Position(0), &b"input"[..])
    );
    assert_eq!(world.append(child, 1).await?, RunOutcome::Committed);
    assert_eq!(world.claimed().await?, []);
    Ok(())
}

pub async fn a_child_for_anyone_is_claimable_and_knows_its_parent(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let child = child_of(parent, ParentCloses::Abandon, "child");
    let link = child.parent;
    world
        .push(RunCommit {
            children: vec![child.clone()],
            ..appending(parent, [1])
        })
        .await?;

    let other = world.another().await?;
    let claimed = other.claim_all().await?.runs;
    assert_eq!(
        claimed
            .iter()
            .map(|claimed| claimed.run)
            .collect::<Vec<_>>(),
        [child.run]
    );
    let (found, expected) = (
        claimed[0].parent.expect("a parent"),
        link.expect("a parent"),
    );
    assert_eq!(
        (found.run, found.command, found.on_close),
        (expected.run, CommandId(7), ParentCloses::Abandon)
    );
    Ok(())
}

pub async fn a_child_whose_workflow_id_is_taken_is_reported(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let holder = world.born("taken").await?;
    let rejected = child_of(parent, ParentCloses::Cancel, "taken");
    let started = NewRun {
        placement: Placement::Here,
        ..child_of(parent, ParentCloses::Cancel, "free")
    };
    let children = vec![rejected.clone(), started.clone()];
    let outcome = world
        .push(RunCommit {
            children,
            ..appending(parent, [1])
        })
        .await?;

    assert_eq!(
        (outcome.runs, outcome.rejected_children),
        (vec![RunOutcome::Committed], vec![rejected.run])
    );
    assert_eq!(world.records(rejected.run).await?, []);
    assert_eq!(world.records(holder).await?.len(), 1);
    assert_eq!(world.records(started.run).await?.len(), 1);
    let outcomes = world
        .inbox(parent, &[rejected.run, started.run], 10)
        .await?
        .children;
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].child, rejected.run);
    assert!(outcomes[0].closed.is_none());
    Ok(())
}

pub async fn a_parent_is_told_that_its_child_has_closed(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let child = world
        .born_child("child", parent, ParentCloses::Cancel)
        .await?;
    let before = world.arrived(parent).await?.count;
    let outcome = world.close(child, 1).await?;

    assert_eq!(
        outcome.woken,
        [WokenRun {
            run: parent,
            node: Some(world.node)
        }]
    );
    assert!(world.arrived(parent).await?.count > before);
    assert_eq!(
        world.suspend(parent, before, WakeAt::Arrival).await?,
        RunOutcome::StillAwake
    );
    Ok(())
}

pub async fn a_parent_and_its_child_may_close_in_one_batch(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    for (parent, child, parent_first) in [("p1", "c1", true), ("p2", "c2", false)] {
        let parent = world.born(parent).await?;
        let child = world
            .born_child(child, parent, ParentCloses::Cancel)
            .await?;
        let close = Close {
            status: RunStatus::Completed,
            next: None,
            has_open_children: true,
            has_parent: true,
        };
        let mut commits = vec![
            closing_with(parent, record(1, RecordKind::Completed), close),
            closing(child, 1),
        ];
        if !parent_first {
            commits.reverse();
        }
        let outcome = world.push_all(commits).await?;
        assert_eq!(outcome.runs, [RunOutcome::Committed; 2]);
        assert_eq!(world.status(parent).await?, RunStatus::Completed);
        assert_eq!(world.status(child).await?, RunStatus::Completed);
        assert!(!world.info(child).await?.cancel_requested);
    }
    Ok(())
}

pub async fn a_parent_that_suspends_in_the_batch_in_which_its_child_closes_stays_awake(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    for (parent, child, parent_first) in [("p1", "c1", true), ("p2", "c2", false)] {
        let parent = world.born(parent).await?;
        let child = world
            .born_child(child, parent, ParentCloses::Cancel)
            .await?;
        let seen = world.arrived(parent).await?.count;
        let suspend = RunCommit {
            records: vec![record(1, RecordKind::ActivityCompleted)],
            ..suspending(parent, seen, WakeAt::Arrival)
        };
        let mut commits = vec![suspend, closing(child, 1)];
        let mut expected = vec![RunOutcome::StillAwake, RunOutcome::Committed];
        if !parent_first {
            commits.reverse();
            expected.reverse();
        }
        let outcome = world.push_all(commits).await?;
        assert_eq!(outcome.runs, expected);
        assert_eq!(world.info(parent).await?.node, Some(world.node));
        assert_eq!(world.records(parent).await?.len(), 2);
    }
    Ok(())
}

pub async fn a_parent_is_told_of_each_child_when_many_close_at_once(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let mut children = Vec::new();
    for number in 0..7 {
        children.push(
            world
                .born_child(&format!("child {number}"), parent, ParentCloses::Cancel)
                .await?,
        );
    }
    let outcome = world
        .push_all(children.iter().map(|child| closing(*child, 1)))
        .await?;
    assert_eq!(outcome.runs, [RunOutcome::Committed; 7]);
    assert_eq!(
        outcome.woken,
        [WokenRun {
            run: parent,
            node: Some(world.node)
        }]
    );
    assert_eq!(world.inbox(parent, &children, 10).await?.children.len(), 7);
    Ok(())
}

pub async fn a_sleeping_parent_wakes_when_its_child_closes(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let child = world
        .born_child("child", parent, ParentCloses::Cancel)
        .await?;
    let seen = world.arrived(parent).await?.count;
    assert_eq!(
        world.suspend(parent, seen, WakeAt::Arrival).await?,
        RunOutcome::Committed
    );
    assert_eq!(world.claimed().await?, []);
    let outcome = world.close(child, 1).await?;
    assert_eq!(
        outcome.woken,
        [WokenRun {
            run: parent,
            node: None
        }]
    );
    assert_eq!(world.claimed().await?, [parent]);
    Ok(())
}

pub async fn a_parent_finds_the_outcomes_of_its_children(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let open = world
        .born_child("open", parent, ParentCloses::Cancel)
        .await?;
    let completed = world
        .born_child("completed", parent, ParentCloses::Cancel)
        .await?;
    let failed = world
        .born_child("failed", parent, ParentCloses::Cancel)
        .await?;
    let never = run_id();
    world.close(completed, 1).await?;
    let close = Close {
        status: RunStatus::Failed,
        next: None,
        has_open_children: false,
        has_parent: true,
    };
    let last = Record {
        payload: "why".into(),
        ..record(1, RecordKind::Failed)
    };
    world.push(closing_with(failed, last, close)).await?;

    let inbox = world
        .inbox(parent, &[open, completed, failed, never], 10)
        .await?;
    let closed = |child| {
        inbox
            .children
            .iter()
            .find(|outcome| outcome.child == child)
            .map(|outcome| &outcome.closed)
    };
    assert_eq!(inbox.children.len(), 3);
    assert!(closed(open).is_none());
    assert!(closed(never).expect("it was never started").is_none());
    let completed = closed(completed)
        .expect("it has ended")
        .as_ref()
        .expect("it was started");
    assert_eq!(
        (completed.status, &completed.payload[..]),
        (RunStatus::Completed, &b"payload 1"[..])
    );
    let failed = closed(failed)
        .expect("it has ended")
        .as_ref()
        .expect("it was started");
    assert_eq!(
        (failed.status, &failed.payload[..], failed.next),
        (RunStatus::Failed, &b"why"[..], None)
    );
    Ok(())
}

pub async fn children_are_asked_to_cancel_when_their_parent_closes(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let running = world
        .born_child("running", parent, ParentCloses::Cancel)
        .await?;
    let sleeping = world
        .born_child("sleeping", parent, ParentCloses::Cancel)
        .await?;
    let closed = world
        .born_child("closed", parent, ParentCloses::Cancel)
        .await?;
    let stranger = world.start_by_batch(new_run("stranger")).await?;
    world.suspend(sleeping, 0, WakeAt::Arrival).await?;
    world.close(closed, 1).await?;
    let close = Close {
        status: RunStatus::Completed,
        next: None,
        has_open_children: true,
        has_parent: true,
    };
    let outcome = world
        .push(closing_with(
            parent,
            record(1, RecordKind::Completed),
            close,
        ))
        .await?;

    let mut woken = outcome.woken;
    woken.sort_by_key(|woken| woken.run);
    let held = WokenRun {
        run: running,
        node: Some(world.node),
    };
    assert_eq!(
        woken,
        [
            held,
            WokenRun {
                run: sleeping,
                node: None
            }
        ]
    );
    assert!(world.arrived(running).await?.cancel_requested);
    assert!(world.arrived(sleeping).await?.cancel_requested);
    assert!(!world.arrived(closed).await?.cancel_requested);
    assert!(!world.arrived(stranger).await?.cancel_requested);
    assert_eq!(
        world.suspend(running, 0, WakeAt::Arrival).await?,
        RunOutcome::StillAwake
    );
    let mut claimed = world.claimed().await?;
    claimed.sort_unstable();
    assert_eq!(claimed, [sleeping, stranger]);
    Ok(())
}

pub async fn an_abandoned_child_goes_on_alone(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let child = world
        .born_child("child", parent, ParentCloses::Abandon)
        .await?;
    let close = Close {
        status: RunStatus::Completed,
        next: None,
        has_open_children: true,
        has_parent: true,
    };
    let outcome = world
        .push(closing_with(
            parent,
            record(1, RecordKind::Completed),
            close,
        ))
        .await?;
    assert_eq!(outcome.woken, []);
    assert!(!world.arrived(child).await?.cancel_requested);
    // Its parent is closed: nobody is told, and nothing goes wrong.
    assert_eq!(world.close(child, 1).await?.woken, []);
    let again = world
        .start(&NewRun {
            queue: QUEUE.into(),
            ..new_run("child")
        })
        .await?;
    assert_eq!(
        again,
        StartOutcome::Existing {
            run: child,
            status: RunStatus::Completed
        }
    );
    assert_eq!(world.push(going_on(parent)).await?.runs, [RunOutcome::Lost]);
    Ok(())
}
