//! What arrives for a run from outside: signals, cancel requests, the ends of children.

use std::time::{Duration, Instant};

use super::{Driver, Flow};
use crate::{
    failure::{Failure, FailureKind},
    journal::{Closed, Inbox},
    replay::{Action, Event},
    status::RunStatus,
    worker::{backoff::Backoff, settings::Settings},
};

/// How many signals are read at first.
const SIGNALS: u32 = 100;
/// How many are read at most, where so many lie before one that somebody waits for.
const MOST_SIGNALS: u32 = 12_800;

/// A run stays for a timer that is due sooner than this, even if others wait for its place: leaving
/// and coming back costs as much.
const WORTH_STAYING: Duration = Duration::from_millis(50);

/// What the run has taken into account of its inbox, and how long it has been idle.
pub(super) struct Seen {
    count: i64,
    /// How many signals are read at once.
    depth: u32,
    has_more: bool,
    /// It was read while a child was about to be awaited: the child's end may count as seen.
    is_ahead_of_children: bool,
    /// It must be read again: something that counts as seen may not have been asked for.
    is_overlooked: bool,
    idle_since: Instant,
    in_a_hurry: bool,
}

impl Seen {
    pub(super) const fn at(count: i64, now: Instant) -> Self {
        Self {
            count,
            depth: SIGNALS,
            has_more: false,
            is_ahead_of_children: false,
            is_overlooked: false,
            idle_since: now,
            in_a_hurry: false,
        }
    }

    pub(super) const fn count(&self) -> i64 {
        self.count
    }

    /// Whether the last reading left signals behind.
    pub(super) const fn has_more(&self) -> bool {
        self.has_more
    }

    pub(super) const fn is_overlooked(&self) -> bool {
        self.is_overlooked
    }

    /// What is there is read when the run is resumed.
    pub(super) const fn defer(&mut self) {
        self.has_more = false;
    }

    /// What was read is gone with the code that was to receive it.
    pub(super) const fn overlook(&mut self) {
        self.is_overlooked = true;
    }

    /// A child has ended before it is awaited.
    pub(super) const fn child_is_early(&mut self) {
        self.is_ahead_of_children = true;
    }

    /// One more child is awaited from now on.
    pub(super) const fn child_awaited(&mut self) {
        self.is_overlooked |= self.is_ahead_of_children;
    }

    /// Reads deeper, if the last reading left signals behind: those in front may be of names that nobody
    /// waits for yet.
    fn deepens(&mut self) -> bool {
        let deepens = self.has_more && self.depth < MOST_SIGNALS;
        if deepens {
            self.depth *= 2;
        }
        deepens
    }

    /// The run did something.
    pub(super) const fn touch(&mut self, now: Instant) {
        self.idle_since = now;
    }

    /// The run should not stay in memory for comfort.
    pub(super) const fn hurry(&mut self) {
        self.in_a_hurry = true;
    }

    /// How long it is until the run, which only waits, gives up its place. `None` while it stays for
    /// a timer that is due soon.
    pub(super) fn until_eviction(
        &self,
        settings: &Settings,
        until_timer: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        let (soon, left) = if self.in_a_hurry {
            (settings.evict_after.min(WORTH_STAYING), Duration::ZERO)
        } else {
            let idle = now.saturating_duration_since(self.idle_since);
            (
                settings.evict_after,
                settings.evict_after.saturating_sub(idle),
            )
        };
        let is_due_soon = until_timer.is_some_and(|until| until < soon);
        (!is_due_soon).then_some(left)
    }
}

impl Driver {
    /// Reads the inbox and tells the execution what is new.
    pub(super) async fn read_inbox(&mut self) -> Flow {
        let mut pause = Backoff::new(Duration::from_millis(10));
        self.inbox.is_overlooked = false;
        self.inbox.is_ahead_of_children = self
            .gated
            .iter()
            .any(|(_, action)| matches!(action, Action::AwaitChild { .. }));
        loop {
            let children: Vec<_> = self.awaited_children.keys().copied().collect();
            match self
                .node
                .journal
                .inbox(self.claimed.run, &children, self.inbox.depth)
                .await
            {
                Ok(inbox) => {
                    let has_moved = self.take_inbox(inbox);
                    if !self.inbox.deepens() && !has_moved {
                        return Flow::Continue;
                    }
                }
                Err(error) if error.is_transient() => {
                    if self.node.pause(&mut pause).await.is_err() {
                        return Flow::Stop;
                    }
                }
                Err(error) => {
                    self.park(format!("the inbox cannot be read: {error}"));
                    return Flow::Continue;
                }
            }
        }
    }

    /// `true` when a child has gone on in another run, which must be asked for in its turn.
    fn take_inbox(&mut self, inbox: Inbox) -> bool {
        self.inbox.count = inbox.count;
        if inbox.pause_requested {
            self.pause();
            return false;
        }
        self.resume();
        self.inbox.has_more = inbox.signals.len() >= self.inbox.depth as usize;
        self.inbox.touch(self.node.clock.moment());
        if inbox.cancel_requested {
            self.happened(Event::CancelRequested);
        }
        let mut has_moved = false;
        for outcome in inbox.children {
            let Some(child) = self.awaited_children.remove(&outcome.child) else {
                continue;
            };
            let result = match &outcome.closed {
                Some(Closed {
                    status: RunStatus::ContinuedAsNew,
                    next: Some(next),
                    ..
                }) => {
                    self.awaited_children.insert(*next, child);
                    has_moved = true;
                    continue;
                }
                Some(closed) => child_result(closed),
                None => Err(rejected_child()),
            };
            self.happened(Event::ChildClosed { child, result });
        }
        for signal in inbox.signals {
            let (sequence, name, payload) = (signal.sequence, signal.name, signal.payload);
            self.happened(Event::SignalArrived {
                sequence,
                name,
                payload,
            });
        }
        has_moved
    }
}

/// What a parent is told of a child that could not be started.
pub(super) fn rejected_child() -> Failure {
    Failure::of_kind(FailureKind::Rejected, "a run of this workflow id exists").into_final()
}

/// What a parent is told of a child's end.
pub(super) fn child_result(closed: &Closed) -> Result<bytes::Bytes, Failure> {
    match closed.status {
        RunStatus::Completed => Ok(closed.payload.clone()),
        RunStatus::Terminated => {
            let reason = Failure::decode(&closed.payload).message;
            Err(Failure::of_kind(FailureKind::Terminated, reason).into_final())
        }
        RunStatus::Cancelled => Err(Failure::cancelled()),
        RunStatus::Failed
        | RunStatus::ContinuedAsNew
        | RunStatus::Pending
        | RunStatus::Running
        | RunStatus::Parked
        | RunStatus::Paused => Err(Failure::decode(&closed.payload)),
    }
}
