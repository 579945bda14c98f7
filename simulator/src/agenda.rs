//! What is going to happen, by time.

use std::collections::BTreeMap;

use fastrand::Rng;
use sync_workflow::journal::Hint;

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A call reaches the journal.
    Apply(u64),
    /// The answer of a call reaches its caller.
    Answer(u64),
    /// Code of an activity or step has done its work.
    Done(u64),
    /// A hint reaches a process.
    Hint { process: usize, hint: Hint },
    /// Something befalls a process.
    Fault(Fault),
    /// A client does something.
    Errand(Errand),
}

/// What befalls processes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The process is gone, with everything in its memory.
    Crash(usize),
    /// The process starts.
    Start(usize),
    /// The process is told to stop.
    Stop(usize),
    /// Nothing gets in or out of the process until this time.
    Freeze(usize, u64),
    /// The process's machine is suspended until this time: nothing gets in or out, and its clock
    /// hardly moves.
    Suspend(usize, u64),
    /// The machine goes on.
    Resume(usize),
    /// The clock of the process's machine leaps ahead by so many milliseconds.
    Leap(usize, u64),
    /// The journal takes the process's lease for shorter than the process does.
    ShortLease(usize, u32),
    /// The database's clock jumps by so many milliseconds, back perhaps.
    ClockJump(i64),
    /// The process's connection for hints is lost and comes back.
    LookAgain(usize),
    /// The whole fleet is replaced by processes whose code has a change in it.
    Deploy,
    /// Faults stop for good.
    Quiet,
}

/// What a client does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Errand {
    /// Starts a program, through the worker of a process or from elsewhere.
    Start {
        program: usize,
        through: Option<usize>,
    },
    /// Starts a program unless it is known to have been started.
    Insist(usize),
    /// Sends the signal of this number, twice perhaps.
    Signal {
        program: usize,
        line: u32,
        name: usize,
        number: u32,
    },
    /// Asks a program for something, twice perhaps.
    Update {
        program: usize,
        line: u32,
        number: u32,
    },
    /// Takes a program back to a place, or forks it there, through the worker of a process.
    BeginAgain {
        program: usize,
        through: usize,
        is_fork: bool,
    },
    /// Holds a program back.
    Pause(usize),
    /// Lets it go on.
    Resume(usize),
    /// Admits no run of the side, or does so again.
    PauseSide(bool),
    /// Makes the new build the current one.
    BecomesCurrent,
    /// Moves the runs that the workers of the old build have left to the new one.
    MoveRuns,
    /// Asks a program to cancel.
    Cancel(usize),
    /// Ends a program.
    Terminate(usize),
}

/// Events in the order of their times.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    events: BTreeMap<(u64, u64), Event>,
    entered: u64,
}

impl Agenda {
    pub(crate) fn enter(&mut self, at: u64, event: Event) {
        self.entered += 1;
        self.events.insert((at, self.entered), event);
    }

    /// Takes one of the events that are due, any of them.
    pub(crate) fn take_due(&mut self, now: u64, rng: &mut Rng) -> Option<Event> {
        let due = self.events.range(..=(now, u64::MAX)).count();
        if due == 0 {
            return None;
        }
        let chosen = *self
            .events
            .keys()
            .nth(rng.usize(0..due))
            .expect("there are that many");
        self.events.remove(&chosen)
    }

    /// When the next event is due.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    /// Takes out what no longer happens.
    pub(crate) fn retain(&mut self, keeps: impl Fn(&Event) -> bool) {
        self.events.retain(|_, event| keeps(event));
    }
}
