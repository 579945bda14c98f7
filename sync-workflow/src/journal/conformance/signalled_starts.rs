//! Starts with a signal.

use std::sync::Arc;

use super::world::{
    LONG, World, closing, continuing, latest, new_run, signal, successor,
};
use crate::{
    id::RunId,
    journal::{
        IdReuse, Journal, NewRun, Placement, Result, SignalOutcome, SignalledStart, StartOutcome,
        WokenRun,
    },
    status::RunStatus,
};

/// A start that makes use of the room that a closed run makes.
fn anew(id: &str) -> NewRun {
    NewRun {
        reuse: IdReuse::StartNew,
        ..new_run(id)
    }
}

async fn send(world: &World, new: &NewRun, id: &str) -> Result<SignalledStart> {
    let to = latest(new.workflow_id.as_str());
    world.signal_with_start(new, &signal(to, id)).await
}

const fn delivered(run: RunId, world: Option<&World>) -> SignalOutcome {
    let node = match world {
        Some(world) => Some(world.node),
        None => None,
    };
    SignalOutcome::Delivered(WokenRun { run, node })
}

pub async fn a_signal_starts_the_run_that_it_is_for(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let new = anew("a");
    let expected = SignalledStart {
        start: StartOutcome::Started,
        signal: delivered(new.run, None),
    };
    assert_eq!(send(&world, &new, "one").await?, expected);
    assert_eq!(world.records(new.run).await?, [new.first_record()]);
    let claimed = world.claim_all().await?.runs;
    assert_eq!((claimed[0].run, claimed[0].inbox), (new.run, 1));
    let inbox = world.arrived(new.run).await?;
    assert_eq!((inbox.count, inbox.signals.len()), (1, 1));
    assert_eq!(&inbox.signals[0].payload[..], b"signal one");
    Ok(())
}

pub async fn a_signal_with_start_finds_the_open_run(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    for (id, reuse) in [("one", IdReuse::StartNew), ("two", IdReuse::ReturnExisting)] {
        let new = NewRun {
            reuse,
            ..new_run("a")
        };
        let existing = StartOutcome::Existing {
            run,
            status: RunStatus::Running,
        };
        let expected = SignalledStart {
            start: existing,
            signal: delivered(run, Some(&world)),
        };
        assert_eq!(send(&world, &new, id).await?, expected);
        assert!(world.records(new.run).await?.is_empty());
    }
    assert_eq!(world.arrived(run).await?.signals.len(), 2);
    Ok(())
}

/// Whoever lost the answer asks again: nothing is sent and nothing is started.
pub async fn a_signal_with_start_is_delivered_once(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let new = anew("a");
    send(&world, &new, "one").await?;
    let again = send(&world, &new, "one").await?;
    let started = SignalledStart {
        start: StartOutcome::Started,
        signal: SignalOutcome::Duplicate,
    };
    assert_eq!(again, started);
    assert_eq!(world.arrived(new.run).await?.signals.len(), 1);
    world.claim_all().await?;
    for status in [RunStatus::Running, RunStatus::Completed] {
        if status == RunStatus::Completed {
            world.close(new.run, 1).await?;
        }
        let other = anew("a");
        let duplicate = SignalledStart {
            start: StartOutcome::Existing {
                run: new.run,
                status,
            },
            signal: SignalOutcome::Duplicate,
        };
        assert_eq!(send(&world, &other, "one").await?, duplicate);
        assert!(world.records(other.run).await?.is_empty());
    }
    // Nor after another run of the workflow id.
    let next = anew("a");
    assert_eq!(
        send(&world, &next, "two").await?.start,
        StartOutcome::Started
    );
    let outcome = send(&world, &anew("a"), "one").await?;
    assert_eq!(outcome.signal, SignalOutcome::Duplicate);
    assert_eq!(world.arrived(next.run).await?.signals.len(), 1);
    Ok(())
}

pub async fn a_closed_run_that_is_kept_takes_no_signal(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.close(run, 1).await?;
    for reuse in [IdReuse::ReturnExisting, IdReuse::StartNewUnlessCompleted] {
        let new = NewRun {
            reuse,
            ..new_run("a")
        };
        let expected = SignalledStart {
            start: StartOutcome::Existing {
                run,
                status: RunStatus::Completed,
            },
            signal: SignalOutcome::NotOpen,
        };
        assert_eq!(send(&world, &new, "one").await?, expected);
    }
    assert_eq!(world.arrived(run).await?.signals.len(), 0);
    // It was not taken for sent.
    let new = anew("a");
    assert_eq!(
        send(&world, &new, "one").await?.signal,
        delivered(new.run, None)
    );
    Ok(())
}

pub async fn a_signal_with_start_follows_a_run_that_continues_as_new(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let first = world.born("a").await?;
    send(&world, &anew("a"), "one").await?;
    let next = successor("a", first);
    world.push(continuing(first, 1, next.clone())).await?;
    let outcome = send(&world, &anew("a"), "two").await?;
    assert_eq!(outcome.signal, delivered(next.run, Some(&world)));
    let outcome = send(&world, &anew("a"), "one").await?;
    assert_eq!(outcome.signal, SignalOutcome::Duplicate);
    assert_eq!(world.arrived(next.run).await?.signals.len(), 2);
    Ok(())
}

pub async fn signals_with_start_at_once_start_one_run(journal: Arc<dyn Journal>) -> Result<()> {
    let world = Arc::new(World::new(journal).await?);
    for round in 0..4 {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..12 {
            let world = Arc::clone(&world);
            // Every id is sent twice.
            tasks.spawn(async move {
                let new = anew(&format!("round {round}"));
                send(&world, &new, &format!("signal {}", number / 2)).await
            });
        }
        let (mut started, mut received, mut duplicates) = (0, Vec::new(), 0);
        for outcome in tasks.join_all().await {
            let SignalledStart { start, signal } = outcome?;
            started += usize::from(start == StartOutcome::Started);
            match signal {
                SignalOutcome::Delivered(woken) => received.push(woken.run),
                SignalOutcome::Duplicate => duplicates += 1,
                SignalOutcome::NotOpen => panic!("a closed run makes room"),
            }
        }
        received.dedup();
        assert_eq!((started, received.len(), duplicates), (1, 1, 6));
        let inbox = world.arrived(received[0]).await?;
        assert_eq!((inbox.count, inbox.signals.len()), (6, 6));
    }
    Ok(())
}

/// The run has the signal before it closes, or the next run has it.
pub async fn a_signal_with_start_meets_the_end_of_a_run(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    for round in 0..20 {
        let id = format!("round {round}");
        let run = world.born(&id).await?;
        let new = anew(&id);
        let (closed, sent) =
            tokio::join!(world.push(closing(run, 1)), send(&world, &new, "one"));
        closed?;
        let sent = sent?;
        let receiver = match sent.start {
            StartOutcome::Started => new.run,
            StartOutcome::Existing { .. } => run,
        };
        let SignalOutcome::Delivered(woken) = sent.signal else {
            panic!("it was not delivered: {sent:?}");
        };
        assert_eq!(woken.run, receiver);
        assert_eq!(world.arrived(receiver).await?.signals.len(), 1);
        let has_next = sent.start == StartOutcome::Started;
        assert_eq!(world.records(new.run).await?.len(), usize::from(has_next));
    }
    Ok(())
}

pub async fn a_signal_leaves_a_delayed_start_delayed(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let due = world.now().await? + LONG;
    let new = NewRun {
        placement: Placement::NotBefore(due),
        ..anew("a")
    };
    send(&world, &new, "one").await?;
    send(&world, &anew("a"), "two").await?;
    world.signal(&signal(latest("a"), "three")).await?;
    assert!(world.claimed().await?.is_empty());
    assert_eq!(world.info(new.run).await?.wake_at, Some(due));
    assert_eq!(world.arrived(new.run).await?.signals.len(), 3);
    // To cancel it is to begin it.
    world.request_cancel(&latest("a")).await?;
    assert_eq!(world.claimed().await?, [new.run]);
    Ok(())
}
