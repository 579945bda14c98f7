//! Batches in which runs touch each other's rows, and runs that somebody else took.

use std::collections::HashSet;

use sync_workflow::journal::{Journal, NewSignal, SignalOutcome, StartOutcome, WakeAt};

use super::*;

#[tokio::test]
async fn a_taken_position_loses_that_run_and_no_other() {
    let bench = Bench::new().await;
    let (lost, kept) = (bench.born("lost").await, bench.born("kept").await);
    // As an operator's tool of another version might do, without taking the run from its node.
    bench
        .database
        .psql(&format!(
            "INSERT INTO sync_workflow.journal
                 (run_id, position, kind, command, name, fingerprint, payload)
             VALUES ('{lost}', 1, 10, 0, '', 0, '')"
        ))
        .unwrap();
    let outcome = bench
        .commit(batch(vec![
            goes_on(lost, vec![record(1), record(2)]),
            goes_on(kept, vec![record(1), record(2)]),
        ]))
        .await;
    assert_eq!(
        outcomes(&outcome),
        [RunOutcome::Lost, RunOutcome::Committed]
    );
    assert_eq!((bench.length(lost).await, bench.length(kept).await), (2, 3));
}

#[tokio::test]
async fn a_terminated_run_takes_nothing_more_from_its_node() {
    let bench = Bench::new().await;
    let run = bench.born("ended").await;
    let reason = Record {
        kind: RecordKind::Terminated,
        ..last_record(0)
    };
    let ended = bench
        .journal
        .terminate(&RunSelector::Run(run), &reason)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((ended.run, ended.node), (run, Some(bench.node)));
    let outcome = bench
        .commit(batch(vec![goes_on(run, vec![record(1)])]))
        .await;
    assert_eq!(outcomes(&outcome), [RunOutcome::Lost]);
    let outcome = bench
        .commit(batch(vec![goes_on(run, vec![record(2)])]))
        .await;
    assert_eq!(outcomes(&outcome), [RunOutcome::Lost]);
    let outcome = bench.commit(batch(vec![suspends(run, 0)])).await;
    assert_eq!(outcomes(&outcome), [RunOutcome::Lost]);
    assert_eq!(bench.status(run).await, RunStatus::Terminated);
    assert_eq!(bench.length(run).await, 2);
}

fn suspends(run: RunId, seen_inbox: i64) -> RunCommit {
    RunCommit {
        transition: Transition::Suspend {
            wake_at: WakeAt::Arrival,
            seen_inbox,
        },
        ..goes_on(run, Vec::new())
    }
}

/// Starts a parent and its children, all held by this node.
async fn family(bench: &Bench, children: usize) -> (RunId, Vec<RunId>) {
    let parent = bench.born("parent").await;
    let children: Vec<_> = (0..children)
        .map(|number| child_of(parent, &format!("child {number}")))
        .collect();
    let ids = children.iter().map(|child| child.run).collect();
    let outcome = bench
        .commit(batch(vec![RunCommit {
            children,
            ..goes_on(parent, vec![record(1)])
        }]))
        .await;
    assert_eq!(outcomes(&outcome), [RunOutcome::Committed]);
    (parent, ids)
}

#[tokio::test]
async fn a_parent_that_suspends_in_the_batch_in_which_its_children_close_stays_awake() {
    let bench = Bench::new().await;
    let (parent, children) = family(&bench, 3).await;
    let outcome = bench
        .commit(batch(vec![
            closes(children[0], 1),
            suspends(parent, 0),
            closes(children[1], 1),
        ]))
        .await;
    assert_eq!(
        outcomes(&outcome),
        [
            RunOutcome::Committed,
            RunOutcome::StillAwake,
            RunOutcome::Committed
        ]
    );
    assert_eq!(outcome.woken.len(), 1);
    assert_eq!(outcome.woken[0].node, Some(bench.node));
    let inbox = bench.journal.inbox(parent, &children, 10).await.unwrap();
    assert_eq!((inbox.count, inbox.children.len()), (2, 2));

    let outcome = bench.commit(batch(vec![suspends(parent, 2)])).await;
    assert_eq!(outcomes(&outcome), [RunOutcome::Committed]);
    assert_eq!(bench.status(parent).await, RunStatus::Pending);
    let outcome = bench.commit(batch(vec![closes(children[2], 1)])).await;
    assert_eq!(outcome.woken[0].node, None, "it sleeps on no node");
    let described = bench.journal.describe(&RunSelector::Run(parent)).await;
    assert!(described.unwrap().unwrap().wake_at.is_some());
}

#[tokio::test]
async fn a_parent_and_its_children_close_in_one_batch() {
    let bench = Bench::new().await;
    let (parent, children) = family(&bench, 2).await;
    let outcome = bench
        .commit(batch(vec![
            closes(children[0], 1),
            closes(parent, 2),
            goes_on(children[1], vec![record(1)]),
        ]))
        .await;
    assert_eq!(outcomes(&outcome), [RunOutcome::Committed; 3]);
    assert_eq!(bench.status(parent).await, RunStatus::Completed);
    assert_eq!(bench.status(children[0]).await, RunStatus::Completed);
    assert_eq!(bench.status(children[1]).await, RunStatus::Running);
    let left = bench.journal.inbox(children[1], &[], 10).await.unwrap();
    assert!(left.cancel_requested);
    assert_eq!(outcome.woken.len(), 1);
    assert_eq!(outcome.woken[0].run, children[1]);
}

#[tokio::test]
async fn a_child_that_is_started_and_left_in_one_commit_is_born_cancelled() {
    let bench = Bench::new().await;
    let parent = bench.born("parent").await;
    let child = child_of(parent, "child");
    let outcome = bench
        .commit(batch(vec![RunCommit {
            children: vec![child.clone()],
            ..closes(parent, 1)
        }]))
        .await;
    assert_eq!(outcomes(&outcome), [RunOutcome::Committed]);
    let inbox = bench.journal.inbox(child.run, &[], 10).await.unwrap();
    assert!(inbox.cancel_requested);
    assert_eq!(outcome.woken.len(), 1);
}

#[tokio::test]
async fn a_workflow_id_is_free_in_the_batch_in_which_its_run_closes() {
    let bench = Bench::new().await;
    let first = bench.born("again").await;
    let second = NewRun {
        reuse: IdReuse::StartNew,
        ..new_run("again")
    };
    let outcome = bench
        .commit(Batch {
            runs: vec![closes(first, 1)],
            starts: vec![second.clone()],
        })
        .await;
    assert_eq!(outcome.starts, [StartOutcome::Started]);
    assert_eq!(bench.status(second.run).await, RunStatus::Running);
}

#[tokio::test]
async fn of_many_starts_at_once_one_succeeds_and_the_others_find_it() {
    let bench = Bench::new().await;
    let starts: Vec<_> = (0..16).map(|_| new_run("single flight")).collect();
    let in_one_batch = Batch {
        starts: starts[..4].to_vec(),
        ..Batch::default()
    };
    let alone = starts[4..].iter().map(|start| bench.journal.start(start));
    let (batched, alone) = tokio::join!(
        bench.journal.commit(bench.node, &in_one_batch),
        futures::future::join_all(alone)
    );
    let outcomes: Vec<_> = batched
        .unwrap()
        .starts
        .into_iter()
        .chain(alone.into_iter().map(Result::unwrap))
        .collect();
    let started: Vec<_> = starts
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| **outcome == StartOutcome::Started)
        .map(|(start, _)| start.run)
        .collect();
    assert_eq!(started.len(), 1, "{outcomes:?}");
    for outcome in &outcomes {
        match outcome {
            StartOutcome::Started => {}
            StartOutcome::Existing { run, .. } => assert_eq!(*run, started[0]),
        }
    }
    assert_eq!(bench.length(started[0]).await, 1);
}

#[tokio::test]
async fn signals_and_suspensions_that_race_lose_no_wake_up() {
    let bench = Bench::new().await;
    for round in 0..20 {
        let run = bench.born(&format!("race {round}")).await;
        let signal = NewSignal {
            to: RunSelector::Run(run),
            id: "once".into(),
            name: "go".into(),
            payload: Bytes::from_static(b"1"),
        };
        let suspend = batch(vec![suspends(run, 0)]);
        let (sent, again, suspended) = tokio::join!(
            bench.journal.signal(&signal),
            bench.journal.signal(&signal),
            bench.journal.commit(bench.node, &suspend)
        );
        let delivered = [sent.unwrap(), again.unwrap()]
            .iter()
            .filter(|outcome| matches!(outcome, SignalOutcome::Delivered(_)))
            .count();
        assert_eq!(delivered, 1);
        let info = bench.journal.describe(&RunSelector::Run(run)).await;
        let info = info.unwrap().unwrap();
        match outcomes(&suspended.unwrap()) {
            [RunOutcome::StillAwake] => assert_eq!(info.status, RunStatus::Running),
            [RunOutcome::Committed] => assert!(info.wake_at.is_some(), "it would sleep for ever"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn two_nodes_whose_runs_wake_each_other_do_not_deadlock() {
    let bench = Bench::new().await;
    let other = new_node();
    bench.journal.enlist(other, LEASE).await.unwrap();
    for round in 0..10 {
        // Every parent is held here, and one child of each is held by the other node.
        let parents: Vec<_> = (0..8).map(|n| new_run(&format!("p {round} {n}"))).collect();
        let here: Vec<_> = parents
            .iter()
            .map(|p| child_of(p.run, &format!("h {}", p.run)))
            .collect();
        let there: Vec<_> = parents
            .iter()
            .map(|p| child_of(p.run, &format!("t {}", p.run)))
            .collect();
        let starts = |runs: &[NewRun]| Batch {
            starts: runs.to_vec(),
            ..Batch::default()
        };
        bench.commit(starts(&parents)).await;
        bench.commit(starts(&here)).await;
        bench.journal.commit(other, &starts(&there)).await.unwrap();

        let ours = batch(
            parents
                .iter()
                .map(|p| closes(p.run, 1))
                .chain(here.iter().map(|c| closes(c.run, 1)))
                .collect(),
        );
        let theirs = batch(there.iter().rev().map(|c| closes(c.run, 1)).collect());
        let (ours, theirs) = tokio::join!(
            bench.journal.commit(bench.node, &ours),
            bench.journal.commit(other, &theirs)
        );
        let settled: HashSet<_> = [ours.unwrap(), theirs.unwrap()]
            .iter()
            .flat_map(|outcome| outcome.runs.clone())
            .map(|outcome| outcome == RunOutcome::Committed)
            .collect();
        assert_eq!(settled, HashSet::from([true]));
    }
}

#[tokio::test]
async fn a_run_that_is_terminated_while_its_node_closes_it_ends_once() {
    let bench = Bench::new().await;
    for round in 0..20 {
        let run = bench.born(&format!("ends {round}")).await;
        let selector = RunSelector::Run(run);
        let reason = Record {
            kind: RecordKind::Terminated,
            ..last_record(0)
        };
        let close = batch(vec![closes(run, 1)]);
        let (terminated, closed) = tokio::join!(
            bench.journal.terminate(&selector, &reason),
            bench.journal.commit(bench.node, &close)
        );
        let closed = outcomes(&closed.unwrap()) == [RunOutcome::Committed];
        assert_ne!(terminated.unwrap().is_some(), closed);
        assert_eq!(bench.length(run).await, 2);
    }
}
