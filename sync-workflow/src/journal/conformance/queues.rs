//! Queues with limits.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::world::{
    QUEUE, World, closing, continuing, latest, new_run, record, request, suspending,
};
use crate::{
    id::RunId,
    journal::{
        Admission, Batch, ClaimRequest, Error, Journal, MAX_QUEUE_KEY_BYTES, NewRun, Placement,
        QueueInfo, QueueLimits, Rate, Result, RunOutcome, Ticket, WakeAt,
    },
    record::RecordKind,
    status::RunStatus,
};

const UNLIMITED: QueueLimits = QueueLimits {
    max_running: None,
    max_running_per_key: None,
    max_in_worker: None,
    rate: None,
};

const fn at_most(runs: u32) -> QueueLimits {
    QueueLimits {
        max_running: Some(runs),
        ..UNLIMITED
    }
}

const fn at_most_per_key(runs: u32) -> QueueLimits {
    QueueLimits {
        max_running_per_key: Some(runs),
        ..UNLIMITED
    }
}

fn of_key(id: &str, key: &str, priority: i16) -> NewRun {
    NewRun {
        ticket: Ticket {
            key: key.into(),
            priority,
            ..Ticket::default()
        },
        ..new_run(id)
    }
}

impl World {
    async fn start_many(&self, key: &str, count: usize) -> Result<Vec<RunId>> {
        let mut runs = Vec::with_capacity(count);
        for number in 0..count {
            let new = of_key(&format!("{key} {number}"), key, 0);
            self.start(&new).await?;
            runs.push(new.run);
        }
        Ok(runs)
    }

    /// Claims until nothing more comes at once.
    async fn claim_on(&self, limit: u32) -> Result<Vec<RunId>> {
        let mut claimed = Vec::new();
        loop {
            let claim = self.claim(self.node, &request(limit)).await?;
            claimed.extend(claim.runs.iter().map(|claimed| claimed.run));
            if claim.runs.is_empty() && !claim.more {
                return Ok(claimed);
            }
        }
    }

    async fn limited(&self) -> Result<QueueInfo> {
        let queues = self.queues().await?;
        let found = queues.into_iter().find(|info| &*info.queue == QUEUE);
        Ok(found.expect("the queue has limits"))
    }

    async fn running_and_waiting(&self) -> Result<(u64, u64)> {
        let info = self.limited().await?;
        Ok((info.running, info.waiting))
    }
}

pub async fn a_queue_admits_no_more_than_its_limit(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    world.limit_queue(QUEUE, &at_most(2)).await?;
    let runs = world.start_many("", 5).await?;
    assert_eq!(world.claimed().await?, runs[..2]);
    assert_eq!(world.claimed().await?, []);
    assert_eq!(world.running_and_waiting().await?, (2, 3));
    assert!(world.info(runs[2]).await?.waits_for_turn());
    assert_eq!(world.info(runs[2]).await?.wake_at, None);
    world.close(runs[1], 1).await?;
    assert_eq!(world.running_and_waiting().await?, (1, 3));
    assert_eq!(world.claimed().await?, [runs[2]]);
    assert_eq!(world.claimed().await?, []);
    Ok(())
}

pub async fn a_queue_without_limits_admits_everybody(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let before = world.start_many("before", 3).await?;
    world.limit_queue(QUEUE, &at_most(1)).await?;
    assert_eq!(world.claimed().await?, before[..1]);
    world.limit_queue(QUEUE, &UNLIMITED).await?;
    let rest: BTreeSet<_> = world.claim_on(100).await?.into_iter().collect();
    assert_eq!(rest, before[1..].iter().copied().collect());
    assert_eq!(world.running_and_waiting().await?, (3, 0));
    let claim = world.claim_all().await?;
    assert_eq!(claim.managed.map(|managed| managed.max_in_worker), Some(None));
    Ok(())
}

pub async fn keys_take_turns(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    world.limit_queue(QUEUE, &at_most(4)).await?;
    let crowd = world.start_many("crowd", 40).await?;
    let few = world.start_many("few", 3).await?;
    let mut first = world.claimed().await?;
    first.sort_unstable();
    let mut shares = [&crowd[..2], &few[..2]].concat();
    shares.sort_unstable();
    assert_eq!(first, shares);
    // Whoever was not served for longest is next.
    let late = world.start_many("late", 1).await?;
    world.close(crowd[0], 1).await?;
    assert_eq!(world.claim_on(10).await?.len(), 1);
    world.close(crowd[1], 1).await?;
    world.close(few[0], 1).await?;
    let next: BTreeSet<_> = world.claim_on(10).await?.into_iter().collect();
    assert!(next.contains(&late[0]), "{next:?}");
    Ok(())
}

pub async fn of_a_key_the_greatest_priority_goes_first(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    world.limit_queue(QUEUE, &at_most(1)).await?;
    let mut runs = Vec::new();
    for (id, priority) in [("low", -3), ("first", 0), ("second", 0), ("high", 7)] {
        let new = of_key(id, "key", priority);
        world.start(&new).await?;
        runs.push(new.run);
    }
    for expected in [3, 1, 2, 0] {
        assert_eq!(world.claimed().await?, [runs[expected]]);
        world.close(runs[expected], 1).await?;
    }
    assert_eq!(world.running_and_waiting().await?, (0, 0));
    Ok(())
}

pub async fn all_limits_hold_together(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let limits = QueueLimits {
        max_running: Some(3),
        max_running_per_key: Some(2),
        max_in_worker: Some(17),
        rate: None,
    };
    world.limit_queue(QUEUE, &limits).await?;
    let left = world.start_many("left", 4).await?;
    let right = world.start_many("right", 1).await?;
    let claim = world.claim_all().await?;
    assert_eq!(
        claim.managed.map(|managed| managed.max_in_worker),
        Some(Some(17))
    );
    let mut claimed: Vec<_> = claim.runs.iter().map(|claimed| claimed.run).collect();
    claimed.extend(world.claim_on(10).await?);
    claimed.sort_unstable();
    let mut expected = vec![left[0], left[1], right[0]];
    expected.sort_unstable();
    assert_eq!(claimed, expected);
    // The third of a key waits although the queue has room.
    world.close(right[0], 1).await?;
    assert_eq!(world.claim_on(10).await?, []);
    world.close(left[1], 1).await?;
    assert_eq!(world.claim_on(10).await?, [left[2]]);
    assert_eq!(world.limited().await?.limits, limits);
    Ok(())
}

pub async fn a_node_has_no_more_admitted_than_it_has_room_for(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    world.limit_queue(QUEUE, &at_most(100)).await?;
    world.start_many("", 7).await?;
    assert_eq!(world.claim(world.node, &request(3)).await?.runs.len(), 3);
    assert_eq!(world.running_and_waiting().await?, (3, 4));
    assert_eq!(world.claim(world.node, &request(0)).await?.runs.len(), 0);
    assert_eq!(world.another().await?.claimed().await?.len(), 4);
    Ok(())
}

pub async fn only_known_workflows_are_admitted(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    world.limit_queue(QUEUE, &at_most(1)).await?;
    let unknown = NewRun {
        workflow: "unknown".into(),
        ..new_run("unknown")
    };
    world.start(&unknown).await?;
    let known = world.start_many("", 1).await?;
    assert_eq!(world.claimed().await?, known);
    world.close(known[0], 1).await?;
    assert_eq!(world.claimed().await?, []);
    let other = ClaimRequest {
        workflows: vec!["unknown".into()],
        ..request(10)
    };
    let claim = world.claim(world.node, &other).await?;
    assert_eq!(claim.runs[0].run, unknown.run);
    Ok(())
}

pub async fn a_run_keeps_its_turn_until_it_ends(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    world.limit_queue(QUEUE, &at_most(1)).await?;
    let runs = world.start_many("", 2).await?;
    assert_eq!(world.claimed().await?, runs[..1]);
    // Asleep.
    let asleep = suspending(runs[0], 0, WakeAt::Arrival);
    assert_eq!(world.push(asleep).await?.runs, [RunOutcome::Committed]);
    assert_eq!(world.claimed().await?, []);
    world.signal_run(runs[0], "wakes it").await?;
    assert_eq!(world.claimed().await?, runs[..1]);
    // Its node died.
    world.retire(world.node).await?;
    let heir = world.another().await?;
    assert_eq!(heir.claimed().await?, runs[..1]);
    assert_eq!(heir.running_and_waiting().await?, (1, 1));
    heir.close(runs[0], 1).await?;
    assert_eq!(heir.claimed().await?, runs[1..]);
    Ok(())
}

pub async fn a_run_that_continues_as_new_hands_its_turn_on(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    world.limit_queue(QUEUE, &at_most(1)).await?;
    let runs = world.start_many("key", 2).await?;
    let claimed = world.claim_all().await?.runs;
    assert_eq!(claimed[0].ticket.admission, Admission::Admitted);
    let next = NewRun {
        ticket: claimed[0].ticket.clone(),
        chain: runs[0],
        placement: Placement::Anywhere,
        ..new_run("key 0")
    };
    let next_run = next.run;
    world.push(continuing(runs[0], 1, next)).await?;
    assert_eq!(world.claimed().await?, [next_run]);
    assert_eq!(world.running_and_waiting().await?, (1, 1));
    world.close(next_run, 1).await?;
    assert_eq!(world.claimed().await?, runs[1..]);
    Ok(())
}

pub async fn a_paused_queue_lets_those_go_on_that_have_begun(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    world.pause_queue(QUEUE, true).await?;
    world.pause_queue(QUEUE, false).await?;
    let runs = world.start_many("", 2).await?;
    assert_eq!(world.claim(world.node, &request(1)).await?.runs.len(), 1);
    world.pause_queue(QUEUE, true).await?;
    assert!(world.limited().await?.is_paused);
    assert_eq!(world.claimed().await?, []);
    world.push(suspending(runs[0], 0, WakeAt::Arrival)).await?;
    world.signal_run(runs[0], "wakes it").await?;
    assert_eq!(world.claimed().await?, runs[..1]);
    world.pause_queue(QUEUE, false).await?;
    assert_eq!(world.claimed().await?, runs[1..]);
    Ok(())
}

pub async fn a_run_that_waits_for_its_turn_can_be_cancelled(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    world.limit_queue(QUEUE, &at_most(1)).await?;
    let runs = world.start_many("", 3).await?;
    assert_eq!(world.claimed().await?, runs[..1]);
    world.request_cancel(&latest(" 1")).await?;
    // It runs beside the other, to hear of it.
    assert_eq!(world.claimed().await?, [runs[1]]);
    assert_eq!(world.running_and_waiting().await?, (1, 1));
    world.close(runs[1], 1).await?;
    assert_eq!(world.claimed().await?, []);
    // What waits may be signalled, and waits on.
    world.signal_run(runs[2], "early").await?;
    assert_eq!(world.claimed().await?, []);
    world.close(runs[0], 1).await?;
    assert_eq!(world.claimed().await?, [runs[2]]);
    assert_eq!(world.arrived(runs[2]).await?.signals.len(), 1);
    Ok(())
}

pub async fn a_terminated_run_gives_its_turn_back(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    world.limit_queue(QUEUE, &at_most(1)).await?;
    let runs = world.start_many("key", 3).await?;
    assert_eq!(world.claimed().await?, runs[..1]);
    let end = record(0, RecordKind::Terminated);
    world.terminate(&latest("key 1"), &end).await?;
    assert_eq!(world.running_and_waiting().await?, (1, 1));
    world.terminate(&latest("key 0"), &end).await?;
    assert_eq!(world.running_and_waiting().await?, (0, 1));
    assert_eq!(world.claimed().await?, runs[2..]);
    assert_eq!(world.running_and_waiting().await?, (1, 0));
    Ok(())
}

pub async fn a_run_asks_for_its_turn_when_its_time_has_come(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let now = world.now().await?;
    world.limit_queue(QUEUE, &at_most(1)).await?;
    let later = NewRun {
        placement: Placement::NotBefore(now + Duration::from_secs(3_600)),
        ..of_key("later", "", 9)
    };
    world.start(&later).await?;
    let runs = world.start_many("", 1).await?;
    let claim = world.claim_all().await?;
    assert_eq!(claim.runs[0].run, runs[0]);
    assert!(claim.next_wake.is_some_and(|at| at > now));
    assert!(!world.info(later.run).await?.waits_for_turn());
    Ok(())
}

pub async fn a_rate_admits_so_many_in_its_period(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let hour = Duration::from_secs(3_600);
    let rate = Rate {
        limit: 2,
        period: hour,
    };
    let limits = QueueLimits {
        rate: Some(rate),
        ..UNLIMITED
    };
    world.limit_queue(QUEUE, &limits).await?;
    let runs = world.start_many("", 3).await?;
    let now = world.now().await?;
    let claim = world.claim_all().await?;
    assert_eq!(claim.runs.len(), 2);
    // Half an hour fills one of two; some of it has passed.
    let wait = claim.next_wake.expect("the next is due").duration_since(now);
    assert!(wait.as_secs() > 1_500 && wait.as_secs() <= 1_800, "{wait}");
    // An end gives nothing back.
    world.close(runs[0], 1).await?;
    assert_eq!(world.claimed().await?, []);
    // What is set anew and does not change starts nothing anew.
    world.limit_queue(QUEUE, &limits).await?;
    assert_eq!(world.claimed().await?, []);
    world.limit_queue(QUEUE, &UNLIMITED).await?;
    assert_eq!(world.claimed().await?, runs[2..]);
    Ok(())
}

pub async fn claims_at_once_admit_no_more_than_the_limit(journal: Arc<dyn Journal>) -> Result<()> {
    const RUNS: usize = 60;
    let world = World::new(journal).await?;
    world.limit_queue(QUEUE, &at_most_per_key(1)).await?;
    for number in 0..RUNS {
        let key = ["a", "b", "c", "d"][number % 4];
        world.start(&of_key(&number.to_string(), key, 0)).await?;
    }
    let mut nodes = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let node = world.another().await?;
        nodes.spawn(async move {
            let mut done = Vec::new();
            let mut idle = 0;
            // Others hold what it could have for a moment; then it is here.
            while idle < 200 {
                let runs = node.claim(node.node, &request(7)).await?.runs;
                idle = if runs.is_empty() { idle + 1 } else { 0 };
                for claimed in runs {
                    let info = node.limited().await?;
                    assert!(info.running <= 4, "{info:?}");
                    node.close(claimed.run, 1).await?;
                    done.push(claimed.run);
                }
                tokio::task::yield_now().await;
            }
            Result::<_>::Ok(done)
        });
    }
    let mut done = BTreeSet::new();
    for runs in nodes.join_all().await {
        for run in runs? {
            assert!(done.insert(run), "{run} was admitted twice");
        }
    }
    done.extend(world.claim_on(100).await?);
    assert_eq!(done.len(), RUNS);
    Ok(())
}

pub async fn limits_that_admit_nothing_are_refused(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let rate = |limit, period| QueueLimits {
        rate: Some(Rate { limit, period }),
        ..UNLIMITED
    };
    let second = Duration::from_secs(1);
    for limits in [
        at_most(0),
        at_most_per_key(0),
        at_most(u32::MAX),
        rate(0, second),
        rate(1, Duration::ZERO),
    ] {
        let refused = world.limit_queue(QUEUE, &limits).await;
        assert!(matches!(refused, Err(Error::InvalidLimits { .. })));
    }
    assert_eq!(world.queues().await?, []);
    for key in ["k".repeat(MAX_QUEUE_KEY_BYTES + 1), "\0".into()] {
        let refused = world.start(&of_key("a", &key, 0)).await;
        assert!(matches!(refused, Err(Error::InvalidQueueKey { .. })));
    }
    let longest = of_key("a", &"k".repeat(MAX_QUEUE_KEY_BYTES), i16::MIN);
    world.start(&longest).await?;
    assert_eq!(world.info(longest.run).await?.ticket, longest.ticket);
    Ok(())
}

pub async fn a_batch_starts_runs_with_their_keys(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let new = of_key("a", "key", 3);
    let batch = Batch {
        runs: Vec::new(),
        starts: vec![new.clone()],
    };
    world.commit(world.node, &batch).await?;
    assert_eq!(world.info(new.run).await?.ticket, new.ticket);
    let parent = world.born("parent").await?;
    let child = of_key("child", "key", -3);
    let mut commit = closing(parent, 1);
    commit.children = vec![child.clone()];
    world.push(commit).await?;
    assert_eq!(world.info(child.run).await?.ticket, child.ticket);
    assert_eq!(world.status(child.run).await?, RunStatus::Pending);
    Ok(())
}
