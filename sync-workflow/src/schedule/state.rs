//! Where a schedule stands, and what it decides next. Pure: time and the state of its last run are arguments.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Overlap, Schedule, definition::workflow_id};
use crate::{
    id::{RunId, WorkflowId},
    journal::{IdReuse, NewRun, Placement, RunSelector, Ticket},
};

/// How many ticks are decided at once; the others come right after.
const AT_ONCE: usize = 100;
/// How often to look whether the run has ended that others wait for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A time at which a run is to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tick(pub Timestamp);

impl Tick {
    /// The tick of the run with this workflow id, if a schedule started it: workflow code asks by
    /// `Tick::of(&ctx.workflow_id())` for the time that it is to work for.
    #[must_use]
    pub fn of(workflow_id: &WorkflowId) -> Option<Self> {
        let (_, tick) = workflow_id.as_str().rsplit_once('/')?;
        tick.parse().ok().map(Self)
    }
}

/// Where a schedule stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Why it is paused, if it is.
    pub paused: Option<String>,
    /// Every tick up to here is decided.
    pub decided_until: Timestamp,
    /// Ticks whose runs are about to be started.
    pub starting: Vec<Tick>,
    /// Ticks that wait for the runs before them.
    pub buffered: VecDeque<Tick>,
    /// The last tick whose run was started.
    pub last: Option<Tick>,
    /// How many ticks have got their runs. One that was made up for twice counts twice, and has one run.
    pub started: u64,
    /// How many ticks were skipped, because a run was open.
    pub skipped: u64,
    /// Ticks before this time were missed: nobody was there, and the time to catch up was over.
    pub missed_before: Option<Timestamp>,
}

/// A schedule as its row holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) schedule: Schedule,
    pub(crate) state: ScheduleState,
}

/// What a decision asks for before it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Nothing,
    /// The run of the last tick is to be cancelled.
    CancelLast,
}

impl ScheduleState {
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self {
            paused: None,
            decided_until: now,
            starting: Vec::new(),
            buffered: VecDeque::new(),
            last: None,
            started: 0,
            skipped: 0,
            missed_before: None,
        }
    }
}

impl Stored {
    /// When there is something to do; `None` if nobody needs to look until the schedule is changed.
    pub(crate) fn next_at(&self, id: &str, now: Timestamp) -> Option<Timestamp> {
        if !self.state.starting.is_empty() {
            return Some(now);
        }
        if self.state.paused.is_some() {
            return None;
        }
        let next = self.schedule.next_after(self.state.decided_until);
        let next = next.map(|tick| self.schedule.due(id, tick));
        if self.state.buffered.is_empty() {
            return next;
        }
        let again = now.checked_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX);
        Some(next.map_or(again, |next| next.min(again)))
    }

    /// Decides what becomes of the ticks that are due. `is_open` tells of the run of the last tick.
    pub(crate) fn decide(&mut self, id: &str, now: Timestamp, is_open: bool) -> Request {
        let mut request = Request::Nothing;
        if self.state.paused.is_some() {
            return request;
        }
        self.give_up_the_old(now);
        for _ in 0..AT_ONCE {
            let Some(tick) = self.schedule.next_after(self.state.decided_until) else {
                break;
            };
            if self.schedule.due(id, tick) > now {
                break;
            }
            self.state.decided_until = tick;
            if self.offer(Tick(tick), is_open) == Request::CancelLast {
                request = Request::CancelLast;
            }
        }
        if !is_open
            && self.state.starting.is_empty()
            && let Some(tick) = self.state.buffered.pop_front()
        {
            self.state.starting.push(tick);
        }
        request
    }

    /// Passes over what is older than the time to catch up.
    fn give_up_the_old(&mut self, now: Timestamp) {
        let Ok(oldest) = now.checked_sub(self.schedule.catch_up) else {
            return;
        };
        let next = self.schedule.next_after(self.state.decided_until);
        if next.is_some_and(|tick| tick < oldest) {
            self.state.missed_before = Some(oldest);
            self.state.decided_until = oldest;
        }
    }

    fn offer(&mut self, tick: Tick, is_open: bool) -> Request {
        let state = &mut self.state;
        let is_busy = is_open || !state.starting.is_empty() || !state.buffered.is_empty();
        match self.schedule.overlap {
            Overlap::AllowAll => state.starting.push(tick),
            Overlap::Skip | Overlap::BufferOne | Overlap::BufferAll | Overlap::CancelOther
                if !is_busy =>
            {
                state.starting.push(tick);
            }
            Overlap::BufferOne if state.buffered.is_empty() => state.buffered.push_back(tick),
            Overlap::BufferAll if state.buffered.len() < Schedule::MAX_BUFFERED => {
                state.buffered.push_back(tick);
            }
            Overlap::CancelOther => {
                // Only the latest waits.
                state.skipped += state.buffered.len() as u64;
                state.buffered.clear();
                state.buffered.push_back(tick);
                if is_open {
                    return Request::CancelLast;
                }
            }
            Overlap::Skip | Overlap::BufferOne | Overlap::BufferAll => state.skipped += 1,
        }
        Request::Nothing
    }

    /// Whether the state of the last run decides anything.
    pub(crate) fn needs_last(&self) -> bool {
        self.schedule.overlap != Overlap::AllowAll || !self.state.buffered.is_empty()
    }

    /// The run of the last tick.
    pub(crate) fn last_run(&self, id: &str) -> Option<RunSelector> {
        let Tick(last) = self.state.last?;
        Some(RunSelector::Latest(workflow_id(id, last)))
    }

    /// The run that a tick starts.
    pub(crate) fn new_run(&self, id: &str, Tick(tick): Tick, run: RunId) -> NewRun {
        let schedule = &self.schedule;
        NewRun {
            run,
            chain: run,
            workflow_id: workflow_id(id, tick),
            workflow: Arc::clone(&schedule.workflow),
            queue: Arc::clone(&schedule.queue),
            input: Bytes::copy_from_slice(schedule.input.get().as_bytes()),
            reuse: IdReuse::ReturnExisting,
            parent: None,
            trace: None,
            placement: Placement::Anywhere,
            ticket: Ticket::default(),
            tags: schedule.run_tags(id).unwrap_or_default(),
            carried_over: Vec::new(),
        }
    }

    /// The runs of the ticks that were to be started exist.
    pub(crate) fn have_started(&mut self) {
        let state = &mut self.state;
        state.last = state.starting.last().copied().or(state.last);
        state.started += state.starting.len() as u64;
        state.starting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{context::Context, failure::Failure, schedule::Timing};

    async fn hello(_: Context, (): ()) -> Result<(), Failure> {
        Ok(())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn ticks<const N: usize>(seconds: [i64; N]) -> Vec<Tick> {
        seconds.map(|second| Tick(at(second))).to_vec()
    }

    /// Ticks at every full ten seconds from ten on.
    fn stored(overlap: Overlap) -> Stored {
        let timing = Timing::every(Duration::from_secs(10)).unwrap();
        let schedule = Schedule::new(hello, &(), timing).unwrap();
        Stored {
            schedule: schedule.overlap(overlap),
            state: ScheduleState::new(at(5)),
        }
    }

    #[test]
    fn nothing_is_started_before_its_time() {
        let mut stored = stored(Overlap::Skip);
        assert_eq!(stored.next_at("a", at(5)), Some(at(10)));
        assert_eq!(stored.decide("a", at(9), false), Request::Nothing);
        assert_eq!(stored.state.starting, []);
        stored.decide("a", at(10), false);
        assert_eq!(stored.state.starting, ticks([10]));
        assert_eq!(stored.next_at("a", at(10)), Some(at(10)));
        stored.have_started();
        assert_eq!(stored.next_at("a", at(10)), Some(at(20)));
        assert_eq!(stored.state.last, Some(Tick(at(10))));
    }

    #[test]
    fn ticks_meet_an_open_run_as_the_policy_says() {
        // After the first tick's run, which stays open, three ticks are due.
        let meets = |overlap| {
            let mut stored = stored(overlap);
            stored.decide("a", at(10), false);
            stored.have_started();
            let request = stored.decide("a", at(41), true);
            let state = &stored.state;
            let buffered: Vec<_> = state.buffered.iter().copied().collect();
            (state.starting.clone(), buffered, state.skipped, request)
        };
        let nothing = Request::Nothing;
        assert_eq!(meets(Overlap::Skip), (vec![], vec![], 3, nothing));
        assert_eq!(meets(Overlap::BufferOne), (vec![], ticks([20]), 2, nothing));
        assert_eq!(
            meets(Overlap::BufferAll),
            (vec![], ticks([20, 30, 40]), 0, nothing)
        );
        assert_eq!(
            meets(Overlap::CancelOther),
            (vec![], ticks([40]), 2, Request::CancelLast)
        );
        assert_eq!(
            meets(Overlap::AllowAll),
            (ticks([20, 30, 40]), vec![], 0, nothing)
        );
    }

    #[test]
    fn what_waits_is_started_in_order_one_after_the_other() {
        let mut stored = stored(Overlap::BufferAll);
        stored.decide("a", at(31), false);
        assert_eq!(stored.state.starting, ticks([10]));
        for (now, tick) in [(32, 20), (33, 30)] {
            stored.have_started();
            // While somebody waits the end of the run is looked for.
            assert_eq!(stored.next_at("a", at(now)), Some(at(now + 1)));
            stored.decide("a", at(now), true);
            assert_eq!(stored.state.starting, []);
            stored.decide("a", at(now), false);
            assert_eq!(stored.state.starting, ticks([tick]));
        }
        stored.have_started();
        assert_eq!(stored.next_at("a", at(33)), Some(at(40)));
    }

    #[test]
    fn buffers_and_decisions_are_bounded() {
        let mut stored = stored(Overlap::BufferAll);
        stored.schedule.catch_up = Duration::MAX;
        for _ in 0..12 {
            stored.decide("a", at(1_000_000), true);
        }
        assert_eq!(stored.state.buffered.len(), Schedule::MAX_BUFFERED);
        assert_eq!(stored.state.skipped, 200);
        assert_eq!(stored.state.decided_until, at(12_000));
        // More is due already.
        assert!(stored.next_at("a", at(1_000_000)).unwrap() <= at(1_000_000));
    }

    #[test]
    fn what_is_too_old_is_missed() {
        let mut stored = stored(Overlap::AllowAll);
        stored.schedule.catch_up = Duration::from_secs(25);
        stored.decide("a", at(1_007), false);
        assert_eq!(stored.state.starting, ticks([990, 1_000]));
        assert_eq!(stored.state.missed_before, Some(at(982)));
    }

    #[test]
    fn a_paused_schedule_and_one_that_is_over_ask_for_nothing() {
        let mut paused = stored(Overlap::Skip);
        paused.state.paused = Some("the printer burns".into());
        assert_eq!(paused.next_at("a", at(5)), None);
        paused.decide("a", at(100), false);
        assert_eq!(paused.state.starting, []);
        let mut over = stored(Overlap::Skip);
        over.schedule.until = Some(at(20));
        over.decide("a", at(10), false);
        over.have_started();
        over.decide("a", at(20), false);
        over.have_started();
        assert_eq!(over.next_at("a", at(20)), None);
    }

    #[test]
    fn jitter_is_the_same_for_whoever_computes_it() {
        let mut stored = stored(Overlap::AllowAll);
        stored.schedule.jitter = Duration::from_secs(5);
        let due: Vec<_> = (1..50)
            .map(|n| (at(10 * n), stored.schedule.due("a", at(10 * n))))
            .collect();
        assert!(
            due.iter()
                .all(|(tick, due)| due >= tick && *due < *tick + Duration::from_secs(5))
        );
        assert!(
            due.iter()
                .any(|(tick, due)| *due > *tick + Duration::from_secs(1))
        );
        assert_ne!(
            stored.schedule.due("a", at(10)),
            stored.schedule.due("b", at(10))
        );
        assert_eq!(stored.next_at("a", at(5)), Some(due[0].1));
        stored.decide("a", due[0].1, false);
        assert_eq!(stored.state.starting, ticks([10]));
    }
}
