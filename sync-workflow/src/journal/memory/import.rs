//! Runs from other journals.

use super::state::{Stand, State, whole_micros};
use crate::{
    id::RunId,
    journal::{IdReuse, ImportedRun, NewRun, Placement, StartOutcome, Ticket},
    status::RunStatus,
};

impl State {
    pub(super) fn import(&mut self, imported: &ImportedRun) -> StartOutcome {
        if let Some((run, status)) = self.in_the_way(imported) {
            return StartOutcome::Existing { run, status };
        }
        let created_at = whole_micros(imported.created_at());
        let new = NewRun {
            run: imported.run,
            chain: imported.run,
            workflow_id: imported.workflow_id.clone(),
            workflow: imported.workflow.clone(),
            queue: imported.queue.clone(),
            input: bytes::Bytes::new(),
            reuse: IdReuse::ReturnExisting,
            parent: None,
            trace: None,
            placement: Placement::Anywhere,
            ticket: Ticket::default(),
            tags: imported.tags.clone(),
            carried_over: Vec::new(),
        };
        self.insert(&new, None, created_at);
        if let Some(run) = self.runs.get_mut(&imported.run) {
            let records = imported.records.iter();
            run.records = records
                .map(|item| (item.record.clone(), whole_micros(item.recorded_at)))
                .collect();
            run.pause_requested = imported.closed.is_none();
        }
        let stand = match imported.closed.zip(imported.closed_at()) {
            Some((status, at)) => Stand::Closed(status, whole_micros(at)),
            None => Stand::Paused,
        };
        self.move_to(imported.run, stand);
        StartOutcome::Started
    }

    fn in_the_way(&self, imported: &ImportedRun) -> Option<(RunId, RunStatus)> {
        let same = self
            .runs
            .contains_key(&imported.run)
            .then_some(imported.run);
        let run = same.or_else(|| self.latest(&imported.workflow_id))?;
        Some((run, self.runs.get(&run)?.status()))
    }
}
