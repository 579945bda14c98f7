//! The driver of one run: it feeds the execution events, and performs what comes out.
//!
//! Durability barrier: actions wait in `gated` until every record before them is durable. One
//! commit of a run is under way at a time; what the run produces meanwhile gathers in `outbox`.

mod attempts;
mod inbox;
mod steps;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    task::Waker,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use self::{attempts::Activities, steps::Steps};
use super::{
    committer::Work,
    mailbox::{Alarm, Mailbox, Message},
    node::Node,
};
use crate::{
    context::Context,
    failure::Failure,
    id::{CommandId, Position, RunId},
    journal::{
        Attempt, ClaimedRun, Close, Closed, MAX_HISTORY_RECORDS, NewRun, ParentCloses, ParentLink,
        RunCommit, RunOutcome, Transition, WakeAt,
    },
    record::{Record, RecordKind},
    replay::{Action, ChildStart, Continuation, Event, Execution, Fault, Machine, Progress, Turn},
    status::RunStatus,
};

/// How many messages are taken in before what they caused is committed.
const MESSAGES_PER_COMMIT: usize = 256;

/// One resident run.
pub(super) struct Driver {
    node: Arc<Node>,
    claimed: ClaimedRun,
    mailbox: Mailbox,
    execution: Option<Execution>,
    /// The run's records up to here are durable.
    durable: Position,
    outbox: RunCommit,
    in_flight: Option<InFlight>,
    gated: VecDeque<(Position, Action)>,
    timers: BTreeSet<(Timestamp, CommandId, TimerKind)>,
    activities: Activities,
    /// What attempts that ended where they began have to tell.
    finished: Vec<Message>,
    steps: Steps,
    /// The run that each awaited child is in now, and the run that it was started as.
    awaited_children: HashMap<RunId, RunId>,
    inbox: inbox::Seen,
    /// The end of the run, once the code has reached it.
    ending: Option<Ending>,
    is_draining: bool,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum TimerKind {
    /// A durable timer of the workflow.
    Durable,
    /// The next attempt of an activity.
    Retry,
}

/// What the commit under way will have done.
struct InFlight {
    last: Option<Position>,
    leaves: Leaves,
    /// The activities whose failed attempts it stores.
    attempts: Vec<CommandId>,
}

/// Whether the driver is done once the commit under way is durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Stays,
    Suspends,
    Ends,
}

enum Ending {
    Closed(Closed),
    Parked(String),
    Released,
}

/// Whether the driver goes on.
enum Flow {
    Continue,
    Stop,
}

/// How a driver came to its run.
pub(super) enum Origin {
    /// The run was born on this node: its journal is the record of its start.
    Born(NewRun),
    /// The run was claimed: its journal must be loaded.
    Claimed,
}

impl Driver {
    pub(super) fn new(
        node: Arc<Node>,
        claimed: ClaimedRun,
        mailbox: Mailbox,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let outbox = empty_commit(claimed.run);
        let inbox = inbox::Seen::at(claimed.inbox);
        Self {
            node,
            claimed,
            mailbox,
            execution: None,
            durable: Position(0),
            outbox,
            in_flight: None,
            gated: VecDeque::new(),
            timers: BTreeSet::new(),
            activities: Activities::default(),
            finished: Vec::new(),
            steps: Steps::default(),
            awaited_children: HashMap::new(),
            inbox,
            ending: None,
            is_draining: false,
            _place: place,
        }
    }

    /// Drives the run until it closes, sleeps, is parked, or leaves this node.
    pub(super) async fn run(
        mut self,
        origin: Origin,
        mut messages: mpsc::UnboundedReceiver<Message>,
    ) {
        let run = self.claimed.run;
        let node = Arc::clone(&self.node);
        if let Flow::Continue = self.begin(origin).await {
            self.drive(&mut messages).await;
        }
        messages.close();
        // Its place is free before the dispatcher hears of it.
        drop(self);
        node.depart(run);
    }

    async fn begin(&mut self, origin: Origin) -> Flow {
        if self.claimed.attempts > self.node.settings.max_claims {
            let reason = format!(
                "{} claims in a row ended with the worker gone and no progress made",
                self.claimed.attempts - 1
            );
            self.park(reason);
            self.flush().await;
            return Flow::Continue;
        }
        let (records, attempts) = match origin {
            Origin::Born(run) => (vec![started_record(&run)], Vec::new()),
            Origin::Claimed => match self.load().await {
                Ok(history) => history,
                Err(Flow::Stop) => return Flow::Stop,
                Err(Flow::Continue) => {
                    self.flush().await;
                    return Flow::Continue;
                }
            },
        };
        self.replay(records, attempts);
        self.perform_ungated();
        // A run that continues another may have been sent signals while that one closed.
        let is_continuation = self.claimed.chain != self.claimed.run;
        let needs_inbox =
            self.claimed.inbox > 0 || is_continuation || !self.awaited_children.is_empty();
        if needs_inbox
            && self.ending.is_none()
            && let Flow::Stop = self.read_inbox().await
        {
            return Flow::Stop;
        }
        self.perform_ungated();
        self.flush().await;
        Flow::Continue
    }

    /// Loads the whole journal of the run, in pages.
    async fn load(&mut self) -> Result<(Vec<Record>, Vec<Attempt>), Flow> {
        const PAGE: u32 = 5_000;
        let mut records: Vec<Record> = Vec::new();
        let mut attempts = Vec::new();
        let mut pause = Duration::from_millis(10);
        loop {
            let from = Position(u32::try_from(records.len()).unwrap_or(u32::MAX));
            match self.node.journal.load(self.claimed.run, from, PAGE).await {
                Ok(mut page) => {
                    let is_last = page.records.len() < PAGE as usize;
                    records.append(&mut page.records);
                    attempts.append(&mut page.attempts);
                    if is_last {
                        return self.checked(records).map(|records| (records, attempts));
                    }
                }
                Err(error) if error.is_transient() => {
                    if self.node.pause(&mut pause).await.is_err() {
                        return Err(Flow::Stop);
                    }
                }
                Err(error) => {
                    self.park(
                        Fault::Damaged {
                            detail: error.to_string(),
                        }
                        .to_string(),
                    );
                    return Err(Flow::Continue);
                }
            }
        }
    }

    /// Checks a loaded journal before any of it has an effect.
    fn checked(&mut self, records: Vec<Record>) -> Result<Vec<Record>, Flow> {
        if records.is_empty() {
            // A run that was never started: a rejected start whose answer was lost.
            return Err(Flow::Stop);
        }
        let gap = records
            .iter()
            .enumerate()
            .find(|(index, record)| record.position.0 as usize != *index);
        let fault = match (gap, &records[0]) {
            (Some((index, _)), _) => Some(Fault::Damaged {
                detail: format!("record {index} is missing"),
            }),
            (None, first) if first.kind != RecordKind::Started => Some(Fault::Damaged {
                detail: "it does not begin with a start".into(),
            }),
            (None, _) if records.iter().any(|record| record.kind.is_final()) => {
                Some(Fault::Damaged {
                    detail: "an open run has a final record".into(),
                })
            }
            (None, _) => None,
        };
        match fault {
            None => Ok(records),
            Some(fault) => {
                self.park(fault.to_string());
                Err(Flow::Continue)
            }
        }
    }

    /// Makes the execution from a journal and lets it catch up.
    fn replay(&mut self, records: Vec<Record>, attempts: Vec<Attempt>) {
        self.durable = Position(u32::try_from(records.len()).unwrap_or(u32::MAX));
        self.activities.remember(attempts);
        let input = records
            .first()
            .map(|record| record.payload.clone())
            .unwrap_or_default();
        let machine = Machine::new(self.claimed.run, self.claimed.workflow_id.clone(), records);
        let machine = Arc::new(std::sync::Mutex::new(machine));
        let context = Context::new(Arc::clone(&machine));
        let name = &self.claimed.workflow;
        let future = match self.node.registry.workflow(name) {
            Some(factory) => make_future(factory, context, &input),
            None => Err(Fault::Unregistered {
                what: "workflow",
                name: Arc::clone(name),
            }),
        };
        let future = match future {
            Ok(future) => future,
            Err(fault) => {
                self.park(fault.to_string());
                return;
            }
        };
        let alarm = Waker::from(Arc::new(Alarm(self.mailbox.clone())));
        let mut execution = Execution::new(machine, future, alarm);
        let running = self.activities.running();
        let turn = execution.start(self.node.clock.now(), &running);
        self.execution = Some(execution);
        self.take(turn);
    }

    async fn drive(&mut self, messages: &mut mpsc::UnboundedReceiver<Message>) {
        let mut gathered = Vec::with_capacity(16);
        loop {
            let has_work = !self.finished.is_empty() || self.overlooks_news();
            if gathered.is_empty() && !has_work {
                let wait = self.wait_time();
                tokio::select! {
                    biased;
                    count = messages.recv_many(&mut gathered, MESSAGES_PER_COMMIT) => if count == 0 { return },
                    () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                }
            }
            for message in gathered.drain(..) {
                if let Flow::Stop = self.receive(message).await {
                    return;
                }
            }
            self.fire_timers();
            self.perform_ungated();
            if let Flow::Stop = self.take_finished().await {
                return;
            }
            if self.overlooks_news()
                && let Flow::Stop = self.read_inbox().await
            {
                return;
            }
            self.suspend_if_idle();
            self.flush().await;
            self.commit_next_step();
        }
    }

    /// Whether the inbox must be read again for what counts as seen.
    const fn overlooks_news(&self) -> bool {
        self.inbox.is_overlooked() && self.ending.is_none()
    }

    async fn take_finished(&mut self) -> Flow {
        while let Some(message) = self.finished.pop() {
            if let Flow::Stop = self.receive(message).await {
                return Flow::Stop;
            }
        }
        Flow::Continue
    }

    async fn receive(&mut self, message: Message) -> Flow {
        match message {
            Message::Committed { outcome, rejected } => {
                return self.committed(outcome, rejected).await;
            }
            Message::CommitRefused { reason } => return self.refused(&reason),
            Message::AttemptEnded { command, result } => self.attempt_ended(command, result),
            Message::Progress { command, details } => self.progressed(command, details),
            Message::StepReady {
                command,
                payload,
                transaction,
            } => {
                self.steps.ready(command, payload, transaction);
                self.commit_next_step();
            }
            Message::StepFailed { command, failure } => {
                return self.step_failed(command, failure).await;
            }
            Message::StepCommitted { record, result } => {
                return self.step_committed(record, result).await;
            }
            Message::ChildClosed { child, result } => {
                if self.forget_child(child) {
                    self.happened(Event::ChildClosed { child, result });
                }
            }
            Message::Arrived => return self.read_inbox().await,
            Message::ArrivedUpTo(count) if count > self.inbox.count() => {
                return self.read_inbox().await;
            }
            Message::ArrivedUpTo(_) => {}
            Message::Alarm => {
                if let Some(fault) = self.execution.as_ref().and_then(Execution::check) {
                    self.park(fault.to_string());
                }
            }
            Message::Evict => self.inbox.hurry(),
            Message::Drain => self.drain(),
            Message::DrainNow => self.drain_now(),
            Message::Fenced => return Flow::Stop,
        }
        Flow::Continue
    }

    /// Tells the execution what happened, unless a step's commit is under way: its record has the
    /// next position, and nothing may take it.
    fn happened(&mut self, event: Event) {
        if self.steps.is_committing() {
            self.steps.defer(event);
            return;
        }
        if self.ending.is_some() {
            return;
        }
        let now = self.node.clock.now();
        if let Some(execution) = &mut self.execution {
            let turn = execution.handle(event, now);
            self.take(turn);
        }
    }

    /// Takes over what a turn produced.
    fn take(&mut self, turn: Turn) {
        self.outbox.records.extend(turn.records);
        self.outbox.consumed_signals.extend(turn.consumed_signals);
        for child in turn.children {
            let child = self.new_child(child);
            self.outbox.children.push(child);
        }
        self.gated.extend(
            turn.actions
                .into_iter()
                .map(|action| (turn.barrier, action)),
        );
        if turn.barrier.0 > MAX_HISTORY_RECORDS {
            let fault = Fault::HistoryTooLong {
                records: turn.barrier.0,
                limit: MAX_HISTORY_RECORDS,
            };
            self.park(fault.to_string());
            return;
        }
        match turn.progress {
            Progress::Waiting => {}
            Progress::Closed(status) => self.close(status, None, turn.has_open_children),
            Progress::Continued(continuation) => {
                let next = self.continuation(continuation);
                self.close(
                    RunStatus::ContinuedAsNew,
                    Some(next),
                    turn.has_open_children,
                );
            }
            Progress::Faulted(fault) => self.park(fault.to_string()),
        }
    }

    fn close(&mut self, status: RunStatus, next: Option<NewRun>, has_open_children: bool) {
        let payload = self
            .outbox
            .records
            .last()
            .map(|record| record.payload.clone())
            .unwrap_or_default();
        self.ending = Some(Ending::Closed(Closed {
            status,
            payload,
            next: next.as_ref().map(|next| next.run),
        }));
        self.leave(Transition::Close(Box::new(Close {
            status,
            next,
            has_open_children,
            has_parent: self.claimed.parent.is_some(),
        })));
    }

    fn park(&mut self, reason: String) {
        if self.ending.is_none() {
            tracing::warn!(run_id = %self.claimed.run, workflow_id = %self.claimed.workflow_id, reason, "run_parked");
            self.ending = Some(Ending::Parked(reason.clone()));
            self.leave(Transition::Park { reason });
        }
    }

    fn leave(&mut self, transition: Transition) {
        self.outbox.transition = transition;
        self.gated.clear();
        self.timers.clear();
        self.activities.cancel_all();
        self.steps.abandon_all();
        self.execution = None;
    }

    /// Performs the actions whose barrier is durable.
    fn perform_ungated(&mut self) {
        while self
            .gated
            .front()
            .is_some_and(|(barrier, _)| *barrier <= self.durable)
        {
            if let Some((_, action)) = self.gated.pop_front() {
                self.perform(action);
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::StartActivity {
                command,
                name,
                input,
                options,
            } => {
                self.start_activity(command, name, input, options);
            }
            Action::StartTransaction { command, body, .. } => self.start_step(command, body),
            Action::SetTimer { command, due } => {
                self.timers.insert((due, command, TimerKind::Durable));
            }
            Action::AwaitChild { child } => {
                self.awaited_children.entry(child).or_insert(child);
                self.inbox.child_awaited();
            }
            Action::Abandon { command } => {
                self.timers.retain(|(_, timer, _)| *timer != command);
                self.abandon_activity(command);
                self.steps.abandon(command);
            }
        }
    }

    fn fire_timers(&mut self) {
        if self.is_leaving() {
            return;
        }
        let now = self.node.clock.now();
        while let Some((due, command, kind)) = self.timers.first().copied() {
            if due > now || self.ending.is_some() {
                return;
            }
            self.timers.remove(&(due, command, kind));
            match kind {
                TimerKind::Durable => self.happened(Event::TimerFired { command }),
                TimerKind::Retry if self.is_failure_durable(command) => {
                    self.retry_activity(command);
                }
                TimerKind::Retry => self.activities.wait_for_commit(command),
            }
        }
    }

    /// Whether the commit under way gives the run up: nothing begins any more, unless something
    /// arrived and the run stays awake.
    fn is_leaving(&self) -> bool {
        self.in_flight
            .as_ref()
            .is_some_and(|commit| commit.leaves != Leaves::Stays)
    }

    /// How long the driver may sleep, if nothing arrives.
    fn wait_time(&self) -> Option<Duration> {
        if self.is_leaving() {
            return None;
        }
        let timer = self
            .timers
            .first()
            .map(|(due, ..)| self.node.clock.until(*due));
        let eviction = self
            .is_idle()
            .then(|| self.inbox.until_eviction(&self.node.settings));
        match (timer, eviction) {
            (Some(timer), Some(eviction)) => Some(timer.min(eviction)),
            (timer, eviction) => timer.or(eviction),
        }
    }

    /// Whether the run only waits for what is kept outside of this process.
    fn is_idle(&self) -> bool {
        self.ending.is_none()
            && self.in_flight.is_none()
            && self.outbox.is_empty()
            && self.gated.is_empty()
            && !self.activities.any_running()
            && self.steps.is_idle()
    }

    /// Gives up the place in memory once the run has waited for a moment.
    fn suspend_if_idle(&mut self) {
        if !self.is_idle() {
            self.inbox.touch();
            return;
        }
        if self.is_draining {
            self.ending = Some(Ending::Released);
            self.leave(Transition::Release);
            return;
        }
        let until_timer = self
            .timers
            .first()
            .map(|(due, ..)| self.node.clock.until(*due));
        let is_due_soon = until_timer.is_some_and(|until| until < self.node.settings.evict_after);
        if is_due_soon || !self.inbox.is_eviction_due(&self.node.settings) {
            return;
        }
        let wake_at = self
            .timers
            .first()
            .map_or(WakeAt::Arrival, |(due, ..)| WakeAt::Time(*due));
        self.outbox.transition = Transition::Suspend {
            wake_at,
            seen_inbox: self.inbox.count(),
        };
    }

    /// Hands the outbox to the committer, if nothing is under way.
    async fn flush(&mut self) {
        if self.in_flight.is_some() || self.steps.is_committing() || self.outbox.is_empty() {
            return;
        }
        let commit = std::mem::replace(&mut self.outbox, empty_commit(self.claimed.run));
        let leaves = match &commit.transition {
            Transition::Continue => Leaves::Stays,
            Transition::Suspend { .. } => Leaves::Suspends,
            Transition::Release | Transition::Park { .. } | Transition::Close(_) => Leaves::Ends,
        };
        self.in_flight = Some(InFlight {
            last: commit.records.last().map(|record| record.position),
            leaves,
            attempts: commit
                .attempts
                .iter()
                .map(|attempt| attempt.command)
                .collect(),
        });
        let work = Work::Run {
            commit,
            reply: self.mailbox.clone(),
        };
        if !self.node.commits.submit(work).await {
            self.mailbox.send(Message::Fenced);
        }
    }

    async fn committed(&mut self, outcome: RunOutcome, rejected: Vec<RunId>) -> Flow {
        let Some(in_flight) = self.in_flight.take() else {
            return Flow::Continue;
        };
        if let Some(last) = in_flight.last {
            self.durable = last.next();
        }
        match (outcome, in_flight.leaves) {
            (RunOutcome::Lost, _) => {
                tracing::info!(run_id = %self.claimed.run, "run_lost");
                return Flow::Stop;
            }
            (RunOutcome::Committed, Leaves::Suspends) => return Flow::Stop,
            (RunOutcome::StillAwake, Leaves::Suspends) => return self.read_inbox().await,
            (_, Leaves::Ends) => {
                self.announce_end();
                return Flow::Stop;
            }
            (_, Leaves::Stays) => {}
        }
        self.retry_after_commit();
        self.perform_ungated();
        for child in rejected {
            self.awaited_children.remove(&child);
            self.happened(Event::ChildClosed {
                child,
                result: Err(inbox::rejected_child()),
            });
        }
        self.perform_ungated();
        if let Flow::Stop = self.rewind_if_wanted().await {
            return Flow::Stop;
        }
        self.commit_next_step();
        if self.inbox.has_more() && self.ending.is_none() {
            return self.read_inbox().await;
        }
        Flow::Continue
    }

    /// A commit that can never succeed: the run stops for a person, with what it had. If even that
    /// is refused, it leaves memory, and the next look at what this node owns tries again.
    fn refused(&mut self, reason: &str) -> Flow {
        let refused = self.in_flight.take();
        if refused.is_some_and(|commit| commit.last.is_none() && commit.leaves == Leaves::Ends) {
            return Flow::Stop;
        }
        self.outbox = empty_commit(self.claimed.run);
        self.ending = None;
        self.park(format!("the journal refuses the run's records: {reason}"));
        Flow::Continue
    }

    /// Tells the parent and the clients of this process that the run has ended.
    fn announce_end(&mut self) {
        match self.ending.take() {
            Some(Ending::Closed(closed)) => {
                if let Some(parent) = self.claimed.parent {
                    let result = inbox::child_result(&closed);
                    if closed.status != RunStatus::ContinuedAsNew {
                        let child = self.claimed.chain;
                        self.node
                            .tell(parent.run, Message::ChildClosed { child, result });
                    }
                }
                self.node.watchers.closed(self.claimed.run, closed);
            }
            Some(Ending::Parked(reason)) => self.node.watchers.parked(self.claimed.run, reason),
            Some(Ending::Released) | None => {}
        }
    }

    /// Stops awaiting the child that was started as this run. `false` if nobody awaited it.
    fn forget_child(&mut self, started_as: RunId) -> bool {
        if self.awaited_children.get(&started_as) == Some(&started_as) {
            self.awaited_children.remove(&started_as);
            return true;
        }
        let before = self.awaited_children.len();
        self.awaited_children
            .retain(|_, child| *child != started_as);
        self.awaited_children.len() < before
    }

    fn drain(&mut self) {
        self.is_draining = true;
        self.inbox.hurry();
    }

    fn drain_now(&mut self) {
        self.is_draining = true;
        self.activities.cancel_all();
        self.steps.abandon_all();
        self.gated.clear();
    }

    fn new_child(&self, child: ChildStart) -> NewRun {
        let queue = child
            .queue
            .unwrap_or_else(|| Arc::clone(&self.claimed.queue));
        let on_close = if child.abandon_on_close {
            ParentCloses::Abandon
        } else {
            ParentCloses::Cancel
        };
        let mut new = NewRun {
            run: child.run,
            chain: child.run,
            workflow_id: child.workflow_id,
            workflow: child.workflow,
            queue,
            input: child.input,
            reuse: crate::journal::IdReuse::ReturnExisting,
            parent: Some(ParentLink {
                run: self.claimed.run,
                command: child.command,
                on_close,
            }),
            placement: crate::journal::Placement::Anywhere,
        };
        self.node.place(&mut new);
        new
    }

    fn continuation(&self, continuation: Continuation) -> NewRun {
        let mut next = NewRun {
            run: continuation.run,
            chain: self.claimed.chain,
            workflow_id: self.claimed.workflow_id.clone(),
            workflow: continuation.workflow,
            queue: Arc::clone(&self.claimed.queue),
            input: continuation.input,
            reuse: crate::journal::IdReuse::StartNew,
            parent: self.claimed.parent,
            placement: crate::journal::Placement::Anywhere,
        };
        if !self.is_draining {
            self.node.place(&mut next);
        }
        next
    }
}

fn make_future(
    factory: &super::registry::WorkflowFactory,
    context: Context,
    input: &[u8],
) -> Result<crate::replay::BodyFuture, Fault> {
    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| factory(context, input)));
    made.unwrap_or_else(|panic| {
        Err(Fault::Panicked {
            message: crate::failure::panic_message(&*panic),
        })
    })
}

fn started_record(run: &NewRun) -> Record {
    Record {
        position: Position(0),
        kind: RecordKind::Started,
        command: Record::RUN,
        name: Arc::clone(&run.workflow),
        fingerprint: 0,
        payload: run.input.clone(),
    }
}

fn empty_commit(run: RunId) -> RunCommit {
    RunCommit {
        run,
        records: Vec::new(),
        children: Vec::new(),
        consumed_signals: Vec::new(),
        attempts: Vec::new(),
        settled_attempts: Vec::new(),
        transition: Transition::Continue,
    }
}

/// The failure of a step or activity whose output is too large to be stored.
fn too_large(bytes: usize) -> Failure {
    Failure::final_error(format!(
        "the output has {bytes} bytes, more than the limit of {} bytes",
        crate::journal::MAX_PAYLOAD_BYTES
    ))
}
