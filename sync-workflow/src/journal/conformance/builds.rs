//! Builds of workers, and the runs that are theirs.

use std::sync::Arc;

use super::world::{
    LONG, QUEUE, World, appending, continuing, going_on, new_run, request, suspending,
};
use crate::{
    id::{BuildId, RunId},
    journal::{
        BuildInfo, BuildMove, BuildMoved, ClaimRequest, Error, Journal, QueueLimits, Result,
        RunCommit, RunFilter, RunSelector, Transition, WakeAt,
    },
    status::RunStatus,
};

fn build(name: &str) -> BuildId {
    BuildId::new(name).expect("the builds of the cases are valid")
}

fn request_of(name: &str, limit: u32) -> ClaimRequest {
    ClaimRequest {
        build: Some(build(name)),
        ..request(limit)
    }
}

fn to(name: &str, if_length: Option<u32>) -> BuildMove {
    BuildMove {
        to: Some(build(name)),
        if_length,
    }
}

/// What a list tells of a build.
fn info(name: &str, is_current: bool, workers: u64, open_runs: u64) -> BuildInfo {
    BuildInfo {
        build: build(name),
        is_current,
        workers,
        open_runs,
    }
}

impl World {
    /// Another node, of this build.
    async fn of_build(&self, name: &str) -> Result<Self> {
        let world = self.another().await?;
        self.builds()
            .declare_build(world.node, QUEUE, &build(name))
            .await?;
        Ok(world)
    }

    async fn started(&self, id: &str) -> Result<RunId> {
        let new = new_run(id);
        self.start(&new).await?;
        Ok(new.run)
    }

    async fn claims_as(&self, name: &str) -> Result<Vec<RunId>> {
        let claim = self.claim(self.node, &request_of(name, 100)).await?;
        Ok(claim.runs.iter().map(|claimed| claimed.run).collect())
    }

    async fn make_current(&self, name: &str) -> Result<()> {
        self.builds()
            .set_current_build(QUEUE, Some(&build(name)))
            .await
    }

    async fn move_run(&self, run: RunId, to: &BuildMove) -> Result<BuildMoved> {
        self.builds().move_to_build(run, to).await
    }

    async fn build_of(&self, run: RunId) -> Result<Option<String>> {
        Ok(self.info(run).await?.build.map(String::from))
    }
}

pub async fn a_run_stays_with_the_build_that_took_it(journal: Arc<dyn Journal>) -> Result<()> {
    let plain = World::new(journal).await?;
    let (old, new) = (plain.of_build("old").await?, plain.of_build("new").await?);
    let run = plain.started("pinned").await?;
    assert_eq!(plain.build_of(run).await?, None);
    assert_eq!(old.claims_as("old").await?, [run]);
    assert_eq!(plain.build_of(run).await?.as_deref(), Some("old"));
    old.suspend(run, 0, WakeAt::Arrival).await?;
    old.signal_run(run, "wake").await?;
    assert_eq!(new.claims_as("new").await?, []);
    assert_eq!(plain.claimed().await?, []);
    // Also when whoever had it is gone.
    assert_eq!(old.claims_as("old").await?, [run]);
    old.retire(old.node).await?;
    assert_eq!(new.claims_as("new").await?, []);
    assert_eq!(plain.claimed().await?, []);
    let later = plain.of_build("old").await?;
    assert_eq!(later.claims_as("old").await?, [run]);
    Ok(())
}

pub async fn new_runs_go_to_the_current_build(journal: Arc<dyn Journal>) -> Result<()> {
    let plain = World::new(journal).await?;
    let (old, new) = (plain.of_build("old").await?, plain.of_build("new").await?);
    plain.make_current("new").await?;
    let first = plain.started("first").await?;
    assert_eq!(old.claims_as("old").await?, []);
    assert_eq!(new.claims_as("new").await?, [first]);
    // A worker without a build takes what is of none, whatever is current.
    let second = plain.started("second").await?;
    assert_eq!(plain.claimed().await?, [second]);
    assert_eq!(plain.build_of(second).await?, None);
    plain.builds().set_current_build(QUEUE, None).await?;
    let third = plain.started("third").await?;
    assert_eq!(old.claims_as("old").await?, [third]);
    // Another queue has its own.
    plain
        .builds()
        .set_current_build("elsewhere", Some(&build("new")))
        .await?;
    let fourth = plain.started("fourth").await?;
    assert_eq!(old.claims_as("old").await?, [fourth]);
    Ok(())
}

pub async fn a_run_that_continues_as_new_is_of_no_build(journal: Arc<dyn Journal>) -> Result<()> {
    let plain = World::new(journal).await?;
    let (old, new) = (plain.of_build("old").await?, plain.of_build("new").await?);
    let run = plain.started("chain").await?;
    assert_eq!(old.claims_as("old").await?, [run]);
    plain.make_current("new").await?;
    let next = new_run("chain");
    let next_run = next.run;
    old.push(continuing(run, 1, next)).await?;
    assert_eq!(plain.build_of(next_run).await?, None);
    assert_eq!(old.claims_as("old").await?, []);
    assert_eq!(new.claims_as("new").await?, [next_run]);
    Ok(())
}

pub async fn a_look_sees_what_a_claim_of_the_build_would_take(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let plain = World::new(journal).await?;
    let old = plain.of_build("old").await?;
    let new = plain.of_build("new").await?;
    let run = plain.started("pinned").await?;
    assert_eq!(old.claims_as("old").await?, [run]);
    let later = old.now().await? + LONG;
    old.suspend(run, 0, WakeAt::Time(later)).await?;
    let (mine, others) = (request_of("old", 0), request_of("new", 0));
    assert_eq!(plain.next_wake(&mine).await?, Some(later));
    for request in [&others, &request(0)] {
        assert_eq!(plain.next_wake(request).await?, None);
        let (_, outlook) = new.renew_and_look(new.node, LONG, request).await?;
        assert!(outlook.is_none_or(|outlook| outlook.next_wake.is_none()));
        let claim = new.claim(new.node, request).await?;
        assert_eq!(claim.next_wake, None);
    }
    let (_, outlook) = old.renew_and_look(old.node, LONG, &mine).await?;
    assert!(outlook.is_none_or(|outlook| outlook.next_wake == Some(later)));
    assert_eq!(old.claim(old.node, &mine).await?.next_wake, Some(later));
    // A new run is for the current build.
    plain.make_current("old").await?;
    let _new = plain.started("new").await?;
    assert_eq!(plain.next_wake(&others).await?, None);
    assert!(plain.next_wake(&mine).await? < Some(later));
    Ok(())
}

pub async fn builds_are_listed_with_their_workers_and_open_runs(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let plain = World::new(journal).await?;
    assert_eq!(plain.builds().list_builds(QUEUE).await?, []);
    let old = plain.of_build("b1").await?;
    let _twin = plain.of_build("b1").await?;
    let new = plain.of_build("b2").await?;
    plain.make_current("b3").await?;
    plain
        .builds()
        .declare_build(plain.node, "elsewhere", &build("b4"))
        .await?;
    plain.builds().set_current_build(QUEUE, None).await?;
    let first = plain.started("1").await?;
    let second = plain.started("2").await?;
    assert_eq!(old.claims_as("b1").await?, [first, second]);
    let third = plain.started("3").await?;
    assert_eq!(new.claims_as("b2").await?, [third]);
    new.close(third, 1).await?;
    plain.make_current("b3").await?;
    let expected = [
        info("b1", false, 2, 2),
        info("b2", false, 1, 0),
        info("b3", true, 0, 0),
    ];
    assert_eq!(plain.builds().list_builds(QUEUE).await?, expected);
    assert!(expected[1].is_drained() && !expected[2].is_drained());
    let of_first = RunFilter {
        build: Some(build("b1")),
        ..RunFilter::default()
    };
    let found = plain.list(&of_first).await?.items;
    let found: Vec<_> = found.into_iter().map(|info| info.run).collect();
    assert_eq!(found, [second, first]);
    new.retire(new.node).await?;
    old.close(first, 1).await?;
    old.suspend(second, 0, WakeAt::Arrival).await?;
    old.retire(old.node).await?;
    let expected = [info("b1", false, 1, 1), info("b3", true, 0, 0)];
    assert_eq!(plain.builds().list_builds(QUEUE).await?, expected);
    let gone = build("b2");
    let gone = plain.builds().declare_build(new.node, QUEUE, &gone).await;
    assert!(matches!(gone, Err(Error::Fenced)), "{gone:?}");
    Ok(())
}

pub async fn a_run_moves_as_it_was_replayed_and_not_otherwise(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let plain = World::new(journal).await?;
    let (old, new) = (plain.of_build("old").await?, plain.of_build("new").await?);
    let run = plain.started("moving").await?;
    assert_eq!(old.claims_as("old").await?, [run]);
    assert_eq!(plain.move_run(run, &to("new", Some(1))).await?, BuildMoved::Held);
    old.push(appending(run, [1, 2])).await?;
    old.suspend(run, 0, WakeAt::Arrival).await?;
    assert_eq!(plain.move_run(run, &to("new", Some(1))).await?, BuildMoved::Grown);
    assert_eq!(plain.build_of(run).await?.as_deref(), Some("old"));
    assert_eq!(plain.move_run(run, &to("new", Some(3))).await?, BuildMoved::Moved);
    assert_eq!(plain.move_run(run, &to("new", Some(3))).await?, BuildMoved::Moved);
    plain.signal_run(run, "wake").await?;
    assert_eq!(old.claims_as("old").await?, []);
    assert_eq!(new.claims_as("new").await?, [run]);
    // As it is: who holds it keeps it until it gives it up.
    assert_eq!(plain.move_run(run, &to("old", None)).await?, BuildMoved::Moved);
    new.push(appending(run, [3])).await?;
    new.push(suspending(run, 1, WakeAt::Arrival)).await?;
    plain.signal_run(run, "again").await?;
    assert_eq!(new.claims_as("new").await?, []);
    assert_eq!(old.claims_as("old").await?, [run]);
    // To none.
    let none = BuildMove {
        to: None,
        if_length: None,
    };
    assert_eq!(plain.move_run(run, &none).await?, BuildMoved::Moved);
    assert_eq!(plain.build_of(run).await?, None);
    old.close(run, 4).await?;
    assert_eq!(plain.move_run(run, &none).await?, BuildMoved::NotOpen);
    let unknown = super::world::run_id();
    assert_eq!(plain.move_run(unknown, &none).await?, BuildMoved::NotOpen);
    Ok(())
}

pub async fn a_parked_run_moves_and_stays_parked(journal: Arc<dyn Journal>) -> Result<()> {
    let plain = World::new(journal).await?;
    let (old, new) = (plain.of_build("old").await?, plain.of_build("new").await?);
    let run = plain.started("parked").await?;
    assert_eq!(old.claims_as("old").await?, [run]);
    let park = RunCommit {
        transition: Transition::Park {
            reason: "it does not fit".into(),
        },
        ..going_on(run)
    };
    old.push(park).await?;
    assert_eq!(plain.move_run(run, &to("new", Some(1))).await?, BuildMoved::Moved);
    assert_eq!(plain.status(run).await?, RunStatus::Parked);
    assert_eq!(new.claims_as("new").await?, []);
    plain.unpark(&RunSelector::Run(run)).await?;
    assert_eq!(old.claims_as("old").await?, []);
    assert_eq!(new.claims_as("new").await?, [run]);
    Ok(())
}

pub async fn a_move_and_a_claim_at_once_agree(journal: Arc<dyn Journal>) -> Result<()> {
    let plain = World::new(journal).await?;
    let (old, new) = (plain.of_build("old").await?, plain.of_build("new").await?);
    for round in 0..20 {
        let run = plain.started(&format!("round {round}")).await?;
        assert_eq!(old.claims_as("old").await?, [run]);
        old.push(suspending(run, 0, WakeAt::Arrival)).await?;
        plain.signal_run(run, "wake").await?;
        let target = to("new", Some(1));
        let (moved, taken) =
            tokio::join!(plain.move_run(run, &target), old.claims_as("old"));
        match moved? {
            BuildMoved::Moved => {
                assert_eq!(taken?, []);
                assert_eq!(plain.build_of(run).await?.as_deref(), Some("new"));
                assert_eq!(new.claims_as("new").await?, [run]);
                new.close(run, 1).await?;
            }
            BuildMoved::Held => {
                assert_eq!(taken?, [run]);
                assert_eq!(plain.build_of(run).await?.as_deref(), Some("old"));
                old.close(run, 1).await?;
            }
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

pub async fn only_who_takes_new_runs_admits_them(journal: Arc<dyn Journal>) -> Result<()> {
    let plain = World::new(journal).await?;
    let (old, new) = (plain.of_build("old").await?, plain.of_build("new").await?);
    let limits = QueueLimits {
        max_running: Some(1),
        ..QueueLimits::default()
    };
    plain.limit_queue(QUEUE, &limits).await?;
    let first = plain.started("first").await?;
    assert_eq!(old.claims_as("old").await?, [first]);
    plain.make_current("new").await?;
    let second = plain.started("second").await?;
    old.close(first, 1).await?;
    assert_eq!(old.claims_as("old").await?, []);
    let queue = plain.queues().await?;
    assert_eq!((queue[0].running, queue[0].waiting), (0, 1));
    assert_eq!(new.claims_as("new").await?, [second]);
    // A run that was admitted goes on where it began, whatever is current.
    new.push(suspending(second, 0, WakeAt::Arrival)).await?;
    plain.make_current("old").await?;
    plain.signal_run(second, "wake").await?;
    assert_eq!(old.claims_as("old").await?, []);
    assert_eq!(new.claims_as("new").await?, [second]);
    Ok(())
}
