//! Starts that wait until nobody asks again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::world::{LONG, QUEUE, World, latest, new_run};
use crate::{
    id::RunId,
    journal::{
        Debounce, DebounceOutcome, IdReuse, Journal, NewRun, QueueLimits, Result, StartOutcome,
    },
    status::RunStatus,
};

/// Quiet for so long, and an hour at most.
const fn quiet(quiet_for: Duration) -> Debounce {
    Debounce {
        quiet_for,
        longest_wait: LONG,
    }
}

const HALF_AN_HOUR: Duration = Duration::from_secs(1_800);

fn asking(id: &str, input: &'static str) -> NewRun {
    NewRun {
        input: Bytes::from_static(input.as_bytes()),
        reuse: IdReuse::StartNew,
        ..new_run(id)
    }
}

async fn input(world: &World, run: RunId) -> Result<Bytes> {
    Ok(world.records(run).await?[0].payload.clone())
}

pub async fn a_debounced_start_waits_until_it_is_quiet(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let first = asking("a", "first");
    let before = world.now().await?;
    let started = world.debounce(&first, quiet(HALF_AN_HOUR)).await?;
    assert_eq!(started, DebounceOutcome::Started);
    let due = world.info(first.run).await?.wake_at.expect("it has a time");
    assert!(due >= before + HALF_AN_HOUR && due <= world.now().await? + HALF_AN_HOUR);
    assert!(world.claimed().await?.is_empty());
    Ok(())
}

pub async fn who_asks_again_replaces_the_input_and_moves_the_time(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let first = asking("a", "first");
    world.debounce(&first, quiet(HALF_AN_HOUR)).await?;
    let due = world.info(first.run).await?.wake_at;
    let replaced = DebounceOutcome::Replaced { run: first.run };
    let again = world
        .debounce(&asking("a", "second"), quiet(HALF_AN_HOUR))
        .await?;
    assert_eq!(again, replaced);
    assert!(world.info(first.run).await?.wake_at > due);
    assert_eq!(input(&world, first.run).await?, "second");
    assert!(world.claimed().await?.is_empty());

    let last = asking("a", "third, and longer");
    assert_eq!(world.debounce(&last, quiet(Duration::ZERO)).await?, replaced);
    assert_eq!(world.claimed().await?, [first.run]);
    assert_eq!(input(&world, first.run).await?, "third, and longer");
    assert!(world.records(last.run).await?.is_empty());
    Ok(())
}

pub async fn a_debounced_start_waits_no_longer_than_was_asked(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let first = asking("a", "first");
    let always = Debounce {
        quiet_for: LONG,
        longest_wait: HALF_AN_HOUR,
    };
    for input in ["first", "second", "third"] {
        let new = NewRun {
            input: Bytes::from_static(input.as_bytes()),
            ..first.clone()
        };
        let new = match input {
            "first" => new,
            _ => asking("a", input),
        };
        world.debounce(&new, always).await?;
        let info = world.info(first.run).await?;
        assert_eq!(info.wake_at, Some(info.created_at + HALF_AN_HOUR));
    }
    let over = Debounce {
        quiet_for: LONG,
        longest_wait: Duration::ZERO,
    };
    world.debounce(&asking("a", "fourth"), over).await?;
    assert_eq!(world.claimed().await?, [first.run]);
    // Beyond any calendar.
    let never = Debounce {
        quiet_for: Duration::MAX,
        longest_wait: Duration::MAX,
    };
    for id in ["b", "b"] {
        world.debounce(&asking(id, "never"), never).await?;
    }
    assert!(world.claimed().await?.is_empty());
    Ok(())
}

pub async fn a_run_that_has_begun_is_not_replaced(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let first = asking("a", "first");
    let now = quiet(Duration::ZERO);
    world.debounce(&first, now).await?;
    assert_eq!(world.claimed().await?, [first.run]);
    let existing = |status| DebounceOutcome::Existing {
        run: first.run,
        status,
    };
    let second = asking("a", "second");
    let outcome = world.debounce(&second, now).await?;
    assert_eq!(outcome, existing(RunStatus::Running));
    // It was given back, and has begun nevertheless.
    world.retire(world.node).await?;
    let outcome = world.debounce(&second, now).await?;
    assert_eq!(outcome, existing(RunStatus::Pending));
    assert_eq!(input(&world, first.run).await?, "first");

    let world = world.another().await?;
    assert_eq!(world.claimed().await?, [first.run]);
    world.close(first.run, 1).await?;
    let kept = NewRun {
        reuse: IdReuse::ReturnExisting,
        ..asking("a", "kept")
    };
    let outcome = world.debounce(&kept, now).await?;
    assert_eq!(outcome, existing(RunStatus::Completed));
    assert_eq!(world.debounce(&second, now).await?, DebounceOutcome::Started);
    assert_eq!(world.claimed().await?, [second.run]);
    Ok(())
}

pub async fn only_a_run_that_fits_is_replaced(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let first = asking("a", "first");
    let existing = DebounceOutcome::Existing {
        run: first.run,
        status: RunStatus::Pending,
    };
    world.debounce(&first, quiet(LONG)).await?;
    let other = NewRun {
        workflow: "another".into(),
        ..asking("a", "other")
    };
    assert_eq!(world.debounce(&other, quiet(LONG)).await?, existing);
    // One that is held back is, and stays held back.
    world.pause(&latest("a")).await?;
    let paused = asking("a", "while it is paused");
    let outcome = world.debounce(&paused, quiet(Duration::ZERO)).await?;
    assert_eq!(outcome, DebounceOutcome::Replaced { run: first.run });
    assert!(world.claimed().await?.is_empty());
    world.request_cancel(&latest("a")).await?;
    let late = asking("a", "late");
    assert_eq!(world.debounce(&late, quiet(LONG)).await?, existing);
    assert_eq!(world.claimed().await?, [first.run]);
    assert_eq!(input(&world, first.run).await?, "while it is paused");
    Ok(())
}

pub async fn a_run_that_waits_for_its_turn_keeps_it_when_it_is_replaced(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let limits = QueueLimits {
        max_running: Some(1),
        ..QueueLimits::default()
    };
    world.limit_queue(QUEUE, &limits).await?;
    let busy = new_run("busy");
    assert_eq!(world.start(&busy).await?, StartOutcome::Started);
    assert_eq!(world.claimed().await?, [busy.run]);
    let waiting = asking("a", "first");
    world.debounce(&waiting, quiet(Duration::ZERO)).await?;
    assert!(world.claimed().await?.is_empty());
    let replaced = world.debounce(&asking("a", "second"), quiet(LONG)).await?;
    assert_eq!(replaced, DebounceOutcome::Replaced { run: waiting.run });
    world.close(busy.run, 1).await?;
    assert_eq!(world.claimed().await?, [waiting.run]);
    assert_eq!(input(&world, waiting.run).await?, "second");
    Ok(())
}

/// A claim that is under way takes the run with one input, and who asks is told which.
pub async fn a_debounced_start_meets_a_claim(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let now = quiet(Duration::ZERO);
    for round in 0..20 {
        let id = format!("round {round}");
        let first = asking(&id, "first");
        world.debounce(&first, now).await?;
        let second = asking(&id, "second");
        let (claimed, asked) = tokio::join!(world.claimed(), world.debounce(&second, now));
        let expected = match asked? {
            DebounceOutcome::Replaced { .. } => "second",
            DebounceOutcome::Existing { status, .. } => {
                assert_eq!(status, RunStatus::Running);
                "first"
            }
            DebounceOutcome::Started => panic!("the first run is open"),
        };
        // A claim passes over what is locked.
        if claimed?.is_empty() {
            assert_eq!(world.claimed().await?, [first.run]);
        }
        assert_eq!(input(&world, first.run).await?, expected);
        world.close(first.run, 1).await?;
    }
    Ok(())
}

pub async fn debounced_starts_at_once_start_one_run(journal: Arc<dyn Journal>) -> Result<()> {
    let world = Arc::new(World::new(journal).await?);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let world = Arc::clone(&world);
        tasks.spawn(async move { world.debounce(&asking("a", "same"), quiet(LONG)).await });
    }
    let (mut started, mut replaced) = (0, 0);
    for outcome in tasks.join_all().await {
        match outcome? {
            DebounceOutcome::Started => started += 1,
            DebounceOutcome::Replaced { .. } => replaced += 1,
            DebounceOutcome::Existing { .. } => panic!("none has begun"),
        }
    }
    assert_eq!((started, replaced), (1, 11));
    Ok(())
}
