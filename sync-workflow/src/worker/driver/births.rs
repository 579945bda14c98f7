//! The runs that a run starts: children, and the one that it continues in.

use std::sync::Arc;

use super::{Driver, empty_commit};
use crate::{
    journal::{Admission, IdReuse, NewRun, ParentCloses, ParentLink, Placement, Ticket},
    replay::{ChildStart, Continuation},
    tag::Tags,
    trace::TraceContext,
};

impl Driver {
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
