//! The execution: one run's machine together with the future of its workflow code.

use std::{
    collections::HashSet,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as TaskContext, Poll, Waker},
};

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    again,
    fault::Fault,
    machine::Machine,
    turn::{Event, Progress, Turn},
    waker::Tracker,
};
use crate::{
    failure::{Failure, FailureKind, panic_message},
    id::CommandId,
    record::{Record, RecordKind},
    status::RunStatus,
};

/// The future of workflow code: it ends with the encoded output or the failure of the run.
pub type BodyFuture = Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + Send>>;

/// The machine, as the execution and the context of the workflow code share it.
pub(crate) type SharedMachine = Arc<Mutex<Machine>>;

/// Locks a machine. Workflow code never runs while it is locked, so the lock cannot be poisoned by
/// it.
pub(crate) fn lock(machine: &SharedMachine) -> MutexGuard<'_, Machine> {
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A workflow that polls itself this often without any durable completion is spinning.
const MAX_SELF_POLLS: u32 = 10_000;

/// One run in memory.
pub struct Execution {
    machine: SharedMachine,
    future: Option<BodyFuture>,
    tracker: Arc<Tracker>,
    waker: Waker,
    result: Option<Result<Bytes, Failure>>,
    /// The code ran as far as the journal goes, and waited there.
    has_waited: bool,
    /// What is polled now has been polled before.
    runs_again: bool,
}

impl Execution {
    /// Puts a run's code and journal together. `alarm` is woken when something wakes the workflow
    /// that is not a durable call, or makes one from elsewhere; call [`Self::check`] then.
    pub(crate) fn new(machine: SharedMachine, future: BodyFuture, alarm: Waker) -> Self {
        let tracker = Tracker::new(alarm);
        lock(&machine).track(Arc::clone(&tracker));
        let waker = Waker::from(Arc::clone(&tracker));
        Self {
            machine,
            future: Some(future),
            tracker,
            waker,
            result: None,
            has_waited: false,
            runs_again: false,
        }
    }

    /// The same, of a run whose code is known to have run as far as the journal goes and to have waited there: so
    /// that nothing it does is new until something happens.
    pub(crate) const fn after_wait(mut self, has_waited: bool) -> Self {
        self.has_waited = has_waited;
        self
    }

    /// Replays the journal and runs on until the run waits. Activities in `running` are known to
    /// run on this node and are not started again by the driver.
    pub fn start(&mut self, now: Timestamp, running: &HashSet<CommandId>) -> Turn {
        lock(&self.machine).begin_turn(now);
        // The record of the start: its input is what the future was made with.
        lock(&self.machine).replay_next();
        self.runs_again = self.has_waited;
        self.poll();
        self.settle();
        while !self.is_over() && lock(&self.machine).replay_next() {
            self.settle();
        }
        if self.is_over() {
            lock(&self.machine).mismatch_at_end();
        } else {
            self.runs_again = false;
            // One at a time: the code sees each before the next is recorded, as in every replay.
            while !self.is_over() && lock(&self.machine).resolve_interrupted(running) {
                self.settle();
            }
            self.settle();
        }
        self.turn()
    }

    /// Takes in one thing that happened, and runs on until the run waits again.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Turn {
        {
            let mut machine = lock(&self.machine);
            machine.begin_turn(now);
            machine.handle(event);
        }
        self.settle();
        self.turn()
    }

    /// Looks whether something foreign woke the workflow, or made a durable call in its name.
    #[must_use]
    pub fn check(&self) -> Option<Fault> {
        let stray = lock(&self.machine).take_fault();
        let foreign = || {
            self.tracker.is_foreign().then_some(Fault::ForeignAwait {
                detail: "it was woken by something outside",
            })
        };
        stray.or_else(foreign)
    }

    /// The record with which a transactional step would complete a command now, unless nobody
    /// waits for the command any more.
    #[must_use]
    pub fn step_record(&self, command: CommandId, payload: Bytes) -> Option<Record> {
        lock(&self.machine).step_record(command, payload)
    }

    fn is_over(&self) -> bool {
        if self.result.is_some() {
            return true;
        }
        let machine = lock(&self.machine);
        machine.has_fault() || machine.is_continued()
    }

    /// Grants completions one at a time until nothing is left that anybody awaits.
    fn settle(&mut self) {
        while !self.is_over() {
            let granted = {
                let mut machine = lock(&self.machine);
                machine.grant().or_else(|| {
                    let received = !machine.is_replaying() && machine.receive_signal();
                    if received { machine.grant() } else { None }
                })
            };
            let Some(waker) = granted else {
                return;
            };
            self.tracker.inside(|| waker.wake());
            self.poll();
        }
    }

    /// Polls the future until it no longer wakes itself.
    fn poll(&mut self) {
        let mut polls = 0;
        loop {
            self.tracker.take_woken();
            let Some(future) = &mut self.future else {
                return;
            };
            let mut context = TaskContext::from_waker(&self.waker);
            let again = self.runs_again || lock(&self.machine).is_replaying();
            let poll = || catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
            let polled = self.tracker.inside(|| again::polled(again, poll));
            match polled {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(result)) => {
                    self.result = Some(result);
                    self.drop_future();
                }
                Err(panic) => {
                    let message = panic_message(&*panic);
                    lock(&self.machine).fail_with(Fault::Panicked { message });
                    self.drop_future();
                }
            }
            lock(&self.machine).end_poll();
            polls += 1;
            if self.is_over() || !self.tracker.take_woken() {
                return;
            }
            if polls == MAX_SELF_POLLS {
                lock(&self.machine).fail_with(Fault::BusyLoop { polls });
                return;
            }
        }
    }

    /// Drops the workflow code; its own destructors may panic too.
    fn drop_future(&mut self) {
        let future = self.future.take();
        let dropped = self
            .tracker
            .inside(|| catch_unwind(AssertUnwindSafe(|| drop(future))));
        if let Err(panic) = dropped {
            let message = panic_message(&*panic);
            lock(&self.machine).fail_with(Fault::Panicked { message });
        }
    }

    /// Collects what the run produced.
    fn turn(&mut self) -> Turn {
        let mut machine = lock(&self.machine);
        let waits = self.result.is_none() && !machine.is_continued();
        if waits && !machine.has_fault() && !machine.awaits_something() {
            machine.fail_with(Fault::ForeignAwait {
                detail: "it waits, but for no durable call",
            });
        }
        let progress = match (machine.take_fault(), self.result.take()) {
            (Some(fault), _) => Progress::Faulted(fault),
            (None, None) if machine.is_continued() => close(&mut machine, Ok(Bytes::new())),
            (None, None) => Progress::Waiting,
            (None, Some(result)) => close(&mut machine, result),
        };
        let actions = match progress {
            Progress::Waiting => machine.take_actions(),
            Progress::Closed(_) | Progress::Continued(_) | Progress::Faulted(_) => Vec::new(),
        };
        let output = machine.take_output();
        Turn {
            records: output.records,
            children: output.children,
            consumed_signals: output.consumed_signals,
            published: output.published,
            tags: output.tags,
            actions,
            barrier: machine.next_position(),
            has_open_children: machine.has_open_children(),
            progress,
        }
    }
}

impl std::fmt::Debug for Execution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Execution")
            .field("run", &lock(&self.machine).identity().run)
            .finish_non_exhaustive()
    }
}

fn close(machine: &mut Machine, result: Result<Bytes, Failure>) -> Progress {
    if let Some(continuation) = machine.close_for_continuation() {
        return Progress::Continued(continuation);
    }
    let (kind, status, payload) = match result {
        Ok(output) => (RecordKind::Completed, RunStatus::Completed, output),
        Err(failure) if failure.kind == FailureKind::Cancelled && machine.is_cancelled() => (
            RecordKind::Cancelled,
            RunStatus::Cancelled,
            failure.encode(),
        ),
        Err(failure) => (RecordKind::Failed, RunStatus::Failed, failure.encode()),
    };
    machine.close(kind, payload);
    Progress::Closed(status)
}
