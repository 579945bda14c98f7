//! A run that an operator holds back.
//!
//! What is under way ends and is recorded: an attempt of an activity, a step, a signal to another workflow. Nothing
//! else begins, and nothing that arrives is taken in. Then the run is given back, and the journal keeps it paused.

use super::Driver;
use crate::replay::Action;

impl Driver {
    /// Begins nothing any more.
    pub(super) const fn pause(&mut self) {
        self.is_pausing = true;
        self.inbox.defer();
    }

    /// Goes on, if the run was pausing.
    pub(super) fn resume(&mut self) {
        if std::mem::take(&mut self.is_pausing) {
            self.retry_after_commit();
        }
    }

    /// Performs those durable actions that mean something while the run pauses: an attempt that the journal says to have
    /// been made, and the end of what nobody awaits.
    pub(super) fn perform_what_cannot_wait(&mut self) {
        let waiting = std::mem::take(&mut self.gated);
        for (barrier, action) in waiting {
            let cannot_wait = match &action {
                Action::StartActivity { options, .. } => options.at_most_once,
                Action::Abandon { .. } => true,
                Action::StartTransaction { .. }
                | Action::SendSignal { .. }
                | Action::SetTimer { .. }
                | Action::AwaitChild { .. }
                | Action::CancelChild { .. } => false,
            };
            if cannot_wait && barrier <= self.durable {
                self.perform(action);
            } else {
                self.gated.push_back((barrier, action));
            }
        }
    }
}
