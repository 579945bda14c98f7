//! Transactional steps.

use std::sync::Arc;

use super::world::{World, attempt, going_on, record};
use crate::{
    id::{CommandId, NodeId, Position, RunId},
    journal::{Error, Journal, Result, RunCommit, RunOutcome, TransactionCommit},
    record::RecordKind,
};

fn step(node: NodeId, run: RunId, position: u32) -> TransactionCommit {
    let record = record(position, RecordKind::TransactionCompleted);
    TransactionCommit {
        node,
        run,
        record,
        settled_attempt: None,
    }
}

pub async fn a_step_commits_with_its_record(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let attempts = vec![attempt(1, 3, world.now().await?)];
    world
        .push(RunCommit {
            attempts,
            ..going_on(run)
        })
        .await?;
    let commit = TransactionCommit {
        settled_attempt: Some(CommandId(1)),
        ..step(world.node, run, 1)
    };
    world.commit_step(world.begin().await?, &commit).await?;

    let history = world.load(run, Position(0), 10).await?;
    assert_eq!(
        (history.records.len(), &history.records[1]),
        (2, &commit.record)
    );
    assert_eq!(history.attempts, []);
    assert_eq!(world.append(run, 2).await?, RunOutcome::Committed);
    Ok(())
}

pub async fn a_dropped_step_leaves_nothing(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    for position in 1..=3 {
        drop(world.begin().await?);
        assert_eq!(world.append(run, position).await?, RunOutcome::Committed);
    }
    assert_eq!(world.records(run).await?.len(), 4);
    Ok(())
}

pub async fn a_step_of_a_fenced_node_is_refused(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.retire(world.node).await?;
    let transaction = world.begin().await?;
    let refused = world
        .commit_step(transaction, &step(world.node, run, 1))
        .await;
    assert!(matches!(refused, Err(Error::Fenced)), "{refused:?}");
    assert_eq!(world.records(run).await?.len(), 1);
    Ok(())
}

pub async fn a_step_of_a_lost_run_is_refused(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let other = world.another().await?;
    let run = world.born("a").await?;
    world.append(run, 1).await?;
    let attempts = [
        step(other.node, run, 2),
        step(world.node, run, 1),
        step(world.node, run, 0),
    ];
    for commit in attempts {
        let refused = world.commit_step(world.begin().await?, &commit).await;
        assert!(
            matches!(refused, Err(Error::RunLost { run: lost }) if lost == run),
            "{refused:?}"
        );
    }
    assert_eq!(world.records(run).await?.len(), 2);
    Ok(())
}
