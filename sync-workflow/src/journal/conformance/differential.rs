//! Random operations on two journals, which must answer alike and hold the same in the end.
//!
//! No answer depends on the clock: times are long past or far ahead, and only whether there is a time is
//! compared. So a journal on a manual clock can be held against one on a server's clock.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use fastrand::Rng;
use jiff::Timestamp;
use uuid::Uuid;

use super::world::{
    QUEUE, WORKFLOW, appending, attempt, child_of, closing_with, continuing, going_on, new_run,
    record, request, signal, successor, suspending, workflow_id,
};
use crate::{
    id::{CommandId, NodeId, Position, RunId},
    journal::{
        Batch, BatchOutcome, ClaimRequest, Close, Closed, IdReuse, Journal, NewRun, ParentCloses,
        Placement, Result, RunCommit, RunFilter, RunInfo, RunSelector, StartOutcome,
        TransactionCommit, Transition, WakeAt,
    },
    record::{Record, RecordKind},
    status::RunStatus,
};

/// Workflow ids, few enough to collide.
const IDS: u8 = 12;
const NODES: u128 = 2;
const HOUR: Duration = Duration::from_secs(3_600);

/// Applies the same random operations to both journals, which must be empty, and compares every answer, and
/// everything that they hold after every few operations. Returns the answers, so that the caller can make sure
/// that what it cares for has happened.
///
/// # Errors
///
/// The first error of a journal that is no answer of the port.
///
/// # Panics
///
/// When the journals differ; the message holds the seed and the operation.
pub async fn compare(
    seed: u64,
    operations: u32,
    left: &dyn Journal,
    right: &dyn Journal,
) -> Result<Vec<String>> {
    let mut script = Script {
        random: Rng::with_seed(seed),
        runs: Vec::new(),
        signals: 0,
        open: Vec::new(),
    };
    let mut answers = Vec::with_capacity(operations as usize);
    for node in 0..NODES {
        left.enlist(node_id(node), HOUR).await?;
        right.enlist(node_id(node), HOUR).await?;
    }
    for number in 0..operations {
        script.open = open(left).await?;
        let operation = script.operation();
        let expected = apply(left, &operation).await;
        let found = apply(right, &operation).await;
        assert_eq!(
            expected, found,
            "seed {seed}, operation {number}: {operation:?}"
        );
        answers.push(found);
        if number % 16 == 15 || number + 1 == operations {
            let (expected, found) = (
                dump(left, &script.runs).await?,
                dump(right, &script.runs).await?,
            );
            assert_eq!(
                expected, found,
                "seed {seed}, after operation {number}: {operation:?}"
            );
        }
    }
    Ok(answers)
}

#[derive(Debug)]
enum Operation {
    Start(NewRun),
    Commit(NodeId, Vec<Part>, Vec<NewRun>),
    Step(NodeId, RunId),
    Claim(NodeId, u32),
    Owned(NodeId),
    Enlist(NodeId, Duration),
    Renew(NodeId),
    Reap,
    Retire(NodeId),
    Signal(RunSelector, String),
    Cancel(RunSelector),
    Terminate(RunSelector),
    Unpark(RunSelector),
    Outcome(RunId),
}

/// What one run commits. Positions and inbox counts are read from the journal when it is applied.
#[derive(Debug)]
struct Part {
    run: RunId,
    records: u32,
    /// Whether the records claim a position that is taken.
    stale: bool,
    consume: usize,
    attempts: Vec<u32>,
    settled: Vec<u32>,
    children: Vec<NewRun>,
    end: End,
}

#[derive(Debug)]
enum End {
    Continue,
    /// Suspend against the present inbox count, or against one that is gone.
    Suspend {
        asleep: bool,
        stale: bool,
    },
    Release,
    Park,
    Close(RunStatus, RecordKind),
    ContinueAsNew(Uuid),
}

struct Script {
    random: Rng,
    /// Every id that was ever proposed.
    runs: Vec<RunId>,
    signals: u32,
    /// The runs that are open, and who holds them: what most operations are about.
    open: Vec<(RunId, Option<NodeId>)>,
}

impl Script {
    fn operation(&mut self) -> Operation {
        match self.random.u8(0..100) {
            0..14 => Operation::Start(self.new_run()),
            14..50 => self.commit(),
            50..55 => Operation::Step(self.node(), self.run()),
            55..67 => Operation::Claim(self.node(), 1_000),
            67..70 => Operation::Owned(self.node()),
            70..74 => {
                let lease = if self.random.u8(0..4) == 0 {
                    Duration::ZERO
                } else {
                    HOUR
                };
                Operation::Enlist(self.node(), lease)
            }
            74..75 => Operation::Renew(self.node()),
            75..78 => Operation::Reap,
            78..79 => Operation::Retire(self.node()),
            79..86 => {
                self.signals += 1;
                let number = self
                    .random
                    .u32(self.signals.saturating_sub(6)..=self.signals);
                Operation::Signal(self.selector(), format!("signal {number}"))
            }
            86..89 => Operation::Cancel(self.selector()),
            89..90 => Operation::Terminate(self.selector()),
            90..92 => Operation::Unpark(self.selector()),
            _ => Operation::Outcome(self.run()),
        }
    }

    fn commit(&mut self) -> Operation {
        let node = self.node();
        let held: Vec<_> = self
            .open
            .iter()
            .filter(|(_, holder)| *holder == Some(node))
            .map(|(run, _)| *run)
            .collect();
        let mut runs: Vec<_> = (0..self.random.usize(1..6))
            .map(|_| match self.random.u8(0..5) {
                0 => self.run(),
                _ => self
                    .random
                    .choice(held.iter().copied())
                    .unwrap_or_else(|| self.run()),
            })
            .collect();
        runs.sort_unstable();
        runs.dedup();
        let parts = runs.into_iter().map(|run| self.part(run)).collect();
        let starts = (0..self.random.usize(0..2))
            .map(|_| self.new_run())
            .collect();
        Operation::Commit(node, parts, starts)
    }

    fn part(&mut self, run: RunId) -> Part {
        let some = |random: &mut Rng| {
            (0..random.usize(0..3))
                .map(|_| random.u32(0..4))
                .collect::<Vec<_>>()
        };
        let mut attempts = some(&mut self.random);
        attempts.sort_unstable();
        attempts.dedup();
        let settled = some(&mut self.random)
            .into_iter()
            .filter(|command| !attempts.contains(command))
            .collect();
        let children = if self.random.u8(0..3) == 0 {
            vec![self.child(run)]
        } else {
            Vec::new()
        };
        Part {
            run,
            records: self.random.u32(0..3),
            stale: self.random.u8(0..12) == 0,
            consume: self.random.usize(0..3),
            attempts,
            settled,
            children,
            end: self.end(),
        }
    }

    fn end(&mut self) -> End {
        match self.random.u8(0..20) {
            0..9 => End::Continue,
            9..13 => End::Suspend {
                asleep: self.random.bool(),
                stale: self.random.u8(0..4) == 0,
            },
            13 => End::Release,
            14 => End::Park,
            15 | 16 => End::Close(RunStatus::Completed, RecordKind::Completed),
            17 => End::Close(RunStatus::Failed, RecordKind::Failed),
            18 => End::Close(RunStatus::Cancelled, RecordKind::Cancelled),
            _ => {
                let next = self.fresh();
                End::ContinueAsNew(next.as_uuid())
            }
        }
    }

    fn new_run(&mut self) -> NewRun {
        let run = self.fresh();
        let now = Timestamp::UNIX_EPOCH;
        let placement = match self.random.u8(0..4) {
            0 | 1 => Placement::Here,
            2 => Placement::Anywhere,
            _ if self.random.bool() => Placement::NotBefore(now),
            _ => Placement::NotBefore(far_ahead()),
        };
        let reuse = match self.random.u8(0..3) {
            0 => IdReuse::ReturnExisting,
            1 => IdReuse::StartNew,
            _ => IdReuse::StartNewUnlessCompleted,
        };
        let input = Bytes::from(vec![self.random.u8(..); self.random.usize(0..20)]);
        NewRun {
            run,
            chain: run,
            placement,
            reuse,
            input,
            ..new_run(&self.id())
        }
    }

    fn child(&mut self, parent: RunId) -> NewRun {
        let on_close = if self.random.bool() {
            ParentCloses::Cancel
        } else {
            ParentCloses::Abandon
        };
        let mut child = NewRun {
            parent: child_of(parent, on_close, "any").parent,
            ..self.new_run()
        };
        if self.random.bool() {
            child.workflow_id = workflow_id(&format!("child {}", child.run));
        }
        child
    }

    fn fresh(&mut self) -> RunId {
        let run = RunId::from_uuid(Uuid::from_u128(self.runs.len() as u128 + 1));
        self.runs.push(run);
        run
    }

    /// An open run, or any that was ever proposed.
    fn run(&mut self) -> RunId {
        let open = self.open.iter().map(|(run, _)| *run);
        let chosen = if self.random.u8(0..4) == 0 {
            None
        } else {
            self.random.choice(open)
        };
        chosen
            .or_else(|| self.random.choice(self.runs.iter().copied()))
            .unwrap_or_else(|| RunId::from_uuid(Uuid::nil()))
    }

    fn selector(&mut self) -> RunSelector {
        if self.random.bool() {
            RunSelector::Run(self.run())
        } else {
            RunSelector::Latest(workflow_id(&self.id()))
        }
    }

    fn id(&mut self) -> String {
        format!("workflow {}", self.random.u8(0..IDS))
    }

    fn node(&mut self) -> NodeId {
        node_id(self.random.u128(0..NODES))
    }
}

async fn open(journal: &dyn Journal) -> Result<Vec<(RunId, Option<NodeId>)>> {
    let statuses = vec![RunStatus::Pending, RunStatus::Running, RunStatus::Parked];
    let runs = journal
        .list(&RunFilter {
            statuses,
            limit: RunFilter::MAX_LIMIT,
            ..RunFilter::default()
        })
        .await?;
    Ok(runs
        .items
        .iter()
        .map(|info| (info.run, info.node))
        .collect())
}

fn node_id(number: u128) -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(1_000_000 + number))
}

fn far_ahead() -> Timestamp {
    Timestamp::from_second(32_000_000_000).expect("it is in the calendar")
}

/// Applies an operation and tells the answer, without times.
async fn apply(journal: &dyn Journal, operation: &Operation) -> String {
    match answer(journal, operation).await {
        Ok(answer) => answer,
        Err(error) => format!("error: {error}"),
    }
}

async fn answer(journal: &dyn Journal, operation: &Operation) -> Result<String> {
    Ok(match operation {
        Operation::Start(new) => format!("{:?}", journal.start(new).await?),
        Operation::Commit(node, parts, starts) => {
            let mut runs = Vec::with_capacity(parts.len());
            for part in parts {
                runs.push(commit_of(journal, part).await?);
            }
            tell(
                journal
                    .commit(
                        *node,
                        &Batch {
                            runs,
                            starts: starts.clone(),
                        },
                    )
                    .await?,
            )
        }
        Operation::Step(node, run) => {
            let position = length(journal, *run).await?;
            let record = record(position, RecordKind::TransactionCompleted);
            let commit = TransactionCommit {
                node: *node,
                run: *run,
                record,
                settled_attempt: Some(CommandId(position % 4)),
            };
            format!(
                "{:?}",
                journal.commit_step(journal.begin().await?, &commit).await?
            )
        }
        Operation::Claim(node, limit) => {
            let claim = journal
                .claim(*node, &ClaimRequest { ..request(*limit) })
                .await?;
            let mut runs: Vec<_> = claim
                .runs
                .into_iter()
                .map(|claimed| format!("{claimed:?}"))
                .collect();
            runs.sort_unstable();
            format!("{runs:?}, next {}", claim.next_wake.is_some())
        }
        Operation::Owned(node) => {
            let mut runs: Vec<_> = journal
                .owned(*node)
                .await?
                .iter()
                .map(|claimed| format!("{claimed:?}"))
                .collect();
            runs.sort_unstable();
            format!("{runs:?}")
        }
        Operation::Enlist(node, lease) => {
            journal.enlist(*node, *lease).await.map(|_| String::new())?
        }
        Operation::Renew(node) => format!(
            "{:?}",
            journal.renew(*node, HOUR).await?.next_expiry.is_some()
        ),
        Operation::Reap => {
            let mut dead = journal.reap(10).await?;
            dead.sort_unstable();
            format!("{dead:?}")
        }
        Operation::Retire(node) => format!("{:?}", journal.retire(*node).await?),
        Operation::Signal(to, id) => {
            format!("{:?}", journal.signal(&signal(to.clone(), id)).await?)
        }
        Operation::Cancel(run) => format!("{:?}", journal.request_cancel(run).await?),
        Operation::Terminate(run) => {
            format!(
                "{:?}",
                journal
                    .terminate(run, &record(0, RecordKind::Terminated))
                    .await?
            )
        }
        Operation::Unpark(run) => format!("{:?}", journal.unpark(run).await?),
        Operation::Outcome(run) => tell_closed(journal.outcome(*run).await?),
    })
}

async fn commit_of(journal: &dyn Journal, part: &Part) -> Result<RunCommit> {
    let run = part.run;
    let inbox = journal.inbox(run, &[], 100).await?;
    let first = length(journal, run)
        .await?
        .saturating_sub(u32::from(part.stale));
    let mut commit = appending(run, first..first + part.records);
    let last = first + part.records;
    let ended = match &part.end {
        End::Continue => going_on(run),
        End::Suspend { asleep, stale } => {
            let wake_at = if *asleep {
                WakeAt::Time(far_ahead())
            } else {
                WakeAt::Arrival
            };
            suspending(run, inbox.count - i64::from(*stale), wake_at)
        }
        End::Release => RunCommit {
            transition: Transition::Release,
            ..going_on(run)
        },
        End::Park => RunCommit {
            transition: Transition::Park {
                reason: "a reason".into(),
            },
            ..going_on(run)
        },
        End::Close(status, kind) => {
            let close = Close {
                status: *status,
                next: None,
                has_open_children: true,
            };
            closing_with(run, record(last, *kind), close)
        }
        End::ContinueAsNew(next) => match journal.describe(&RunSelector::Run(run)).await? {
            Some(info) => {
                let next = NewRun {
                    run: RunId::from_uuid(*next),
                    ..successor(info.workflow_id.as_str(), run)
                };
                continuing(run, last, next)
            }
            None => going_on(run),
        },
    };
    commit.records.extend(ended.records);
    commit.transition = ended.transition;
    commit.consumed_signals = inbox
        .signals
        .iter()
        .take(part.consume)
        .map(|signal| signal.sequence)
        .collect();
    commit.attempts = part
        .attempts
        .iter()
        .map(|command| attempt(*command, last, Timestamp::UNIX_EPOCH))
        .collect();
    commit.settled_attempts = part
        .settled
        .iter()
        .map(|command| CommandId(*command))
        .collect();
    commit.children = part.children.clone();
    Ok(commit)
}

async fn length(journal: &dyn Journal, run: RunId) -> Result<u32> {
    let records = journal.load(run, Position(0), 10_000).await?.records;
    Ok(u32::try_from(records.len()).expect("it is at most 10,000"))
}

fn tell(mut outcome: BatchOutcome) -> String {
    outcome.woken.sort_unstable_by_key(|woken| woken.run);
    outcome.awaited.sort_unstable();
    outcome.rejected_children.sort_unstable();
    for start in &mut outcome.starts {
        // Whether a run that gives up its place in this very batch is told as it was or as it is.
        if let StartOutcome::Existing { status, .. } = start
            && !status.is_closed()
        {
            *status = RunStatus::Pending;
        }
    }
    format!("{outcome:?}")
}

fn tell_closed(closed: Option<Closed>) -> String {
    format!("{closed:?}")
}

/// Everything that a journal holds, without times.
async fn dump(journal: &dyn Journal, runs: &[RunId]) -> Result<String> {
    let mut text = String::new();
    let filter = RunFilter {
        limit: RunFilter::MAX_LIMIT,
        ..RunFilter::default()
    };
    for info in journal.list(&filter).await?.items {
        writeln!(text, "{}", tell_info(&info)).expect("text grows");
    }
    for run in runs {
        let history = journal.load(*run, Position(0), 10_000).await?;
        let inbox = journal.inbox(*run, runs, 100).await?;
        let records: Vec<_> = history.records.iter().map(tell_record).collect();
        let signals: Vec<_> = inbox
            .signals
            .iter()
            .map(|signal| (&signal.name, &signal.payload))
            .collect();
        writeln!(
            text,
            "{run} {} {} {records:?} {signals:?}",
            inbox.count, inbox.cancel_requested
        )
        .expect("text grows");
        // What a closed run leaves behind of its activities is nobody's business.
        let is_open = records.last().is_some()
            && !history.records.iter().any(|record| record.kind.is_final());
        if is_open {
            writeln!(text, "{:?}", history.attempts).expect("text grows");
        }
    }
    let outcomes = match runs.first() {
        Some(run) => journal.inbox(*run, runs, 0).await?.children,
        None => Vec::new(),
    };
    let mut outcomes: Vec<_> = outcomes
        .iter()
        .map(|outcome| format!("{outcome:?}"))
        .collect();
    outcomes.sort_unstable();
    write!(text, "{outcomes:#?}").expect("text grows");
    Ok(text)
}

fn tell_info(info: &RunInfo) -> String {
    assert_eq!((&*info.workflow, &*info.queue), (WORKFLOW, QUEUE));
    format!(
        "{} {} {} {:?} parent {:?} closed {} wakes {} attempts {} cancel {} parked {:?}",
        info.run,
        info.workflow_id,
        info.status,
        info.node,
        info.parent,
        info.closed_at.is_some(),
        info.wake_at.is_some(),
        info.attempts,
        info.cancel_requested,
        info.parked_reason
    )
}

fn tell_record(record: &Record) -> String {
    format!(
        "{} {:?} {} {} {:x} {:?}",
        record.position,
        record.kind,
        record.command,
        record.name,
        record.fingerprint,
        record.payload
    )
}
