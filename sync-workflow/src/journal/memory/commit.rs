//! Commits of nodes.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::state::{Run, Stand, State, whole_micros};
use crate::{
    id::{NodeId, RunId},
    journal::{
        Attempt, Batch, BatchOutcome, Claim, ClaimRequest, ClaimedRun, Close, Error, NewRun,
        ParentCloses, ParentLink, Publication, Published, Renewal, Result, RunCommit, RunOutcome,
        StartOutcome, TransactionCommit, Transition, WakeAt,
    },
    record::Record,
    status::RunStatus,
};

/// How much arrived for each run during a commit.
type Arrivals = BTreeMap<RunId, i64>;

impl State {
    pub(super) fn renew(
        &mut self,
        node: NodeId,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Renewal> {
        self.check_lease(node)?;
        self.nodes.insert(node, until);
        let next_expiry = self
            .nodes
            .iter()
            .filter(|(other, _)| **other != node)
            .map(|(_, end)| *end)
            .min();
        Ok(Renewal { now, next_expiry })
    }

    pub(super) fn reap(&mut self, limit: u32, now: Timestamp) -> Vec<NodeId> {
        let mut dead: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, end)| **end <= now)
            .map(|(node, end)| (*end, *node))
            .collect();
        dead.sort_unstable();
        dead.truncate(limit as usize);
        for (_, node) in &dead {
            self.nodes.remove(node);
            for run in self.held_by(*node) {
                self.move_to(run, Stand::Pending(Some(now)));
            }
        }
        dead.into_iter().map(|(_, node)| node).collect()
    }

    pub(super) fn retire(&mut self, node: NodeId, now: Timestamp) {
        self.nodes.remove(&node);
        for run in self.held_by(node) {
            self.release(run, now);
        }
    }

    fn release(&mut self, id: RunId, now: Timestamp) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.claims = run.claims.saturating_sub(1);
            self.move_to(id, Stand::Pending(Some(now)));
        }
    }

    pub(super) fn claim(
        &mut self,
        node: NodeId,
        request: &ClaimRequest,
        now: Timestamp,
    ) -> Result<Claim> {
        self.check_lease(node)?;
        let takes_new = self.takes_new(request);
        let admitted = self.admit(request, takes_new, now);
        let mut ready = Vec::new();
        let mut next_wake = None;
        for (at, id) in self.sleepers(&request.queue) {
            if !self.is_for(request, takes_new, id) {
                continue;
            }
            if at > now {
                next_wake = Some(at);
                break;
            }
            if ready.len() < request.limit as usize && self.may_run(id) {
                ready.push((at, id));
            }
        }
        let mut runs = Vec::with_capacity(ready.len());
        for (at, id) in ready {
            self.move_to(id, Stand::Running(node));
            let run = self.runs.get_mut(&id).expect("a sleeper is a run");
            let rested = run.claims == 0 && run.progress > 0;
            run.claims = if run.records.len() > run.progress {
                1
            } else {
                run.claims + 1
            };
            run.progress = run.records.len();
            if request.build.is_some() {
                run.build.clone_from(&request.build);
            }
            runs.push(ClaimedRun {
                ready_at: Some(at),
                rested,
                ..run.claimed(id)
            });
        }
        Ok(Claim {
            now,
            runs,
            next_wake: next_wake.into_iter().chain(admitted.next_at).min(),
            more: admitted.more,
            managed: admitted.managed,
        })
    }

    pub(super) fn commit(
        &mut self,
        node: NodeId,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<BatchOutcome> {
        self.check_lease(node)?;
        let admitted: Vec<bool> = batch
            .runs
            .iter()
            .map(|commit| self.admits(node, commit))
            .collect();
        let happened = || {
            batch
                .runs
                .iter()
                .zip(&admitted)
                .filter(|(_, admitted)| **admitted)
                .map(|(commit, _)| commit)
        };
        let mut outcome = BatchOutcome::default();
        let mut arrivals = Arrivals::new();

        for commit in happened() {
            self.append(commit, now);
            self.publish(commit, now, &mut outcome.watched);
        }
        for commit in happened() {
            if let Transition::Close(close) = &commit.transition {
                self.close(
                    commit.run,
                    close.status,
                    now,
                    &mut arrivals,
                    &mut outcome.awaited,
                );
                if let Some(next) = &close.next {
                    self.continue_in(commit.run, next, node, now);
                }
            }
        }
        for commit in happened() {
            for child in &commit.children {
                if self.start(child, Some(node), now) != StartOutcome::Started {
                    outcome.rejected_children.push(child.run);
                }
            }
        }
        for commit in happened() {
            if let Transition::Close(close) = &commit.transition {
                self.leave_children(commit.run, close, &mut arrivals);
            }
        }
        outcome.starts = batch
            .starts
            .iter()
            .map(|start| self.start(start, Some(node), now))
            .collect();
        outcome.woken = arrivals
            .into_iter()
            .filter_map(|(run, count)| self.arrive(run, count, now))
            .collect();
        outcome.runs = batch
            .runs
            .iter()
            .zip(&admitted)
            .map(|(commit, admitted)| {
                if *admitted {
                    self.settle(commit, now)
                } else {
                    RunOutcome::Lost
                }
            })
            .collect();
        // A run may give up its place in the very batch in which something arrives for it.
        for woken in &mut outcome.woken {
            woken.node = self.runs.get(&woken.run).and_then(Run::node);
        }
        Ok(outcome)
    }

    /// Starts the run in which one that has closed goes on. What was asked of that one is asked of this one.
    fn continue_in(&mut self, id: RunId, new: &NewRun, node: NodeId, now: Timestamp) {
        // A fork of its parent may have adopted it meanwhile.
        let adopter = self.runs.get(&id).and_then(|run| run.parent);
        let parent = new.parent.map(|link| ParentLink {
            run: adopter.map_or(link.run, |adopter| adopter.run),
            ..link
        });
        let new = &NewRun {
            parent,
            ..new.clone()
        };
        self.insert(new, Some(node), now);
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        run.next = Some(new.run);
        let (cancels, pauses) = (run.cancel_requested, run.pause_requested);
        let tags = run.tags.carried_over();
        let Some(next) = self.runs.get_mut(&new.run) else {
            return;
        };
        next.tags = tags;
        if !cancels && !pauses {
            return;
        }
        next.cancel_requested = cancels;
        next.pause_requested = pauses;
        next.inbox = 1;
        let stand = next.stand().clone();
        self.move_to(new.run, stand);
    }

    /// Whether the node holds the run and the records continue its journal.
    fn admits(&self, node: NodeId, commit: &RunCommit) -> bool {
        self.runs.get(&commit.run).is_some_and(|run| {
            run.is_held_by(node)
                && commit
                    .records
                    .first()
                    .is_none_or(|first| first.position == run.next_position())
        })
    }

    fn append(&mut self, commit: &RunCommit, now: Timestamp) {
        let Some(run) = self.runs.get_mut(&commit.run) else {
            return;
        };
        run.records
            .extend(commit.records.iter().map(|record| (record.clone(), now)));
        run.attempts.extend(
            commit
                .attempts
                .iter()
                .map(|attempt| (attempt.command, kept(attempt))),
        );
        for command in &commit.settled_attempts {
            run.attempts.remove(command);
        }
        for change in &commit.tags {
            run.tags.change(change);
        }
        let chain = run.chain;
        if let Some(chain) = self.chains.get_mut(&chain) {
            for signal in &commit.consumed_signals {
                if let Some(message) = chain.waiting.remove(signal) {
                    chain.received.insert(*signal, message);
                }
            }
        }
    }

    fn publish(&mut self, commit: &RunCommit, now: Timestamp, watched: &mut Vec<RunId>) {
        let Some(run) = self.runs.get(&commit.run) else {
            return;
        };
        if run.awaited && !commit.published.is_empty() {
            watched.push(commit.run);
        }
        let shown = self.published.entry(run.chain).or_default();
        for Publication { name, payload } in &commit.published {
            let before = shown.get(name).map_or(0, |published| published.revision);
            let published = Published {
                revision: before + 1,
                payload: payload.clone(),
                at: now,
            };
            shown.insert(Arc::clone(name), published);
        }
    }

    /// Closes a run and tells its parent.
    fn close(
        &mut self,
        id: RunId,
        status: RunStatus,
        now: Timestamp,
        arrivals: &mut Arrivals,
        awaited: &mut Vec<RunId>,
    ) {
        if status != RunStatus::ContinuedAsNew {
            self.release_turn(id);
        }
        self.move_to(id, Stand::Closed(status, now));
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        run.attempts.clear();
        if run.awaited {
            awaited.push(id);
        }
        if let Some(parent) = run.parent {
            *arrivals.entry(parent.run).or_default() += 1;
        }
    }

    /// Applies the parent-close policy to the open children of a closed run.
    fn leave_children(&mut self, id: RunId, close: &Close, arrivals: &mut Arrivals) {
        if !close.has_open_children {
            return;
        }
        for child in self.children_of(id) {
            let Some(run) = self.runs.get_mut(&child).filter(|run| run.is_open()) else {
                continue;
            };
            let cancels = run
                .parent
                .is_some_and(|parent| parent.on_close == ParentCloses::Cancel);
            if cancels && !run.cancel_requested {
                run.cancel_requested = true;
                *arrivals.entry(child).or_default() += 1;
            }
        }
    }

    /// Moves a run that stays open, after everything that arrives with the batch has arrived.
    fn settle(&mut self, commit: &RunCommit, now: Timestamp) -> RunOutcome {
        match &commit.transition {
            Transition::Continue | Transition::Close(_) => {}
            Transition::Release => self.release(commit.run, now),
            Transition::Park { reason } => {
                self.move_to(commit.run, Stand::Parked(reason.clone(), now))
            }
            Transition::Suspend {
                wake_at,
                seen_inbox,
            } => {
                let Some(run) = self.runs.get_mut(&commit.run) else {
                    return RunOutcome::Lost;
                };
                if run.inbox != *seen_inbox {
                    return RunOutcome::StillAwake;
                }
                run.claims = 0;
                let wake_at = match wake_at {
                    WakeAt::Arrival => None,
                    WakeAt::Time(at) => Some(whole_micros(*at)),
                };
                self.move_to(commit.run, Stand::Pending(wake_at));
            }
        }
        RunOutcome::Committed
    }

    pub(super) fn commit_step(&mut self, commit: &TransactionCommit, now: Timestamp) -> Result<()> {
        self.check_lease(commit.node)?;
        let run = self
            .runs
            .get_mut(&commit.run)
            .filter(|run| {
                run.is_held_by(commit.node) && run.next_position() == commit.record.position
            })
            .ok_or(Error::RunLost { run: commit.run })?;
        run.records.push((commit.record.clone(), now));
        if let Some(command) = commit.settled_attempt {
            run.attempts.remove(&command);
        }
        Ok(())
    }

    pub(super) fn was_committed(&self, node: NodeId, batch: &Batch) -> Option<bool> {
        let mut found = None;
        for commit in &batch.runs {
            let Some(first) = commit.records.first() else {
                continue;
            };
            let run = self.runs.get(&commit.run);
            let present = run
                .and_then(|run| run.records.get(first.position.0 as usize))
                .is_some_and(|(record, _)| record == first);
            if !present && run.is_some_and(|run| run.is_held_by(node)) {
                return Some(false);
            }
            found = Some(found.unwrap_or(false) || present);
        }
        for start in &batch.starts {
            found = Some(found.unwrap_or(false) || self.runs.contains_key(&start.run));
        }
        found
    }

    /// Ends a run with a record at its next position.
    pub(super) fn terminate(
        &mut self,
        id: RunId,
        record: &Record,
        status: RunStatus,
        now: Timestamp,
    ) -> Vec<RunId> {
        let Some(run) = self.runs.get_mut(&id) else {
            return Vec::new();
        };
        let position = run.next_position();
        run.records.push((
            Record {
                position,
                ..record.clone()
            },
            now,
        ));
        let mut arrivals = Arrivals::new();
        self.close(id, status, now, &mut arrivals, &mut Vec::new());
        let close = Close {
            status,
            next: None,
            has_open_children: true,
            has_parent: true,
        };
        self.leave_children(id, &close, &mut arrivals);
        arrivals
            .into_iter()
            .filter_map(|(run, count)| self.arrive(run, count, now))
            .map(|woken| woken.run)
            .collect()
    }
}

/// An attempt as it is kept.
fn kept(attempt: &Attempt) -> Attempt {
    Attempt {
        next_at: attempt.next_at.map(whole_micros),
        scheduled_at: whole_micros(attempt.scheduled_at),
        ..attempt.clone()
    }
}
