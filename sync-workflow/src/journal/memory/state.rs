//! What the memory journal remembers, and the indexes over it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{build::Declared, pieces::Pieces, queues::Queue};
use crate::{
    id::{BuildId, CommandId, NodeId, Position, RunId, WorkflowId},
    journal::{
        Admission, Attempt, ClaimedRun, Error, IdReuse, NewRun, ParentLink, Placement, Published,
        Result, ScheduleRow, SignalMessage, StartOutcome, Ticket, WokenRun,
    },
    record::Record,
    status::RunStatus,
    tag::Tags,
    trace::TraceContext,
};

#[derive(Debug, Default)]
pub(super) struct State {
    /// The end of each node's lease.
    pub(super) nodes: HashMap<NodeId, Timestamp>,
    /// What nodes are of which build; some of these nodes may be gone.
    pub(super) declared: HashMap<NodeId, Declared>,
    /// The current build of each queue that has one.
    pub(super) current_builds: HashMap<Arc<str>, BuildId>,
    pub(super) runs: BTreeMap<RunId, Run>,
    latest: HashMap<WorkflowId, RunId>,
    /// Pending runs that have a wake-up time, by queue.
    sleepers: HashMap<Arc<str>, BTreeSet<(Timestamp, RunId)>>,
    held: HashMap<NodeId, BTreeSet<RunId>>,
    children: HashMap<RunId, BTreeSet<RunId>>,
    pub(super) chains: HashMap<RunId, Chain>,
    /// The queues with limits.
    pub(super) queues: BTreeMap<Arc<str>, Queue>,
    /// What each chain shows, by name.
    pub(super) published: HashMap<RunId, BTreeMap<Arc<str>, Published>>,
    pub(super) pieces: Pieces,
    pub(super) schedules: BTreeMap<Arc<str>, ScheduleRow>,
    pub(super) last_signal: i64,
    /// Whether the runs of all queues stand in one, as for the one worker of a test.
    pub(super) is_one_queue: bool,
    /// The ids of the signals that each workflow id was sent.
    pub(super) sent: HashMap<WorkflowId, HashSet<Arc<str>>>,
}

/// The signals of a chain of runs.
#[derive(Debug, Default, Clone)]
pub(super) struct Chain {
    pub(super) known: HashSet<Arc<str>>,
    pub(super) waiting: BTreeMap<i64, SignalMessage>,
    /// What was received, for a fork from before that.
    pub(super) received: BTreeMap<i64, SignalMessage>,
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) chain: RunId,
    pub(super) workflow_id: WorkflowId,
    pub(super) sequence: i64,
    pub(super) workflow: Arc<str>,
    pub(super) queue: Arc<str>,
    pub(super) build: Option<BuildId>,
    pub(super) parent: Option<ParentLink>,
    pub(super) trace: Option<TraceContext>,
    pub(super) created_at: Timestamp,
    pub(super) inbox: i64,
    /// Claims in a row without progress.
    pub(super) claims: u32,
    /// The length of the journal at the last claim.
    pub(super) progress: usize,
    pub(super) cancel_requested: bool,
    pub(super) ticket: Ticket,
    pub(super) pause_requested: bool,
    pub(super) awaited: bool,
    /// The run in which it goes on, once it has continued as new.
    pub(super) next: Option<RunId>,
    pub(super) records: Vec<(Record, Timestamp)>,
    pub(super) attempts: BTreeMap<CommandId, Attempt>,
    pub(super) tags: Tags,
    stand: Stand,
}

/// Where a run stands, with what belongs to that state only.
#[derive(Debug, Clone)]
pub(super) enum Stand {
    /// Nobody holds it. Without a time it waits for an arrival only.
    Pending(Option<Timestamp>),
    Running(NodeId),
    /// Why, and since when.
    Parked(String, Timestamp),
    Paused,
    Closed(RunStatus, Timestamp),
}

impl Run {
    pub(super) const fn stand(&self) -> &Stand {
        &self.stand
    }

    pub(super) const fn status(&self) -> RunStatus {
        match &self.stand {
            Stand::Pending(_) => RunStatus::Pending,
            Stand::Running(_) => RunStatus::Running,
            Stand::Parked(..) => RunStatus::Parked,
            Stand::Paused => RunStatus::Paused,
            Stand::Closed(status, _) => *status,
        }
    }

    pub(super) const fn node(&self) -> Option<NodeId> {
        match &self.stand {
            Stand::Running(node) => Some(*node),
            Stand::Pending(_) | Stand::Parked(..) | Stand::Paused | Stand::Closed(..) => None,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        !self.status().is_closed()
    }

    pub(super) fn is_held_by(&self, node: NodeId) -> bool {
        self.node() == Some(node)
    }

    pub(super) fn next_position(&self) -> Position {
        Position(
            u32::try_from(self.records.len()).expect("a journal is shorter than u32::MAX records"),
        )
    }

    pub(super) fn claimed(&self, run: RunId) -> ClaimedRun {
        ClaimedRun {
            run,
            chain: self.chain,
            workflow_id: self.workflow_id.clone(),
            workflow: Arc::clone(&self.workflow),
            queue: Arc::clone(&self.queue),
            parent: self.parent,
            inbox: self.inbox,
            attempts: self.claims,
            ticket: self.ticket.clone(),
            ready_at: None,
            rested: false,
            trace: self.trace.clone(),
        }
    }
}

impl State {
    pub(super) fn check_lease(&self, node: NodeId) -> Result<()> {
        if self.nodes.contains_key(&node) {
            Ok(())
        } else {
            Err(Error::Fenced)
        }
    }

    pub(super) fn latest(&self, workflow_id: &WorkflowId) -> Option<RunId> {
        self.latest.get(workflow_id).copied()
    }

    pub(super) fn held_by(&self, node: NodeId) -> Vec<RunId> {
        self.held
            .get(&node)
            .map(|runs| runs.iter().copied().collect())
            .unwrap_or_default()
    }

    pub(super) fn children_of(&self, run: RunId) -> Vec<RunId> {
        self.children
            .get(&run)
            .map(|runs| runs.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Files a child under another parent.
    pub(super) fn move_child(&mut self, child: RunId, from: RunId, to: RunId) {
        if let Some(children) = self.children.get_mut(&from) {
            children.remove(&child);
        }
        self.children.entry(to).or_default().insert(child);
    }

    /// The pending runs of a queue with their wake-up times, the earliest first.
    pub(super) fn sleepers(&self, queue: &str) -> impl Iterator<Item = (Timestamp, RunId)> {
        let queue = if self.is_one_queue { "" } else { queue };
        self.sleepers.get(queue).into_iter().flatten().copied()
    }

    /// Moves a run to another state and keeps the indexes true. One that is asked to pause is paused in place of
    /// being pending.
    pub(super) fn move_to(&mut self, id: RunId, stand: Stand) {
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        let stand = match stand {
            Stand::Pending(_) if run.pause_requested => Stand::Paused,
            other => other,
        };
        let left = std::mem::replace(&mut run.stand, stand.clone());
        let queue = if self.is_one_queue {
            "".into()
        } else {
            Arc::clone(&run.queue)
        };
        if run.ticket.admission == Admission::Waiting && !matches!(stand, Stand::Pending(_)) {
            self.stop_waiting(id);
        }
        match left {
            Stand::Pending(Some(at)) => {
                if let Some(sleepers) = self.sleepers.get_mut(&queue) {
                    sleepers.remove(&(at, id));
                }
            }
            Stand::Running(node) => {
                if let Some(held) = self.held.get_mut(&node) {
                    held.remove(&id);
                }
            }
            Stand::Pending(None) | Stand::Parked(..) | Stand::Paused | Stand::Closed(..) => {}
        }
        match stand {
            Stand::Pending(Some(at)) => {
                self.sleepers.entry(queue).or_default().insert((at, id));
            }
            Stand::Running(node) => {
                self.held.entry(node).or_default().insert(id);
            }
            Stand::Pending(None) | Stand::Parked(..) | Stand::Paused | Stand::Closed(..) => {}
        }
    }

    /// Counts arrivals in the inbox of a run that is open, and wakes it if it sleeps.
    pub(super) fn arrive(&mut self, id: RunId, arrivals: i64, now: Timestamp) -> Option<WokenRun> {
        let run = self.runs.get_mut(&id).filter(|run| run.is_open())?;
        run.inbox += arrivals;
        let woken = WokenRun {
            run: id,
            node: run.node(),
        };
        if let Stand::Pending(at) = run.stand {
            let at = at.map_or(now, |at| at.min(now));
            self.move_to(id, Stand::Pending(Some(at)));
        }
        Some(woken)
    }

    /// Starts a run if its workflow id admits it. Only a node can hold a run from its birth.
    pub(super) fn start(
        &mut self,
        new: &NewRun,
        node: Option<NodeId>,
        now: Timestamp,
    ) -> StartOutcome {
        if self.runs.contains_key(&new.run) {
            return StartOutcome::Started;
        }
        if let Some(run) = self.occupant(&new.workflow_id, new.reuse) {
            return self.existing(run);
        }
        self.insert(new, node, now);
        StartOutcome::Started
    }

    /// A run that is there, as the answer to a start.
    pub(super) fn existing(&self, run: RunId) -> StartOutcome {
        let status = self.runs.get(&run).map_or(RunStatus::Pending, Run::status);
        StartOutcome::Existing { run, status }
    }

    /// The run that keeps a new one from being started.
    fn occupant(&self, workflow_id: &WorkflowId, reuse: IdReuse) -> Option<RunId> {
        let latest = self.latest(workflow_id)?;
        let status = self.runs.get(&latest)?.status();
        let makes_room = status.is_closed()
            && match reuse {
                IdReuse::ReturnExisting => false,
                IdReuse::StartNew => true,
                IdReuse::StartNewUnlessCompleted => status != RunStatus::Completed,
            };
        (!makes_room).then_some(latest)
    }

    /// Takes a closed run out.
    pub(super) fn remove(&mut self, id: RunId) -> Option<Run> {
        let run = self.runs.remove(&id)?;
        if self.latest.get(&run.workflow_id) == Some(&id) {
            let earlier = self
                .runs
                .iter()
                .filter(|(_, other)| other.workflow_id == run.workflow_id);
            match earlier
                .max_by_key(|(_, other)| other.sequence)
                .map(|(id, _)| *id)
            {
                Some(earlier) => self.latest.insert(run.workflow_id.clone(), earlier),
                None => self.latest.remove(&run.workflow_id),
            };
        }
        if let Some(parent) = run.parent
            && let Some(children) = self.children.get_mut(&parent.run)
        {
            children.remove(&id);
        }
        if self.children.get(&id).is_some_and(BTreeSet::is_empty) {
            self.children.remove(&id);
        }
        Some(run)
    }

    /// Inserts a run as the latest of its workflow id.
    pub(super) fn insert(&mut self, new: &NewRun, node: Option<NodeId>, now: Timestamp) {
        let sequence = self
            .latest(&new.workflow_id)
            .and_then(|id| self.runs.get(&id))
            .map_or(0, |run| run.sequence + 1);
        let born_here = node.filter(|_| new.placement == Placement::Here);
        let wake_at = match new.placement {
            Placement::Here | Placement::Anywhere => now,
            Placement::NotBefore(at) => whole_micros(at),
        };
        let run = Run {
            chain: new.chain,
            workflow_id: new.workflow_id.clone(),
            sequence,
            workflow: Arc::clone(&new.workflow),
            queue: Arc::clone(&new.queue),
            build: None,
            parent: new.parent,
            trace: new.trace.clone(),
            created_at: now,
            inbox: 0,
            claims: u32::from(born_here.is_some()),
            progress: usize::from(born_here.is_some()),
            cancel_requested: false,
            ticket: new.ticket.clone(),
            pause_requested: false,
            awaited: false,
            next: None,
            records: new.born_with().map(|record| (record, now)).collect(),
            attempts: BTreeMap::new(),
            tags: new.tags.clone(),
            stand: Stand::Pending(None),
        };
        self.runs.insert(new.run, run);
        self.latest.insert(new.workflow_id.clone(), new.run);
        if let Some(parent) = new.parent {
            self.children.entry(parent.run).or_default().insert(new.run);
        }
        self.move_to(
            new.run,
            born_here.map_or(Stand::Pending(Some(wake_at)), Stand::Running),
        );
    }
}

/// A time as the databases keep it.
pub(super) fn whole_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}
