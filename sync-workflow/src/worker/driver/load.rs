//! How a driver comes to its run: the journal is loaded and checked, and the code catches up with it.

use std::{sync::Arc, task::Waker, time::Duration};

use super::{Driver, Flow, Origin, history};
use crate::{
    context::Context,
    id::Position,
    journal::Attempt,
    record::Record,
    replay::{Execution, Fault, Machine},
    telemetry,
    worker::{backoff::Backoff, mailbox::Alarm},
};

impl Driver {
    pub(super) async fn begin(&mut self, origin: Origin) -> Flow {
        if self.claimed.attempts > self.node.settings.max_claims {
            let reason = format!(
                "{} claims in a row ended with the worker gone and no progress made",
                self.claimed.attempts - 1
            );
            self.park(reason);
            self.flush().await;
            return Flow::Continue;
        }
        let has_waited = self.claimed.rested;
        let (records, attempts) = match origin {
            Origin::Born(run) => (run.born_with().collect(), Vec::new()),
            Origin::Claimed => match self.load().await {
                Ok(history) => history,
                Err(Flow::Stop) => return Flow::Stop,
                Err(Flow::Continue) => {
                    self.flush().await;
                    return Flow::Continue;
                }
            },
        };
        self.replay(records, attempts, has_waited);
        self.perform_ungated();
        // A run that continues another may have been sent signals while that one closed.
        let is_continuation = self.claimed.chain != self.claimed.run;
        let needs_inbox =
            self.claimed.inbox > 0 || is_continuation || !self.awaited_children.is_empty();
        if needs_inbox
            && self.ending.is_none()
            && let Flow::Stop = self.read_inbox().await
        {
            return Flow::Stop;
        }
        self.perform_ungated();
        self.flush().await;
        Flow::Continue
    }

    /// Loads the whole journal of the run, in pages.
    pub(super) async fn load(&mut self) -> Result<(Vec<Record>, Vec<Attempt>), Flow> {
        const PAGE: u32 = 5_000;
        let mut records: Vec<Record> = Vec::new();
        let mut attempts = Vec::new();
        let mut pause = Backoff::new(Duration::from_millis(10));
        loop {
            let from = Position(u32::try_from(records.len()).unwrap_or(u32::MAX));
            match self.node.journal.load(self.claimed.run, from, PAGE).await {
                Ok(mut page) => {
                    let is_last = page.records.len() < PAGE as usize;
                    records.append(&mut page.records);
                    attempts.append(&mut page.attempts);
                    if is_last {
                        return self.checked(records).map(|records| (records, attempts));
                    }
                }
                Err(error) if error.is_transient() => {
                    if self.node.pause(&mut pause).await.is_err() {
                        return Err(Flow::Stop);
                    }
                }
                Err(error) => {
                    self.park(
                        Fault::Damaged {
                            detail: error.to_string(),
                        }
                        .to_string(),
                    );
                    return Err(Flow::Continue);
                }
            }
        }
    }

    /// Checks a loaded journal before any of it has an effect.
    pub(super) fn checked(&mut self, records: Vec<Record>) -> Result<Vec<Record>, Flow> {
        if records.is_empty() {
            // A run that was never started: a rejected start whose answer was lost.
            return Err(Flow::Stop);
        }
        match history::fault_in(&records) {
            None => Ok(records),
            Some(fault) => {
                self.park(fault.to_string());
                Err(Flow::Continue)
            }
        }
    }

    /// Makes the execution from a journal and lets it catch up. With `has_waited` the code is known to have come as
    /// far as the journal goes before.
    pub(super) fn replay(
        &mut self,
        records: Vec<Record>,
        attempts: Vec<Attempt>,
        has_waited: bool,
    ) {
        let length = u32::try_from(records.len()).unwrap_or(u32::MAX);
        self.durable = Position(length);
        let attempted: Vec<_> = attempts.iter().map(|attempt| attempt.command).collect();
        self.activities.remember(attempts);
        let input = records
            .first()
            .map(|record| record.payload.clone())
            .unwrap_or_default();
        let machine = Machine::new(self.claimed.run, self.claimed.workflow_id.clone(), records)
            .with_attempts(attempted.into_iter());
        let machine = Arc::new(std::sync::Mutex::new(machine));
        let context = Context::new(Arc::clone(&machine));
        let name = &self.claimed.workflow;
        let future = match self.node.registry.workflow(name) {
            Some(factory) => history::make_future(factory, context, &input),
            None => Err(Fault::Unregistered {
                what: "workflow",
                name: Arc::clone(name),
            }),
        };
        let future = match future {
            Ok(future) => future,
            Err(fault) => {
                self.park(fault.to_string());
                return;
            }
        };
        let alarm = Waker::from(Arc::new(Alarm(self.mailbox.clone())));
        let mut execution = Execution::new(machine, future, alarm).after_wait(has_waited);
        // One whose end waits for a step's commit has not been interrupted.
        let mut running = self.activities.running();
        running.extend(self.steps.deferred_activities());
        let began = self.node.clock.moment();
        let turn = execution.start(self.node.clock.now(), &running);
        // What has its start alone catches up with nothing.
        if length > 1 {
            let took = self.node.clock.moment().saturating_duration_since(began);
            self.node.metrics.replayed(&self.claimed, took);
            telemetry::replayed(length);
        }
        self.execution = Some(execution);
        self.take(turn);
    }
}
