//! The driver of one run: it feeds the execution events, and performs what comes out.
//!
//! Durability barrier: actions wait in `gated` until every record before them is durable. One
//! commit of a run is under way at a time; what the run produces meanwhile gathers in `outbox`.

mod abort;
mod attempts;
mod births;
mod contention;
pub(super) mod history;
mod inbox;
mod inherited;
mod leaving;
mod load;
mod pausing;
mod sends;
mod steps;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use self::{
    attempts::Activities,
    sends::{Sends, Sent},
    steps::Steps,
};
use super::{
    committer::{Told, Work},
    mailbox::{Mailbox, Message},
    node::Node,
};
use crate::{
    failure::Failure,
    id::{CommandId, Position, RunId},
    journal::{
        ClaimedRun, Closed, MAX_HISTORY_RECORDS, NewRun, Publication, RunCommit, RunOutcome,
        Transition, WakeAt,
    },
    replay::{Action, Event, Execution, Fault, Progress, Turn},
    status::RunStatus,
    telemetry::SliceEnd,
};

/// How many messages are taken in before what they caused is committed.
const MESSAGES_PER_COMMIT: usize = 256;

/// From so many records on a history is told to be long.
const LONG_HISTORY: u32 = MAX_HISTORY_RECORDS / 5 * 4;

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
    /// What an attempt that ended where it began has to tell.
    finished: Option<Message>,
    steps: Steps,
    sends: Sends,
    /// The run that each awaited child is in now, and the run that it was started as.
    awaited_children: HashMap<RunId, RunId>,
    inherited: inherited::Inherited,
    inbox: inbox::Seen,
    /// The end of the run, once the code has reached it.
    ending: Option<Ending>,
    is_draining: bool,
    /// Nothing begins any more; the run is given back once what is under way has ended.
    is_pausing: bool,
    warned_of_length: bool,
    /// It was told of a commit, and what comes of that is not handed over yet.
    told: Option<Told>,
    /// How it leaves memory.
    left: SliceEnd,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum TimerKind {
    /// A durable timer of the workflow.
    Durable,
    /// The next attempt of an activity.
    Retry,
    /// A look at children that another run started.
    Look,
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
    Suspends(WakeAt),
    Ends,
}

enum Ending {
    Closed(Closed),
    Parked,
    Released,
}

/// Whether the driver goes on.
enum Flow {
    Continue,
    Stop,
}

/// How a driver came to its run.
#[expect(
    clippy::large_enum_variant,
    reason = "one for each driver, moved once: a box would be an allocation more for each run"
)]
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
        told: Option<Told>,
    ) -> Self {
        let outbox = empty_commit(claimed.run);
        let inbox = inbox::Seen::at(claimed.inbox, node.clock.moment());
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
            finished: None,
            steps: Steps::default(),
            sends: Sends::default(),
            awaited_children: HashMap::new(),
            inherited: inherited::Inherited::default(),
            inbox,
            ending: None,
            is_draining: false,
            is_pausing: false,
            warned_of_length: false,
            told,
            left: SliceEnd::Fenced,
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
        self.discard_outbox();
        self.left.tell_span();
        node.metrics.departed(&self.claimed, self.left);
        // Its place is free before the dispatcher hears of it.
        drop(self);
        node.depart(run);
    }

    async fn drive(&mut self, messages: &mut mpsc::UnboundedReceiver<Message>) {
        let mut gathered = Vec::with_capacity(16);
        loop {
            let has_work = self.finished.is_some() || self.overlooks_news();
            if gathered.is_empty() && !has_work {
                self.told = None;
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
        while let Some(message) = self.finished.take() {
            if let Flow::Stop = self.receive(message).await {
                return Flow::Stop;
            }
        }
        Flow::Continue
    }

    async fn receive(&mut self, message: Message) -> Flow {
        match message {
            Message::Committed {
                told,
                outcome,
                rejected,
            } => {
                self.told = Some(told);
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
            Message::GaveWay { command, failure } => {
                return self.gave_way(command, failure).await;
            }
            Message::StepCommitted { record, result } => {
                return self.step_committed(record, result).await;
            }
            Message::SignalSent { command, result } => {
                self.sends.ended(Sent::Signal(command));
                self.happened(Event::SignalSent { command, result });
            }
            Message::CancelSent { child } => self.sends.ended(Sent::Cancel(child)),
            Message::ChildClosed { child, result } => {
                // While the run pauses, the child's end waits in the journal.
                if !self.is_pausing && self.forget_child(child) {
                    self.happened(Event::ChildClosed { child, result });
                } else if self.is_about_to_await(child) {
                    self.inbox.child_is_early();
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
        let births = births::positions(&turn);
        self.outbox.records.extend(turn.records);
        self.outbox.consumed_signals.extend(turn.consumed_signals);
        for (name, payload) in turn.published {
            let earlier = &mut self.outbox.published;
            earlier.retain(|earlier| earlier.name != name);
            earlier.push(Publication { name, payload });
        }
        for change in turn.tags {
            let earlier = &mut self.outbox.tags;
            earlier.retain(|earlier| earlier.name != change.name);
            earlier.push(change);
        }
        for child in turn.children {
            let child = self.new_child(child);
            self.outbox.children.push(child);
        }
        self.gate(turn.actions, turn.barrier, births);
        self.warn_of_length(turn.barrier);
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

    /// Tells once, long before it is parked, that the history grows long.
    fn warn_of_length(&mut self, length: Position) {
        if length.0 < LONG_HISTORY || self.warned_of_length {
            return;
        }
        self.warned_of_length = true;
        tracing::warn!(
            run_id = %self.claimed.run, workflow_id = %self.claimed.workflow_id, records = length.0,
            limit = MAX_HISTORY_RECORDS, "history_long"
        );
    }

    /// Performs the actions whose barrier is durable.
    fn perform_ungated(&mut self) {
        if self.is_pausing {
            self.perform_what_cannot_wait();
            return;
        }
        while self
            .gated
            .front()
            .is_some_and(|(barrier, action)| *barrier <= self.durable && !self.must_wait(action))
        {
            if let Some((_, action)) = self.gated.pop_front() {
                self.perform(action);
            }
        }
    }

    /// Whether an action would keep from being committed what the run has produced before it: a value that is shown
    /// moves no barrier.
    fn must_wait(&self, action: &Action) -> bool {
        matches!(action, Action::StartTransaction { .. })
            && self.has_uncommitted()
            && self.has_one_writer()
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
            Action::SendSignal {
                command,
                to,
                name,
                payload,
            } => self.send_signal(command, to, name, payload),
            Action::SetTimer { command, due } => {
                self.timers.insert((due, command, TimerKind::Durable));
            }
            Action::AwaitChild {
                child,
                is_inherited,
            } => {
                self.awaited_children.entry(child).or_insert(child);
                self.inbox.child_awaited();
                if is_inherited {
                    self.await_inherited(child);
                }
            }
            Action::CancelChild {
                child,
                is_inherited,
            } => self.cancel_child(child, is_inherited),
            Action::Abandon { command } => {
                self.timers.retain(|(_, timer, _)| *timer != command);
                self.abandon_activity(command);
                self.steps.abandon(command);
                self.sends.ended(Sent::Signal(command));
            }
        }
    }

    fn fire_timers(&mut self) {
        if self.is_leaving() || self.is_pausing {
            return;
        }
        let now = self.node.clock.now();
        while let Some((due, command, kind)) = self.timers.first().copied() {
            if due > now || self.ending.is_some() {
                return;
            }
            self.timers.remove(&(due, command, kind));
            match kind {
                TimerKind::Durable => {
                    let late = Duration::try_from(now.duration_since(due)).unwrap_or_default();
                    self.node.metrics.timer_fired(&self.claimed, late);
                    self.happened(Event::TimerFired { command });
                }
                TimerKind::Retry if self.is_failure_durable(command) => {
                    self.retry_activity(command);
                }
                TimerKind::Retry => self.activities.wait_for_commit(command),
                TimerKind::Look => self.look_at_inherited(),
            }
        }
    }

    /// How long the driver may sleep, if nothing arrives.
    fn wait_time(&self) -> Option<Duration> {
        if self.is_leaving() {
            return None;
        }
        if self.is_pausing {
            return self.is_idle().then_some(Duration::ZERO);
        }
        let timer = self
            .timers
            .first()
            .map(|(due, ..)| self.node.clock.until(*due));
        let eviction = match self.is_idle() {
            true => self.until_eviction(timer),
            false => None,
        };
        match (timer, eviction) {
            (Some(timer), Some(eviction)) => Some(timer.min(eviction)),
            (timer, eviction) => timer.or(eviction),
        }
    }

    /// Hands the outbox to the committer, if nothing is under way.
    async fn flush(&mut self) {
        if self.in_flight.is_some() || self.steps.is_committing() || self.outbox.is_empty() {
            return;
        }
        let commit = self.next_commit();
        let leaves = match &commit.transition {
            Transition::Continue => Leaves::Stays,
            Transition::Suspend { wake_at, .. } => Leaves::Suspends(*wake_at),
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
                self.left = SliceEnd::Lost;
                return Flow::Stop;
            }
            (RunOutcome::Committed, Leaves::Suspends(wake_at)) => {
                if let WakeAt::Time(time) = wake_at {
                    self.node.is_due_at(time);
                }
                self.left = SliceEnd::Asleep;
                return Flow::Stop;
            }
            (RunOutcome::StillAwake, Leaves::Suspends(_)) => return self.read_inbox().await,
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
}

fn empty_commit(run: RunId) -> RunCommit {
    RunCommit {
        run,
        records: Vec::new(),
        children: Vec::new(),
        consumed_signals: Vec::new(),
        attempts: Vec::new(),
        settled_attempts: Vec::new(),
        published: Vec::new(),
        tags: Vec::new(),
        transition: Transition::Continue,
    }
}

/// The failure of a step or activity whose output is too large to be stored.
fn too_large(bytes: usize, limit: usize) -> Failure {
    Failure::final_error(format!(
        "the output has {bytes} bytes, more than the limit of {limit} bytes"
    ))
}
