//! The rules: what may happen in a state, and what must hold in every one.

use std::fmt;

use stateright::{Model, Property};

use crate::{
    database::{Answer, Commit, Database, Deed, Incarnation, Record, Run},
    state::{Budget, Held, Node, State},
};

/// The protocol, or the protocol without one of its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// As the engine has it.
    Real,
    /// A node trusts its own clock: the commit does not look at its row.
    FenceByTimeOnly,
    /// An operator takes a run from a living node and appends no record to it.
    TakenSilently,
    /// Nothing keeps a position from being written twice.
    NoPrimaryKey,
    /// A commit in doubt counts as not happened, and its step is done again at the next free place.
    BlindRetry,
    /// A node goes on before its commit is answered, and does not look again.
    AckBeforeCommit,
    /// A reaper deletes the row of a node and leaves its runs to it.
    ReapWithoutFreeing,
    /// A reaper lets a run be claimed that an operator wants to pause.
    ReapForgetsPause,
    /// A node that gives a run back does not wait until it knows that it did.
    BlindRelease,
}

impl Variant {
    /// Those that leave a rule out.
    pub const MUTANTS: [Self; 8] = [
        Self::FenceByTimeOnly,
        Self::TakenSilently,
        Self::NoPrimaryKey,
        Self::BlindRetry,
        Self::AckBeforeCommit,
        Self::ReapWithoutFreeing,
        Self::ReapForgetsPause,
        Self::BlindRelease,
    ];
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Real => "the protocol",
            Self::FenceByTimeOnly => "fence by time only",
            Self::TakenSilently => "a run taken without a record",
            Self::NoPrimaryKey => "no primary key",
            Self::BlindRetry => "blind retry of a commit",
            Self::AckBeforeCommit => "acknowledgement before commit",
            Self::ReapWithoutFreeing => "reap without freeing the runs",
            Self::ReapForgetsPause => "reap that forgets a pause",
            Self::BlindRelease => "a run given back unseen",
        })
    }
}

/// How large the modelled system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Processes at once.
    pub nodes: usize,
    /// Runs.
    pub runs: usize,
    /// Steps of each run.
    pub steps: u8,
    /// Crashes of a process.
    pub crashes: u8,
    /// Living or dead nodes that are declared dead.
    pub reaps: u8,
    /// Answers that are lost, and requests that their sender gave up.
    pub lost_answers: u8,
    /// Runs that an operator ends.
    pub terminations: u8,
    /// Times that an operator pauses a run.
    pub pauses: u8,
}

/// The model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protocol {
    /// Which rules it has.
    pub variant: Variant,
    /// How large it is.
    pub bounds: Bounds,
}

/// One thing that happens. Numbers are those of processes and runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// A process starts as a new node and enlists.
    Enlist(usize),
    /// A node claims a run that nobody holds, and loads its journal.
    Claim(usize, usize),
    /// A claim happens, and the node never hears of it.
    ClaimUnheard(usize, usize),
    /// A node finds that it owns a run which it does not hold in memory.
    LookAtOwned(usize, usize),
    /// A node executes the next step of a run and sends the commit.
    Send(usize, usize),
    /// A commit arrives and its answer is heard, if its sender still waits for it.
    Apply(Commit),
    /// A commit arrives and its answer is lost.
    ApplyUnheard(Commit),
    /// A request is gone for good.
    Drop(Commit),
    /// A node stops waiting for the answer; the request may still arrive.
    GiveUp(usize, usize),
    /// A node looks in the journal whether its commit in doubt happened.
    ReadBack(usize, usize),
    /// A node is declared dead, whether or not it is.
    Reap(u8),
    /// A process dies without a word.
    Crash(usize),
    /// A node that has seen that a run is to pause gives it back.
    Release(usize, usize),
    /// An operator ends a run.
    Terminate(usize),
    /// An operator asks a run to pause.
    Pause(usize),
    /// An operator lets it go on.
    Resume(usize),
    /// The operator will neither end nor pause a run any more.
    OperatorLeaves,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let bounds = self.bounds;
        vec![State {
            database: Database::new(bounds.runs),
            nodes: vec![None; bounds.nodes],
            network: Default::default(),
            next_incarnation: 0,
            budget: Budget {
                crashes: bounds.crashes,
                reaps: bounds.reaps,
                lost_answers: bounds.lost_answers,
                terminations: bounds.terminations,
                pauses: bounds.pauses,
            },
            executions: vec![vec![0; usize::from(bounds.steps)]; bounds.runs],
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for number in 0..state.nodes.len() {
            match &state.nodes[number] {
                None => actions.push(Action::Enlist(number)),
                Some(node) => {
                    self.actions_of(state, number, node, actions);
                    if state.budget.crashes > 0 {
                        actions.push(Action::Crash(number));
                    }
                }
            }
        }
        for commit in &state.network {
            actions.push(Action::Apply(commit.clone()));
            if state.budget.lost_answers > 0 {
                actions.push(Action::ApplyUnheard(commit.clone()));
            }
            if !self.is_awaited(state, commit) {
                actions.push(Action::Drop(commit.clone()));
            }
        }
        for node in &state.database.nodes {
            let runs = state.node_of(*node).is_some();
            // A node that is gone is always declared dead sooner or later.
            if !runs || state.budget.reaps > 0 {
                actions.push(Action::Reap(*node));
            }
        }
        if state.budget.terminations > 0 || state.budget.pauses > 0 {
            actions.push(Action::OperatorLeaves);
        }
        for (number, run) in state.database.runs.iter().enumerate() {
            if !run.is_closed && state.budget.terminations > 0 {
                actions.push(Action::Terminate(number));
            }
            if !run.is_closed && !run.pause_requested && state.budget.pauses > 0 {
                actions.push(Action::Pause(number));
            }
            if !run.is_closed && run.pause_requested {
                actions.push(Action::Resume(number));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Enlist(number) => enlist(&mut state, number),
            Action::Claim(number, run) => self.claim(&mut state, number, run, true),
            Action::ClaimUnheard(number, run) => {
                state.budget.lost_answers -= 1;
                self.claim(&mut state, number, run, false);
            }
            Action::LookAtOwned(number, run) => load(&mut state, number, run),
            Action::Send(number, run) => self.send(&mut state, number, run)?,
            Action::Apply(commit) => self.apply(&mut state, &commit, true),
            Action::ApplyUnheard(commit) => {
                state.budget.lost_answers -= 1;
                self.apply(&mut state, &commit, false);
            }
            Action::Drop(commit) => {
                state.network.remove(&commit);
            }
            Action::GiveUp(number, run) => {
                state.budget.lost_answers -= 1;
                state.held_mut(number, run)?.in_doubt = true;
            }
            Action::ReadBack(number, run) => self.read_back(&mut state, number, run)?,
            Action::Reap(node) => {
                if state.node_of(node).is_some() {
                    state.budget.reaps -= 1;
                }
                state.database.reap(node, self.variant);
            }
            Action::Crash(number) => {
                state.budget.crashes -= 1;
                state.nodes[number] = None;
            }
            Action::OperatorLeaves => {
                (state.budget.terminations, state.budget.pauses) = (0, 0);
            }
            Action::Release(number, run) => self.release(&mut state, number, run)?,
            Action::Pause(run) => {
                state.budget.pauses -= 1;
                state.database.pause(run);
            }
            Action::Resume(run) => state.database.resume(run),
            Action::Terminate(run) => {
                state.budget.terminations -= 1;
                match self.variant {
                    Variant::TakenSilently => state.database.runs[run].owner = None,
                    _ => state.database.terminate(run),
                }
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "each step is in the journal once, at its place",
                |_, state: &State| {
                    state.database.runs.iter().all(|run| {
                        run.journal
                            .iter()
                            .enumerate()
                            .all(|(place, record)| match record {
                                Record::Step { step, .. } => usize::from(*step) == place,
                                Record::Terminated => place + 1 == run.journal.len(),
                            })
                    })
                },
            ),
            Property::always(
                "a node that was declared dead writes nothing",
                |_, state: &State| !state.database.zombie_wrote,
            ),
            Property::always(
                "a run takes nothing from a node that it does not name",
                |_, state: &State| !state.database.stranger_wrote,
            ),
            Property::always(
                "a run that is to pause is not claimed",
                |_, state: &State| !state.database.claimed_paused,
            ),
            Property::always(
                "what a node believes to be done is in the journal",
                |_, state: &State| {
                    state.nodes.iter().flatten().all(|node| {
                        let held = node.holds.iter().zip(&state.database.runs);
                        held.filter_map(|(held, run)| Some((held.as_ref()?, run)))
                            .all(|(held, run)| run.journal.len() >= usize::from(held.done))
                    })
                },
            ),
            Property::always(
                "a step runs at most once more than it was interrupted",
                |model, state: &State| {
                    let spent = model.interruptions(state);
                    state
                        .executions
                        .iter()
                        .flatten()
                        .all(|times| *times <= 1 + spent)
                },
            ),
            Property::eventually("every run ends", |_, state: &State| {
                state.database.runs.iter().all(|run| run.is_closed)
            }),
            Property::sometimes(
                "a run ends although a living node was declared dead",
                |model, state: &State| {
                    state.budget.reaps < model.bounds.reaps
                        && state.database.runs.iter().any(|run| run.is_closed)
                },
            ),
            Property::sometimes(
                "a run ends that was paused and resumed",
                |_, state: &State| {
                    let is_over = |run: &Run| run.is_closed && run.was_paused;
                    state.database.runs.iter().any(is_over)
                },
            ),
            Property::sometimes("two nodes have written one journal", |_, state: &State| {
                state.database.runs.iter().any(|run| {
                    let writers: std::collections::BTreeSet<_> =
                        run.journal.iter().filter_map(writer).collect();
                    writers.len() > 1
                })
            }),
        ]
    }
}

impl Protocol {
    fn actions_of(&self, state: &State, number: usize, node: &Node, actions: &mut Vec<Action>) {
        let is_alive = state.database.nodes.contains(&node.incarnation);
        for (run, row) in state.database.runs.iter().enumerate() {
            let Some(held) = &node.holds[run] else {
                if is_alive && row.owner.is_none() && !row.is_closed && !row.is_paused {
                    actions.push(Action::Claim(number, run));
                    if state.budget.lost_answers > 0 {
                        actions.push(Action::ClaimUnheard(number, run));
                    }
                }
                if is_alive && row.owner == Some(node.incarnation) {
                    actions.push(Action::LookAtOwned(number, run));
                }
                continue;
            };
            match (&held.sent, held.in_doubt) {
                (None, _) if held.done < self.bounds.steps => {
                    actions.push(Action::Send(number, run));
                    // It may look before its next step, or after it: a hint may be lost.
                    if row.pause_requested {
                        actions.push(Action::Release(number, run));
                    }
                }
                (None, _) => {}
                (Some(_), false) if state.budget.lost_answers > 0 => {
                    actions.push(Action::GiveUp(number, run));
                }
                (Some(_), false) => {}
                (Some(_), true) => actions.push(Action::ReadBack(number, run)),
            }
        }
    }

    /// Whether the sender of a commit waits for its answer.
    fn is_awaited(&self, state: &State, commit: &Commit) -> bool {
        let held = state
            .node_of(commit.node)
            .and_then(|node| state.held(node, commit.run));
        held.is_some_and(|held| held.sent.as_ref() == Some(commit) && !held.in_doubt)
    }

    fn claim(&self, state: &mut State, number: usize, run: usize, is_heard: bool) {
        let Some(node) = &state.nodes[number] else {
            return;
        };
        state.database.claim(run, node.incarnation);
        if is_heard {
            load(state, number, run);
        }
    }

    fn send(&self, state: &mut State, number: usize, run: usize) -> Option<()> {
        let node = state.nodes[number].as_ref()?.incarnation;
        let step = state.held(number, run)?.done;
        let position = match self.variant {
            // It does not ask what became of the last one, and takes the next free place.
            Variant::BlindRetry => u8::try_from(state.database.runs[run].journal.len()).ok()?,
            _ => step,
        };
        let commit = Commit {
            deed: Deed::Append,
            node,
            run,
            step,
            position,
            attempt: 0,
        };
        let executions = &mut state.executions[run][usize::from(step)];
        *executions = executions.saturating_add(1);
        state.network.insert(commit.clone());
        let held = state.held_mut(number, run)?;
        match self.variant {
            Variant::AckBeforeCommit => held.done += 1,
            _ => held.sent = Some(commit),
        }
        Some(())
    }

    fn release(&self, state: &mut State, number: usize, run: usize) -> Option<()> {
        let node = state.nodes[number].as_ref()?.incarnation;
        let done = state.held(number, run)?.done;
        let commit = Commit {
            deed: Deed::Release,
            node,
            run,
            step: done,
            position: done,
            attempt: 0,
        };
        state.network.insert(commit.clone());
        match self.variant {
            Variant::BlindRelease => forget(state, number, run),
            _ => state.held_mut(number, run)?.sent = Some(commit),
        }
        Some(())
    }

    fn apply(&self, state: &mut State, commit: &Commit, is_heard: bool) {
        let is_awaited = self.is_awaited(state, commit);
        state.network.remove(commit);
        let answer = state
            .database
            .apply(commit, self.variant, self.bounds.steps);
        if !is_awaited {
            return;
        }
        let Some(number) = state.node_of(commit.node) else {
            return;
        };
        if !is_heard {
            if let Some(held) = state.held_mut(number, commit.run) {
                held.in_doubt = true;
            }
            return;
        }
        match answer {
            Answer::Done if commit.deed == Deed::Append => {
                settle(state, number, commit.run, self.bounds.steps);
            }
            Answer::Done | Answer::Lost => forget(state, number, commit.run),
            // It stops; a new process may take its place.
            Answer::Fenced => state.nodes[number] = None,
        }
    }

    fn read_back(&self, state: &mut State, number: usize, run: usize) -> Option<()> {
        let node = state.nodes[number].as_ref()?.incarnation;
        if self.variant == Variant::BlindRetry {
            let held = state.held_mut(number, run)?;
            (held.sent, held.in_doubt) = (None, false);
            return Some(());
        }
        let commit = state.held(number, run)?.sent.clone()?;
        if commit.deed == Deed::Release {
            // Nothing can be read back. The question waits until what is in doubt has ended.
            state.network.remove(&commit);
        } else if state.database.holds(&commit) {
            settle(state, number, run, self.bounds.steps);
            return Some(());
        }
        if !state.database.nodes.contains(&node) && self.variant != Variant::FenceByTimeOnly {
            state.nodes[number] = None;
            return Some(());
        }
        // It did not happen so far: the same commit is sent again. Should the first one still
        // arrive, one of the two finds the position taken.
        let again = Commit {
            attempt: commit.attempt + 1,
            ..commit
        };
        state.network.insert(again.clone());
        let held = state.held_mut(number, run)?;
        (held.sent, held.in_doubt) = (Some(again), false);
        Some(())
    }

    /// How often anything interrupted anything so far.
    fn interruptions(&self, state: &State) -> u8 {
        let (now, first) = (&state.budget, &self.bounds);
        (first.crashes - now.crashes)
            + (first.reaps - now.reaps)
            + (first.lost_answers - now.lost_answers)
    }
}

fn enlist(state: &mut State, number: usize) {
    let incarnation: Incarnation = state.next_incarnation;
    state.next_incarnation += 1;
    state.database.nodes.insert(incarnation);
    state.nodes[number] = Some(Node {
        incarnation,
        holds: vec![None; state.database.runs.len()],
    });
}

/// Loads a run's journal: what is in it will not be done again.
fn load(state: &mut State, number: usize, run: usize) {
    let done = u8::try_from(state.database.runs[run].journal.len()).unwrap_or(u8::MAX);
    let held = Held {
        done,
        sent: None,
        in_doubt: false,
    };
    if let Some(node) = &mut state.nodes[number] {
        node.holds[run] = Some(held);
    }
}

/// A commit is known to have happened.
fn settle(state: &mut State, number: usize, run: usize, steps: u8) {
    if let Some(held) = state.held_mut(number, run) {
        held.done += 1;
        (held.sent, held.in_doubt) = (None, false);
        if held.done >= steps {
            forget(state, number, run);
        }
    }
}

fn forget(state: &mut State, number: usize, run: usize) {
    if let Some(node) = &mut state.nodes[number] {
        node.holds[run] = None;
    }
}

fn writer(record: &Record) -> Option<Incarnation> {
    match record {
        Record::Step { by, .. } => Some(*by),
        Record::Terminated => None,
    }
}
