//! Holding workflow code against a recorded journal.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex},
    task::Waker,
};

use jiff::Timestamp;

use crate::{
    client::{InvalidPayload, RESET, RunHistory},
    context::Context,
    failure::Failure,
    id::{CommandId, Position, RunId, WorkflowId},
    journal::Attempt,
    record::{Record, RecordKind},
    replay::{Event, Execution, Fault, Machine, Progress, Turn},
    worker::{IntoWorkflow, registry::WorkflowFactory},
};

/// A workflow's code together with a journal that it, or an earlier version of it, has written.
///
/// ```
/// # use sync_workflow::{Context, Failure, Worker, testing::ReplayCheck};
/// async fn double(n: u64) -> Result<u64, Failure> {
///     Ok(n * 2)
/// }
///
/// async fn twice(ctx: Context, n: u64) -> Result<u64, Failure> {
///     let n = ctx.activity(double, n).await?;
///     Ok(ctx.activity(double, n).await?)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::builder().workflow(twice).activity(double).start("memory:").await?;
/// let handle = worker.client().start(twice, "twice-1", 3).await?;
/// assert_eq!(handle.result().await?, 12);
/// let history = worker.client().history(handle.run_id(), 0, 1_000).await?;
/// let records = history.items.into_iter().map(|item| item.record).collect();
///
/// ReplayCheck::new(twice, handle.run_id(), handle.workflow_id().clone(), records).every_prefix()?;
/// # Ok(()) }
/// ```
pub struct ReplayCheck {
    factory: WorkflowFactory,
    run: RunId,
    workflow_id: WorkflowId,
    records: Vec<Record>,
    attempted: Vec<CommandId>,
}

impl ReplayCheck {
    /// Puts code and journal together. The records are those of one run, from position zero. That an operator has ended the
    /// run, or taken it back to a place of its history, is none of the code's doing, and not compared.
    pub fn new<M, W: IntoWorkflow<M>>(
        workflow: W,
        run: RunId,
        workflow_id: WorkflowId,
        mut records: Vec<Record>,
    ) -> Self {
        records.retain(|record| !is_operators(record));
        Self {
            factory: workflow.into_factory().0,
            run,
            workflow_id,
            records,
            attempted: Vec::new(),
        }
    }

    /// Adds what [`Journal::load`] tells of activities that have been tried and have not ended. They have no records, and
    /// [`Context::version`] looks at them all the same. An export does not hold them.
    ///
    /// [`Journal::load`]: crate::journal::Journal::load
    #[must_use]
    pub fn attempts<'a>(mut self, attempts: impl IntoIterator<Item = &'a Attempt>) -> Self {
        let commands = attempts.into_iter().map(|attempt| attempt.command);
        self.attempted.extend(commands);
        self
    }

    /// Puts code and an exported history together: a golden history, if it was kept in a file.
    ///
    /// ```no_run
    /// # use sync_workflow::{Context, Failure, client::RunHistory, testing::ReplayCheck};
    /// # async fn order(ctx: Context, n: u64) -> Result<u64, Failure> { Ok(n) }
    /// #[test]
    /// fn orders_of_last_year_still_replay() -> anyhow::Result<()> {
    ///     let golden: RunHistory = serde_json::from_str(include_str!("order-2025.json"))?;
    ///     Ok(ReplayCheck::of_history(order, &golden)?.whole()?)
    /// }
    /// # macro_rules! include_str { ($file:literal) => { "" } }
    /// ```
    ///
    /// # Errors
    ///
    /// When the file does not hold what an export writes.
    pub fn of_history<M, W: IntoWorkflow<M>>(
        workflow: W,
        history: &RunHistory,
    ) -> Result<Self, InvalidPayload> {
        let (run, workflow_id) = (history.run, history.workflow_id.clone());
        let records = history.to_records()?;
        Ok(Self::new(workflow, run, workflow_id, records))
    }

    /// Replays the whole journal.
    ///
    /// # Errors
    ///
    /// [`Difference`] where the code does something else than the journal says.
    pub fn whole(&self) -> Result<(), Difference> {
        let open = self
            .records
            .iter()
            .filter(|record| !record.kind.is_final())
            .count();
        self.cut_at(open)
    }

    /// Cuts the journal at every place, replays what is left of it, and then lets the same things
    /// happen again: the code must write the same records.
    ///
    /// # Errors
    ///
    /// [`Difference`] at the first place where it does not.
    pub fn every_prefix(&self) -> Result<(), Difference> {
        (self.first_cut()..self.records.len()).try_for_each(|cut| self.cut_at(cut))
    }

    /// The first place at which the run itself ever stood: after what it began with as a copy of another one.
    fn first_cut(&self) -> usize {
        let is_fork = |record: &Record| record.kind == RecordKind::Forked;
        let last = self.records.iter().rposition(is_fork);
        last.map_or_else(|| Record::count_born(&self.records), |last| last + 1)
    }

    fn cut_at(&self, cut: usize) -> Result<(), Difference> {
        let prefix = self.records[..cut].to_vec();
        let mut resumed = Resumed::new(self, prefix)?;
        let turn = resumed
            .execution
            .start(Timestamp::UNIX_EPOCH, &HashSet::new());
        resumed.take(turn)?;
        for record in &self.records[cut..] {
            if resumed.written.len() <= record.position.0 as usize {
                let Some(event) = resumed.event(record) else {
                    return Err(resumed.difference(record, None));
                };
                let turn = resumed.execution.handle(event, Timestamp::UNIX_EPOCH);
                resumed.take(turn)?;
            }
            resumed.compare(record)?;
        }
        Ok(())
    }
}

/// Whether an operator has written a record, and no code.
fn is_operators(record: &Record) -> bool {
    let is_reset = record.kind == RecordKind::ContinuedAsNew && *record.name == *RESET;
    record.kind == RecordKind::Terminated || is_reset
}

impl fmt::Debug for ReplayCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayCheck")
            .field("run", &self.run)
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}

/// Code and journal part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Difference {
    /// The replay of the journal's first `cut` records stopped.
    #[error("with the journal cut at {cut}: {fault}")]
    Fault {
        /// How many records were replayed.
        cut: usize,
        /// Why it stopped.
        fault: Fault,
    },
    /// After the cut, the same events led to another record.
    #[error(
        "with the journal cut at {cut}, position {position} holds {recorded}, and the code wrote {written}"
    )]
    Record {
        /// How many records were replayed.
        cut: usize,
        /// The place.
        position: Position,
        /// What the journal holds there.
        recorded: String,
        /// What the code wrote there.
        written: String,
    },
}

/// A run that was cut and goes on.
struct Resumed {
    execution: Execution,
    cut: usize,
    /// The prefix, and what the code wrote since.
    written: Vec<Record>,
    /// The children that the code started since, by command: their run ids are new.
    children: HashMap<CommandId, RunId>,
}

impl Resumed {
    fn new(check: &ReplayCheck, prefix: Vec<Record>) -> Result<Self, Difference> {
        let cut = prefix.len();
        let input = prefix
            .first()
            .map(|record| record.payload.clone())
            .unwrap_or_default();
        let children = prefix.iter().filter_map(started_child).collect();
        // They are what the journal's end left open.
        let attempted = match cut == check.records.len() {
            true => &*check.attempted,
            false => &[],
        };
        let machine = Machine::new(check.run, check.workflow_id.clone(), prefix.clone())
            .with_attempts(attempted.iter().copied());
        let machine = Arc::new(Mutex::new(machine));
        let future = (check.factory)(Context::new(Arc::clone(&machine)), &input)
            .map_err(|fault| Difference::Fault { cut, fault })?;
        let execution = Execution::new(machine, future, Waker::noop().clone());
        Ok(Self {
            execution,
            cut,
            written: prefix,
            children,
        })
    }

    fn take(&mut self, turn: Turn) -> Result<(), Difference> {
        if let Progress::Faulted(fault) = turn.progress {
            return Err(Difference::Fault {
                cut: self.cut,
                fault,
            });
        }
        self.children
            .extend(turn.children.iter().map(|child| (child.command, child.run)));
        self.written.extend(turn.records);
        Ok(())
    }

    /// What happened outside when a record was written.
    fn event(&self, record: &Record) -> Option<Event> {
        let command = record.command;
        let payload = record.payload.clone();
        Some(match record.kind {
            RecordKind::ActivityCompleted => Event::ActivityClosed {
                command,
                result: Ok(payload),
            },
            RecordKind::ActivityFailed => Event::ActivityClosed {
                command,
                result: Err(Failure::decode(&payload)),
            },
            RecordKind::TransactionCompleted => Event::TransactionCommitted {
                record: record.clone(),
            },
            RecordKind::TransactionFailed => Event::TransactionFailed {
                command,
                failure: Failure::decode(&payload),
            },
            RecordKind::TimerFired => Event::TimerFired { command },
            RecordKind::SignalReceived => Event::SignalArrived {
                sequence: i64::from(record.position.0),
                name: Arc::clone(&record.name),
                payload,
            },
            RecordKind::SignalSent => Event::SignalSent {
                command,
                result: Ok(()),
            },
            RecordKind::SignalFailed => Event::SignalSent {
                command,
                result: Err(Failure::decode(&payload)),
            },
            RecordKind::ChildCompleted => Event::ChildClosed {
                child: *self.children.get(&command)?,
                result: Ok(payload),
            },
            RecordKind::ChildFailed => {
                let result = Err(Failure::decode(&payload));
                Event::ChildClosed {
                    child: *self.children.get(&command)?,
                    result,
                }
            }
            RecordKind::CancelRequested => Event::CancelRequested,
            RecordKind::Started
            | RecordKind::SideEffect
            | RecordKind::VersionChosen
            | RecordKind::Forked
            | RecordKind::ActivityAttempted
            | RecordKind::TimerStarted
            | RecordKind::ChildStarted
            | RecordKind::Completed
            | RecordKind::Failed
            | RecordKind::Cancelled
            | RecordKind::Terminated
            | RecordKind::ContinuedAsNew => return None,
        })
    }

    fn compare(&mut self, record: &Record) -> Result<(), Difference> {
        let position = record.position.0 as usize;
        // A step's record is durable before the code goes on: the turn does not hold it.
        if record.kind == RecordKind::TransactionCompleted && self.is_missing(position) {
            self.written
                .insert(position.min(self.written.len()), record.clone());
        }
        let Some(written) = self.written.get(position) else {
            return Err(self.difference(record, None));
        };
        let is_same = written.kind == record.kind
            && written.command == record.command
            && written.name == record.name
            && written.fingerprint == record.fingerprint
            && (written.payload == record.payload || depends_on_time(record.kind));
        if is_same {
            Ok(())
        } else {
            Err(self.difference(record, Some(written)))
        }
    }

    fn is_missing(&self, position: usize) -> bool {
        self.written
            .get(position)
            .is_none_or(|written| written.position.0 as usize != position)
    }

    fn difference(&self, record: &Record, written: Option<&Record>) -> Difference {
        Difference::Record {
            cut: self.cut,
            position: record.position,
            recorded: describe(record),
            written: written.map_or_else(|| "nothing".into(), describe),
        }
    }
}

/// Whether the payload of such a record is drawn anew when it is written again.
const fn depends_on_time(kind: RecordKind) -> bool {
    matches!(
        kind,
        RecordKind::TimerStarted
            | RecordKind::ChildStarted
            | RecordKind::SideEffect
            | RecordKind::ContinuedAsNew
    )
}

fn started_child(record: &Record) -> Option<(CommandId, RunId)> {
    if record.kind != RecordKind::ChildStarted {
        return None;
    }
    let started: serde_json::Value = serde_json::from_slice(&record.payload).ok()?;
    let run = serde_json::from_value(started.get("run")?.clone()).ok()?;
    Some((record.command, run))
}

fn describe(record: &Record) -> String {
    format!(
        "{:?} {:?} of command {}",
        record.kind, record.name, record.command
    )
}
