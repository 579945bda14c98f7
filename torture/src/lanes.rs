//! Lanes: rounds of campaigns side by side, each lane with a server of its own.
//!
//! A campaign mostly waits: for leases to end, for its next moment. So several of them share the
//! processors. A lane takes a round of the fault that has had the fewest of those that still need
//! some; so what a fault does not need of the time is left to the others.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    campaign::{Arena, Length, Outcome},
    fault::Entry,
};

/// What all campaigns share.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    /// This program, which workers are started from.
    pub(crate) program: PathBuf,
    /// Where each round has a directory.
    pub(crate) directory: PathBuf,
    pub(crate) seed: u64,
    /// How long the workers have to show that they work at all, and to end what is open at the end.
    pub(crate) patience: Duration,
    pub(crate) at_once: usize,
    /// How long all of it may take, without the checks at the end.
    pub(crate) time: Option<Duration>,
}

/// The most cycles of one round: a journal of a day takes longer to check than to write.
const ROUND: u64 = 1_000;
/// The longest that one round is under fire, for the same reason.
const ROUND_TIME: Duration = Duration::from_secs(60);
/// With less time left, no fault gets another round: it would go to its beginning and end.
const LEAST_LEFT: Duration = Duration::from_secs(10);

/// A fault, how often it must strike, and what came of it so far.
struct Standing {
    entry: &'static Entry,
    goal: u64,
    /// Cycles that rounds under way are to bring.
    under_way: u64,
    rounds: u32,
    outcome: Outcome,
}

/// One round of a fault, for a lane to run.
struct Round {
    fault: usize,
    number: u32,
    length: Length,
}

/// What the lanes take their rounds from.
struct Queue {
    standings: Mutex<Vec<Standing>>,
    at_once: u32,
    until: Option<Instant>,
}

impl Course {
    /// Lets each fault strike as often as it should, or as there is time for.
    pub(crate) async fn run(self, goals: Vec<(&'static Entry, u64)>) -> Vec<Outcome> {
        let queue = Arc::new(Queue::new(goals, &self, Instant::now()));
        let mut lanes = JoinSet::new();
        for _ in 0..self.at_once {
            lanes.spawn(lane(Arc::clone(&queue), self.clone()));
        }
        while let Some(ended) = lanes.join_next().await {
            // A lane that panicked left its round without an outcome, which must not look like success.
            ended.expect("a lane ends by itself");
        }
        let mut standings = queue.standings();
        standings
            .drain(..)
            .map(|standing| standing.outcome)
            .collect()
    }
}

async fn lane(queue: Arc<Queue>, course: Course) {
    let arena = Arena::new(&course);
    while let Some(round) = queue.take(Instant::now()) {
        let entry = queue.standings()[round.fault].entry;
        let seed = course.seed.wrapping_add(round.number.into());
        let outcome = entry
            .campaign(&arena, round.number, seed, round.length)
            .await
            .unwrap_or_else(|error| Outcome::aborted(entry, seed, &error));
        queue.give_back(&round, outcome);
    }
}

impl Queue {
    fn new(goals: Vec<(&'static Entry, u64)>, course: &Course, now: Instant) -> Self {
        let standing = |(entry, goal)| Standing {
            entry,
            goal,
            under_way: 0,
            rounds: 0,
            outcome: Outcome::of(entry, course.seed),
        };
        Self {
            standings: Mutex::new(goals.into_iter().map(standing).collect()),
            at_once: u32::try_from(course.at_once).unwrap_or(u32::MAX),
            until: course.time.map(|time| now + time),
        }
    }

    fn take(&self, now: Instant) -> Option<Round> {
        let mut standings = self.standings();
        let left = self.until.map(|until| until.saturating_duration_since(now));
        let is_late = left.is_some_and(|left| left < LEAST_LEFT);
        let needy = standings.iter().filter(|standing| standing.needs() > 0);
        let needy = u32::try_from(needy.count()).unwrap_or(u32::MAX);
        let (fault, standing) = standings
            .iter_mut()
            .enumerate()
            // However late it is, every fault has one round.
            .filter(|(_, standing)| standing.needs() > 0 && (standing.rounds == 0 || !is_late))
            .min_by_key(|(_, standing)| standing.rounds)?;
        let cycles = standing.needs().min(ROUND);
        let share = left.map_or(ROUND_TIME, |left| left * self.at_once / needy);
        let number = standing.rounds;
        standing.rounds += 1;
        standing.under_way += cycles;
        Some(Round {
            fault,
            number,
            length: Length {
                cycles,
                time: share.min(ROUND_TIME),
            },
        })
    }

    fn give_back(&self, round: &Round, outcome: Outcome) {
        let mut standings = self.standings();
        let standing = &mut standings[round.fault];
        standing.under_way -= round.length.cycles;
        standing.outcome.absorb(outcome);
        standing.outcome.tell_progress(standing.goal);
    }

    fn standings(&self) -> MutexGuard<'_, Vec<Standing>> {
        self.standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    /// How many cycles it still needs, beside those under way.
    const fn needs(&self) -> u64 {
        if !self.outcome.may_go_on() {
            return 0;
        }
        let had = self.outcome.fulfilled + self.under_way;
        self.goal.saturating_sub(had)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::ALL;

    fn queue(goals: &[u64], time: Option<Duration>) -> (Queue, Instant) {
        let now = Instant::now();
        let course = Course {
            program: PathBuf::new(),
            directory: PathBuf::new(),
            seed: 1,
            patience: Duration::ZERO,
            at_once: 2,
            time,
        };
        let goals = ALL.iter().zip(goals.iter().copied()).collect();
        (Queue::new(goals, &course, now), now)
    }

    /// A round in which this many strikes met somebody.
    fn met(fulfilled: u64) -> Outcome {
        Outcome {
            fulfilled,
            ..Outcome::default()
        }
    }

    #[test]
    fn the_fault_that_had_the_fewest_rounds_is_next_until_none_needs_more() {
        let (queue, now) = queue(&[2_500, 10], None);
        let rounds: Vec<_> = std::iter::from_fn(|| queue.take(now))
            .map(|round| (round.fault, round.number, round.length.cycles))
            .collect();
        assert_eq!(
            rounds,
            [(0, 0, 1_000), (1, 0, 10), (0, 1, 1_000), (0, 2, 500)]
        );
    }

    #[test]
    fn what_met_nobody_is_struck_again() {
        let (queue, now) = queue(&[10], None);
        let round = queue.take(now).unwrap();
        assert!(queue.take(now).is_none());
        queue.give_back(&round, met(7));
        assert_eq!(queue.take(now).unwrap().length.cycles, 3);
    }

    #[test]
    fn a_fault_that_broke_a_promise_has_no_more_rounds() {
        let (queue, now) = queue(&[2_000], None);
        let round = queue.take(now).unwrap();
        let error = anyhow::anyhow!("broken");
        queue.give_back(&round, Outcome::aborted(&ALL[0], 1, &error));
        assert!(queue.take(now).is_none());
    }

    #[test]
    fn when_time_is_up_each_fault_has_had_one_round() {
        let (queue, now) = queue(&[5_000, 5_000, 5_000], Some(Duration::from_secs(30)));
        let first = queue.take(now).unwrap();
        assert_eq!(first.length.time, Duration::from_secs(20));
        let now = now + Duration::from_secs(25);
        let faults: Vec<_> = std::iter::from_fn(|| queue.take(now))
            .map(|round| round.fault)
            .collect();
        assert_eq!(faults, [1, 2]);
    }
}
