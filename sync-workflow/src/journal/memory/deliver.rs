//! What arrives for runs from outside: signals, cancellation, an operator's hand.

use std::sync::Arc;

use jiff::Timestamp;

use super::state::{Stand, State};
use crate::{
    id::{NodeId, RunId},
    journal::{
        Error, NewRun, NewSignal, Result, RunSelector, SignalMessage, SignalOutcome,
        SignalledStart, StartOutcome, WokenRun,
    },
    record::Record,
    status::RunStatus,
};

impl State {
    pub(super) fn select(&self, selector: &RunSelector) -> Option<RunId> {
        match selector {
            RunSelector::Run(run) => self.runs.contains_key(run).then_some(*run),
            RunSelector::Latest(workflow_id) => self.latest(workflow_id),
        }
    }

    pub(super) fn select_open(&self, selector: &RunSelector) -> Option<RunId> {
        self.select(selector)
            .filter(|run| self.runs.get(run).is_some_and(super::state::Run::is_open))
    }

    pub(super) fn signal(&mut self, signal: &NewSignal, now: Timestamp) -> SignalOutcome {
        self.deliver(signal, false, now)
    }

    pub(super) fn send_signal(
        &mut self,
        node: NodeId,
        signal: &NewSignal,
        now: Timestamp,
    ) -> Result<SignalOutcome> {
        self.check_lease(node)?;
        Ok(self.deliver(signal, true, now))
    }

    /// Stores a signal whose id is new to the chain, or to all runs of the workflow id.
    fn deliver(&mut self, signal: &NewSignal, everywhere: bool, now: Timestamp) -> SignalOutcome {
        let Some(id) = self.select(&signal.to) else {
            return SignalOutcome::NotOpen;
        };
        let Some(run) = self.runs.get(&id) else {
            return SignalOutcome::NotOpen;
        };
        let is_open = run.is_open();
        let chain = self.chains.entry(run.chain).or_default();
        let sent = self.sent.entry(run.workflow_id.clone()).or_default();
        if chain.known.contains(&signal.id) || (everywhere && sent.contains(&signal.id)) {
            return SignalOutcome::Duplicate;
        }
        if !is_open {
            return SignalOutcome::NotOpen;
        }
        self.last_signal += 1;
        let sequence = self.last_signal;
        chain.known.insert(Arc::clone(&signal.id));
        sent.insert(Arc::clone(&signal.id));
        chain.waiting.insert(
            sequence,
            SignalMessage {
                sequence,
                name: Arc::clone(&signal.name),
                payload: signal.payload.clone(),
            },
        );
        self.signalled(id, now)
            .map_or(SignalOutcome::NotOpen, SignalOutcome::Delivered)
    }

    /// Counts a signal. A run that has not begun keeps its time: a delayed start stays delayed.
    fn signalled(&mut self, id: RunId, now: Timestamp) -> Option<WokenRun> {
        let run = self.runs.get_mut(&id)?;
        if run.progress > 0 {
            return self.arrive(id, 1, now);
        }
        run.inbox += 1;
        Some(WokenRun {
            run: id,
            node: run.node(),
        })
    }

    /// Starts a run if its workflow id admits it, and delivers a signal to the one that is open then.
    pub(super) fn signal_with_start(
        &mut self,
        new: &NewRun,
        signal: &NewSignal,
        now: Timestamp,
    ) -> SignalledStart {
        let sent = self.sent.get(&new.workflow_id);
        let is_known = sent.is_some_and(|sent| sent.contains(&signal.id));
        let start = match self.latest(&new.workflow_id).filter(|_| is_known) {
            Some(run) if run == new.run => StartOutcome::Started,
            Some(run) => self.existing(run),
            None => self.start(new, None, now),
        };
        let signal = self.deliver(signal, true, now);
        SignalledStart { start, signal }
    }

    pub(super) fn request_cancel(
        &mut self,
        selector: &RunSelector,
        now: Timestamp,
    ) -> Option<WokenRun> {
        let id = self.select_open(selector)?;
        let run = self.runs.get_mut(&id)?;
        if run.cancel_requested && !run.pause_requested {
            return Some(WokenRun {
                run: id,
                node: run.node(),
            });
        }
        run.cancel_requested = true;
        self.end_pause(id, now);
        self.arrive(id, 1, now)
    }

    pub(super) fn pause(&mut self, selector: &RunSelector) -> Option<WokenRun> {
        let id = self.select_open(selector)?;
        let run = self.runs.get_mut(&id)?;
        if !run.pause_requested {
            run.pause_requested = true;
            run.inbox += 1;
        }
        let woken = WokenRun {
            run: id,
            node: run.node(),
        };
        // Pending becomes paused.
        let stand = run.stand().clone();
        self.move_to(id, stand);
        Some(woken)
    }

    pub(super) fn resume(&mut self, selector: &RunSelector, now: Timestamp) -> Option<WokenRun> {
        let id = self.select_open(selector)?;
        if !self.runs.get(&id)?.pause_requested {
            return None;
        }
        self.end_pause(id, now);
        self.arrive(id, 1, now)
    }

    fn end_pause(&mut self, id: RunId, now: Timestamp) {
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        run.pause_requested = false;
        if run.status() == RunStatus::Paused {
            run.claims = 0;
            self.move_to(id, Stand::Pending(Some(now)));
        }
    }

    pub(super) fn unpark(&mut self, selector: &RunSelector, now: Timestamp) -> Option<WokenRun> {
        let id = self.select(selector)?;
        let run = self
            .runs
            .get_mut(&id)
            .filter(|run| run.status() == RunStatus::Parked)?;
        run.claims = 0;
        self.move_to(id, Stand::Pending(Some(now)));
        Some(WokenRun {
            run: id,
            node: None,
        })
    }
}

/// The status of a run that somebody other than its code ends with this record.
pub(in crate::journal) fn ended_status(record: &Record) -> Result<RunStatus> {
    let status = record.kind.final_status();
    // What goes on as new has to name the run that follows.
    let status = status.filter(|status| *status != RunStatus::ContinuedAsNew);
    status.ok_or(Error::Unsupported {
        what: "ending a run with a record of this kind",
    })
}
