//! Starts that wait until nobody asks again.

use jiff::Timestamp;

use super::state::{Run, Stand, State};
use crate::{
    id::RunId,
    journal::{Admission, Debounce, DebounceOutcome, NewRun, Placement, StartOutcome},
    status::RunStatus,
};

impl State {
    pub(super) fn debounce(
        &mut self,
        new: &NewRun,
        debounce: Debounce,
        now: Timestamp,
    ) -> DebounceOutcome {
        let due = Placement::NotBefore(debounce.due(now, now, new.placement));
        let delayed = NewRun {
            placement: due,
            ..new.clone()
        };
        match self.start(&delayed, None, now) {
            StartOutcome::Started => DebounceOutcome::Started,
            StartOutcome::Existing { run, .. } if self.replace(run, new, debounce, now) => {
                DebounceOutcome::Replaced { run }
            }
            StartOutcome::Existing { run, status } => DebounceOutcome::Existing { run, status },
        }
    }

    /// Gives a run that has not begun another input, and a later time unless its turn has come.
    fn replace(&mut self, id: RunId, new: &NewRun, debounce: Debounce, now: Timestamp) -> bool {
        let Some(run) = self.runs.get_mut(&id) else {
            return false;
        };
        if !has_not_begun(id, run) || run.workflow != new.workflow {
            return false;
        }
        let Some((first, _)) = run.records.first_mut() else {
            return false;
        };
        first.payload = new.input.clone();
        if run.status() == RunStatus::Pending && run.ticket.admission == Admission::None {
            let due = debounce.due(run.created_at, now, new.placement);
            self.move_to(id, Stand::Pending(Some(super::state::whole_micros(due))));
        }
        true
    }
}

/// Whether nobody ever held a run, and nobody asked it to cancel.
fn has_not_begun(id: RunId, run: &Run) -> bool {
    let is_waiting = matches!(run.status(), RunStatus::Pending | RunStatus::Paused);
    is_waiting
        && run.progress == 0
        && run.records.len() == 1
        && run.chain == id
        && !run.cancel_requested
}
