//! The deletion of runs that ended long ago.

use jiff::Timestamp;

use super::state::{Stand, State};
use crate::{
    id::RunId,
    journal::{Deleted, Deletion, DeletionPlace},
    status::RunStatus,
};

impl State {
    pub(super) fn delete_closed(&mut self, deletion: &Deletion, now: Timestamp) -> Deleted {
        let candidates = self.ended_before(deletion, now);
        let mut deleted = Deleted::default();
        let mut records = 0;
        for place in candidates {
            if deleted.after.is_some() && records >= Deletion::MAX_RECORDS as usize {
                break;
            }
            records += self.runs.get(&place.run).map_or(0, |run| run.records.len());
            deleted.after = Some(place);
            if !self.is_kept_for_its_parent(place.run) {
                self.forget(place.run);
                deleted.runs += 1;
            }
        }
        deleted
    }

    /// The first runs to look at, in the order of their ends.
    fn ended_before(&self, deletion: &Deletion, now: Timestamp) -> Vec<DeletionPlace> {
        let Ok(limit) = now.checked_sub(deletion.closed_for) else {
            return Vec::new();
        };
        let mut places: Vec<_> = self
            .runs
            .iter()
            .filter(|(_, run)| run.workflow == deletion.workflow)
            .filter_map(|(id, run)| match run.stand() {
                Stand::Closed(_, closed_at) => Some(DeletionPlace {
                    closed_at: *closed_at,
                    run: *id,
                }),
                Stand::Pending(_) | Stand::Running(_) | Stand::Parked(..) | Stand::Paused => None,
            })
            .filter(|place| place.closed_at <= limit)
            .filter(|place| deletion.after.is_none_or(|after| *place > after))
            .collect();
        places.sort_unstable();
        places.truncate(Deletion::MAX_RUNS as usize);
        places
    }

    fn is_kept_for_its_parent(&self, id: RunId) -> bool {
        let parent = self.runs.get(&id).and_then(|run| run.parent);
        parent
            .and_then(|parent| self.runs.get(&parent.run))
            .is_some_and(super::state::Run::is_open)
    }

    fn forget(&mut self, id: RunId) {
        let Some(run) = self.remove(id) else {
            return;
        };
        self.pieces.forget(id);
        if run.status() == RunStatus::ContinuedAsNew {
            return;
        }
        self.published.remove(&run.chain);
        if let Some(chain) = self.chains.remove(&run.chain)
            && let Some(sent) = self.sent.get_mut(&run.workflow_id)
        {
            sent.retain(|signal| !chain.known.contains(signal));
            if sent.is_empty() {
                self.sent.remove(&run.workflow_id);
            }
        }
    }
}
