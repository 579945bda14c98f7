//! The runs that a run starts: children, and the one that it continues in.

use std::{collections::VecDeque, sync::Arc};

use super::{Driver, empty_commit};
use crate::{
    id::{Position, RunId},
    journal::{
        Admission, IdReuse, NewRun, ParentCloses, ParentLink, Placement, RunCommit, Ticket,
        Transition,
    },
    record::RecordKind,
    replay::{Action, ChildStart, Continuation, Turn},
    tag::Tags,
    trace::TraceContext,
};

/// Up to where records must be durable before each child exists that a turn starts, in the order of their starts.
pub(super) fn positions(turn: &Turn) -> VecDeque<(RunId, Position)> {
    let children = turn.children.iter().map(|child| child.run);
    let starts = turn.records.iter().filter(|record| is_birth(record.kind));
    children
        .zip(starts.map(|record| record.position.next()))
        .collect()
}

const fn is_birth(kind: RecordKind) -> bool {
    matches!(kind, RecordKind::ChildStarted)
}

impl Driver {
    /// Keeps actions until they may be performed: the wait for a child until the child is born, everything else until the
    /// whole turn is durable.
    pub(super) fn gate(
        &mut self,
        actions: Vec<Action>,
        barrier: Position,
        mut births: VecDeque<(RunId, Position)>,
    ) {
        if births.is_empty() {
            let gated = actions.into_iter().map(|action| (barrier, action));
            self.gated.extend(gated);
            return;
        }
        let mut later = Vec::new();
        for action in actions {
            let born_at = match &action {
                Action::AwaitChild { child, .. } => {
                    // Of those in between nobody awaits the end.
                    let place = births.iter().position(|(run, _)| run == child);
                    place.and_then(|place| births.drain(..=place).next_back())
                }
                _ => None,
            };
            match born_at {
                Some((_, born_at)) => self.gated.push_back((born_at, action)),
                None => later.push((barrier, action)),
            }
        }
        self.gated.extend(later);
    }

    /// Whether the run will await a child as soon as what is gated is performed.
    pub(super) fn is_about_to_await(&self, run: RunId) -> bool {
        let awaits =
            |action: &Action| matches!(action, Action::AwaitChild { child, .. } if *child == run);
        self.gated.iter().any(|(_, action)| awaits(action))
    }

    /// Takes from the outbox what is committed next: everything, or of many children the first, with the records up to
    /// them.
    pub(super) fn next_commit(&mut self) -> RunCommit {
        let mut commit = std::mem::replace(&mut self.outbox, empty_commit(self.claimed.run));
        let births = self.node.settings.commits.births;
        if commit.children.len() <= births {
            return commit;
        }
        let transition = std::mem::replace(&mut commit.transition, Transition::Continue);
        let mut starts = commit
            .records
            .iter()
            .enumerate()
            .filter(|(_, record)| is_birth(record.kind));
        // Whatever else there is belongs to some of the records.
        match starts.nth(births) {
            Some((next, _)) if commit.only_adds() => {
                self.outbox.records = commit.records.split_off(next);
                self.outbox.children = commit.children.split_off(births);
                self.outbox.transition = transition;
            }
            _ => commit.transition = transition,
        }
        commit
    }

    /// Throws away what the journal has not been told and will not be: the places that were kept for what it would have
    /// started are free.
    pub(super) fn discard_outbox(&mut self) {
        let unsent = std::mem::replace(&mut self.outbox, empty_commit(self.claimed.run));
        self.node.unplace_started(&unsent);
    }

    pub(super) fn new_child(&self, child: ChildStart) -> NewRun {
        let queue = child
            .queue
            .unwrap_or_else(|| Arc::clone(&self.claimed.queue));
        let on_close = if child.abandon_on_close {
            ParentCloses::Abandon
        } else {
            ParentCloses::Cancel
        };
        let mut new = NewRun {
            run: child.run,
            chain: child.run,
            workflow_id: child.workflow_id,
            workflow: child.workflow,
            queue,
            input: child.input,
            reuse: IdReuse::ReturnExisting,
            parent: Some(ParentLink {
                run: self.claimed.run,
                command: child.command,
                on_close,
            }),
            trace: TraceContext::current().or_else(|| self.claimed.trace.clone()),
            placement: Placement::Anywhere,
            ticket: Ticket {
                key: child.key,
                priority: child.priority,
                admission: match child.is_exempt {
                    true => Admission::Exempt,
                    false => Admission::None,
                },
            },
            tags: child.tags,
            carried_over: Vec::new(),
        };
        self.node.place(&mut new);
        new
    }

    pub(super) fn continuation(&self, continuation: Continuation) -> NewRun {
        let mut next = NewRun {
            run: continuation.run,
            chain: self.claimed.chain,
            workflow_id: self.claimed.workflow_id.clone(),
            workflow: continuation.workflow,
            queue: Arc::clone(&self.claimed.queue),
            input: continuation.input,
            reuse: IdReuse::StartNew,
            parent: self.claimed.parent,
            trace: self.claimed.trace.clone(),
            placement: Placement::Anywhere,
            // It hands its turn on.
            ticket: self.claimed.ticket.clone(),
            // The journal carries them over.
            tags: Tags::new(),
            carried_over: continuation.carried_over,
        };
        if !self.is_draining && !self.is_pausing {
            self.node.place(&mut next);
        }
        next
    }
}
