//! How a driver leaves its run: closed, parked, given back, or asleep.

use std::time::Duration;

use super::{Driver, Ending, Flow, Leaves, inbox};
use crate::{
    journal::{Admission, Close, Closed, NewRun, Transition, WakeAt},
    status::RunStatus,
    telemetry::SliceEnd,
    worker::mailbox::Message,
};

impl Driver {
    pub(super) fn close(
        &mut self,
        status: RunStatus,
        next: Option<NewRun>,
        has_open_children: bool,
    ) {
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

    pub(super) fn park(&mut self, reason: String) {
        if self.ending.is_none() {
            tracing::warn!(run_id = %self.claimed.run, workflow_id = %self.claimed.workflow_id, reason, "run_parked");
            self.ending = Some(Ending::Parked);
            self.leave(Transition::Park { reason });
        }
    }

    pub(super) fn leave(&mut self, transition: Transition) {
        let is_end = matches!(transition, Transition::Close(_));
        self.outbox.transition = transition;
        self.gated.clear();
        self.timers.clear();
        match is_end {
            true => self.activities.cancel_all(self.node.settings.cancel_grace),
            // Whoever drives the run next may begin them again.
            false => self.activities.end_all(),
        }
        self.steps.abandon_all();
        self.sends.abandon_all();
        self.execution = None;
    }

    /// Whether the commit under way gives the run up: nothing begins any more, unless something
    /// arrived and the run stays awake.
    pub(super) fn is_leaving(&self) -> bool {
        self.in_flight
            .as_ref()
            .is_some_and(|commit| commit.leaves != Leaves::Stays)
    }

    /// Whether the run only waits for what is kept outside of this process.
    pub(super) fn is_idle(&self) -> bool {
        self.ending.is_none()
            && self.in_flight.is_none()
            && self.outbox.is_empty()
            // What is held back while the run pauses begins when it is resumed.
            && (self.gated.is_empty() || self.is_pausing)
            && !self.activities.any_running()
            && self.steps.is_idle()
            && self.sends.is_idle()
    }

    /// Gives up the place in memory once the run has waited for a moment.
    pub(super) fn suspend_if_idle(&mut self) {
        if !self.is_idle() {
            self.inbox.touch(self.node.clock.moment());
            return;
        }
        if self.is_draining || self.is_pausing {
            self.ending = Some(Ending::Released);
            self.leave(Transition::Release);
            return;
        }
        let until_timer = self
            .timers
            .first()
            .map(|(due, ..)| self.node.clock.until(*due));
        if self.until_eviction(until_timer) != Some(Duration::ZERO) {
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

    /// How long it is until the run gives up its place, if it only waits until then.
    pub(super) fn until_eviction(&self, until_timer: Option<Duration>) -> Option<Duration> {
        let now = self.node.clock.moment();
        self.inbox
            .until_eviction(&self.node.settings, until_timer, now)
    }

    /// A commit that can never succeed: the run stops for a person, with what it had. If even that
    /// is refused, it leaves memory, and the next look at what this node owns tries again.
    pub(super) fn refused(&mut self, reason: &str) -> Flow {
        let refused = self.in_flight.take();
        if refused.is_some_and(|commit| commit.last.is_none() && commit.leaves == Leaves::Ends) {
            return Flow::Stop;
        }
        self.discard_outbox();
        self.ending = None;
        self.park(format!("the journal refuses the run's records: {reason}"));
        Flow::Continue
    }

    /// Tells the parent and the clients of this process that the run has ended.
    pub(super) fn announce_end(&mut self) {
        match self.ending.take() {
            Some(Ending::Closed(closed)) => {
                self.left = SliceEnd::closed(closed.status);
                if self.claimed.ticket.admission == Admission::Admitted {
                    self.node.turn_is_free();
                }
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
            Some(Ending::Parked) => {
                self.left = SliceEnd::Parked;
                self.node.parked(self.claimed.run);
            }
            Some(Ending::Released) => {
                self.left = SliceEnd::Released;
                // It may have been resumed meanwhile.
                if self.is_pausing {
                    self.node.dispatch.notify_one();
                }
            }
            None => {}
        }
    }

    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        self.inbox.hurry();
    }

    pub(super) fn drain_now(&mut self) {
        self.is_draining = true;
        self.activities.end_all();
        self.steps.abandon_all();
        self.sends.abandon_all();
        self.gated.clear();
    }
}
