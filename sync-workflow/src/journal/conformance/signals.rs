//! Signals.

use std::sync::Arc;

use super::world::{World, appending, latest, new_run, run_id, signal};
use crate::journal::{
    Error, IdReuse, Journal, NewRun, Placement, Result, RunCommit, RunOutcome, RunSelector, SignalOutcome, WakeAt, WokenRun,
};

pub async fn a_signal_is_delivered_once(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let delivered = SignalOutcome::Delivered(WokenRun {
        run,
        node: Some(world.node),
    });
    assert_eq!(world.signal_run(run, "one").await?, delivered);
    let count = world.arrived(run).await?.count;
    assert_eq!(
        world.signal_run(run, "one").await?,
        SignalOutcome::Duplicate
    );
    let inbox = world.arrived(run).await?;
    assert_eq!((inbox.count, inbox.signals.len()), (count, 1));
    // An id is unique within a chain only.
    let other = world.born("b").await?;
    assert!(matches!(
        world.signal_run(other, "one").await?,
        SignalOutcome::Delivered(_)
    ));
    // A caller that lost the answer still learns that it was delivered.
    world.close(run, 1).await?;
    assert_eq!(
        world.signal_run(run, "one").await?,
        SignalOutcome::Duplicate
    );
    Ok(())
}

pub async fn signals_arrive_in_order_until_they_are_consumed(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    for id in ["1", "2", "3", "4"] {
        world.signal_run(run, id).await?;
    }
    let waiting = world.arrived(run).await?.signals;
    let payloads: Vec<_> = waiting.iter().map(|signal| &signal.payload[..]).collect();
    assert_eq!(
        payloads,
        [b"signal 1", b"signal 2", b"signal 3", b"signal 4"]
    );
    assert!(waiting.is_sorted_by_key(|signal| signal.sequence));
    assert!(waiting.iter().all(|signal| &*signal.name == "approve"));
    assert_eq!(world.inbox(run, &[], 2).await?.signals.len(), 2);

    let consumed = vec![waiting[1].sequence, waiting[2].sequence];
    world
        .push(RunCommit {
            consumed_signals: consumed,
            ..appending(run, [1, 2])
        })
        .await?;
    let left: Vec<_> = world
        .arrived(run)
        .await?
        .signals
        .iter()
        .map(|signal| signal.sequence)
        .collect();
    assert_eq!(left, [waiting[0].sequence, waiting[3].sequence]);
    assert_eq!(world.signal_run(run, "2").await?, SignalOutcome::Duplicate);
    Ok(())
}

pub async fn a_signal_of_a_lost_commit_is_not_consumed(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.signal_run(run, "one").await?;
    let sequence = world.arrived(run).await?.signals[0].sequence;
    let outcome = world
        .push(RunCommit {
            consumed_signals: vec![sequence],
            ..appending(run, [0])
        })
        .await?;
    assert_eq!(outcome.runs, [RunOutcome::Lost]);
    assert_eq!(world.arrived(run).await?.signals.len(), 1);
    Ok(())
}

pub async fn a_signal_finds_the_latest_run_of_a_workflow_id(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.born("ab").await?;
    let delivered = world.signal(&signal(latest("a"), "one")).await?;
    assert_eq!(
        delivered,
        SignalOutcome::Delivered(WokenRun {
            run,
            node: Some(world.node)
        })
    );
    assert_eq!(world.arrived(run).await?.signals.len(), 1);
    Ok(())
}

pub async fn a_signal_to_nobody_is_not_open(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    assert_eq!(
        world.signal(&signal(latest("a"), "one")).await?,
        SignalOutcome::NotOpen
    );
    assert_eq!(
        world
            .signal(&signal(RunSelector::Run(run_id()), "one"))
            .await?,
        SignalOutcome::NotOpen
    );
    let run = world.born("a").await?;
    world.close(run, 1).await?;
    assert_eq!(
        world.signal(&signal(latest("a"), "one")).await?,
        SignalOutcome::NotOpen
    );
    assert_eq!(world.arrived(run).await?.signals.len(), 0);
    Ok(())
}

/// Whoever sent it and lost the answer sends it again, and finds another run there.
pub async fn what_a_run_sent_is_not_delivered_again_to_a_workflow_that_was_started_anew(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let send = async |id| world.send_signal(world.node, &signal(latest("a"), id)).await;
    let first = world.born("a").await?;
    assert!(matches!(send("one").await?, SignalOutcome::Delivered(_)));
    world.signal_run(first, "of a client").await?;
    world.close(first, 1).await?;
    assert_eq!(send("one").await?, SignalOutcome::Duplicate);
    assert_eq!(send("two").await?, SignalOutcome::NotOpen);

    let again = NewRun {
        reuse: IdReuse::StartNew,
        placement: Placement::Here,
        ..new_run("a")
    };
    let second = world.start_by_batch(again).await?;
    assert_eq!(send("one").await?, SignalOutcome::Duplicate);
    assert!(matches!(
        send("two").await?,
        SignalOutcome::Delivered(woken) if woken.run == second
    ));
    // A key of a client's says nothing about the next run.
    assert!(matches!(
        world.signal_run(second, "of a client").await?,
        SignalOutcome::Delivered(_)
    ));
    assert_eq!(world.arrived(second).await?.signals.len(), 2);
    Ok(())
}

pub async fn a_node_that_was_declared_dead_sends_no_signal(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let dead = world.another().await?;
    let run = world.born("a").await?;
    dead.retire(dead.node).await?;
    let signal = signal(latest("a"), "one");
    let sent = dead.send_signal(dead.node, &signal).await;
    assert!(matches!(sent, Err(Error::Fenced)));
    assert_eq!(world.arrived(run).await?.signals.len(), 0);
    Ok(())
}

pub async fn a_signal_tells_who_holds_the_run(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let held = world.another().await?;
    let run = held.born("held").await?;
    let delivered = world.signal_run(run, "one").await?;
    assert_eq!(
        delivered,
        SignalOutcome::Delivered(WokenRun {
            run,
            node: Some(held.node)
        })
    );
    let pending = world.start_by_batch(new_run("pending")).await?;
    let delivered = world.signal_run(pending, "one").await?;
    assert_eq!(
        delivered,
        SignalOutcome::Delivered(WokenRun {
            run: pending,
            node: None
        })
    );
    Ok(())
}

pub async fn concurrent_signals_are_all_counted(journal: Arc<dyn Journal>) -> Result<()> {
    let world = Arc::new(World::new(journal).await?);
    let run = world.born("a").await?;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..24 {
        let world = Arc::clone(&world);
        // Every id is sent twice.
        tasks.spawn(async move {
            world
                .signal_run(run, &format!("signal {}", number / 2))
                .await
        });
    }
    let mut delivered = 0;
    for outcome in tasks.join_all().await {
        match outcome? {
            SignalOutcome::Delivered(_) => delivered += 1,
            SignalOutcome::Duplicate => {}
            SignalOutcome::NotOpen => panic!("the run is open"),
        }
    }
    let inbox = world.arrived(run).await?;
    assert_eq!((delivered, inbox.signals.len(), inbox.count), (12, 12, 12));
    assert_eq!(
        world.suspend(run, 11, WakeAt::Arrival).await?,
        RunOutcome::StillAwake
    );
    assert_eq!(
        world.suspend(run, 12, WakeAt::Arrival).await?,
        RunOutcome::Committed
    );
    Ok(())
}
