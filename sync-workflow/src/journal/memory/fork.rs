//! Runs that begin as copies of other runs' first records.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::state::{Chain, Run, Stand, State};
use crate::{
    id::{RunId, WorkflowId},
    journal::{
        Admission, Fork, ForkOutcome, ForkTarget, IdReuse, NewRun, Placement, Ticket, WokenRun,
    },
    record::{Record, RecordKind},
    status::RunStatus,
};

/// How many signals of each name.
type Counts = HashMap<Arc<str>, usize>;

impl State {
    /// Starts a fork, and returns whom the end of its origin concerns.
    pub(super) fn fork(&mut self, fork: &Fork, now: Timestamp) -> (ForkOutcome, Vec<RunId>) {
        if self.runs.contains_key(&fork.run) {
            return (ForkOutcome::Forked { ended: None }, Vec::new());
        }
        let copied = fork.forked.position.0 as usize;
        let origin = self.runs.get(&fork.origin);
        let Some(origin) = origin.filter(|origin| origin.records.len() >= copied) else {
            return (ForkOutcome::NoOrigin, Vec::new());
        };
        let workflow_id = match &fork.target {
            ForkTarget::New(workflow_id) => workflow_id.clone(),
            ForkTarget::Same { .. } => origin.workflow_id.clone(),
        };
        if let Some((run, status)) = self.in_the_way_of(fork, &workflow_id) {
            return (ForkOutcome::Existing { run, status }, Vec::new());
        }
        let (unread, is_open) = (unread(origin, copied), origin.is_open());
        let replaced = match &fork.target {
            ForkTarget::Same { last, children } => {
                self.adopt(fork.origin, fork.run, children);
                is_open.then_some(last)
            }
            ForkTarget::New(_) => None,
        };
        let (mut ended, mut relatives) = (None, Vec::new());
        if let Some(last) = replaced {
            let node = self.runs.get(&fork.origin).and_then(Run::node);
            let run = fork.origin;
            ended = Some(WokenRun { run, node });
            relatives = self.terminate(run, last, RunStatus::ContinuedAsNew, now);
        }
        self.give_birth(fork, workflow_id, ended.is_some(), now);
        self.hand_signals_on(fork, ended.is_some(), unread);
        if ended.is_none() {
            self.hand_published_on(fork);
        }
        (ForkOutcome::Forked { ended }, relatives)
    }

    fn in_the_way_of(&self, fork: &Fork, workflow_id: &WorkflowId) -> Option<(RunId, RunStatus)> {
        let latest = self.latest(workflow_id)?;
        let is_replaced = matches!(fork.target, ForkTarget::Same { .. }) && latest == fork.origin;
        let status = self.runs.get(&latest)?.status();
        (!is_replaced).then_some((latest, status))
    }

    /// Makes children of one run, with the runs in which they went on, those of another.
    fn adopt(&mut self, from: RunId, to: RunId, children: &[RunId]) {
        for child in self.children_of(from) {
            let Some(run) = self.runs.get_mut(&child) else {
                continue;
            };
            if !children.contains(&run.chain) {
                continue;
            }
            if let Some(parent) = &mut run.parent {
                parent.run = to;
            }
            self.move_child(child, from, to);
        }
    }

    /// The new run: of the origin's chain, if it goes on in its place.
    fn give_birth(&mut self, fork: &Fork, workflow_id: WorkflowId, goes_on: bool, now: Timestamp) {
        let Some(origin) = self.runs.get(&fork.origin) else {
            return;
        };
        let admission = match origin.ticket.admission {
            Admission::Admitted if goes_on => Admission::Admitted,
            Admission::Exempt => Admission::Exempt,
            Admission::None | Admission::Admitted | Admission::Waiting => Admission::None,
        };
        let copied = fork.forked.position.0 as usize;
        let mut records: Vec<(Record, Timestamp)> = origin.records[..copied].to_vec();
        records.push((fork.forked.clone(), now));
        let pause_requested = goes_on && origin.pause_requested;
        let tags = origin.tags.clone();
        let new = NewRun {
            run: fork.run,
            chain: if goes_on { origin.chain } else { fork.run },
            workflow_id,
            workflow: Arc::clone(&origin.workflow),
            queue: Arc::clone(&origin.queue),
            input: bytes::Bytes::new(),
            reuse: IdReuse::StartNew,
            parent: origin.parent.filter(|_| goes_on),
            trace: origin.trace.clone(),
            placement: Placement::Anywhere,
            ticket: Ticket {
                admission,
                ..origin.ticket.clone()
            },
            tags,
            carried_over: Vec::new(),
        };
        self.insert(&new, None, now);
        if let Some(run) = self.runs.get_mut(&fork.run) {
            run.records = records;
            run.pause_requested = pause_requested;
            run.inbox = 1;
        }
        self.move_to(fork.run, Stand::Pending(Some(now)));
        if goes_on && let Some(origin) = self.runs.get_mut(&fork.origin) {
            origin.next = Some(fork.run);
        }
    }

    /// Gives the new run the signals that none of the copied records received.
    fn hand_signals_on(&mut self, fork: &Fork, goes_on: bool, unread: Counts) {
        let Some(chain) = self.runs.get(&fork.origin).map(|origin| origin.chain) else {
            return;
        };
        if goes_on {
            if let Some(chain) = self.chains.get_mut(&chain) {
                chain.give_back(unread);
            }
            return;
        }
        let Some(mut copy) = self.chains.get(&chain).cloned() else {
            return;
        };
        copy.give_back(unread);
        if let Some(run) = self.runs.get(&fork.run) {
            let sent = self.sent.entry(run.workflow_id.clone()).or_default();
            sent.extend(copy.known.iter().cloned());
        }
        self.chains.insert(fork.run, copy);
    }

    /// Shows in the new chain what the runs showed that the origin continues, or is a copy of, and answered.
    fn hand_published_on(&mut self, fork: &Fork) {
        let is_fork = |(record, _): &(Record, Timestamp)| record.kind == RecordKind::Forked;
        let inherits =
            |origin: &&Run| origin.chain != fork.origin || origin.records.iter().any(is_fork);
        let Some(origin) = self.runs.get(&fork.origin).filter(inherits) else {
            return;
        };
        let shown = self.published.get(&origin.chain).into_iter().flatten();
        let before = shown.filter(|(_, published)| published.at <= origin.created_at);
        let before = before.map(|(name, published)| (Arc::clone(name), published.clone()));
        let copy = before.collect();
        self.published.insert(fork.run, copy);
    }
}

impl Chain {
    /// Makes the last so many signals of each name that were received wait again.
    fn give_back(&mut self, mut counts: Counts) {
        let mut again = Vec::new();
        for (sequence, message) in self.received.iter().rev() {
            if let Some(count) = counts.get_mut(&message.name).filter(|count| **count > 0) {
                *count -= 1;
                again.push(*sequence);
            }
        }
        for sequence in again {
            if let Some(message) = self.received.remove(&sequence) {
                self.waiting.insert(sequence, message);
            }
        }
    }
}

/// The signals that a run received after its first records. What the runs received in which it went on is not known
/// to come after that.
fn unread(origin: &Run, copied: usize) -> Counts {
    let mut counts = Counts::new();
    if origin.status() == RunStatus::ContinuedAsNew {
        return counts;
    }
    let later = origin.records.iter().skip(copied);
    for (record, _) in later.filter(|(record, _)| record.kind == RecordKind::SignalReceived) {
        *counts.entry(Arc::clone(&record.name)).or_default() += 1;
    }
    counts
}
