//! The simulator's own tests: seeds without a violation, the same trace twice, and deliberate bugs
//! that are caught.

use simulator::{Figures, Mutant, Options, simulate};

/// How many seeds every commit is held against. The command runs as many as one likes.
const SEEDS: u64 = 250;

/// What was wrong with them is told in docs/reliability/simulator.md, in this order, last.
const ONCE_VIOLATED: [u64; 3] = [26_732, 48_680, 88_902];

#[test]
fn no_seed_shows_a_violation() {
    let mut all = Figures::default();
    for seed in (0..SEEDS).chain(ONCE_VIOLATED) {
        let report = simulate(seed, Options::default());
        assert_eq!(report.violation, None, "seed {seed}");
        all.add(&report.figures);
    }
    assert!(all.runs >= SEEDS, "only {} runs came to an end", all.runs);
    let happened = [
        all.local_starts,
        all.suspensions,
        all.beside,
        all.overtaking,
        all.torn,
        all.belated,
    ];
    assert!(!happened.contains(&0), "something was never tried: {all:?}");
    for (what, times) in all.variety.each() {
        assert!(times > 0, "no {what} in {SEEDS} seeds");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1_000..1_060 {
        let digests = [(); 2].map(|()| simulate(seed, Options::default()).digest);
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}

#[test]
fn every_prefix_of_every_journal_replays() {
    let options = Options {
        is_thorough: true,
        ..Options::default()
    };
    for seed in 2_000..2_040 {
        assert_eq!(simulate(seed, options).violation, None, "seed {seed}");
    }
}

#[test]
fn deliberate_bugs_are_caught() {
    // Those that take hundreds of seeds are left to the command.
    let quickly_caught = [
        Mutant::NoDedupe,
        Mutant::BlindRetry,
        Mutant::EarlyAcknowledgement,
        Mutant::SignalsStay,
        Mutant::WorkerClock,
        Mutant::UncountedClaims,
        Mutant::ForgottenAttempts,
        Mutant::EagerReaper,
        Mutant::ForgottenAlarm,
        Mutant::PausedClaim,
        Mutant::OneTooMany,
        Mutant::UnfencedReset,
        Mutant::SignalsStayReceived,
        Mutant::ForsakenChildren,
        Mutant::ForkWithoutSignals,
        Mutant::ForeignBuild,
    ];
    for mutant in quickly_caught {
        let options = Options {
            mutant: Some(mutant),
            ..Options::default()
        };
        let is_caught = (0..200).any(|seed| simulate(seed, options).violation.is_some());
        assert!(is_caught, "{mutant:?}");
    }
}
