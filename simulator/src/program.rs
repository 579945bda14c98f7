//! Random workflow programs: what a simulated workflow does, as data.

/// Everything that the workflows of one simulation do. A program is run once, by the run of its
/// number.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) programs: Vec<Program>,
    pub(crate) acts: Vec<Act>,
}

/// What one workflow does.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Each segment is a run of the chain; the next one continues it as new.
    pub(crate) segments: Vec<Vec<Step>>,
    /// Whether it returns an error in the end.
    pub(crate) fails: bool,
    /// The activity that cleans up after a cancellation.
    pub(crate) cleanup: usize,
    /// The program that starts it as a child, with its end tied to its parent's or not.
    pub(crate) parent: Option<usize>,
    /// Whether somebody may ask it to cancel, or close its parent before it.
    pub(crate) may_cancel: bool,
    /// Whether an operator may end it.
    pub(crate) may_terminate: bool,
    /// How many signals of each name it waits for at most.
    pub(crate) waits: [u32; SIGNALS.len()],
    /// How many updates it waits for at most.
    pub(crate) updates: u32,
}

/// The names of signals.
pub(crate) const SIGNALS: [&str; 2] = ["red", "blue"];

/// The name of updates.
pub(crate) const UPDATE: &str = "ask";

/// The queue of the workers that run programs.
pub(crate) const MAIN: &str = "default";

/// The queue of the workers that serve pieces and activities of other workers' runs.
pub(crate) const SIDE: &str = "side";

/// One thing that a workflow does.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Runs an activity.
    Act(usize),
    /// Runs a transactional step that returns this value, or fails.
    Transaction { value: u64, fails: bool },
    /// Sleeps for this many milliseconds.
    Sleep(u64),
    /// Waits for a signal of this name.
    Wait(usize),
    /// Sends a signal of this name, and with a number of its own, to another program.
    Send { to: usize, name: usize, number: u64 },
    /// Runs a program as a child.
    Child { program: usize, tie: Tie },
    /// Starts a child under a workflow id that is taken.
    TakenChild,
    /// Draws a value that replays must see again.
    Draw(Draw),
    /// Goes on with the first that ends.
    Race(Vec<Self>),
    /// Waits for all.
    Join(Vec<Self>),
    /// Shows a value that was never shown before.
    Show,
    /// Tags the run with a value that no run was tagged with before, or takes the tag away.
    Tag { removes: bool },
    /// Waits for an update and answers it.
    Update,
    /// Runs one activity before a change of the code and another one after it, as the version says.
    Change {
        number: usize,
        before: usize,
        after: usize,
    },
    /// Waits for all in a scope, which is cancelled after so many milliseconds.
    Scope {
        steps: Vec<Self>,
        cancelled_after: Option<u64>,
    },
    /// Goes on after this many milliseconds at most.
    Timeout { millis: u64, step: Box<Self> },
    /// Does something that no cancellation reaches.
    Shield(Box<Self>),
    /// Runs activities, and undoes those that succeeded if one fails, or the saga does in the end.
    Saga { steps: Vec<Undoable>, fails: bool },
    /// Runs a workflow for each of some activities, on the queue of the side.
    FanOut(FanOut),
}

impl Step {
    /// The steps within it.
    pub(crate) fn parts(&self) -> &[Self] {
        match self {
            Self::Race(steps) | Self::Join(steps) | Self::Scope { steps, .. } => steps,
            Self::Timeout { step, .. } | Self::Shield(step) => std::slice::from_ref(step),
            Self::Act(_)
            | Self::Transaction { .. }
            | Self::Sleep(_)
            | Self::Wait(_)
            | Self::Send { .. }
            | Self::Child { .. }
            | Self::TakenChild
            | Self::Draw(_)
            | Self::Show
            | Self::Tag { .. }
            | Self::Update
            | Self::Change { .. }
            | Self::Saga { .. }
            | Self::FanOut(_) => &[],
        }
    }
}

/// An activity and the one that undoes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Undoable {
    pub(crate) act: usize,
    pub(crate) undo: usize,
}

/// Workflows that run one activity each.
#[derive(Debug, Clone)]
pub(crate) struct FanOut {
    pub(crate) acts: Vec<usize>,
    pub(crate) slice: usize,
    pub(crate) at_once: usize,
    pub(crate) stop_after: Option<usize>,
    pub(crate) key: &'static str,
}

/// How a parent is tied to its child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tie {
    /// It awaits the result.
    Awaited,
    /// It starts it and does not look again: the child is cancelled when the parent closes.
    Started,
    /// It lets it go.
    Detached,
}

/// A value that is drawn once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Draw {
    SideEffect,
    Now,
    Random,
    Uuid,
}

/// What an activity does.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    /// How many attempts fail before one succeeds.
    pub(crate) fails: u32,
    /// Whether a failing attempt hangs until its time is over.
    pub(crate) hangs: bool,
    /// Whether the first failure is final.
    pub(crate) is_final: bool,
    pub(crate) max_attempts: u32,
    pub(crate) retry_ms: u64,
    pub(crate) work_ms: u64,
    pub(crate) at_most_once: bool,
    /// Whether it opens a transaction that commits with its record.
    pub(crate) in_transaction: bool,
    /// Whether it reports progress.
    pub(crate) beats: bool,
    /// Whether it takes its worker down.
    pub(crate) is_poison: bool,
    /// Whether a worker of the side runs it.
    pub(crate) is_remote: bool,
}

impl Act {
    /// The attempts that are made when nothing goes wrong but what the activity does by itself.
    pub(crate) fn attempts(&self) -> u32 {
        if self.is_final && self.fails > 0 {
            1
        } else {
            (self.fails + 1).min(self.max_attempts)
        }
    }

    /// Whether it succeeds in the end.
    pub(crate) fn succeeds(&self) -> bool {
        self.fails == 0 || (!self.is_final && self.fails < self.max_attempts)
    }

    /// How long an attempt may take.
    pub(crate) const TIME_LIMIT_MS: u64 = 2_500;
}

/// What an activity returns: the same however often it runs.
pub(crate) fn act_value(act: usize) -> u64 {
    1_000_000 + act as u64
}

/// The value of a signal: different for each that is sent.
pub(crate) fn signal_value(program: usize, name: usize, number: u32) -> u64 {
    2_000_000 + (program as u64) * 10_000 + (name as u64) * 1_000 + u64::from(number)
}

/// The numbers of a signal: its own, and those under which it is sent once more, as a new one, to a fork.
pub(crate) fn numbers_of(number: u32) -> impl Iterator<Item = u32> {
    (0..10).map(move |line| in_fork(number, line))
}

/// The number of a signal that is sent once more to a fork.
pub(crate) const fn in_fork(number: u32, line: u32) -> u32 {
    number + 100 * line
}

/// The value of a signal that a workflow sends.
pub(crate) const fn sent_value(name: usize, number: u64) -> u64 {
    3_000_000 + number * 10_000 + (name as u64) * 1_000
}

/// What a client asks a program for: different for each update.
pub(crate) fn update_value(program: usize, number: u32) -> u64 {
    4_000_000 + (program as u64) * 1_000 + u64::from(number)
}

/// What a program answers: half of the updates it rejects.
pub(crate) const fn answer_to(asked: u64) -> Option<u64> {
    if asked.is_multiple_of(2) {
        Some(asked + 1)
    } else {
        None
    }
}

/// The workflow id of a program.
pub(crate) fn workflow_id(program: usize) -> String {
    format!("program-{program}")
}

/// The workflow id of a program in a line: zero is what clients start, each fork begins another one, to which its
/// children belong.
pub(crate) fn id_in_line(program: usize, line: u32) -> String {
    match line {
        0 => workflow_id(program),
        line => format!("{}{LINE}{line}", workflow_id(program)),
    }
}

/// What a workflow id says of its line.
pub(crate) fn line_of(workflow_id: &str) -> &str {
    let line = workflow_id.find(LINE);
    line.and_then(|at| workflow_id.get(at..))
        .unwrap_or_default()
}

const LINE: char = '~';

impl Script {
    /// The steps of a program, with those inside of others.
    pub(crate) fn steps(&self) -> Vec<&Step> {
        let mut found: Vec<&Step> = Vec::new();
        let mut left: Vec<&Step> = self
            .programs
            .iter()
            .flat_map(|program| program.segments.iter().flatten())
            .collect();
        while let Some(step) = left.pop() {
            found.push(step);
            left.extend(step.parts());
        }
        found
    }

    /// Adds a program that takes down every worker that runs it.
    pub(crate) fn add_poison(&mut self) -> usize {
        self.acts.push(Act {
            is_poison: true,
            ..Act::plain(1)
        });
        let act = self.acts.len() - 1;
        self.programs.push(Program {
            segments: vec![vec![Step::Act(act)]],
            fails: false,
            cleanup: act,
            parent: None,
            may_cancel: false,
            may_terminate: false,
            waits: [0; SIGNALS.len()],
            updates: 0,
        });
        self.programs.len() - 1
    }
}

impl Act {
    pub(crate) const fn plain(work_ms: u64) -> Self {
        Self {
            fails: 0,
            hangs: false,
            is_final: false,
            max_attempts: 100,
            retry_ms: 200,
            work_ms,
            at_most_once: false,
            in_transaction: false,
            beats: false,
            is_poison: false,
            is_remote: false,
        }
    }
}
