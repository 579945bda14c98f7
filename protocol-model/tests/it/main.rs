//! The protocol holds at a small size, and each of its rules is needed.

use protocol_model::{Bounds, Found, Protocol, Variant, search};

const SMALL: Bounds = Bounds {
    nodes: 2,
    runs: 1,
    steps: 2,
    crashes: 1,
    reaps: 1,
    lost_answers: 1,
    terminations: 1,
    pauses: 1,
};

fn found(variant: Variant) -> Found {
    let bounds = SMALL;
    search(Protocol { variant, bounds }, 2)
}

#[test]
fn the_protocol_holds_in_every_state() {
    let found = found(Variant::Real);
    assert!(found.broken.is_empty(), "{:#?}", found.broken);
    assert!(found.states > 1_000, "{} states are too few", found.states);
}

#[test]
fn a_protocol_without_one_of_its_rules_is_caught() {
    for mutant in Variant::MUTANTS {
        assert!(!found(mutant).broken.is_empty(), "{mutant}");
    }
}
