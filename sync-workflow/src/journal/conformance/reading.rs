//! Describing, listing, reading histories, and hints.

use std::sync::Arc;

use super::world::{DEADLINE, QUEUE, WORKFLOW, World, latest, new_run, run_id, workflow_id};
use crate::{
    id::{Position, RunId},
    journal::{
        Hint, Journal, NewRun, ParentCloses, Placement, Result, RunFilter, RunSelector, WakeAt,
    },
    status::RunStatus,
};

pub async fn an_unknown_run_is_nothing(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = run_id();
    assert!(world.describe(&RunSelector::Run(run)).await?.is_none());
    assert!(world.describe(&latest("nobody")).await?.is_none());
    assert!(world.outcome(run).await?.is_none());
    assert!(world.records(run).await?.is_empty());
    assert!(world.history(run, Position(0), 10).await?.items.is_empty());
    let inbox = world.arrived(run).await?;
    assert_eq!(
        (inbox.count, inbox.cancel_requested, inbox.signals.len()),
        (0, false, 0)
    );
    Ok(())
}

pub async fn the_latest_run_of_a_workflow_id_is_found(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let first = world.born("a").await?;
    world.close(first, 1).await?;
    let second = NewRun {
        reuse: crate::journal::IdReuse::StartNew,
        ..new_run("a")
    };
    world.start(&second).await?;
    let info = world.describe(&latest("a")).await?.expect("there is one");
    assert_eq!((info.run, info.workflow_id), (second.run, workflow_id("a")));
    assert_eq!(
        (&*info.workflow, &*info.queue, info.status),
        (WORKFLOW, QUEUE, RunStatus::Pending)
    );
    assert_eq!(
        (info.node, info.parent, info.closed_at, info.attempts),
        (None, None, None, 0)
    );
    assert_eq!(world.info(first).await?.status, RunStatus::Completed);
    Ok(())
}

pub async fn lists_are_filtered(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("org_1/parent").await?;
    let child = world
        .born_child("org_1/child", parent, ParentCloses::Cancel)
        .await?;
    let done = world.born("org%1/done").await?;
    world.close(done, 1).await?;
    let placed = NewRun {
        queue: "slow".into(),
        workflow: "invoice".into(),
        ..new_run("orgx1/slow")
    };
    world.start(&placed).await?;
    let asleep = world.born("ORG_1/asleep").await?;
    world.suspend(asleep, 0, WakeAt::Arrival).await?;

    let check = async |filter: RunFilter, expected: &[RunId]| -> Result<()> {
        let mut found: Vec<_> = world
            .list(&filter)
            .await?
            .items
            .iter()
            .map(|info| info.run)
            .collect();
        found.reverse();
        assert_eq!(found, expected, "{filter:?}");
        Ok(())
    };
    let all = RunFilter::default;
    let prefix = |text: &str| RunFilter {
        workflow_id_prefix: Some(text.into()),
        ..all()
    };
    check(all(), &[parent, child, done, placed.run, asleep]).await?;
    check(
        RunFilter {
            statuses: vec![RunStatus::Running],
            ..all()
        },
        &[parent, child],
    )
    .await?;
    let statuses = vec![RunStatus::Completed, RunStatus::Pending];
    check(RunFilter { statuses, ..all() }, &[done, placed.run, asleep]).await?;
    check(
        RunFilter {
            statuses: vec![RunStatus::Parked],
            ..all()
        },
        &[],
    )
    .await?;
    check(
        RunFilter {
            workflow: Some("invoice".into()),
            ..all()
        },
        &[placed.run],
    )
    .await?;
    check(
        RunFilter {
            queue: Some("slow".into()),
            ..all()
        },
        &[placed.run],
    )
    .await?;
    check(
        RunFilter {
            parent: Some(parent),
            ..all()
        },
        &[child],
    )
    .await?;
    check(prefix("org_1/"), &[parent, child]).await?;
    check(prefix("org%"), &[done]).await?;
    check(prefix(""), &[parent, child, done, placed.run, asleep]).await?;
    check(
        RunFilter {
            queue: Some(QUEUE.into()),
            ..prefix("org")
        },
        &[parent, child, done],
    )
    .await
}

pub async fn lists_are_paged_from_new_to_old(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let mut expected = Vec::new();
    for number in 0..7 {
        expected.push(
            world
                .start_by_batch(new_run(&format!("run {number}")))
                .await?,
        );
    }
    expected.sort_unstable();
    expected.reverse();
    let mut found = Vec::new();
    loop {
        let filter = RunFilter {
            before: found.last().copied(),
            limit: 3,
            ..RunFilter::default()
        };
        let page = world.list(&filter).await?;
        assert!(page.items.len() <= 3);
        found.extend(page.items.iter().map(|info| info.run));
        if !page.more {
            break;
        }
    }
    assert_eq!(found, expected);
    assert!(
        !world
            .list(&RunFilter {
                limit: 7,
                ..RunFilter::default()
            })
            .await?
            .more
    );
    Ok(())
}

pub async fn a_history_is_paged_and_tells_the_time_of_each_record(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let before = world.now().await?;
    let run = world.born("a").await?;
    for position in 1..=4 {
        world.append(run, position).await?;
    }
    let page = world.history(run, Position(1), 3).await?;
    assert!(page.more);
    assert_eq!(
        page.items
            .iter()
            .map(|item| item.position().0)
            .collect::<Vec<_>>(),
        [1, 2, 3]
    );
    let after = world.now().await?;
    assert!(
        page.items
            .iter()
            .all(|item| before <= item.recorded_at && item.recorded_at <= after)
    );
    assert!(page.items.is_sorted_by_key(|item| item.recorded_at));
    let rest = world.history(run, Position(4), 3).await?;
    assert_eq!((rest.items.len(), rest.more), (1, false));
    let records = world.records(run).await?;
    assert_eq!(rest.items[0].record, records[4]);
    Ok(())
}

pub async fn a_hint_reaches_whoever_waits(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    // A hint that reaches a reader is worth something only if it is sent after what it tells of.
    let run = world
        .start_by_batch(NewRun {
            placement: Placement::Anywhere,
            ..new_run("a")
        })
        .await?;
    let hints = [
        Hint::Ready(QUEUE.into()),
        Hint::Arrived {
            node: world.node,
            run,
        },
        Hint::Closed(run),
    ];
    let journal = Arc::clone(&world.journal);
    let expected = hints.clone();
    let reader = tokio::spawn(async move {
        let mut missing: Vec<_> = expected.into();
        while !missing.is_empty() {
            let read = journal.hints().await;
            if read.contains(&Hint::LookAgain) {
                break;
            }
            missing.retain(|hint| !read.contains(hint));
        }
    });
    let told = tokio::time::timeout(DEADLINE, async {
        while !reader.is_finished() {
            world.notify(&hints).await?;
            tokio::task::yield_now().await;
        }
        Result::<_>::Ok(())
    });
    told.await.expect("a hint is read")?;
    reader.await.expect("the reader does not panic");
    Ok(())
}

pub async fn a_hint_from_before_anybody_listened_is_made_up_for(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    world.notify(&[Hint::Ready(QUEUE.into())]).await?;
    let journal = Arc::clone(&world.journal);
    let listener = tokio::spawn(async move { journal.hints().await });
    let heard = tokio::time::timeout(DEADLINE, listener).await;
    let heard = heard.expect("it is told at once that it may have missed something");
    assert_eq!(heard.expect("it does not panic"), [Hint::LookAgain]);
    Ok(())
}
