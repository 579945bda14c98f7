//! Nodes and their leases.

use std::{sync::Arc, time::Duration};

use super::world::{LONG, World, appending, new_run, node, request};
use crate::{
    journal::{Error, Journal, NewRun, Outlook, Placement, Result, RunOutcome},
    status::RunStatus,
};

pub async fn a_fenced_node_cannot_append(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.retire(world.node).await?;
    assert!(matches!(world.append(run, 1).await, Err(Error::Fenced)));
    assert!(matches!(world.born("b").await, Err(Error::Fenced)));
    assert_eq!(world.records(run).await?.len(), 1);
    assert!(world.describe(&super::world::latest("b")).await?.is_none());
    Ok(())
}

pub async fn a_fenced_node_can_neither_claim_nor_renew(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let new = new_run("a");
    world.start(&new).await?;
    let stranger = node();
    assert!(matches!(
        world.claim(stranger, &request(1)).await,
        Err(Error::Fenced)
    ));
    assert!(matches!(
        world.renew(stranger, LONG).await,
        Err(Error::Fenced)
    ));
    world.retire(stranger).await?;
    assert_eq!(world.status(new.run).await?, RunStatus::Pending);
    Ok(())
}

pub async fn a_lease_ends_with_its_row_and_not_with_its_time(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.enlist(world.node, Duration::ZERO).await?;
    assert_eq!(world.append(run, 1).await?, RunOutcome::Committed);
    world.renew(world.node, Duration::ZERO).await?;
    assert_eq!(world.append(run, 2).await?, RunOutcome::Committed);
    world.reap_node(world.node).await?;
    assert!(matches!(world.append(run, 3).await, Err(Error::Fenced)));
    assert!(matches!(
        world.renew(world.node, LONG).await,
        Err(Error::Fenced)
    ));
    assert_eq!(world.records(run).await?.len(), 3);
    Ok(())
}

pub async fn a_live_node_is_not_reaped(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    assert_eq!(world.reap(10).await?, []);
    let renewed = node();
    world.enlist(renewed, Duration::ZERO).await?;
    world.renew(renewed, LONG).await?;
    assert_eq!(world.reap(10).await?, []);
    Ok(())
}

pub async fn a_reaped_node_s_runs_are_claimable_at_once(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let other = world.another().await?;
    let runs = [world.born("a").await?, world.born("b").await?];
    world.append(runs[0], 1).await?;
    world.enlist(world.node, Duration::ZERO).await?;
    other.reap_node(world.node).await?;
    let mut claimed: Vec<_> = other
        .claim_all()
        .await?
        .runs
        .into_iter()
        .map(|claimed| (claimed.run, claimed.attempts))
        .collect();
    claimed.sort_unstable();
    // The one that went on is forgiven its attempt; the other may have brought its node down.
    assert_eq!(claimed, [(runs[0], 1), (runs[1], 2)]);
    assert_eq!(
        other.push(appending(runs[0], [2])).await?.runs,
        [RunOutcome::Committed]
    );
    Ok(())
}

pub async fn reaping_is_bounded(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let mut dead = Vec::new();
    for _ in 0..3 {
        let node = node();
        world.enlist(node, Duration::ZERO).await?;
        dead.push(node);
    }
    let mut reaped = Vec::new();
    let all = async {
        while reaped.len() < dead.len() {
            let now = world.reap(2).await?;
            assert!(now.len() <= 2);
            reaped.extend(now);
            tokio::task::yield_now().await;
        }
        Result::<_>::Ok(reaped)
    };
    let mut reaped = tokio::time::timeout(super::world::DEADLINE, all)
        .await
        .expect("the dead are reaped")?;
    reaped.sort_unstable();
    dead.sort_unstable();
    assert_eq!(reaped, dead);
    Ok(())
}

pub async fn a_retired_node_s_claims_do_not_count(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.start_by_batch(new_run("a")).await?;
    for _ in 0..3 {
        let node = world.another().await?;
        let claimed = node.claim_all().await?.runs;
        assert_eq!((claimed[0].run, claimed[0].attempts), (run, 1));
        node.retire(node.node).await?;
        node.retire(node.node).await?;
        assert_eq!(world.status(run).await?, RunStatus::Pending);
    }
    Ok(())
}

pub async fn a_renewal_that_looks_tells_what_there_is_to_do(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let look = async || -> Result<Outlook> {
        let wanted = request(0);
        let looked = world.renew_and_look(world.node, LONG, &wanted).await?;
        let outlook = looked.1.expect("this journal looks");
        assert_eq!(world.next_wake(&wanted).await?, outlook.next_wake);
        Ok(outlook)
    };
    let nothing = Outlook {
        next_wake: None,
        holds_runs: false,
    };
    assert_eq!(look().await?, nothing);
    let unknown = NewRun {
        workflow: "unknown".into(),
        ..new_run("unknown")
    };
    world.start(&unknown).await?;
    let elsewhere = world.another().await?.born("elsewhere").await?;
    assert_eq!(look().await?, nothing, "{elsewhere} is another node's");

    let now = world.now().await?;
    let later = now + Duration::from_secs(1_000);
    let later = jiff::Timestamp::from_microsecond(later.as_microsecond()).expect("it is soon");
    world
        .start(&NewRun {
            placement: Placement::NotBefore(later),
            ..new_run("later")
        })
        .await?;
    assert_eq!(look().await?.next_wake, Some(later));
    world.start(&new_run("ready")).await?;
    let ready_at = look().await?.next_wake.expect("one is ready");
    assert!(ready_at >= now && ready_at <= world.now().await?);
    assert!(!look().await?.holds_runs);
    assert_eq!(world.claimed().await?.len(), 1);
    let outlook = Outlook {
        next_wake: Some(later),
        holds_runs: true,
    };
    assert_eq!(look().await?, outlook);
    let fenced = world.renew_and_look(node(), LONG, &request(0)).await;
    assert!(matches!(fenced, Err(Error::Fenced)), "{fenced:?}");
    Ok(())
}

pub async fn a_renewal_tells_when_another_lease_ends(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let alone = world.renew(world.node, Duration::from_secs(1)).await?;
    assert_eq!(alone.next_expiry, None);
    world.enlist(node(), Duration::from_secs(7_000)).await?;
    let enlisted = world.enlist(node(), Duration::from_secs(5_000)).await?;
    let renewal = world.renew(world.node, LONG).await?;
    let next = renewal.next_expiry.expect("another node is enlisted");
    assert!(renewal.now >= enlisted);
    assert!(next >= enlisted + Duration::from_secs(5_000));
    assert!(next <= renewal.now + Duration::from_secs(5_000));
    Ok(())
}
