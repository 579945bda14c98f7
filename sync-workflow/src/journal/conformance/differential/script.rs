//! Random operations.

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    super::world::{child_of, new_run, workflow_id},
    HOUR, NODES, node_id,
    operation::{End, ForkedAt, Length, Operation, Part},
};
use crate::{
    id::{BuildId, NodeId, RunId},
    journal::{Debounce, IdReuse, NewRun, ParentCloses, Placement, RunSelector, Ticket},
    record::RecordKind,
    status::RunStatus,
    tag::Tags,
    trace::TraceContext,
};

/// Workflow ids, few enough to collide.
const IDS: u8 = 12;

/// A random series of operations.
pub(super) struct Script {
    random: Rng,
    /// Every id that was ever proposed.
    runs: Vec<RunId>,
    signals: u32,
    /// Whether the queue is ever limited.
    limits: bool,
    /// The runs that are open, and who holds them: what most operations are about.
    open: Vec<(RunId, Option<NodeId>)>,
}

impl Script {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
            limits: seed.is_multiple_of(2),
            runs: Vec::new(),
            signals: 0,
            open: Vec::new(),
        }
    }

    /// Every id that was ever proposed.
    pub(super) fn runs(&self) -> &[RunId] {
        &self.runs
    }

    /// These runs are open now, each with the node that holds it.
    pub(super) fn is_open(&mut self, runs: Vec<(RunId, Option<NodeId>)>) {
        self.open = runs;
    }

    pub(super) fn operation(&mut self) -> Operation {
        if self.limits && self.random.u8(0..25) == 0 {
            return self.queue_operation();
        }
        if self.random.u8(0..10) == 0 {
            return self.rare_operation();
        }
        match self.random.u8(0..100) {
            0..14 => Operation::Start(self.new_run()),
            14..50 => self.commit(),
            50..55 => Operation::Step(self.node(), self.run()),
            55..67 => Operation::Claim(self.node(), 1_000, self.build()),
            67..70 => Operation::Owned(self.node()),
            70..74 => {
                let lease = if self.random.u8(0..4) == 0 {
                    Duration::ZERO
                } else {
                    HOUR
                };
                Operation::Enlist(self.node(), lease)
            }
            74..75 => Operation::Renew(self.node()),
            75..78 => Operation::Reap,
            78..79 => Operation::Retire(self.node()),
            79..86 => {
                self.signals += 1;
                let number = self
                    .random
                    .u32(self.signals.saturating_sub(6)..=self.signals);
                let id = format!("signal {number}");
                match self.random.bool() {
                    true => Operation::Signal(self.selector(), id),
                    false => Operation::SendSignal(self.node(), self.selector(), id),
                }
            }
            86..89 => Operation::Cancel(self.selector()),
            89..90 => Operation::Terminate(self.selector()),
            90..92 => Operation::Unpark(self.selector()),
            92..94 => Operation::Pause(self.selector()),
            94..96 => Operation::Resume(self.selector()),
            _ => Operation::Outcome(self.run()),
        }
    }

    fn queue_operation(&mut self) -> Operation {
        let limit = |random: &mut Rng, most| (random.u8(0..4) > 0).then(|| random.u32(1..=most));
        match self.random.u8(0..8) {
            0..3 => Operation::Limit(limit(&mut self.random, 8), limit(&mut self.random, 3)),
            3 => Operation::PauseQueue(self.random.bool()),
            _ => Operation::Queues,
        }
    }

    fn rare_operation(&mut self) -> Operation {
        match self.random.u8(0..20) {
            0..9 => {
                let workflow_id = self.random.bool().then(|| {
                    let number = self.random.u8(0..IDS * 2);
                    workflow_id(&format!("workflow {number}"))
                });
                let children = (0..self.random.usize(0..6)).map(|_| self.run());
                Operation::Fork(ForkedAt {
                    children: children.collect(),
                    workflow_id,
                    origin: self.run(),
                    run: self.fresh(),
                    place: self.random.u32(..),
                })
            }
            9..12 => {
                let long = |random: &mut Rng| [Duration::ZERO, HOUR][random.usize(0..2)];
                let debounce = Debounce {
                    quiet_for: long(&mut self.random),
                    longest_wait: long(&mut self.random),
                };
                Operation::Debounce(self.new_run(), debounce)
            }
            12..15 => {
                self.signals += 1;
                Operation::SignalWithStart(self.new_run(), format!("signal {}", self.signals))
            }
            15 => Operation::SetBuild(self.build()),
            16 => match self.build() {
                Some(build) => Operation::DeclareBuild(self.node(), build),
                None => Operation::Builds,
            },
            17 => Operation::Builds,
            _ => {
                let length = match self.random.u8(0..3) {
                    0 => None,
                    1 => Some(Length::Right),
                    _ => Some(Length::Wrong),
                };
                Operation::MoveToBuild(self.run(), self.build(), length)
            }
        }
    }

    /// None more often than one of two.
    fn build(&mut self) -> Option<BuildId> {
        let build = ["", "", "", "old", "new"][self.random.usize(0..5)];
        BuildId::new(build).ok()
    }

    fn commit(&mut self) -> Operation {
        let node = self.node();
        let held: Vec<_> = self
            .open
            .iter()
            .filter(|(_, holder)| *holder == Some(node))
            .map(|(run, _)| *run)
            .collect();
        let mut runs: Vec<_> = (0..self.random.usize(1..6))
            .map(|_| match self.random.u8(0..5) {
                0 => self.run(),
                _ => self
                    .random
                    .choice(held.iter().copied())
                    .unwrap_or_else(|| self.run()),
            })
            .collect();
        runs.sort_unstable();
        runs.dedup();
        let parts = runs.into_iter().map(|run| self.part(run)).collect();
        let starts = (0..self.random.usize(0..2))
            .map(|_| self.new_run())
            .collect();
        Operation::Commit(node, parts, starts)
    }

    fn part(&mut self, run: RunId) -> Part {
        let some = |random: &mut Rng| {
            (0..random.usize(0..3))
                .map(|_| random.u32(0..4))
                .collect::<Vec<_>>()
        };
        let mut attempts = some(&mut self.random);
        attempts.sort_unstable();
        attempts.dedup();
        let settled = some(&mut self.random)
            .into_iter()
            .filter(|command| !attempts.contains(command))
            .collect();
        let children = if self.random.u8(0..3) == 0 {
            vec![self.child(run)]
        } else {
            Vec::new()
        };
        Part {
            run,
            records: self.random.u32(0..3),
            stale: self.random.u8(0..12) == 0,
            consume: self.random.usize(0..3),
            attempts,
            settled,
            children,
            publishes: (self.random.u8(0..5) == 0)
                .then(|| (self.random.u8(0..2), self.random.u8(..))),
            tags: (self.random.u8(0..5) == 0).then(|| {
                let value = (self.random.u8(0..3) > 0).then(|| self.random.u8(0..3));
                (self.random.u8(0..40), value)
            }),
            end: self.end(),
        }
    }

    fn end(&mut self) -> End {
        match self.random.u8(0..20) {
            0..9 => End::Continue,
            9..13 => End::Suspend {
                asleep: self.random.bool(),
                stale: self.random.u8(0..4) == 0,
            },
            13 => End::Release,
            14 => End::Park,
            15 | 16 => End::Close(RunStatus::Completed, RecordKind::Completed),
            17 => End::Close(RunStatus::Failed, RecordKind::Failed),
            18 => End::Close(RunStatus::Cancelled, RecordKind::Cancelled),
            _ => {
                let next = self.fresh();
                End::ContinueAsNew(next.as_uuid())
            }
        }
    }

    fn new_run(&mut self) -> NewRun {
        let run = self.fresh();
        let now = Timestamp::UNIX_EPOCH;
        let placement = match self.random.u8(0..4) {
            0 | 1 => Placement::Here,
            2 => Placement::Anywhere,
            _ if self.random.bool() => Placement::NotBefore(now),
            _ => Placement::NotBefore(far_ahead()),
        };
        let reuse = match self.random.u8(0..3) {
            0 => IdReuse::ReturnExisting,
            1 => IdReuse::StartNew,
            _ => IdReuse::StartNewUnlessCompleted,
        };
        let trace = self.random.bool().then(|| {
            let id = self.random.u64(1..);
            let text = format!("00-{id:032x}-{id:016x}-01 vendor={id}");
            TraceContext::from_stored(&text).expect("it has the form of one")
        });
        let input = Bytes::from(vec![self.random.u8(..); self.random.usize(0..20)]);
        let ticket = Ticket {
            key: ["", "a", "b", "c"][self.random.usize(0..4)].into(),
            priority: self.random.i16(-1..=1),
            ..Ticket::default()
        };
        let tags = (0..self.random.usize(0..3)).fold(Tags::new(), |tags, _| {
            let (name, value) = (self.random.u8(0..40), self.random.u8(0..3));
            tags.with(&name.to_string(), &value.to_string())
                .expect("short texts")
        });
        NewRun {
            ticket,
            run,
            chain: run,
            tags,
            placement,
            reuse,
            input,
            trace,
            ..new_run(&self.id())
        }
    }

    fn child(&mut self, parent: RunId) -> NewRun {
        let on_close = if self.random.bool() {
            ParentCloses::Cancel
        } else {
            ParentCloses::Abandon
        };
        let mut child = NewRun {
            parent: child_of(parent, on_close, "any").parent,
            ..self.new_run()
        };
        if self.random.bool() {
            child.workflow_id = workflow_id(&format!("child {}", child.run));
        }
        child
    }

    fn fresh(&mut self) -> RunId {
        let run = RunId::from_uuid(Uuid::from_u128(self.runs.len() as u128 + 1));
        self.runs.push(run);
        run
    }

    /// An open run, or any that was ever proposed.
    fn run(&mut self) -> RunId {
        let open = self.open.iter().map(|(run, _)| *run);
        let chosen = if self.random.u8(0..4) == 0 {
            None
        } else {
            self.random.choice(open)
        };
        chosen
            .or_else(|| self.random.choice(self.runs.iter().copied()))
            .unwrap_or_else(|| RunId::from_uuid(Uuid::nil()))
    }

    fn selector(&mut self) -> RunSelector {
        if self.random.bool() {
            RunSelector::Run(self.run())
        } else {
            RunSelector::Latest(workflow_id(&self.id()))
        }
    }

    fn id(&mut self) -> String {
        format!("workflow {}", self.random.u8(0..IDS))
    }

    fn node(&mut self) -> NodeId {
        node_id(self.random.u128(0..NODES))
    }
}

pub(super) fn far_ahead() -> Timestamp {
    Timestamp::from_second(32_000_000_000).expect("it is in the calendar")
}
