//! Suspended, released and parked runs.

use std::{sync::Arc, time::Duration};

use super::world::{World, appending, going_on, new_run, suspending};
use crate::{
    journal::{
        Journal, Result, RunCommit, RunOutcome, RunSelector, SignalOutcome, Transition, WakeAt,
        WokenRun,
    },
    status::RunStatus,
};

pub async fn a_run_without_arrivals_is_given_up(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    assert_eq!(
        world.suspend(run, 0, WakeAt::Arrival).await?,
        RunOutcome::Committed
    );
    let info = world.info(run).await?;
    assert_eq!(
        (info.status, info.node, info.wake_at),
        (RunStatus::Pending, None, None)
    );
    assert_eq!(world.append(run, 1).await?, RunOutcome::Lost);
    let claim = world.claim_all().await?;
    assert_eq!((claim.runs.len(), claim.next_wake), (0, None));
    Ok(())
}

pub async fn a_signal_that_arrives_before_the_suspension_refuses_it(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let seen = world.arrived(run).await?.count;
    world.signal_run(run, "one").await?;
    let commit = RunCommit {
        transition: suspending(run, seen, WakeAt::Arrival).transition,
        ..appending(run, [1])
    };
    assert_eq!(world.push(commit).await?.runs, [RunOutcome::StillAwake]);

    // The suspension is refused and nothing else.
    assert_eq!(world.records(run).await?.len(), 2);
    assert_eq!(world.info(run).await?.node, Some(world.node));
    let seen = world.arrived(run).await?.count;
    assert_eq!(
        world.suspend(run, seen, WakeAt::Arrival).await?,
        RunOutcome::Committed
    );
    Ok(())
}

pub async fn a_cancellation_that_arrives_before_the_suspension_refuses_it(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.request_cancel(&RunSelector::Run(run)).await?;
    assert_eq!(
        world.suspend(run, 0, WakeAt::Arrival).await?,
        RunOutcome::StillAwake
    );
    assert_eq!(world.append(run, 1).await?, RunOutcome::Committed);
    Ok(())
}

pub async fn a_run_whose_time_has_come_is_claimable(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let now = world.now().await?;
    let (past, future) = (now - Duration::from_secs(1), now + Duration::from_secs(900));
    let (due, asleep) = (world.born("due").await?, world.born("asleep").await?);
    world.suspend(due, 0, WakeAt::Time(past)).await?;
    world.suspend(asleep, 0, WakeAt::Time(future)).await?;
    let wake_at = world.info(asleep).await?.wake_at.expect("it has a time");
    assert_eq!(wake_at.as_microsecond(), future.as_microsecond());
    let claim = world.claim_all().await?;
    assert_eq!(
        claim
            .runs
            .iter()
            .map(|claimed| claimed.run)
            .collect::<Vec<_>>(),
        [due]
    );
    assert_eq!(claim.next_wake, Some(wake_at));
    Ok(())
}

pub async fn a_signal_wakes_a_sleeping_run(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let future = world.now().await? + Duration::from_secs(900);
    for (id, wake_at) in [
        ("arrival", WakeAt::Arrival),
        ("timer", WakeAt::Time(future)),
    ] {
        let run = world.born(id).await?;
        world.suspend(run, 0, wake_at).await?;
        assert_eq!(world.claimed().await?, []);
        let delivered = world.signal_run(run, "one").await?;
        assert_eq!(
            delivered,
            SignalOutcome::Delivered(WokenRun { run, node: None })
        );
        assert_eq!(world.claimed().await?, [run]);
    }
    Ok(())
}

pub async fn a_suspension_forgives_attempts(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    for number in 0..4 {
        let seen = world.arrived(run).await?.count;
        assert_eq!(
            world.suspend(run, seen, WakeAt::Arrival).await?,
            RunOutcome::Committed
        );
        world.signal_run(run, &format!("signal {number}")).await?;
        let claimed = world.claim_all().await?.runs;
        assert_eq!((claimed[0].run, claimed[0].attempts), (run, 1));
    }
    Ok(())
}

pub async fn a_released_run_is_ready_and_its_claim_does_not_count(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.start_by_batch(new_run("a")).await?;
    for _ in 0..3 {
        let claimed = world.claim_all().await?.runs;
        assert_eq!((claimed[0].run, claimed[0].attempts), (run, 1));
        let release = RunCommit {
            transition: Transition::Release,
            ..going_on(run)
        };
        assert_eq!(world.push(release).await?.runs, [RunOutcome::Committed]);
        assert_eq!(world.status(run).await?, RunStatus::Pending);
    }
    Ok(())
}

pub async fn a_parked_run_is_not_claimed(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let park = Transition::Park {
        reason: "a person must look".into(),
    };
    let commit = RunCommit {
        transition: park,
        ..appending(run, [1])
    };
    assert_eq!(world.push(commit).await?.runs, [RunOutcome::Committed]);
    assert_eq!(world.records(run).await?.len(), 2);
    assert_eq!(world.claimed().await?, []);
    assert_eq!(world.append(run, 2).await?, RunOutcome::Lost);
    Ok(())
}
