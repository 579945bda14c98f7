//! What runs show to whoever asks.

use std::{sync::Arc, time::Duration};

use super::world::{World, appending, closing, continuing, going_on, latest, run_id, successor};
use crate::{
    id::RunId,
    journal::{Error, Journal, Publication, Result, RunCommit, RunOutcome, RunSelector},
};

fn publishing(run: RunId, name: &str, value: &str) -> RunCommit {
    RunCommit {
        published: vec![Publication {
            name: name.into(),
            payload: value.to_owned().into(),
        }],
        ..going_on(run)
    }
}

/// What the chain of a run shows, with its revision.
async fn shown(world: &World, run: RunId, name: &str) -> Result<Option<(u64, String)>> {
    let shown = world.published(&RunSelector::Run(run), name).await?;
    Ok(shown.map(|shown| {
        let value = String::from_utf8(shown.payload.to_vec()).expect("a text");
        (shown.revision, value)
    }))
}

fn some(revision: u64, value: &str) -> Option<(u64, String)> {
    Some((revision, value.to_owned()))
}

pub async fn what_a_run_publishes_is_shown_until_it_publishes_again(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let other = world.born("b").await?;
    assert_eq!(shown(&world, run, "state").await?, None);
    assert_eq!(shown(&world, run_id(), "state").await?, None);
    let mut both = publishing(run, "state", "one");
    both.published.push(Publication {
        name: "zeal".into(),
        payload: b"\0\xff".as_slice().into(),
    });
    let before = world.now().await?;
    let outcome = world.push_all([both, publishing(other, "state", "theirs")]).await?;
    assert_eq!(outcome.runs, [RunOutcome::Committed; 2]);
    assert_eq!(outcome.watched, []);
    assert_eq!(shown(&world, run, "state").await?, some(1, "one"));
    assert_eq!(shown(&world, other, "state").await?, some(1, "theirs"));
    let zeal = world.published(&latest("a"), "zeal").await?.expect("shown");
    assert_eq!((zeal.revision, &zeal.payload[..]), (1, &b"\0\xff"[..]));
    assert!(zeal.at >= before);
    assert_eq!(world.published(&latest("c"), "zeal").await?, None);

    let with_record = RunCommit {
        published: publishing(run, "state", "two").published,
        ..appending(run, [1])
    };
    world.push(with_record).await?;
    assert_eq!(shown(&world, run, "state").await?, some(2, "two"));
    assert_eq!(world.records(run).await?.len(), 2);
    world.close(run, 2).await?;
    assert_eq!(shown(&world, run, "state").await?, some(2, "two"));
    assert_eq!(shown(&world, run, "zealous").await?, None);
    Ok(())
}

pub async fn a_run_may_publish_with_its_end(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let last = RunCommit {
        published: publishing(run, "state", "last").published,
        ..closing(run, 1)
    };
    assert_eq!(world.push(last).await?.runs, [RunOutcome::Committed]);
    assert_eq!(shown(&world, run, "state").await?, some(1, "last"));
    Ok(())
}

pub async fn what_a_lost_run_publishes_is_not_shown(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let elsewhere = world.another().await?.born("b").await?;
    let ended = world.born("c").await?;
    world.close(ended, 1).await?;
    assert!(world.outcome(elsewhere).await?.is_none());
    let commits = [run, elsewhere, ended].map(|run| publishing(run, "state", "mine"));
    let outcome = world.push_all(commits).await?;
    let expected = [RunOutcome::Committed, RunOutcome::Lost, RunOutcome::Lost];
    assert_eq!(outcome.runs, expected);
    assert_eq!(outcome.watched, []);
    assert_eq!(shown(&world, run, "state").await?, some(1, "mine"));
    assert_eq!(shown(&world, elsewhere, "state").await?, None);
    assert_eq!(shown(&world, ended, "state").await?, None);
    Ok(())
}

pub async fn a_fenced_node_publishes_nothing(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let zombie = super::world::node();
    world.enlist(zombie, Duration::ZERO).await?;
    let zombie = World {
        journal: Arc::clone(&world.journal),
        node: zombie,
    };
    let run = zombie.born("a").await?;
    world.reap_node(zombie.node).await?;
    let refused = zombie.push(publishing(run, "state", "late")).await;
    assert!(matches!(refused, Err(Error::Fenced)), "{refused:?}");
    assert_eq!(shown(&world, run, "state").await?, None);
    Ok(())
}

pub async fn what_is_published_is_shown_on_when_a_run_continues_as_new(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let first = world.born("a").await?;
    world.push(publishing(first, "state", "one")).await?;
    let next = successor("a", first);
    world.push(continuing(first, 1, next.clone())).await?;
    assert_eq!(shown(&world, next.run, "state").await?, some(1, "one"));
    world.push(publishing(next.run, "state", "two")).await?;
    assert_eq!(shown(&world, next.run, "state").await?, some(2, "two"));
    assert_eq!(shown(&world, first, "state").await?, some(2, "two"));
    Ok(())
}

pub async fn a_run_that_is_awaited_is_reported_when_it_publishes(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let alone = world.born("b").await?;
    assert!(world.outcome(run).await?.is_none());
    let commits = [publishing(run, "state", "one"), publishing(alone, "state", "one")];
    let outcome = world.push_all(commits).await?;
    assert_eq!((outcome.watched, outcome.awaited), (vec![run], vec![]));
    assert_eq!(world.push(appending(run, [1])).await?.watched, []);
    Ok(())
}
