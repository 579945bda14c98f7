//! Commits.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::world::{World, appending, attempt, closing, going_on, new_run, node, record, run_id};
use crate::{
    id::{CommandId, Position},
    journal::{
        Batch, Error, Journal, MAX_PAYLOAD_BYTES, NewRun, Placement, Result, RunCommit, RunOutcome,
        RunSelector, StartOutcome, WakeAt,
    },
    record::{Record, RecordKind},
};

pub async fn records_come_back_in_order_and_in_pages(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let commit = appending(run, 1..=5);
    let expected = commit.records.clone();
    assert_eq!(world.push(commit).await?.runs, [RunOutcome::Committed]);
    assert_eq!(world.append(run, 6).await?, RunOutcome::Committed);

    let records = world.records(run).await?;
    assert_eq!(records.len(), 7);
    assert_eq!(records[1..6], expected);
    assert_eq!(
        world.load(run, Position(2), 3).await?.records,
        records[2..5]
    );
    assert_eq!(world.load(run, Position(6), 3).await?.records, records[6..]);
    assert_eq!(world.load(run, Position(7), 3).await?.records, []);
    Ok(())
}

pub async fn a_taken_position_is_never_overwritten(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    world.append(run, 1).await?;
    let before = world.records(run).await?;
    for positions in [vec![0], vec![1], vec![1, 2], vec![1, 2, 3]] {
        let mut commit = appending(run, positions);
        commit.records[0].payload = "another".into();
        assert_eq!(world.push(commit).await?.runs, [RunOutcome::Lost]);
    }
    assert_eq!(world.push(closing(run, 1)).await?.runs, [RunOutcome::Lost]);
    assert_eq!(world.records(run).await?, before);
    assert!(world.outcome(run).await?.is_none());
    Ok(())
}

pub async fn one_lost_run_does_not_hold_the_others_back(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let (first, second, third) = (
        world.born("a").await?,
        world.born("b").await?,
        world.born("c").await?,
    );
    world.append(second, 1).await?;
    let child = new_run("child of the lost");
    let lost = RunCommit {
        children: vec![child.clone()],
        attempts: vec![attempt(1, 1, world.now().await?)],
        ..appending(second, [1])
    };
    let unknown = appending(run_id(), [1]);
    let outcome = world
        .push_all([appending(first, [1]), lost, unknown, closing(third, 1)])
        .await?;

    use RunOutcome::{Committed, Lost};
    assert_eq!(outcome.runs, [Committed, Lost, Lost, Committed]);
    assert_eq!(world.records(first).await?.len(), 2);
    assert_eq!(world.records(second).await?.len(), 2);
    assert!(world.outcome(third).await?.is_some());
    assert_eq!(world.records(child.run).await?, []);
    assert_eq!(world.load(second, Position(0), 10).await?.attempts, []);
    Ok(())
}

pub async fn a_run_of_another_node_is_lost(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let other = world.another().await?;
    let held = other.born("held").await?;
    let pending = world.start_by_batch(new_run("pending")).await?;
    for run in [held, pending] {
        assert_eq!(world.append(run, 1).await?, RunOutcome::Lost);
        assert_eq!(world.push(going_on(run)).await?.runs, [RunOutcome::Lost]);
        assert_eq!(world.records(run).await?.len(), 1);
    }
    assert_eq!(other.append(held, 1).await?, RunOutcome::Committed);
    Ok(())
}

pub async fn payloads_come_back_byte_for_byte(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("a").await?;
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let payloads: Vec<Bytes> = vec![
        Bytes::new(),
        r#""\u0000""#.into(),
        "\"\0\"".into(),
        u64::MAX.to_string().into(),
        "1e400".into(),
        r#"{"a":1,"a":2}"#.into(),
        r#""\ud800""#.into(),
        deep.into(),
        Bytes::from_static(b"\xff\xfe\x00\\x41\\000'"),
        (0..=u8::MAX).collect::<Vec<_>>().into(),
        vec![0xa5; MAX_PAYLOAD_BYTES].into(),
    ];
    let records: Vec<_> = (1..)
        .zip(&payloads)
        .map(|(position, payload)| Record {
            payload: payload.clone(),
            name: "ünï\u{1F980}'\"\\%_".into(),
            fingerprint: u64::MAX / u64::from(position),
            command: if position % 2 == 0 {
                Record::RUN
            } else {
                CommandId(position)
            },
            ..record(position, RecordKind::ActivityCompleted)
        })
        .collect();
    world
        .push(RunCommit {
            records: records.clone(),
            ..going_on(run)
        })
        .await?;
    assert!(
        world.records(run).await?[1..] == records,
        "a record came back changed"
    );
    Ok(())
}

pub async fn an_oversized_payload_is_refused_and_nothing_is_written(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let (run, other) = (world.born("a").await?, world.born("b").await?);
    let huge: Bytes = vec![0; MAX_PAYLOAD_BYTES + 1].into();
    let too_large = |result: Result<()>| {
        assert!(
            matches!(result, Err(Error::PayloadTooLarge { .. })),
            "{result:?}"
        )
    };

    let mut commit = appending(run, [1]);
    commit.records[0].payload = huge.clone();
    too_large(
        world
            .push_all([appending(other, [1]), commit])
            .await
            .map(drop),
    );
    let input = NewRun {
        input: huge.clone(),
        ..new_run("c")
    };
    too_large(world.start(&input).await.map(drop));
    too_large(
        world
            .push(RunCommit {
                children: vec![input],
                ..going_on(run)
            })
            .await
            .map(drop),
    );
    let mut signal = super::world::signal(RunSelector::Run(run), "s");
    signal.payload = huge;
    too_large(world.signal(&signal).await.map(drop));
    assert_eq!(world.records(run).await?.len(), 1);
    assert_eq!(world.records(other).await?.len(), 1);
    assert_eq!(world.arrived(run).await?.count, 0);
    Ok(())
}

pub async fn attempts_are_kept_overwritten_and_settled(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let (run, other) = (world.born("a").await?, world.born("b").await?);
    let now = world.now().await?;
    let later = now + Duration::from_micros(1_234_567);
    let kept = |attempts| RunCommit {
        attempts,
        ..going_on(run)
    };
    world
        .push_all([kept(vec![attempt(2, 1, now), attempt(5, 1, now)])])
        .await?;
    world
        .push(RunCommit {
            attempts: vec![attempt(2, 9, now)],
            ..going_on(other)
        })
        .await?;
    let unscheduled = crate::journal::Attempt {
        next_at: None,
        ..attempt(3, 0, now)
    };
    world
        .push(kept(vec![attempt(2, 2, later), unscheduled.clone()]))
        .await?;
    let history = world.load(run, Position(0), 1).await?;
    assert_eq!(
        history.attempts,
        [
            attempt(2, 2, later),
            unscheduled.clone(),
            attempt(5, 1, now)
        ]
    );
    assert_eq!(world.load(run, Position(1), 1).await?.attempts, []);

    let settled = vec![CommandId(2), CommandId(5), CommandId(77)];
    world
        .push(RunCommit {
            settled_attempts: settled,
            ..appending(run, [1])
        })
        .await?;
    assert_eq!(
        world.load(run, Position(0), 1).await?.attempts,
        [unscheduled]
    );
    assert_eq!(
        world.load(other, Position(0), 1).await?.attempts,
        [attempt(2, 9, now)]
    );
    Ok(())
}

pub async fn a_large_batch_commits_as_one(journal: Arc<dyn Journal>) -> Result<()> {
    const RUNS: usize = 1_234;
    let world = World::new(journal).await?;
    let here = |number| NewRun {
        placement: Placement::Here,
        ..new_run(&format!("run {number}"))
    };
    let starts: Vec<_> = (0..RUNS).map(here).collect();
    let runs: Vec<_> = starts.iter().map(|new| new.run).collect();
    let outcome = world
        .commit(
            world.node,
            &Batch {
                runs: Vec::new(),
                starts,
            },
        )
        .await?;
    assert_eq!(outcome.starts, vec![StartOutcome::Started; RUNS]);
    let outcome = world
        .push_all(runs.iter().map(|run| appending(*run, 1..=3)))
        .await?;
    assert_eq!(outcome.runs, vec![RunOutcome::Committed; RUNS]);
    for run in [runs[0], runs[RUNS / 2], runs[RUNS - 1]] {
        assert_eq!(world.records(run).await?.len(), 4);
    }
    let outcome = world
        .push_all(runs.iter().map(|run| closing(*run, 4)))
        .await?;
    assert_eq!(outcome.runs, vec![RunOutcome::Committed; RUNS]);
    assert!(world.owned(world.node).await?.is_empty());
    Ok(())
}

pub async fn an_empty_batch_commits(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let outcome = world.commit(world.node, &Batch::default()).await?;
    assert!(outcome.runs.is_empty() && outcome.starts.is_empty() && outcome.woken.is_empty());
    assert!(matches!(
        world.commit(node(), &Batch::default()).await,
        Err(Error::Fenced)
    ));
    Ok(())
}

pub async fn a_batch_in_doubt_is_told_by_its_records(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let (run, other) = (world.born("a").await?, world.born("b").await?);
    let batch = Batch {
        runs: vec![appending(run, [1, 2]), closing(other, 1)],
        starts: Vec::new(),
    };
    assert_eq!(world.was_committed(world.node, &batch).await?, Some(false));
    world.commit(world.node, &batch).await?;
    assert_eq!(world.was_committed(world.node, &batch).await?, Some(true));
    let nothing = Batch {
        runs: vec![going_on(run)],
        starts: Vec::new(),
    };
    assert_eq!(world.was_committed(world.node, &nothing).await?, None);
    // Its runs may have gone on elsewhere since, with records that look the same.
    world.retire(world.node).await?;
    assert!(matches!(
        world.was_committed(world.node, &batch).await,
        Err(Error::Fenced)
    ));
    Ok(())
}

/// The node lives, but the run is somebody else's by the time that its batch is asked about.
pub async fn a_batch_in_doubt_is_told_wherever_its_run_went(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let other = world.another().await?;
    let told = async |runs: Vec<RunCommit>| {
        let batch = Batch {
            runs,
            starts: Vec::new(),
        };
        world.was_committed(world.node, &batch).await
    };
    let moved = world.born("moved").await?;
    assert_eq!(world.append(moved, 1).await?, RunOutcome::Committed);
    let now = WakeAt::Time(world.now().await?);
    assert_eq!(world.suspend(moved, 0, now).await?, RunOutcome::Committed);
    assert_eq!(other.claimed().await?, [moved]);

    // Its record is there, before and after the run went on elsewhere, and is not appended again.
    assert_eq!(told(vec![appending(moved, [1])]).await?, Some(true));
    assert_eq!(other.append(moved, 2).await?, RunOutcome::Committed);
    assert_eq!(told(vec![appending(moved, [1])]).await?, Some(true));
    assert_eq!(world.append(moved, 1).await?, RunOutcome::Lost);
    assert_eq!(world.records(moved).await?.len(), 3);
    // Another record has its place.
    assert_eq!(told(vec![closing(moved, 1)]).await?, Some(false));
    // Nothing has its place yet.
    assert_eq!(told(vec![appending(moved, [3])]).await?, Some(false));

    // An operator was faster: neither is that taken for the run's own record, nor for the batch's.
    let ended = world.born("ended").await?;
    let ending = record(0, RecordKind::Terminated);
    world.terminate(&RunSelector::Run(ended), &ending).await?;
    let held = world.born("held").await?;
    let batch = vec![appending(ended, [1]), appending(held, [1])];
    assert_eq!(told(batch).await?, Some(false));
    assert_eq!(world.append(ended, 1).await?, RunOutcome::Lost);
    assert_eq!(world.append(held, 1).await?, RunOutcome::Committed);
    let batch = vec![appending(ended, [1]), appending(held, [1])];
    assert_eq!(told(batch).await?, Some(true));
    Ok(())
}

pub async fn commits_of_many_tasks_all_happen(journal: Arc<dyn Journal>) -> Result<()> {
    let world = Arc::new(World::new(journal).await?);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let world = Arc::clone(&world);
        tasks.spawn(async move {
            let run = world.born(&format!("run {number}")).await?;
            for position in 1..=20 {
                assert_eq!(world.append(run, position).await?, RunOutcome::Committed);
            }
            Result::<_>::Ok(run)
        });
    }
    for run in tasks.join_all().await {
        assert_eq!(world.records(run?).await?.len(), 21);
    }
    Ok(())
}
