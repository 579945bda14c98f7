//! Runs that an operator holds back.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::world::{World, continuing, going_on, latest, new_run, node, record, successor};
use crate::{
    id::RunId,
    journal::{
        Journal, NewRun, Placement, Result, RunCommit, RunFilter, RunOutcome, RunSelector,
        Transition, WakeAt, WokenRun,
    },
    record::{Record, RecordKind},
    status::RunStatus,
};

/// Where a run stands, and whether it was asked to pause.
async fn stands(world: &World, run: RunId) -> Result<(RunStatus, bool)> {
    let info = world.info(run).await?;
    Ok((info.status, info.pause_requested))
}

const PAUSED: (RunStatus, bool) = (RunStatus::Paused, true);

pub async fn a_paused_run_is_not_claimed_and_keeps_what_arrives(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let new = new_run("a");
    let run = new.run;
    world.start(&new).await?;
    let woken = Some(WokenRun { run, node: None });
    assert_eq!(world.pause(&latest("a")).await?, woken);
    assert_eq!(world.pause(&RunSelector::Run(run)).await?, woken);
    assert_eq!(stands(&world, run).await?, PAUSED);
    assert_eq!(world.info(run).await?.wake_at, None);
    world.signal_run(run, "one").await?;
    assert_eq!(world.claimed().await?, []);
    let paused = RunFilter {
        statuses: vec![RunStatus::Paused],
        ..RunFilter::default()
    };
    assert_eq!(world.list(&paused).await?.items[0].run, run);
    assert_eq!(world.resume(&latest("a")).await?, woken);
    assert_eq!(stands(&world, run).await?, (RunStatus::Pending, false));
    assert_eq!(world.claimed().await?, [run]);
    let inbox = world.arrived(run).await?;
    assert_eq!((inbox.signals.len(), inbox.pause_requested), (1, false));
    Ok(())
}

pub async fn a_paused_run_whose_time_has_come_is_not_claimed(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let long_past = WakeAt::Time(Timestamp::UNIX_EPOCH);
    world.suspend(run, 0, long_past).await?;
    world.pause(&latest("a")).await?;
    assert_eq!(world.claimed().await?, []);
    assert_eq!(world.claim_all().await?.next_wake, None);
    world.resume(&latest("a")).await?;
    assert_eq!(world.claimed().await?, [run]);
    Ok(())
}

pub async fn a_run_that_is_held_pauses_when_its_node_gives_it_up(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let suspended = world.born("a").await?;
    let released = world.born("b").await?;
    for run in [suspended, released] {
        let held = WokenRun {
            run,
            node: Some(world.node),
        };
        assert_eq!(world.pause(&RunSelector::Run(run)).await?, Some(held));
        assert_eq!(stands(&world, run).await?, (RunStatus::Running, true));
        assert_eq!(world.append(run, 1).await?, RunOutcome::Committed);
    }
    let seen = world.arrived(suspended).await?.count;
    world.suspend(suspended, seen, WakeAt::Arrival).await?;
    let release = RunCommit {
        transition: Transition::Release,
        ..going_on(released)
    };
    assert_eq!(world.push(release).await?.runs, [RunOutcome::Committed]);
    for run in [suspended, released] {
        assert_eq!(stands(&world, run).await?, PAUSED);
    }
    assert_eq!(world.claimed().await?, []);
    assert_eq!(world.owned(world.node).await?.len(), 0);
    assert_eq!(world.append(released, 2).await?, RunOutcome::Lost);
    Ok(())
}

pub async fn a_run_that_is_asked_to_pause_hears_of_it(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let seen = world.arrived(run).await?.count;
    world.pause(&latest("a")).await?;
    let outcome = world.suspend(run, seen, WakeAt::Arrival).await?;
    assert_eq!(outcome, RunOutcome::StillAwake);
    let inbox = world.arrived(run).await?;
    assert!(inbox.pause_requested && inbox.count > seen);
    // It may be resumed before it has paused, and hears of that too.
    world.resume(&latest("a")).await?;
    assert_eq!(stands(&world, run).await?, (RunStatus::Running, false));
    assert!(world.arrived(run).await?.count > inbox.count);
    assert_eq!(world.append(run, 1).await?, RunOutcome::Committed);
    Ok(())
}

pub async fn a_run_pauses_when_its_node_is_gone(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let gone = world.another().await?;
    let run = gone.born("a").await?;
    world.pause(&latest("a")).await?;
    world.retire(gone.node).await?;
    assert_eq!(stands(&world, run).await?, PAUSED);
    let dead = node();
    world.enlist(dead, Duration::ZERO).await?;
    let dead = World {
        journal: Arc::clone(&world.journal),
        node: dead,
    };
    let run = dead.born("b").await?;
    world.pause(&latest("b")).await?;
    world.reap_node(dead.node).await?;
    assert_eq!(stands(&world, run).await?, PAUSED);
    assert_eq!(world.claimed().await?, []);
    world.resume(&latest("b")).await?;
    let claimed = world.claim_all().await?.runs;
    assert_eq!((claimed[0].run, claimed[0].attempts), (run, 1));
    Ok(())
}

pub async fn a_parked_run_that_is_unparked_stays_paused(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let park = RunCommit {
        transition: Transition::Park {
            reason: "a reason".into(),
        },
        ..going_on(run)
    };
    world.push(park).await?;
    world.pause(&latest("a")).await?;
    assert_eq!(stands(&world, run).await?, (RunStatus::Parked, true));
    world.unpark(&latest("a")).await?;
    assert_eq!(stands(&world, run).await?, PAUSED);
    world.resume(&latest("a")).await?;
    assert_eq!(world.claimed().await?, [run]);
    Ok(())
}

pub async fn a_request_to_cancel_resumes_a_paused_run(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let new = new_run("a");
    world.start(&new).await?;
    world.pause(&latest("a")).await?;
    let woken = Some(WokenRun {
        run: new.run,
        node: None,
    });
    assert_eq!(world.request_cancel(&latest("a")).await?, woken);
    assert_eq!(stands(&world, new.run).await?, (RunStatus::Pending, false));
    assert_eq!(world.claimed().await?, [new.run]);
    // Also one that was asked before.
    world.pause(&latest("a")).await?;
    let seen = world.arrived(new.run).await?.count;
    world.request_cancel(&latest("a")).await?;
    let inbox = world.arrived(new.run).await?;
    assert!(inbox.cancel_requested && !inbox.pause_requested && inbox.count > seen);
    Ok(())
}

pub async fn a_paused_run_can_be_terminated(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let new = new_run("a");
    world.start(&new).await?;
    world.pause(&latest("a")).await?;
    let last = Record {
        command: Record::RUN,
        ..record(0, RecordKind::Terminated)
    };
    assert!(world.terminate(&latest("a"), &last).await?.is_some());
    assert_eq!(world.status(new.run).await?, RunStatus::Terminated);
    Ok(())
}

pub async fn only_an_open_run_pauses_and_only_a_paused_one_resumes(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    assert_eq!(world.resume(&latest("a")).await?, None);
    world.close(run, 1).await?;
    assert_eq!(world.pause(&latest("a")).await?, None);
    assert_eq!(world.resume(&latest("a")).await?, None);
    assert_eq!(world.pause(&latest("nobody")).await?, None);
    assert_eq!(world.status(run).await?, RunStatus::Completed);
    Ok(())
}

pub async fn a_run_that_continues_as_new_stays_paused(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    for (id, placement, status) in [
        ("a", Placement::Here, RunStatus::Running),
        ("b", Placement::Anywhere, RunStatus::Paused),
    ] {
        let run = world.born(id).await?;
        world.pause(&latest(id)).await?;
        let next = NewRun {
            placement,
            ..successor(id, run)
        };
        world.push(continuing(run, 1, next.clone())).await?;
        assert_eq!(stands(&world, next.run).await?, (status, true));
        assert!(world.arrived(next.run).await?.count > 0);
    }
    assert_eq!(world.claimed().await?, []);
    Ok(())
}
