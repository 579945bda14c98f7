//! Calls that are dropped at each of their awaits in turn, and then made again by whoever wants to know.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;

use super::world::{
    DEADLINE, LONG, QUEUE, WORKFLOW, World, appending, closing, latest, new_run, node, record, signal,
};
use crate::{
    id::{NodeId, Position, RunId},
    journal::{
        Batch, Deletion, Error, Journal, NewRun, ParentCloses, Placement, Publication, QueueLimits,
        Result, RunCommit, RunFilter, RunOutcome, RunSelector, ScheduleRow, StartOutcome,
        TransactionCommit,
    },
    record::RecordKind,
    status::RunStatus,
};

/// More awaits than any call has.
const MOST: usize = 1_000;

/// Drops a call at its first await, in the next scene at its second, and so on until one gets through. After
/// each the call is made again, as after a lost answer, and the scene must be as if it had been made once.
async fn dropped_at_each_await<S>(
    prepare: impl AsyncFn(usize) -> Result<S>,
    call: impl AsyncFn(&S) -> Result<()>,
    check: impl AsyncFn(&S) -> Result<()>,
) -> Result<()> {
    for awaits in 1..MOST {
        let scene = prepare(awaits).await?;
        let ended = until_await(awaits, call(&scene)).await;
        let has_ended = ended.is_some();
        match ended {
            Some(result) => result?,
            None => call(&scene).await?,
        }
        check(&scene).await?;
        if has_ended {
            return Ok(());
        }
    }
    panic!("it awaits more than {MOST} times");
}

/// What came of a call, unless it was still under way at this await and was dropped.
async fn until_await<T>(awaits: usize, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut left = awaits;
    poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if left <= 1 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

pub async fn a_dropped_commit_has_happened_or_not(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let prepare = async |awaits: usize| {
        let run = world.born(&format!("parent-{awaits}")).await?;
        let child = super::world::child_of(run, ParentCloses::Abandon, &format!("child-{awaits}"));
        let published = Publication {
            name: "state".into(),
            payload: Bytes::from_static(b"new"),
        };
        Ok(RunCommit {
            children: vec![child],
            published: vec![published],
            ..appending(run, [1, 2])
        })
    };
    let call = async |commit: &RunCommit| {
        let batch = Batch {
            runs: vec![commit.clone()],
            starts: Vec::new(),
        };
        // One that was dropped may land between the question and the answer: then it is asked again.
        for _ in 0..2 {
            if world.was_committed(world.node, &batch).await? == Some(true)
                || world.commit(world.node, &batch).await?.runs == [RunOutcome::Committed]
            {
                return Ok(());
            }
        }
        panic!("it is lost and was not committed");
    };
    dropped_at_each_await(prepare, call, async |commit| {
        assert_eq!(world.records(commit.run).await?.len(), 3);
        let shown = world.published(&RunSelector::Run(commit.run), "state").await?;
        assert_eq!(shown.map(|shown| shown.revision), Some(1));
        let children = RunFilter {
            parent: Some(commit.run),
            ..RunFilter::default()
        };
        assert_eq!(world.list(&children).await?.items.len(), 1);
        Ok(())
    })
    .await
}

pub async fn a_dropped_start_has_happened_or_not(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let prepare = async |awaits: usize| Ok(new_run(&format!("run-{awaits}")));
    let call = async |new: &NewRun| match world.start(new).await? {
        StartOutcome::Started => Ok(()),
        StartOutcome::Existing { run, .. } => {
            assert_eq!(run, new.run);
            Ok(())
        }
    };
    dropped_at_each_await(prepare, call, async |new| {
        assert_eq!(world.status(new.run).await?, RunStatus::Pending);
        assert_eq!(world.records(new.run).await?.len(), 1);
        Ok(())
    })
    .await
}

pub async fn a_dropped_signal_is_delivered_once(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let prepare = async |awaits: usize| world.born(&format!("run-{awaits}")).await;
    let delivered = async |run: &RunId| {
        let inbox = world.arrived(*run).await?;
        assert_eq!((inbox.count, inbox.signals.len()), (1, 1));
        Ok(())
    };
    let call = async |run: &RunId| world.signal_run(*run, "once").await.map(drop);
    dropped_at_each_await(prepare, call, delivered).await?;

    let prepare = async |awaits: usize| world.born(&format!("sent-to-{awaits}")).await;
    let call = async |run: &RunId| {
        let sent = signal(RunSelector::Run(*run), "once");
        world.send_signal(world.node, &sent).await.map(drop)
    };
    dropped_at_each_await(prepare, call, delivered).await
}

pub async fn a_dropped_request_of_an_operator_has_happened_or_not(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run_of = |awaits: usize, what: &str| RunSelector::Latest(
        super::world::workflow_id(&format!("{what}-{awaits}")),
    );
    let started = async |selector: RunSelector| {
        if let RunSelector::Latest(id) = &selector {
            world.start(&new_run(id.as_str())).await?;
        }
        Ok(selector)
    };
    let info = async |run: &RunSelector| {
        let found = world.describe(run).await?;
        Ok::<_, Error>(found.expect("it was started"))
    };

    let prepare = async |awaits: usize| started(run_of(awaits, "cancelled")).await;
    let call = async |run: &RunSelector| world.request_cancel(run).await.map(drop);
    dropped_at_each_await(prepare, call, async |run| {
        let run = info(run).await?.run;
        let inbox = world.arrived(run).await?;
        assert_eq!((inbox.cancel_requested, inbox.count), (true, 1));
        Ok(())
    })
    .await?;

    let prepare = async |awaits: usize| started(run_of(awaits, "paused")).await;
    let call = async |run: &RunSelector| world.pause(run).await.map(drop);
    dropped_at_each_await(prepare, call, async |run| {
        assert_eq!(info(run).await?.status, RunStatus::Paused);
        Ok(())
    })
    .await?;

    let prepare = async |awaits: usize| {
        let run = started(run_of(awaits, "resumed")).await?;
        world.pause(&run).await?;
        Ok(run)
    };
    let call = async |run: &RunSelector| world.resume(run).await.map(drop);
    dropped_at_each_await(prepare, call, async |run| {
        assert_eq!(info(run).await?.status, RunStatus::Pending);
        Ok(())
    })
    .await?;

    let prepare = async |awaits: usize| started(run_of(awaits, "terminated")).await;
    let last = record(0, RecordKind::Terminated);
    let call = async |run: &RunSelector| world.terminate(run, &last).await.map(drop);
    dropped_at_each_await(prepare, call, async |run| {
        let info = info(run).await?;
        assert_eq!(info.status, RunStatus::Terminated);
        assert_eq!(world.records(info.run).await?.len(), 2);
        Ok(())
    })
    .await
}

pub async fn a_dropped_claim_leaves_its_runs_to_the_node_or_to_others(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let prepare = async |awaits: usize| {
        let new = new_run(&format!("run-{awaits}"));
        world.start(&new).await?;
        Ok(new.run)
    };
    let call = async |_: &RunId| world.claim_all().await.map(drop);
    dropped_at_each_await(prepare, call, async |run| {
        // The claim that was dropped may hold the run's row still, and the second one passes it over.
        let found = tokio::time::timeout(DEADLINE, async {
            loop {
                let mut owned = world.owned(world.node).await?;
                owned.retain(|owned| owned.run == *run);
                if !owned.is_empty() {
                    return Ok::<_, Error>(owned);
                }
                tokio::task::yield_now().await;
            }
        });
        let found = found.await.expect("somebody claims it")?;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].attempts, 1);
        Ok(())
    })
    .await
}

pub async fn a_dropped_step_has_happened_or_not(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let prepare = async |awaits: usize| world.born(&format!("run-{awaits}")).await;
    let call = async |run: &RunId| {
        loop {
            if world.records(*run).await?.len() > 1 {
                return Ok(());
            }
            let transaction = world.begin().await?;
            let commit = TransactionCommit {
                node: world.node,
                run: *run,
                record: record(1, RecordKind::TransactionCompleted),
                settled_attempt: None,
            };
            match world.commit_step(transaction, &commit).await {
                // The one that was dropped came first.
                Err(Error::RunLost { .. }) => {}
                other => return other,
            }
        }
    };
    dropped_at_each_await(prepare, call, async |run| {
        assert_eq!(world.records(*run).await?.len(), 2);
        assert_eq!(world.append(*run, 2).await?, RunOutcome::Committed);
        Ok(())
    })
    .await
}

pub async fn a_dropped_word_of_a_node_has_happened_or_not(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let prepare = async |_| Ok(());
    // A worker whose call is dropped comes as another node.
    let call = async |(): &()| world.enlist(node(), LONG).await.map(drop);
    dropped_at_each_await(prepare, call, async |()| Ok(())).await?;
    let call = async |(): &()| world.renew(world.node, LONG).await.map(drop);
    dropped_at_each_await(prepare, call, async |()| Ok(())).await?;
    let call = async |(): &()| {
        let request = super::world::request(10);
        world.renew_and_look(world.node, LONG, &request).await.map(drop)
    };
    dropped_at_each_await(prepare, call, async |()| Ok(())).await?;

    let enlisted = async |lease: Duration| {
        let node = node();
        world.enlist(node, lease).await?;
        Ok(node)
    };
    let is_gone = async |node: &NodeId| {
        let renewed = world.renew(*node, LONG).await;
        assert!(matches!(renewed, Err(Error::Fenced)), "{renewed:?}");
        Ok(())
    };
    let prepare = async |_| enlisted(LONG).await;
    let call = async |node: &NodeId| world.retire(*node).await;
    dropped_at_each_await(prepare, call, is_gone).await?;
    let prepare = async |_| enlisted(Duration::ZERO).await;
    let call = async |_: &NodeId| world.reap(10).await.map(drop);
    dropped_at_each_await(prepare, call, is_gone).await
}

pub async fn a_dropped_question_changes_nothing(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.born("run").await?;
    world.append(run, 1).await?;
    world.signal_run(run, "one").await?;
    let prepare = async |_| Ok(());
    let call = async |(): &()| {
        world.load(run, Position(0), 10).await?;
        world.inbox(run, &[run], 10).await?;
        world.owned(world.node).await?;
        world.outcome(run).await?;
        world.describe(&latest("run")).await?;
        world.list(&RunFilter::default()).await?;
        world.history(run, Position(0), 10).await?;
        world.published(&latest("run"), "state").await?;
        world.queues().await.map(drop)
    };
    dropped_at_each_await(prepare, call, async |()| {
        assert_eq!(world.records(run).await?.len(), 2);
        assert_eq!(world.arrived(run).await?.signals.len(), 1);
        Ok(())
    })
    .await
}

pub async fn a_dropped_change_of_a_schedule_or_a_queue_has_happened_or_not(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let store = world.schedules();
    let prepare = async |awaits: usize| {
        Ok(ScheduleRow {
            id: format!("schedule-{awaits}").into(),
            queue: QUEUE.into(),
            next_at: None,
            revision: 1,
            is_new: true,
            payload: Bytes::from_static(b"daily"),
        })
    };
    let call = async |row: &ScheduleRow| store.put_schedule(row).await.map(drop);
    dropped_at_each_await(prepare, call, async |row| {
        let found = store.find_schedule(&row.id).await?.expect("it was created");
        assert_eq!(found.payload, row.payload);
        Ok(())
    })
    .await?;
    let call = async |row: &ScheduleRow| store.delete_schedule(&row.id).await.map(drop);
    dropped_at_each_await(prepare, call, async |row| {
        assert!(store.find_schedule(&row.id).await?.is_none());
        Ok(())
    })
    .await?;

    let prepare = async |awaits: usize| Ok(format!("queue-{awaits}"));
    let limits = QueueLimits {
        max_running: Some(3),
        max_running_per_key: None,
        max_in_worker: None,
        rate: None,
    };
    let call = async |queue: &String| {
        world.limit_queue(queue, &limits).await?;
        world.pause_queue(queue, true).await
    };
    dropped_at_each_await(prepare, call, async |queue| {
        let queues = world.queues().await?;
        let found = queues.iter().find(|found| *found.queue == **queue);
        let found = found.expect("it has limits");
        assert!(found.is_paused);
        assert_eq!(found.limits, limits);
        Ok(())
    })
    .await
}

pub async fn a_dropped_deletion_deletes_all_of_a_run_or_nothing(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let deletion = Deletion {
        workflow: WORKFLOW.into(),
        closed_for: Duration::ZERO,
        after: None,
    };
    let prepare = async |awaits: usize| {
        let new = NewRun {
            placement: Placement::Here,
            ..new_run(&format!("run-{awaits}"))
        };
        let run = world.start_by_batch(new).await?;
        world.push(closing(run, 1)).await?;
        Ok(run)
    };
    let is_there = async |run: RunId| {
        let found = world.describe(&RunSelector::Run(run)).await?;
        Ok::<_, Error>(found.is_some())
    };
    let call = async |run: &RunId| {
        // While the one that was dropped deletes, another finds nothing to do.
        while is_there(*run).await? {
            world.delete_closed(&deletion).await?;
        }
        Ok(())
    };
    dropped_at_each_await(prepare, call, async |run| {
        assert!(world.records(*run).await?.is_empty());
        Ok(())
    })
    .await
}
