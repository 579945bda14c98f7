//! What a seed decides before anything runs: the settings of the workers, and how bad the world is.

use std::time::Duration;

use fastrand::Rng;

/// The world of one simulation.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) processes: usize,
    pub(crate) lease: Duration,
    pub(crate) poll_interval: Duration,
    /// Whether a worker looks at what it owns each time that it claims. Others find runs that a
    /// lost answer left without a driver at a restart.
    pub(crate) looks_always: bool,
    pub(crate) evict_after: Duration,
    pub(crate) activity_slots: usize,
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
    /// How fast the database's clock runs, in thousandths of the workers'.
    pub(crate) clock_rate: i64,
    /// How many faults of each kind befall the processes.
    pub(crate) crashes: u32,
    pub(crate) graceful_stops: u32,
    pub(crate) freezes: u32,
    pub(crate) early_expiries: u32,
    pub(crate) clock_jumps: u32,
    pub(crate) has_poison: bool,
}

/// How a run without progress is counted where a poison program is about.
pub(crate) const POISON_CLAIMS: u32 = 3;

impl Profile {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let storm = rng.u32(0..4);
        let looks_always = rng.u32(0..10) < 6;
        let has_poison = rng.u32(0..100) < 4;
        let few = |rng: &mut Rng, most: u32| rng.u32(0..=most * storm / 3);
        Self {
            processes: rng.usize(1..=3),
            lease: Duration::from_millis(rng.u64(1_000..=8_000)),
            poll_interval: if looks_always {
                Duration::from_nanos(2)
            } else {
                Duration::from_millis(rng.u64(1_000..=6_000))
            },
            looks_always,
            evict_after: if rng.u32(0..10) < 7 {
                Duration::ZERO
            } else {
                Duration::MAX
            },
            activity_slots: if rng.u32(0..10) < 3 { 1 } else { 64 },
            max_claims: if has_poison { POISON_CLAIMS } else { 1_000 },
            quiet_at: rng.u64(2_000..=15_000),
            latency: rng.u64(0..=6),
            slow: (rng.u32(0..=40) * storm, rng.u64(20..=3_000)),
            errors: rng.u32(0..=60) * storm,
            lost_hints: rng.u32(0..=30) * storm,
            repeated_hints: rng.u32(0..=10) * storm,
            clock_rate: if rng.bool() {
                1_000
            } else {
                rng.i64(950..=1_050)
            },
            crashes: few(rng, 4),
            graceful_stops: few(rng, 2),
            freezes: few(rng, 3),
            early_expiries: few(rng, 2),
            clock_jumps: few(rng, 1),
            has_poison,
        }
    }
}
