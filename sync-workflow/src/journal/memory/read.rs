//! What the memory journal tells.

use std::sync::Arc;

use jiff::Timestamp;

use super::state::{Run, Stand, State};
use crate::{
    id::{Position, RunId},
    journal::{
        ChildOutcome, ClaimRequest, Closed, History, HistoryRecord, Inbox, Page, Published,
        RunFilter, RunInfo, RunSelector,
    },
};

impl State {
    pub(super) fn load(&self, id: RunId, from: Position, limit: u32) -> History {
        let Some(run) = self.runs.get(&id) else {
            return History::default();
        };
        let records = run
            .records
            .iter()
            .skip(from.0 as usize)
            .take(limit as usize)
            .map(|(record, _)| record.clone())
            .collect();
        let attempts = if from == Position(0) {
            run.attempts.values().cloned().collect()
        } else {
            Vec::new()
        };
        History { records, attempts }
    }

    pub(super) fn next_wake(&self, request: &ClaimRequest) -> Option<Timestamp> {
        let mut sleepers = self.sleepers(&request.queue);
        let takes_new = self.takes_new(request);
        let found = sleepers.find(|(_, id)| self.is_for(request, takes_new, *id));
        found.map(|(at, _)| at)
    }

    pub(super) fn inbox(&self, id: RunId, children: &[RunId], limit: u32) -> Inbox {
        let Some(run) = self.runs.get(&id) else {
            return Inbox::default();
        };
        let signals = self
            .chains
            .get(&run.chain)
            .map(|chain| {
                chain
                    .waiting
                    .values()
                    .take(limit as usize)
                    .cloned()
                    .collect()
            })
            .unwrap_or_default();
        let children = children
            .iter()
            .filter_map(|child| self.child_outcome(*child))
            .collect();
        Inbox {
            count: run.inbox,
            cancel_requested: run.cancel_requested,
            pause_requested: run.pause_requested,
            signals,
            children,
        }
    }

    fn child_outcome(&self, child: RunId) -> Option<ChildOutcome> {
        match self.runs.get(&child) {
            None => Some(ChildOutcome {
                child,
                closed: None,
            }),
            Some(run) if run.is_open() => None,
            Some(run) => Some(ChildOutcome {
                child,
                closed: Some(closed(run)),
            }),
        }
    }

    pub(super) fn outcome(&mut self, id: RunId) -> Option<Closed> {
        let run = self.runs.get_mut(&id)?;
        if run.is_open() {
            run.awaited = true;
            return None;
        }
        self.runs.get(&id).map(closed)
    }

    pub(super) fn published(&self, run: &RunSelector, name: &str) -> Option<Published> {
        let run = self.runs.get(&self.select(run)?)?;
        self.published.get(&run.chain)?.get(name).cloned()
    }

    pub(super) fn describe(&self, id: RunId) -> Option<RunInfo> {
        self.runs.get(&id).map(|run| info(id, run))
    }

    pub(super) fn list(&self, filter: &RunFilter) -> Page<RunInfo> {
        let limit = filter.effective_limit() as usize;
        let mut matches = self
            .runs
            .iter()
            .rev()
            .filter(|(id, _)| filter.before.is_none_or(|before| **id < before))
            .filter(|(_, run)| accepts(filter, run));
        let items: Vec<_> = matches
            .by_ref()
            .take(limit)
            .map(|(id, run)| info(*id, run))
            .collect();
        Page {
            more: matches.next().is_some(),
            items,
        }
    }

    pub(super) fn history(&self, id: RunId, from: Position, limit: u32) -> Page<HistoryRecord> {
        let records = self
            .runs
            .get(&id)
            .map(|run| run.records.as_slice())
            .unwrap_or_default();
        let rest = records.get(from.0 as usize..).unwrap_or_default();
        let items: Vec<_> = rest
            .iter()
            .take(limit as usize)
            .map(|(record, recorded_at)| HistoryRecord {
                record: record.clone(),
                recorded_at: *recorded_at,
            })
            .collect();
        Page {
            more: rest.len() > items.len(),
            items,
        }
    }
}

fn closed(run: &Run) -> Closed {
    let payload = run
        .records
        .last()
        .map(|(record, _)| record.payload.clone())
        .unwrap_or_default();
    Closed {
        status: run.status(),
        payload,
        next: run.next,
    }
}

fn accepts(filter: &RunFilter, run: &Run) -> bool {
    filter.tags.are_among(&run.tags)
        && (filter.statuses.is_empty() || filter.statuses.contains(&run.status()))
        && filter
            .workflow
            .as_ref()
            .is_none_or(|workflow| *workflow == run.workflow)
        && filter
            .queue
            .as_ref()
            .is_none_or(|queue| *queue == run.queue)
        && filter
            .build
            .as_ref()
            .is_none_or(|build| run.build.as_ref() == Some(build))
        && filter
            .workflow_id_prefix
            .as_ref()
            .is_none_or(|prefix| run.workflow_id.as_str().starts_with(prefix))
        && filter.parked_for.as_ref().is_none_or(
            |text| matches!(run.stand(), Stand::Parked(reason, _) if reason.contains(text)),
        )
        && filter
            .parent
            .is_none_or(|parent| run.parent.is_some_and(|link| link.run == parent))
}

fn info(id: RunId, run: &Run) -> RunInfo {
    let (closed_at, wake_at, parked) = match run.stand() {
        Stand::Pending(wake_at) => (None, *wake_at, None),
        Stand::Running(_) | Stand::Paused => (None, None, None),
        Stand::Parked(reason, at) => (None, None, Some((reason, *at))),
        Stand::Closed(_, closed_at) => (Some(*closed_at), None, None),
    };
    RunInfo {
        run: id,
        workflow_id: run.workflow_id.clone(),
        workflow: Arc::clone(&run.workflow),
        queue: Arc::clone(&run.queue),
        build: run.build.clone(),
        status: run.status(),
        node: run.node(),
        parent: run.parent.map(|parent| parent.run),
        created_at: run.created_at,
        closed_at,
        wake_at,
        ticket: run.ticket.clone(),
        attempts: run.claims,
        cancel_requested: run.cancel_requested,
        pause_requested: run.pause_requested,
        parked_reason: parked.map(|(reason, _)| reason.clone()),
        parked_at: parked.map(|(_, at)| at),
        parked_position: parked.map(|_| run.next_position()),
        trace: run.trace.clone(),
        tags: run.tags.clone(),
    }
}
