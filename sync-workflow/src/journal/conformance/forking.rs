//! Runs that begin as copies of other runs' first records.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::world::{
    QUEUE, WORKFLOW, World, appending, closing, continuing, going_on, latest, new_run, record,
    run_id, signal, successor, trace, workflow_id,
};
use crate::{
    id::{Position, RunId},
    journal::{
        Admission, Deletion, Error, Fork, ForkOutcome, ForkTarget, Journal, NewRun, ParentCloses,
        ParentLink, Placement, Publication, QueueLimits, Result, RunCommit, RunOutcome, RunSelector,
        SignalOutcome, Ticket, WokenRun,
    },
    record::{Record, RecordKind},
    status::RunStatus,
    tag::Tags,
};

const FORKED: ForkOutcome = ForkOutcome::Forked { ended: None };

fn of_run(position: u32, kind: RecordKind) -> Record {
    Record {
        command: Record::RUN,
        name: "".into(),
        ..record(position, kind)
    }
}

/// A fork that keeps so many records, under another workflow id.
fn fork(origin: RunId, kept: u32, id: &str) -> Fork {
    Fork {
        origin,
        run: run_id(),
        forked: of_run(kept, RecordKind::Forked),
        target: ForkTarget::New(workflow_id(id)),
    }
}

/// A fork that keeps so many records and these children, in the place of its origin.
fn reset(origin: RunId, kept: u32, children: &[RunId]) -> Fork {
    let target = ForkTarget::Same {
        last: of_run(0, RecordKind::ContinuedAsNew),
        children: children.to_vec(),
    };
    Fork {
        target,
        ..fork(origin, kept, "unused")
    }
}

fn existing(run: RunId, status: RunStatus) -> ForkOutcome {
    ForkOutcome::Existing { run, status }
}

impl World {
    async fn fork_to(&self, fork: Fork) -> Result<RunId> {
        let outcome = self.fork(&fork).await?;
        assert!(
            matches!(outcome, ForkOutcome::Forked { .. }),
            "{outcome:?}"
        );
        Ok(fork.run)
    }

    /// Sends a run signals of two names, in turn.
    async fn send(&self, run: RunId, ids: &[&str]) -> Result<()> {
        for id in ids {
            let mut signal = signal(RunSelector::Run(run), id);
            signal.name = name_of(id).into();
            let outcome = self.signal(&signal).await?;
            assert!(matches!(outcome, SignalOutcome::Delivered(_)));
        }
        Ok(())
    }

    /// Receives the first signal that waits, of all that begin as `id` does.
    async fn receive(&self, run: RunId, id: &str, position: u32) -> Result<()> {
        let waiting = self.arrived(run).await?.signals;
        let signal = waiting.into_iter().find(|signal| *signal.name == *name_of(id));
        let signal = signal.expect("one waits");
        let record = Record {
            name: signal.name,
            payload: signal.payload,
            ..record(position, RecordKind::SignalReceived)
        };
        let outcome = self
            .push(RunCommit {
                records: vec![record],
                consumed_signals: vec![signal.sequence],
                ..going_on(run)
            })
            .await?;
        assert_eq!(outcome.runs, [RunOutcome::Committed]);
        Ok(())
    }

    /// The ids of the signals that wait for a run.
    async fn waiting(&self, run: RunId) -> Result<Vec<String>> {
        let waiting = self.arrived(run).await?.signals;
        let ids = waiting.iter().map(|signal| {
            let text = String::from_utf8_lossy(&signal.payload);
            text.trim_start_matches("signal ").to_owned()
        });
        Ok(ids.collect())
    }
}

/// The name of a signal is the first letter of its id.
fn name_of(id: &str) -> &str {
    &id[..1]
}

pub async fn a_fork_begins_with_the_first_records_of_its_origin(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let origin = NewRun {
        placement: Placement::Here,
        trace: Some(trace()),
        ticket: Ticket {
            key: "tenant".into(),
            priority: 3,
            ..Ticket::default()
        },
        tags: Tags::new().with("tenant", "42").expect("a tag"),
        ..new_run("a")
    };
    let origin = world.start_by_batch(origin).await?;
    world.push(appending(origin, [1, 2, 3])).await?;
    let fork = fork(origin, 3, "b");
    assert_eq!(world.fork(&fork).await?, FORKED);

    let before = world.history(origin, Position(0), 10).await?.items;
    let copied = world.history(fork.run, Position(0), 10).await?.items;
    assert_eq!(copied.len(), 4);
    for (copy, item) in copied.iter().zip(&before[..3]) {
        assert_eq!(copy.record, item.record);
        assert_eq!(copy.recorded_at, item.recorded_at);
    }
    assert_eq!(copied[3].record, fork.forked);
    let info = world.info(fork.run).await?;
    assert_eq!(info.workflow_id, workflow_id("b"));
    assert_eq!((&*info.workflow, &*info.queue), (WORKFLOW, QUEUE));
    assert_eq!((&*info.ticket.key, info.ticket.priority), ("tenant", 3));
    assert_eq!((info.trace, info.parent), (Some(trace()), None));
    assert_eq!(info.tags.get("tenant"), Some("42"));
    assert_eq!(world.append(origin, 4).await?, RunOutcome::Committed);

    let claimed = world.claim_all().await?.runs;
    assert_eq!((claimed.len(), claimed[0].run), (1, fork.run));
    assert_eq!((claimed[0].chain, claimed[0].rested), (fork.run, false));
    assert!(claimed[0].inbox > 0, "it looks at what arrived");
    assert_eq!(world.append(fork.run, 4).await?, RunOutcome::Committed);
    Ok(())
}

pub async fn a_fork_that_is_repeated_is_one_fork(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let origin = world.born("a").await?;
    for fork in [fork(origin, 1, "b"), reset(origin, 1, &[])] {
        world.fork_to(fork.clone()).await?;
        assert_eq!(world.fork(&fork).await?, FORKED);
        assert_eq!(world.records(fork.run).await?.len(), 2);
    }
    Ok(())
}

pub async fn a_fork_needs_an_origin_and_a_workflow_id(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let origin = world.born("a").await?;
    world.append(origin, 1).await?;
    let unknown = world.fork(&fork(run_id(), 1, "b")).await?;
    assert_eq!(unknown, ForkOutcome::NoOrigin);
    let beyond = world.fork(&fork(origin, 3, "b")).await?;
    assert_eq!(beyond, ForkOutcome::NoOrigin);
    let nothing = world.fork(&fork(origin, 0, "b")).await;
    assert!(
        matches!(nothing, Err(Error::Unsupported { .. })),
        "{nothing:?}"
    );
    for id in ["a", "taken"] {
        let taken = match id {
            "a" => origin,
            _ => world.born(id).await?,
        };
        let outcome = world.fork(&fork(origin, 2, id)).await?;
        assert_eq!(outcome, existing(taken, RunStatus::Running));
    }
    assert_eq!(world.append(origin, 2).await?, RunOutcome::Committed);
    assert_eq!(world.claimed().await?, []);
    Ok(())
}

pub async fn an_open_run_that_is_reset_goes_on_in_a_run_of_its_chain(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let origin = world.born("a").await?;
    let mut commit = appending(origin, [1, 2]);
    commit.published.push(Publication {
        name: "progress".into(),
        payload: Bytes::from_static(b"2"),
    });
    world.push(commit).await?;
    world.request_cancel(&latest("a")).await?;
    let reset = reset(origin, 2, &[]);
    let ended = WokenRun {
        run: origin,
        node: Some(world.node),
    };
    let outcome = world.fork(&reset).await?;
    assert_eq!(outcome, ForkOutcome::Forked { ended: Some(ended) });

    assert_eq!(world.append(origin, 3).await?, RunOutcome::Lost);
    assert_eq!(world.append(origin, 4).await?, RunOutcome::Lost);
    let closed = world.outcome(origin).await?.expect("it has ended");
    assert_eq!(closed.status, RunStatus::ContinuedAsNew);
    assert_eq!(closed.next, Some(reset.run));
    let last = world.records(origin).await?.pop().expect("records");
    assert_eq!(
        (last.position, last.kind),
        (Position(3), RecordKind::ContinuedAsNew)
    );
    let claimed = world.claim_all().await?.runs;
    assert_eq!(
        (claimed[0].run, claimed[0].chain),
        (reset.run, origin),
        "{claimed:?}"
    );
    let info = world.describe(&latest("a")).await?.expect("a run");
    assert_eq!((info.run, info.cancel_requested), (reset.run, false));
    let shown = world.published(&latest("a"), "progress").await?;
    assert_eq!(shown.expect("it is shown on").payload, "2");
    assert_eq!(world.append(reset.run, 3).await?, RunOutcome::Committed);
    Ok(())
}

pub async fn a_closed_run_is_reset_while_it_is_the_latest(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let origin = world.born("a").await?;
    world.close(origin, 1).await?;
    let first = world.fork_to(reset(origin, 1, &[])).await?;
    let claimed = world.claim_all().await?.runs;
    assert_eq!((claimed[0].run, claimed[0].chain), (first, first));
    assert_eq!(world.status(origin).await?, RunStatus::Completed);
    let again = world.fork(&reset(origin, 1, &[])).await?;
    assert_eq!(again, existing(first, RunStatus::Running));
    let second = world.fork_to(reset(first, 1, &[])).await?;
    assert_eq!(world.status(first).await?, RunStatus::ContinuedAsNew);
    assert_eq!(world.claimed().await?, [second]);
    Ok(())
}

pub async fn resets_at_once_are_one_after_the_other(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let origin = world.born("a").await?;
    let mut resets = Vec::new();
    for _ in 0..8 {
        let journal = Arc::clone(&world.journal);
        let reset = reset(origin, 1, &[]);
        resets.push(tokio::spawn(async move { journal.fork(&reset).await }));
    }
    let mut forked = 0;
    for reset in resets {
        match reset.await.expect("no panic") {
            Ok(ForkOutcome::Forked { .. }) => forked += 1,
            Ok(ForkOutcome::Existing { .. }) => {}
            // Two of them stood in each other's way.
            Err(error) if error.is_transient() => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(forked, 1);
    assert_eq!(world.claimed().await?.len(), 1);
    Ok(())
}

pub async fn a_fork_is_sent_what_its_copied_records_did_not_receive(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let origin = world.born("a").await?;
    world.send(origin, &["x1", "y1", "x2", "x3", "y2"]).await?;
    world.receive(origin, "x", 1).await?;
    world.receive(origin, "y", 2).await?;
    world.receive(origin, "x", 3).await?;
    assert_eq!(world.waiting(origin).await?, ["x3", "y2"]);

    let copy = world.fork_to(fork(origin, 2, "b")).await?;
    assert_eq!(world.waiting(copy).await?, ["y1", "x2", "x3", "y2"]);
    assert_eq!(world.waiting(origin).await?, ["x3", "y2"]);
    let known = world.signal_run(copy, "x1").await?;
    assert_eq!(known, SignalOutcome::Duplicate);
    let again = signal(latest("b"), "y1");
    let sent = world.send_signal(world.node, &again).await?;
    assert_eq!(sent, SignalOutcome::Duplicate);

    // One after the other, of an open run and of a closed one.
    let open = world.fork_to(reset(origin, 3, &[])).await?;
    assert_eq!(world.waiting(open).await?, ["x2", "x3", "y2"]);
    assert!(world.claimed().await?.contains(&open));
    world.receive(open, "x", 4).await?;
    assert_eq!(world.waiting(open).await?, ["x3", "y2"]);
    let known = world.signal_run(open, "x2").await?;
    assert_eq!(known, SignalOutcome::Duplicate);
    world.push(closing(open, 5)).await?;
    let closed = world.fork_to(reset(open, 1, &[])).await?;
    assert_eq!(
        world.waiting(closed).await?,
        ["x1", "y1", "x2", "x3", "y2"]
    );
    let known = world.signal_run(closed, "x3").await?;
    assert_eq!(known, SignalOutcome::Duplicate);
    Ok(())
}

pub async fn a_fork_of_a_run_that_went_on_is_sent_what_nobody_received(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let origin = world.born("a").await?;
    world.send(origin, &["x1", "x2", "x3"]).await?;
    world.receive(origin, "x", 1).await?;
    let next = successor("a", origin);
    world.push(continuing(origin, 2, next.clone())).await?;
    world.receive(next.run, "x", 1).await?;
    let copy = world.fork_to(fork(origin, 1, "b")).await?;
    assert_eq!(world.waiting(copy).await?, ["x3"]);
    assert_eq!(world.waiting(next.run).await?, ["x3"]);
    Ok(())
}

pub async fn a_fork_shows_what_the_runs_before_its_origin_showed(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let first = world.born("a").await?;
    let origin = successor("a", first);
    let mut goes_on = continuing(first, 1, origin.clone());
    goes_on.published.push(Publication {
        name: "answer".into(),
        payload: Bytes::from_static(b"yes"),
    });
    world.push(goes_on).await?;
    let shown = world.published(&latest("a"), "answer").await?;
    assert!(shown.is_some());
    let copy = world.fork_to(fork(origin.run, 1, "b")).await?;
    assert_eq!(world.published(&latest("b"), "answer").await?, shown);
    assert!(world.published(&RunSelector::Run(copy), "answer").await?.is_some());
    // A copy of a copy has what the first one was given.
    let copies = [(1, "d"), (2, "e")].map(|(first, id)| fork(copy, first, id));
    for copy_of_copy in copies {
        let copy_of_copy = RunSelector::Run(world.fork_to(copy_of_copy).await?);
        assert_eq!(world.published(&copy_of_copy, "answer").await?, shown);
    }
    world.close(origin.run, 1).await?;
    world.fork_to(reset(origin.run, 1, &[])).await?;
    assert_eq!(world.published(&latest("a"), "answer").await?, shown);
    // What a run shows itself, its fork shows once its code has.
    let alone = world.fork_to(fork(first, 1, "c")).await?;
    assert_eq!(world.published(&RunSelector::Run(alone), "answer").await?, None);
    Ok(())
}

pub async fn a_reset_keeps_the_children_for_which_it_waits(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let origin = world.born("parent").await?;
    let kept = world.born_child("kept", origin, ParentCloses::Cancel);
    let kept = kept.await?;
    let left = world.born_child("left", origin, ParentCloses::Cancel);
    let left = left.await?;
    let new = world.fork_to(reset(origin, 1, &[kept])).await?;
    assert!(world.arrived(left).await?.cancel_requested);
    assert!(!world.arrived(kept).await?.cancel_requested);
    assert_eq!(world.info(left).await?.parent, Some(origin));
    assert_eq!(world.info(kept).await?.parent, Some(new));
    assert_eq!(world.claimed().await?, [new]);

    // Its node knows its former parent still.
    let before = world.arrived(new).await?.count;
    let owned = world.owned(world.node).await?;
    let claimed = owned.into_iter().find(|claimed| claimed.run == kept);
    let next = NewRun {
        parent: claimed.and_then(|claimed| claimed.parent).map(|link| {
            ParentLink {
                run: origin,
                ..link
            }
        }),
        ..successor("kept", kept)
    };
    world.push(continuing(kept, 1, next.clone())).await?;
    assert_eq!(world.info(next.run).await?.parent, Some(new));
    assert_eq!(world.arrived(new).await?.count, before + 1);
    let again = world.fork_to(reset(new, 1, &[kept])).await?;
    assert_eq!(world.info(next.run).await?.parent, Some(again));
    assert!(!world.arrived(next.run).await?.cancel_requested);
    let before = world.arrived(again).await?.count;
    world.close(next.run, 1).await?;
    assert_eq!(world.arrived(again).await?.count, before + 1);
    Ok(())
}

pub async fn a_fork_leaves_the_children_of_its_origin(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let origin = world.born("parent").await?;
    let child = world.born_child("child", origin, ParentCloses::Cancel);
    let child = child.await?;
    let copy = world.fork_to(fork(origin, 1, "copy")).await?;
    assert_eq!(world.info(child).await?.parent, Some(origin));
    assert_eq!(world.claimed().await?, [copy]);
    world.close(copy, 2).await?;
    assert!(!world.arrived(child).await?.cancel_requested);
    Ok(())
}

pub async fn the_parent_of_a_run_that_is_reset_finds_the_new_run(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = world.born("parent").await?;
    let child = world.born_child("child", parent, ParentCloses::Cancel);
    let child = child.await?;
    let before = world.arrived(parent).await?.count;
    let new = world.fork_to(reset(child, 1, &[])).await?;
    let inbox = world.inbox(parent, &[child], 10).await?;
    assert_eq!(inbox.count, before + 1);
    let end = inbox.children.into_iter().next().and_then(|it| it.closed);
    assert_eq!(end.expect("an end").next, Some(new));
    assert_eq!(world.info(new).await?.parent, Some(parent));
    assert_eq!(world.claimed().await?, [new]);
    world.close(new, 2).await?;
    assert_eq!(world.arrived(parent).await?.count, before + 2);
    Ok(())
}

pub async fn a_paused_run_that_is_reset_stays_paused(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let origin = world.born("a").await?;
    world.pause(&latest("a")).await?;
    let new = world.fork_to(reset(origin, 1, &[])).await?;
    assert_eq!(world.status(new).await?, RunStatus::Paused);
    assert_eq!(world.claimed().await?, []);
    world.resume(&latest("a")).await?;
    assert_eq!(world.claimed().await?, [new]);
    Ok(())
}

pub async fn an_open_run_that_is_reset_hands_its_turn_on(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let limits = QueueLimits {
        max_running: Some(1),
        max_running_per_key: None,
        max_in_worker: None,
        rate: None,
    };
    world.limit_queue(QUEUE, &limits).await?;
    let (first, second) = (new_run("a"), new_run("b"));
    for new in [&first, &second] {
        world.start(new).await?;
    }
    assert_eq!(world.claimed().await?, [first.run]);
    // One that has its turn, and one that waits for it.
    let new = world.fork_to(reset(first.run, 1, &[])).await?;
    let waiting = world.fork_to(reset(second.run, 1, &[])).await?;
    let claimed = world.claim_all().await?.runs;
    assert_eq!((claimed.len(), claimed[0].run), (1, new));
    assert_eq!(claimed[0].ticket.admission, Admission::Admitted);
    world.close(new, 2).await?;
    assert_eq!(world.claimed().await?, [waiting]);
    // One that has given its turn back asks for another.
    let last = world.fork_to(reset(new, 1, &[])).await?;
    assert_eq!(world.claimed().await?, []);
    world.close(waiting, 2).await?;
    assert_eq!(world.claimed().await?, [last]);
    Ok(())
}

pub async fn a_fork_is_deleted_by_itself(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let origin = world.born("a").await?;
    world.send(origin, &["x1"]).await?;
    world.close(origin, 1).await?;
    let copy = world.fork_to(fork(origin, 1, "b")).await?;
    let deletion = Deletion {
        workflow: WORKFLOW.into(),
        closed_for: Duration::ZERO,
        after: None,
    };
    assert_eq!(world.delete_closed(&deletion).await?.runs, 1);
    assert_eq!(world.waiting(copy).await?, ["x1"]);
    assert_eq!(world.records(copy).await?.len(), 2);
    let gone = world.fork(&fork(origin, 1, "c")).await?;
    assert_eq!(gone, ForkOutcome::NoOrigin);
    Ok(())
}
