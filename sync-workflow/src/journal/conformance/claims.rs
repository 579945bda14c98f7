//! Claims.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::world::{
    LONG, QUEUE, WORKFLOW, World, appending, child_of, continuing, new_run, node, request,
    successor, trace,
};
use crate::{
    id::RunId,
    journal::{
        ClaimRequest, Journal, NewRun, ParentCloses, Placement, Result, RunCommit, RunOutcome,
        StartOutcome, Transition, WakeAt,
    },
    status::RunStatus,
};

pub async fn a_run_is_claimed_once(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let new = new_run("a");
    world.start(&new).await?;
    assert_eq!(world.status(new.run).await?, RunStatus::Pending);
    assert_eq!(world.claimed().await?, [new.run]);
    assert_eq!(world.claimed().await?, []);
    assert_eq!(world.another().await?.claimed().await?, []);
    let info = world.info(new.run).await?;
    assert_eq!(
        (info.status, info.node, info.wake_at),
        (RunStatus::Running, Some(world.node), None)
    );
    Ok(())
}

pub async fn concurrent_claims_share_the_runs_out(journal: Arc<dyn Journal>) -> Result<()> {
    const RUNS: usize = 60;
    let world = World::new(journal).await?;
    for number in 0..RUNS {
        world.start(&new_run(&format!("run {number}"))).await?;
    }
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let node = world.another().await?;
        claims.spawn(async move {
            let mut claimed = Vec::new();
            // A claim may pass over what another claim is taking; two empty ones in a row are the end.
            let mut empty = 0;
            while empty < 2 {
                let runs = node.claim(node.node, &request(7)).await?.runs;
                empty = if runs.is_empty() { empty + 1 } else { 0 };
                claimed.extend(runs.into_iter().map(|claimed| claimed.run));
            }
            Result::<_>::Ok(claimed)
        });
    }
    let mut claimed: Vec<RunId> = Vec::new();
    for runs in claims.join_all().await {
        claimed.extend(runs?);
    }
    claimed.extend(world.claimed().await?);
    assert_eq!(claimed.len(), RUNS);
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>().len(), RUNS);
    Ok(())
}

pub async fn a_claim_takes_only_its_queue_and_its_workflows(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let wanted = new_run("wanted");
    let elsewhere = NewRun {
        queue: "elsewhere".into(),
        ..new_run("elsewhere")
    };
    let unknown = NewRun {
        workflow: "unknown".into(),
        ..new_run("unknown")
    };
    for new in [&elsewhere, &unknown, &wanted] {
        world.start(new).await?;
    }
    assert_eq!(world.claimed().await?, [wanted.run]);
    let other = ClaimRequest {
        queue: "elsewhere".into(),
        ..request(10)
    };
    assert_eq!(
        world.claim(world.node, &other).await?.runs[0].run,
        elsewhere.run
    );
    let none = ClaimRequest {
        workflows: Vec::new(),
        ..request(10)
    };
    assert!(world.claim(world.node, &none).await?.runs.is_empty());
    assert_eq!(world.status(unknown.run).await?, RunStatus::Pending);
    Ok(())
}

pub async fn a_claim_takes_the_earliest_and_no_more_than_its_limit(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let now = world.now().await?;
    let mut runs = Vec::new();
    for age in [10_u64, 40, 20, 30] {
        let placement = Placement::NotBefore(now - Duration::from_secs(age));
        let new = NewRun {
            placement,
            ..new_run(&format!("aged {age}"))
        };
        world.start(&new).await?;
        runs.push((age, new.run));
    }
    runs.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
    let claimed = world.claim(world.node, &request(3)).await?.runs;
    let claimed: Vec<_> = claimed.into_iter().map(|claimed| claimed.run).collect();
    assert_eq!(
        claimed,
        runs[..3].iter().map(|(_, run)| *run).collect::<Vec<_>>()
    );
    assert!(world.claim(world.node, &request(0)).await?.runs.is_empty());
    assert_eq!(world.claimed().await?, [runs[3].1]);
    Ok(())
}

pub async fn a_run_is_not_claimed_before_its_time(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let soon = world.now().await? + Duration::from_secs(1_000);
    let late = soon + Duration::from_secs(1);
    for (id, at) in [("late", late), ("soon", soon)] {
        world
            .start(&NewRun {
                placement: Placement::NotBefore(at),
                ..new_run(id)
            })
            .await?;
    }
    let claim = world.claim_all().await?;
    assert!(claim.runs.is_empty());
    assert_eq!(
        claim.next_wake.map(|at| at.as_microsecond()),
        Some(soon.as_microsecond())
    );
    assert!(claim.now < soon);
    Ok(())
}

pub async fn an_attempt_is_counted_in_the_claim(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.start_by_batch(new_run("poison")).await?;
    for expected in 1..=4 {
        let victim = node();
        world.enlist(victim, Duration::ZERO).await?;
        let claimed = world.claim(victim, &request(10)).await?.runs;
        assert_eq!(
            claimed
                .iter()
                .map(|claimed| (claimed.run, claimed.attempts))
                .collect::<Vec<_>>(),
            [(run, expected)]
        );
        assert_eq!(world.info(run).await?.attempts, expected);
        world.reap_node(victim).await?;
    }
    Ok(())
}

pub async fn progress_forgives_attempts(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.start_by_batch(new_run("a")).await?;
    for position in 1..4 {
        let victim = World {
            node: node(),
            journal: Arc::clone(&world.journal),
        };
        world.enlist(victim.node, LONG).await?;
        let claimed = victim.claim_all().await?.runs;
        assert_eq!(claimed[0].attempts, 1);
        assert_eq!(victim.append(run, position).await?, RunOutcome::Committed);
        world.enlist(victim.node, Duration::ZERO).await?;
        world.reap_node(victim.node).await?;
    }
    Ok(())
}

pub async fn a_claim_tells_all_about_the_run(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let at = world.now().await? - Duration::from_secs(100);
    let new = NewRun {
        trace: Some(trace()),
        placement: Placement::NotBefore(at),
        ..child_of(parent, ParentCloses::Abandon, "ünïcode/'; -- id")
    };
    world.start(&new).await?;
    world.signal_run(new.run, "one").await?;
    let claim = world.claim_all().await?;
    let claimed = &claim.runs[0];
    let ready_at = claimed.ready_at.map(|at| at.as_microsecond());
    assert_eq!(ready_at, Some(at.as_microsecond()));
    assert_eq!((&claimed.trace, claimed.rested), (&new.trace, false));
    assert_eq!(world.info(new.run).await?.trace, new.trace);
    assert_eq!(
        (claimed.run, claimed.chain, &claimed.workflow_id),
        (new.run, new.chain, &new.workflow_id)
    );
    assert_eq!(
        (&*claimed.workflow, &*claimed.queue, claimed.attempts),
        (WORKFLOW, QUEUE, 1)
    );
    assert_eq!(
        claimed.parent.map(|link| (link.run, link.on_close)),
        Some((parent, ParentCloses::Abandon))
    );
    assert_eq!(claimed.inbox, world.arrived(new.run).await?.count);
    assert_eq!(
        world
            .suspend(new.run, claimed.inbox, WakeAt::Arrival)
            .await?,
        RunOutcome::Committed
    );
    Ok(())
}

pub async fn a_trace_reaches_runs_however_they_start(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let traced = |new| NewRun {
        trace: Some(trace()),
        ..new
    };
    let parent = world.start_by_batch(traced(new_run("start"))).await?;
    let [claimed] = &world.claim_all().await?.runs[..] else {
        panic!("one run is ready");
    };
    assert_eq!((claimed.run, &claimed.trace), (parent, &Some(trace())));
    let child = traced(child_of(parent, ParentCloses::Cancel, "child"));
    let next = traced(successor("start", parent));
    let runs = [child.run, next.run];
    world
        .push(RunCommit {
            children: vec![child],
            ..continuing(parent, 1, next)
        })
        .await?;
    for run in runs {
        assert_eq!(world.info(run).await?.trace, Some(trace()));
    }
    assert_eq!(world.owned(world.node).await?[0].trace, Some(trace()));
    let untraced = world.born("untraced").await?;
    assert_eq!(world.info(untraced).await?.trace, None);
    Ok(())
}

pub async fn a_claim_tells_whether_the_run_was_given_up_in_good_order(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.start_by_batch(new_run("a")).await?;
    let rested = async |of: &World| -> Result<bool> {
        let claimed = of.claim_all().await?.runs;
        assert_eq!((claimed.len(), claimed[0].run), (1, run));
        Ok(claimed[0].rested)
    };
    assert!(!rested(&world).await?, "it was never held");
    let due = world.now().await?;
    world.suspend(run, 0, WakeAt::Time(due)).await?;
    assert!(rested(&world).await?, "it slept");
    world
        .push(RunCommit {
            transition: Transition::Release,
            ..appending(run, [1])
        })
        .await?;
    assert!(rested(&world).await?, "it was given back");
    world.enlist(world.node, Duration::ZERO).await?;
    let other = world.another().await?;
    other.reap_node(world.node).await?;
    assert!(!rested(&other).await?, "its node died");
    Ok(())
}

pub async fn a_node_finds_the_runs_that_it_holds(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let other = world.another().await?;
    let kept = world.born("kept").await?;
    let closed = world.born("closed").await?;
    let asleep = world.born("asleep").await?;
    let foreign = other.born("foreign").await?;
    assert_eq!(
        world.start(&new_run("pending")).await?,
        StartOutcome::Started
    );
    world.close(closed, 1).await?;
    world.suspend(asleep, 0, WakeAt::Arrival).await?;
    world.signal_run(kept, "one").await?;

    let owned = world.owned(world.node).await?;
    assert_eq!(
        owned.iter().map(|claimed| claimed.run).collect::<Vec<_>>(),
        [kept]
    );
    assert_eq!(
        (owned[0].inbox, owned[0].attempts),
        (world.arrived(kept).await?.count, 1)
    );
    assert_eq!(world.owned(other.node).await?[0].run, foreign);
    assert!(world.owned(node()).await?.is_empty());
    Ok(())
}
