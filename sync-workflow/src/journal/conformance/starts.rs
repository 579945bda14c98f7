//! Starts.

use std::sync::Arc;

use super::world::{WORKFLOW, World, closing_with, new_run, record};
use crate::{
    id::Position,
    journal::{Batch, Close, IdReuse, Journal, NewRun, Placement, Result, StartOutcome},
    record::{Record, RecordKind},
    status::RunStatus,
};

pub async fn a_started_run_has_its_input_at_position_zero(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let new = new_run("a");
    assert_eq!(world.start(&new).await?, StartOutcome::Started);
    let expected = Record {
        position: Position(0),
        kind: RecordKind::Started,
        command: Record::RUN,
        name: WORKFLOW.into(),
        fingerprint: 0,
        payload: new.input.clone(),
    };
    assert_eq!(world.records(new.run).await?, [expected]);
    // Nobody is there to hold a run that starts from outside, wherever it was to start.
    let here = NewRun {
        placement: Placement::Here,
        ..new_run("b")
    };
    world.start(&here).await?;
    assert_eq!(world.status(here.run).await?, RunStatus::Pending);
    Ok(())
}

pub async fn two_starts_of_one_workflow_id_admit_one(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let (first, second) = (
        new_run("a"),
        NewRun {
            reuse: IdReuse::StartNew,
            ..new_run("a")
        },
    );
    assert_eq!(world.start(&first).await?, StartOutcome::Started);
    let existing = StartOutcome::Existing {
        run: first.run,
        status: RunStatus::Pending,
    };
    assert_eq!(world.start(&second).await?, existing);
    assert!(world.records(second.run).await?.is_empty());
    Ok(())
}

pub async fn concurrent_starts_of_one_workflow_id_admit_one(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    for round in 0..5 {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let journal = Arc::clone(&world.journal);
            let new = NewRun {
                reuse: IdReuse::StartNew,
                ..new_run(&format!("round {round}"))
            };
            tasks.spawn(async move { journal.start(&new).await.map(|outcome| (new.run, outcome)) });
        }
        let (mut started, mut existing) = (Vec::new(), Vec::new());
        for outcome in tasks.join_all().await {
            match outcome? {
                (run, StartOutcome::Started) => started.push(run),
                (_, StartOutcome::Existing { run, .. }) => existing.push(run),
            }
        }
        assert_eq!(started.len(), 1);
        assert_eq!(existing, vec![started[0]; 7]);
    }
    Ok(())
}

pub async fn a_start_that_is_repeated_is_one_start(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let new = NewRun {
        reuse: IdReuse::StartNew,
        ..new_run("a")
    };
    for _ in 0..2 {
        assert_eq!(world.start(&new).await?, StartOutcome::Started);
    }
    assert_eq!(world.claimed().await?, [new.run]);
    world.close(new.run, 1).await?;
    assert_eq!(world.start(&new).await?, StartOutcome::Started);
    assert_eq!(world.status(new.run).await?, RunStatus::Completed);
    assert_eq!(world.records(new.run).await?.len(), 2);
    Ok(())
}

pub async fn a_closed_run_makes_room_as_the_policy_says(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let ends = [
        (RunStatus::Completed, RecordKind::Completed),
        (RunStatus::Failed, RecordKind::Failed),
        (RunStatus::Cancelled, RecordKind::Cancelled),
        (RunStatus::Terminated, RecordKind::Terminated),
    ];
    for (status, kind) in ends {
        let id = format!("ends {status}");
        let first = world.born(&id).await?;
        world
            .push(closing_with(
                first,
                record(1, kind),
                Close {
                    status,
                    next: None,
                    has_open_children: false,
                    has_parent: true,
                },
            ))
            .await?;
        let start = async |reuse| {
            world
                .start(&NewRun {
                    reuse,
                    ..new_run(&id)
                })
                .await
        };
        let existing = StartOutcome::Existing { run: first, status };
        assert_eq!(start(IdReuse::ReturnExisting).await?, existing);
        if status == RunStatus::Completed {
            assert_eq!(start(IdReuse::StartNewUnlessCompleted).await?, existing);
            assert_eq!(start(IdReuse::StartNew).await?, StartOutcome::Started);
        } else {
            assert_eq!(
                start(IdReuse::StartNewUnlessCompleted).await?,
                StartOutcome::Started
            );
        }
        // The new one is open now, and keeps every other out.
        for reuse in [
            IdReuse::StartNew,
            IdReuse::StartNewUnlessCompleted,
            IdReuse::ReturnExisting,
        ] {
            let outcome = start(reuse).await?;
            let is_open = matches!(outcome, StartOutcome::Existing { run, status: RunStatus::Pending } if run != first);
            assert!(is_open, "{outcome:?}");
        }
    }
    Ok(())
}

pub async fn a_batch_starts_runs_here_and_elsewhere(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let here = NewRun {
        placement: Placement::Here,
        ..new_run("here")
    };
    let anywhere = new_run("anywhere");
    let starts = vec![here.clone(), anywhere.clone()];
    let outcome = world
        .commit(
            world.node,
            &Batch {
                runs: Vec::new(),
                starts,
            },
        )
        .await?;
    assert_eq!(outcome.starts, [StartOutcome::Started; 2]);
    let owned = world.owned(world.node).await?;
    assert_eq!(
        owned
            .iter()
            .map(|claimed| (claimed.run, claimed.attempts))
            .collect::<Vec<_>>(),
        [(here.run, 1)]
    );
    assert_eq!(world.claimed().await?, [anywhere.run]);
    Ok(())
}

pub async fn a_batch_admits_one_run_of_a_workflow_id(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let starts: Vec<_> = ["a", "b", "a", "a"]
        .map(|id| NewRun {
            placement: Placement::Here,
            ..new_run(id)
        })
        .into();
    let batch = Batch {
        runs: Vec::new(),
        starts: starts.clone(),
    };
    let outcome = world.commit(world.node, &batch).await?;
    let existing = StartOutcome::Existing {
        run: starts[0].run,
        status: RunStatus::Running,
    };
    assert_eq!(
        outcome.starts,
        [
            StartOutcome::Started,
            StartOutcome::Started,
            existing,
            existing
        ]
    );
    assert_eq!(world.owned(world.node).await?.len(), 2);
    Ok(())
}
