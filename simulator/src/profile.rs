//! What a seed decides before anything runs: the settings of the workers, and how bad the world is.

use std::time::Duration;

use fastrand::Rng;

use crate::builds::Rollout;

/// The world of one simulation.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) processes: usize,
    pub(crate) lease: Duration,
    pub(crate) poll_interval: Duration,
    pub(crate) evict_after: Duration,
    pub(crate) activity_slots: usize,
    pub(crate) max_resident_runs: usize,
    /// How many workflows clients start.
    pub(crate) workflows: usize,
    /// Whether they start all at once.
    pub(crate) is_stampede: bool,
    /// How many starts of a hundred go through a worker's own client.
    pub(crate) local_starts: u32,
    pub(crate) commits: Commits,
    /// How many crashes fall upon a process with two commits under way.
    pub(crate) torn_commits: u32,
    /// How many commits in doubt, of a hundred, a question about them does not wait for.
    pub(crate) held: u32,
    pub(crate) max_claims: u32,
    /// When the faults stop, in milliseconds.
    pub(crate) quiet_at: u64,
    /// The usual time that a call travels one way at most, in milliseconds.
    pub(crate) latency: u64,
    /// How many calls of a thousand are slow, and how slow at most.
    pub(crate) slow: (u32, u64),
    /// How many calls of a thousand fail.
    pub(crate) errors: u32,
    /// How many hints of a hundred are lost, and how many come twice.
    pub(crate) lost_hints: u32,
    pub(crate) repeated_hints: u32,
    /// How fast the database's clock runs, and that of each process's machine, in thousandths of the
    /// simulation's.
    pub(crate) clock_rate: i64,
    pub(crate) machine_rates: Vec<u32>,
    /// How many faults of each kind befall the processes.
    pub(crate) crashes: u32,
    pub(crate) graceful_stops: u32,
    pub(crate) freezes: u32,
    pub(crate) early_expiries: u32,
    pub(crate) clock_jumps: u32,
    pub(crate) suspensions: u32,
    pub(crate) leaps: u32,
    pub(crate) has_poison: bool,
    /// What two seeds of three have besides.
    pub(crate) more: Option<More>,
    /// What an operator begins again, in half of the seeds.
    pub(crate) again: Again,
    /// How the fleet gets a new build, in a third of the seeds.
    pub(crate) rollout: Option<Rollout>,
}

/// How often an operator takes programs back to a place of their histories, or forks them there.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Again {
    pub(crate) resets: u32,
    pub(crate) forks: u32,
}

/// What goes on besides: it leaves the other seeds as they are.
#[derive(Debug, Clone)]
pub(crate) struct More {
    /// How many processes, the last ones, serve the queue of the side.
    pub(crate) side: usize,
    /// What limits that queue.
    pub(crate) limits: Option<Limits>,
    /// How often an operator pauses that queue for a while.
    pub(crate) queue_pauses: u32,
    /// How many of a hundred programs an operator pauses for a while, and how often at most.
    pub(crate) pauses: (u32, u32),
    /// When the fleet gets code with a change in it, in milliseconds; from the beginning if never.
    pub(crate) deployed_at: Option<u64>,
}

/// How many runs of a queue may run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) running: u32,
    pub(crate) per_key: Option<u32>,
    pub(crate) in_worker: Option<u32>,
}

/// How much is committed together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commits {
    /// How many commits of a node may be under way at once.
    pub(crate) at_once: usize,
    /// How many of these the journal writes at the same time.
    pub(crate) writes_at_once: usize,
    /// How much may wait.
    pub(crate) queue: usize,
    /// The most in one batch.
    pub(crate) batch: usize,
    /// From how many on they are divided among batches.
    pub(crate) worth_dividing: usize,
    /// The most children that are born in one commit of a run.
    pub(crate) births: usize,
}

/// How a run without progress is counted where a poison program is about.
pub(crate) const POISON_CLAIMS: u32 = 3;

impl Profile {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let storm = rng.u32(0..4);
        let has_poison = rng.u32(0..100) < 4;
        let few = |rng: &mut Rng, most: u32| rng.u32(0..=most * storm / 3);
        let processes = rng.usize(1..=3);
        let has_one_clock = rng.bool();
        Self {
            processes,
            lease: Duration::from_millis(rng.u64(1_000..=8_000)),
            poll_interval: Duration::from_millis(match rng.u32(0..10) {
                0..=5 => rng.u64(50..=500),
                _ => rng.u64(1_000..=6_000),
            }),
            evict_after: match rng.u32(0..10) {
                0..=3 => Duration::ZERO,
                4 => Duration::MAX,
                _ => Duration::from_millis(rng.u64(1..=3_000)),
            },
            activity_slots: if rng.u32(0..10) < 3 { 1 } else { 64 },
            max_resident_runs: match rng.u32(0..10) {
                0..=3 => rng.usize(1..=4),
                _ => 1_000,
            },
            workflows: match rng.u32(0..10) {
                0 => rng.usize(6..=14),
                _ => rng.usize(1..=3),
            },
            is_stampede: rng.u32(0..10) < 3,
            local_starts: *rng.choice(&[0, 50, 100]).expect("three to choose from"),
            commits: Commits::random(rng),
            torn_commits: few(rng, 2),
            held: if rng.bool() { 50 } else { 0 },
            max_claims: if has_poison { POISON_CLAIMS } else { 1_000 },
            quiet_at: rng.u64(2_000..=15_000),
            latency: rng.u64(0..=6),
            slow: (rng.u32(0..=40) * storm, rng.u64(20..=3_000)),
            errors: rng.u32(0..=60) * storm,
            lost_hints: rng.u32(0..=30) * storm,
            repeated_hints: rng.u32(0..=10) * storm,
            clock_rate: match has_one_clock {
                true => 1_000,
                false => rng.i64(950..=1_050),
            },
            machine_rates: (0..processes)
                .map(|_| match has_one_clock {
                    true => 1_000,
                    false => rng.u32(950..=1_050),
                })
                .collect(),
            crashes: few(rng, 4),
            graceful_stops: few(rng, 2),
            freezes: few(rng, 3),
            early_expiries: few(rng, 2),
            clock_jumps: few(rng, 1),
            suspensions: few(rng, 1),
            leaps: few(rng, 1),
            has_poison,
            more: None,
            again: Again::default(),
            rollout: None,
        }
    }

    /// Adds what two seeds of three have besides.
    pub(crate) fn add_more(&mut self, rng: &mut Rng) {
        if rng.u32(0..3) == 0 {
            return;
        }
        let more = More::random(rng, self.quiet_at);
        self.processes += more.side;
        let one_clock = self.clock_rate == 1_000;
        self.machine_rates
            .extend((0..more.side).map(|_| match one_clock {
                true => 1_000,
                false => rng.u32(950..=1_050),
            }));
        self.more = Some(more);
    }

    /// Adds what an operator begins again.
    pub(crate) fn add_again(&mut self, rng: &mut Rng) {
        if rng.bool() {
            self.again = Again {
                resets: rng.u32(0..=4),
                forks: rng.u32(0..=3),
            };
        }
    }

    /// Whether any process serves the queue of the side.
    pub(crate) fn has_side(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.side > 0)
    }

    /// Whether a process serves the queue of the side.
    pub(crate) fn is_on_side(&self, process: usize) -> bool {
        let side = self.more.as_ref().map_or(0, |more| more.side);
        process + side >= self.processes
    }
}

impl More {
    fn random(rng: &mut Rng, quiet_at: u64) -> Self {
        let side = match rng.u32(0..10) {
            0..=3 => 0,
            4..=7 => 1,
            _ => 2,
        };
        let is_limited = side > 0 && rng.u32(0..10) < 6;
        Self {
            side,
            limits: is_limited.then(|| Limits {
                running: rng.u32(1..=3),
                per_key: rng.bool().then(|| rng.u32(1..=2)),
                in_worker: rng.bool().then(|| rng.u32(1..=3)),
            }),
            queue_pauses: if side > 0 { rng.u32(0..=1) } else { 0 },
            pauses: (if rng.bool() { 50 } else { 0 }, rng.u32(1..=3)),
            deployed_at: (rng.u32(0..10) < 4).then(|| rng.u64(0..quiet_at)),
        }
    }
}

impl Commits {
    fn random(rng: &mut Rng) -> Self {
        if rng.u32(0..10) < 3 {
            return Self {
                at_once: 2,
                writes_at_once: rng.usize(1..=2),
                queue: 4_096,
                batch: 1_024,
                worth_dividing: 64,
                births: 256,
            };
        }
        let at_once = rng.usize(1..=3);
        Self {
            at_once,
            writes_at_once: rng.usize(1..=at_once),
            queue: rng.usize(1..=6),
            batch: rng.usize(1..=6),
            worth_dividing: rng.usize(2..=3),
            births: rng.usize(1..=2),
        }
    }
}
