//! Commits that the journal refuses, loses, or answers with silence.

use std::{
    future::IntoFuture as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sync_workflow::{
    Activity, ActivityContext, Client, Context, Failure, FailureKind, RunError, Worker, Workflow,
    id::WorkflowId,
    journal::{Batch, HistoryRecord, Journal, RunCommit, Transition, memory::MemoryJournal},
    record::RecordKind,
    status::RunStatus,
    worker::{Simulation, WorkerBuilder},
};
use tokio::time::Instant;

use super::{
    code::{Counter, steps},
    eventually,
    faults::{Fault, Faulty},
    quick,
};

fn journal() -> Arc<Faulty> {
    Faulty::new(Arc::new(MemoryJournal::new()))
}

async fn start(journal: &Arc<Faulty>, builder: WorkerBuilder) -> Worker {
    let journal: Arc<dyn Journal> = Arc::<Faulty>::clone(journal);
    builder.start_on(journal).await.unwrap()
}

/// Runs four steps while the `number`th commit fails, and says how often a step ran.
async fn calls_with(fault: Fault, number: u32) -> u32 {
    let journal = journal();
    let counter = Counter::default();
    let build = quick().workflow(steps).activity(counter.clone());
    let worker = start(&journal, build).await;
    let mut commits = 0;
    journal.plan(move |_| {
        commits += 1;
        if commits == number {
            fault
        } else {
            Fault::None
        }
    });
    let client = worker.client();
    let handle = match client.start(steps, "a", 4).await {
        Ok(handle) => handle,
        // Only a start that is refused for good is the caller's to repeat.
        Err(error) => {
            assert_eq!((fault, number), (Fault::Refused, 1), "{error:?}");
            client.start(steps, "a", 4).await.unwrap()
        }
    };
    let result = match handle.result().await {
        Err(RunError::Parked { reason }) => {
            assert_eq!(fault, Fault::Refused);
            assert!(reason.contains("as planned"), "{reason}");
            client.unpark("a").await.unwrap();
            handle.result().await
        }
        result => result,
    };
    assert_eq!(result.unwrap(), 6, "{fault:?} at commit {number}");
    assert_eq!(journal.failed(), 1, "{fault:?} at commit {number}");
    let history = client.history(handle.run_id(), 0, 100).await.unwrap();
    let kinds: Vec<_> = history.items.iter().map(|item| item.kind()).collect();
    let mut expected = vec![RecordKind::ActivityCompleted; 4];
    expected.insert(0, RecordKind::Started);
    expected.push(RecordKind::Completed);
    assert_eq!(kinds, expected, "{fault:?} at commit {number}");
    worker.shutdown().await;
    counter.calls.load(Ordering::SeqCst)
}

/// The start and each of four steps, of which the last shares its commit with the end.
const COMMITS: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_survives_a_commit_that_fails_in_any_way_at_any_place() {
    for fault in Fault::ALL {
        for number in 1..=COMMITS {
            let calls = calls_with(fault, number).await;
            let expected = match fault {
                // The value of the step is kept, or its record is found.
                Fault::None | Fault::NotCommitted | Fault::LostBefore | Fault::LostAfter => 4,
                // The step whose record was lost with the worker, or was refused, runs again.
                Fault::Refused | Fault::Fenced => 4 + u32::from(number > 1),
            };
            assert_eq!(calls, expected, "{fault:?} at commit {number}");
        }
    }
}

fn concerns(batch: &Batch, workflow_run: sync_workflow::id::RunId) -> bool {
    batch.runs.iter().any(|commit| commit.run == workflow_run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_parking_is_refused_too_is_tried_again_only_with_the_next_look() {
    let journal = journal();
    let counter = Counter::default();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let build = quick()
        .workflow(steps)
        .workflow(waits_at_gate)
        .activity(counter.clone())
        .activity(Gate(Arc::clone(&gate)));
    let worker = start(&journal, build).await;
    let client = worker.client();
    let handle = client.start(waits_at_gate, "guilty", ()).await.unwrap();
    let guilty = handle.run_id();
    journal.plan(move |batch| {
        if concerns(batch, guilty) {
            Fault::Refused
        } else {
            Fault::None
        }
    });
    let looked = journal.looked_at_owned();
    gate.add_permits(1_000);
    eventually("the worker has looked around a few times", || async {
        journal.looked_at_owned() >= looked + 6
    })
    .await;
    let (failed, looks) = (journal.failed(), journal.looked_at_owned() - looked);
    // The records and the parking, once per look; a batch of several runs is taken apart.
    assert!(failed >= 2, "nothing was refused");
    assert!(
        failed <= 3 * (looks + 2),
        "{failed} refusals in {looks} looks"
    );
    // Meanwhile the others go on.
    let other = client.start(steps, "innocent", 4).await.unwrap();
    assert_eq!(other.result().await.unwrap(), 6);
    assert_eq!(handle.describe().await.unwrap().status, RunStatus::Running);

    journal.plan(|_| Fault::None);
    assert_eq!(handle.result().await.unwrap(), 7);
    worker.shutdown().await;
}

/// Ends when it gets a permit.
struct Gate(Arc<tokio::sync::Semaphore>);

impl Activity for Gate {
    const NAME: &'static str = "gate";
    type Input = ();
    type Output = ();
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, (): ()) -> Result<(), Failure> {
        self.0.acquire().await?.forget();
        Ok(())
    }
}

async fn waits_at_gate(ctx: Context, (): ()) -> Result<u32, Failure> {
    ctx.activity(Gate::activity(), ()).await?;
    Ok(7)
}

async fn has_a_child(ctx: Context, (): ()) -> Result<u32, Failure> {
    let id = WorkflowId::new("child")?;
    Ok(ctx.child(waits_at_gate, ()).id(id).await?)
}

async fn goes_on_elsewhere(ctx: Context, first: bool) -> Result<u32, Failure> {
    if !first {
        return Ok(9);
    }
    ctx.continue_as_new(goes_on_elsewhere, false).await
}

/// A worker with room for two runs, in whose journal the next commit that brings a run to life is
/// refused.
async fn crowded() -> (Arc<Faulty>, Worker, Arc<tokio::sync::Semaphore>) {
    let journal = journal();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let build = quick()
        .max_resident_runs(2)
        .evict_after(Duration::from_secs(600))
        .workflow(waits_at_gate)
        .workflow(has_a_child)
        .workflow(goes_on_elsewhere)
        .activity(Gate(Arc::clone(&gate)));
    let worker = start(&journal, build).await;
    (journal, worker, gate)
}

/// Makes sure that two runs still fit into memory side by side.
async fn both_places_are_free(worker: &Worker, gate: &tokio::sync::Semaphore) {
    eventually("whoever ended has left memory", || async {
        worker.resident_runs() == 0
    })
    .await;
    let client = worker.client();
    let first = client.start(waits_at_gate, "first", ()).await.unwrap();
    let second = client.start(waits_at_gate, "second", ()).await.unwrap();
    eventually("both runs are in memory", || async {
        worker.resident_runs() == 2
    })
    .await;
    gate.add_permits(2);
    assert_eq!(first.result().await.unwrap(), 7);
    assert_eq!(second.result().await.unwrap(), 7);
}

fn refuse_once(journal: &Faulty, mut is_it: impl FnMut(&Batch) -> bool + Send + 'static) {
    let mut is_over = false;
    journal.plan(move |batch| {
        if !is_over && is_it(batch) {
            is_over = true;
            Fault::Refused
        } else {
            Fault::None
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_refused_gives_back_the_place_kept_for_it() {
    let (journal, worker, gate) = crowded().await;
    refuse_once(&journal, |batch| !batch.starts.is_empty());
    worker
        .client()
        .start(waits_at_gate, "refused", ())
        .await
        .unwrap_err();
    assert_eq!(journal.failed(), 1);
    both_places_are_free(&worker, &gate).await;
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_refused_gives_back_the_place_kept_for_it() {
    let (journal, worker, gate) = crowded().await;
    refuse_once(&journal, |batch| {
        batch.runs.iter().any(|commit| !commit.children.is_empty())
    });
    let client = worker.client();
    let parent = client.start(has_a_child, "parent", ()).await.unwrap();
    let Err(RunError::Parked { .. }) = parent.result().await else {
        panic!("not parked")
    };
    both_places_are_free(&worker, &gate).await;
    // And the parent goes on where it was.
    gate.add_permits(1);
    client.unpark("parent").await.unwrap();
    assert_eq!(parent.result().await.unwrap(), 7);
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_continuation_that_is_refused_gives_back_the_place_kept_for_it() {
    let (journal, worker, gate) = crowded().await;
    refuse_once(&journal, |batch| {
        batch.runs.iter().any(
            |commit| matches!(&commit.transition, Transition::Close(close) if close.next.is_some()),
        )
    });
    let client = worker.client();
    let chain = client
        .start(goes_on_elsewhere, "chain", true)
        .await
        .unwrap();
    let Err(RunError::Parked { .. }) = chain.result().await else {
        panic!("not parked")
    };
    both_places_are_free(&worker, &gate).await;
    client.unpark("chain").await.unwrap();
    assert_eq!(chain.result().await.unwrap(), 9);
    worker.shutdown().await;
}

/// Asks for a child while its first record is under way to the journal, and says so.
struct Hasty(Arc<tokio::sync::Semaphore>);

impl Workflow for Hasty {
    const NAME: &'static str = "hasty";
    type Input = ();
    type Output = u32;
    type Error = Failure;

    async fn run(&self, ctx: Context, (): ()) -> Result<u32, Failure> {
        let counts = ctx.activity(Counter::activity(), 1);
        let has_child = async {
            ctx.activity(Gate::activity(), ()).await?;
            let id = WorkflowId::new("child")?;
            let child = ctx.child(waits_at_gate, ()).id(id).start();
            self.0.add_permits(1);
            Ok::<_, Failure>(child.await?)
        };
        let (_one, seven) = futures::try_join!(async { Ok(counts.await?) }, has_child)?;
        Ok(seven)
    }
}

/// Lets a parent have asked for a child before its first record's commit, with which this happens.
async fn with_a_child_that_nobody_starts(fault: Fault) {
    let journal = journal();
    let (gate, asked) = (
        Arc::new(tokio::sync::Semaphore::new(0)),
        Arc::new(tokio::sync::Semaphore::new(0)),
    );
    let build = quick()
        .evict_after(Duration::from_secs(600))
        .workflow(Hasty(Arc::clone(&asked)))
        .workflow(waits_at_gate)
        .activity(Counter::default())
        .activity(Gate(Arc::clone(&gate)));
    let worker = Arc::new(start(&journal, build).await);
    let kept_by = Arc::clone(&worker);
    let client = worker.client();
    let (mut commits, behind) = (0, Client::new(journal.behind()));
    let opened = Arc::clone(&gate);
    journal.before_commits(move || {
        commits += 1;
        let is_first_record = commits == 2;
        let (asked, opened, behind) = (Arc::clone(&asked), Arc::clone(&opened), behind.clone());
        let worker = Arc::clone(&kept_by);
        Box::pin(async move {
            if is_first_record {
                opened.add_permits(1);
                asked.acquire().await.unwrap().forget();
                let keeps_place = || async { worker.kept_places() == 1 };
                eventually("a place is kept for the child", keeps_place).await;
                if fault == Fault::None {
                    behind.terminate("parent", "as planned").await.unwrap();
                }
            }
        })
    });
    let mut commits = 0;
    journal.plan(move |_| {
        commits += 1;
        match commits {
            2 => fault,
            _ => Fault::None,
        }
    });
    let parent = client.start(Hasty::workflow(), "parent", ()).await.unwrap();
    match (fault, parent.result().await) {
        (Fault::None, Err(RunError::Ended(failure))) => {
            assert_eq!(failure.kind, FailureKind::Terminated);
        }
        (Fault::Refused, Err(RunError::Parked { .. })) => {}
        (_, result) => panic!("{result:?}"),
    }
    no_place_is_kept(&worker).await;
    journal.before_commits(|| Box::pin(async {}));
    Arc::into_inner(worker).unwrap().shutdown().await;
}

async fn no_place_is_kept(worker: &Worker) {
    let keeps_none = || async { worker.kept_places() == 0 };
    eventually("no place is kept", keeps_none).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_whose_parent_was_lost_gives_back_the_place_kept_for_it() {
    with_a_child_that_nobody_starts(Fault::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_whose_parent_was_refused_gives_back_the_place_kept_for_it() {
    with_a_child_that_nobody_starts(Fault::Refused).await;
}

/// A worker on the test's clock, which goes on when nobody has anything to do, and in whose journal the first of these
/// commits finds the worker dead.
async fn fenced_once(
    builder: WorkerBuilder,
    is_it: impl Fn(&Batch) -> bool + Send + 'static,
) -> (Arc<Faulty>, Worker) {
    let journal = journal();
    let mut is_over = false;
    journal.plan(move |batch| match !is_over && is_it(batch) {
        true => {
            is_over = true;
            Fault::Fenced
        }
        false => Fault::None,
    });
    let worker = start(&journal, builder.simulated(Simulation::new())).await;
    (journal, worker)
}

#[tokio::test(start_paused = true)]
async fn a_fenced_worker_does_not_wait_for_a_child_that_was_not_started() {
    let gate = Arc::new(tokio::sync::Semaphore::new(1));
    let build = quick().workflow(has_a_child).workflow(waits_at_gate);
    let starts_child = |batch: &Batch| batch.runs.iter().any(|commit| !commit.children.is_empty());
    let (journal, worker) = fenced_once(build.activity(Gate(gate)), starts_child).await;
    let begun = Instant::now();
    let client = Client::new(journal.behind());
    let parent = client.start(has_a_child, "parent", ()).await.unwrap();
    assert_eq!(parent.result().await.unwrap(), 7);
    assert_eq!(journal.failed(), 1);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    worker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_back_soon_however_long_the_journal_was_away() {
    let build = quick().workflow(steps).activity(Counter::default());
    let (journal, worker) = fenced_once(build, |batch| !batch.runs.is_empty()).await;
    let client = Client::new(journal.behind());
    journal.refuse_nodes(true);
    let handle = client.start(steps, "a", 4).await.unwrap();
    let is_tired = || async { journal.refused_nodes() >= 20 };
    eventually("it has tried for long", is_tired).await;
    assert_eq!(journal.failed(), 1);
    let begun = Instant::now();
    journal.refuse_nodes(false);
    assert_eq!(handle.result().await.unwrap(), 6);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    worker.shutdown().await;
}

/// More than wait for the committer.
const MANY: usize = 5_000;

#[tokio::test]
async fn a_caller_who_gives_up_before_there_is_room_for_a_start_keeps_no_place() {
    let build = quick().max_resident_runs(2 * MANY).workflow(steps);
    let worker = start(&journal(), build).await;
    let client = worker.client();
    let ids: Vec<_> = (0..MANY).map(|caller| caller.to_string()).collect();
    let start = |id| client.start(steps, id, 0).into_future();
    let mut starts: Vec<_> = ids.iter().map(|id| start(id)).collect();
    // Nobody else runs meanwhile, so the committer takes nothing out of its queue.
    let all = async {
        for start in &mut starts {
            assert!(futures::poll!(start).is_pending());
        }
    };
    tokio::task::unconstrained(all).await;
    let waiting = worker.kept_places();
    assert!(0 < waiting && waiting < MANY, "{waiting}");
    drop(starts);
    no_place_is_kept(&worker).await;
    worker.shutdown().await;
}

async fn receives(ctx: Context, (): ()) -> Result<Vec<u32>, Failure> {
    let mut got = Vec::new();
    loop {
        match ctx.wait::<Option<u32>>("number").await? {
            Some(number) => got.push(number),
            None => return Ok(got),
        }
    }
}

async fn sends(ctx: Context, (): ()) -> Result<(), Failure> {
    let receiver = WorkflowId::new("receiver")?;
    for number in [Some(1), Some(2), None] {
        ctx.signal(&receiver, "number", &number).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_whose_answer_is_lost_is_received_once() {
    let journal = journal();
    let worker = start(&journal, quick().workflow(receives).workflow(sends)).await;
    let client = worker.client();
    let receiver = client.start(receives, "receiver", ()).await.unwrap();
    journal.lose_signals(5);
    client.start(sends, "sender", ()).await.unwrap();
    assert_eq!(receiver.result().await.unwrap(), [1, 2]);
    worker.shutdown().await;
}

async fn waits_then_sleeps(ctx: Context, (): ()) -> Result<(), Failure> {
    let _go: u32 = ctx.wait("go").await?;
    ctx.sleep(Duration::from_millis(500)).await?;
    Ok(())
}

/// A suspension without records cannot be told by its records. While it is in doubt the run goes on
/// elsewhere, and comes back to this node before the suspension is sent again and refused: what its
/// driver knows is of the past.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_came_back_is_not_driven_by_what_was_known_before_it_left() {
    let inner: Arc<dyn Journal> = Arc::new(MemoryJournal::new());
    let journal = Faulty::new(Arc::clone(&inner));
    let suspends = |batch: &Batch| {
        let is_bare = |commit: &RunCommit| {
            commit.records.is_empty() && matches!(commit.transition, Transition::Suspend { .. })
        };
        batch.runs.iter().any(is_bare)
    };
    let mut is_lost = false;
    journal.plan(move |batch| match !is_lost && suspends(batch) {
        true => {
            is_lost = true;
            Fault::LostAfter
        }
        false => Fault::None,
    });
    // The start and the suspension; what is sent again waits.
    let gate = Arc::new(tokio::sync::Semaphore::new(2));
    let at_gate = Arc::clone(&gate);
    journal.before_commits(move || {
        let gate = Arc::clone(&at_gate);
        Box::pin(async move { gate.acquire().await.unwrap().forget() })
    });
    let worker = start(&journal, quick().workflow(waits_then_sleeps)).await;
    let handle = worker
        .client()
        .start(waits_then_sleeps, "a", ())
        .await
        .unwrap();
    journal.refuse_claims(true);
    eventually("the answer to the suspension is lost", || async {
        journal.failed() == 1
    })
    .await;

    let elsewhere = quick().workflow(waits_then_sleeps);
    let elsewhere = elsewhere.start_on(Arc::clone(&inner)).await.unwrap();
    let client = elsewhere.client();
    client.signal("a", "go", &1).await.unwrap();
    eventually("the run sleeps, after it went on elsewhere", || async {
        let info = client.describe("a").await.unwrap();
        let history = client.history(handle.run_id(), 0, 100).await.unwrap();
        let sleeps = |item: &HistoryRecord| item.kind() == RecordKind::TimerStarted;
        info.status == RunStatus::Pending && history.items.iter().any(sleeps)
    })
    .await;
    elsewhere.shutdown().await;
    journal.refuse_claims(false);
    eventually("the run comes back", || async {
        worker.client().describe("a").await.unwrap().status == RunStatus::Running
    })
    .await;
    gate.add_permits(1_000);
    tokio::time::timeout(Duration::from_secs(20), handle.result())
        .await
        .expect("the run does not sleep for ever")
        .unwrap();
    worker.shutdown().await;
}
