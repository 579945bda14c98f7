//! What the rules make of runs that take each other's place: what was copied from one to the next happened once.

use std::collections::HashMap;

use sync_workflow::{
    id::NodeId,
    record::{Record, RecordKind},
    status::RunStatus,
};
use uuid::Uuid;

use super::{
    Evidence, Ground,
    history::{
        History,
        tests::{forked, histories, history_of, record, reset, run},
    },
    outcomes::tests::{child_of, child_started, completed, program_of},
};
use crate::{
    ledger::{Begun, Entries},
    load::{Plan, Started},
    program::{Expected, Input, Step, effect_of, undo_of},
};

const GROUND: Ground = Ground {
    clocks_are_true: true,
    is_graceful: false,
};

/// Nothing but these runs, which were started as this input under the workflow id `top-1`.
fn evidence(input: &Input, runs: Vec<History>) -> Evidence {
    Evidence {
        histories: histories(runs),
        started: vec![Started {
            workflow_id: "top-1".into(),
            plan: Plan::Program(input.clone()),
        }],
        entries: Entries::default(),
        effects: Vec::new(),
        node_ends: HashMap::new(),
    }
}

/// Asserts that these rules are broken, each as often.
fn check(evidence: &Evidence, rules: &[&str]) {
    let found = evidence.violations(GROUND);
    let mut broken: Vec<_> = found.iter().map(|violation| violation.rule).collect();
    broken.sort_unstable();
    assert_eq!(broken, rules, "{found:?}");
}

/// A run of the first number that was taken back after these records, and the one of the second number in its place, which
/// kept them and completed.
fn taken_back([origin, next]: [u128; 2], input: &Input, kept: &[Record]) -> Vec<History> {
    let place = u32::try_from(kept.len()).unwrap() + 1;
    let before = [kept, &[reset(place, next)]].concat();
    let after = [kept, &[forked(place, origin), completed(place + 1, input)]].concat();
    vec![
        program_of(origin, input, RunStatus::ContinuedAsNew, before),
        program_of(next, input, RunStatus::Completed, after),
    ]
}

impl Evidence {
    /// The first activity of a run was tried, in the first second.
    fn tried(&mut self, number: u128) {
        let begun = Begun {
            at: 1,
            node: NodeId::from_uuid(Uuid::from_u128(9)),
            attempt: 1,
        };
        let key = format!("{}/0", run(number));
        self.entries.begun.entry(key).or_default().push(begun);
    }

    /// It had its effect.
    fn had_effect(&mut self, number: u128) {
        let key = format!("{}/0", run(number));
        *self.entries.effects.entry(key).or_default() += 1;
    }

    /// The transactional step of a run was written.
    fn written(&mut self, number: u128) {
        self.effects.push((run(number).to_string(), "step".into()));
    }
}

fn activity() -> Input {
    Input::new(vec![Step::Activity { n: 1, millis: 1 }])
}

#[test]
fn a_result_that_was_copied_needs_no_effect_of_its_own() {
    let kept = [record(1, RecordKind::ActivityCompleted, Some(0), "1")];
    let runs = || taken_back([1, 2], &activity(), &kept);
    let mut whole = evidence(&activity(), runs());
    whole.had_effect(1);
    check(&whole, &[]);
    let never = evidence(&activity(), runs());
    check(&never, &["no result without its effect"]);
}

#[test]
fn a_step_that_was_copied_and_is_tried_again_is_found() {
    for kind in [RecordKind::ActivityCompleted, RecordKind::ActivityFailed] {
        let kept = [record(1, kind, Some(0), "1")];
        let mut again = evidence(&activity(), taken_back([1, 2], &activity(), &kept));
        again.had_effect(1);
        again.tried(2);
        check(&again, &["a journaled result stands"]);
    }
}

#[test]
fn what_was_not_copied_happens_again() {
    let input = activity();
    let done = |position| record(position, RecordKind::ActivityCompleted, Some(0), "1");
    let before = vec![done(1), reset(2, 2)];
    let after = vec![forked(1, 1), done(2), completed(3, &input)];
    let runs = vec![
        program_of(1, &input, RunStatus::ContinuedAsNew, before),
        program_of(2, &input, RunStatus::Completed, after),
    ];
    let mut evidence = evidence(&input, runs);
    evidence.had_effect(1);
    evidence.tried(2);
    check(&evidence, &["no result without its effect"]);
    evidence.had_effect(2);
    check(&evidence, &[]);
}

#[test]
fn a_transaction_that_was_copied_needs_no_effect_of_its_own() {
    let input = Input::new(vec![Step::Transaction { n: 1 }]);
    let kept = [record(1, RecordKind::TransactionCompleted, Some(0), "1")];
    let mut evidence = evidence(&input, taken_back([1, 2], &input, &kept));
    check(&evidence, &["exactly once"]);
    evidence.written(1);
    check(&evidence, &[]);
    evidence.written(2);
    check(&evidence, &["exactly once"]);
}

#[test]
fn what_a_saga_undid_before_and_after_the_place_counts_once() {
    let input = Input::new(vec![Step::Saga {
        each: vec![1, 2],
        fails: true,
    }]);
    let undo = |position, command, n| {
        let value = effect_of(undo_of(n)).to_string();
        record(
            position,
            RecordKind::ActivityCompleted,
            Some(command),
            &value,
        )
    };
    let before = vec![undo(1, 0, 2), reset(2, 2)];
    let check = |after: Vec<Record>, rules: &[&str]| {
        let runs = vec![
            program_of(1, &input, RunStatus::ContinuedAsNew, before.clone()),
            program_of(2, &input, RunStatus::Completed, after),
        ];
        let mut evidence = evidence(&input, runs);
        evidence.had_effect(1);
        for command in [1, 2] {
            let key = format!("{}/{command}", run(2));
            evidence.entries.effects.insert(key, 1);
        }
        check(&evidence, rules);
    };
    let kept = || vec![undo(1, 0, 2), forked(2, 1)];
    let end = |position| vec![completed(position, &input)];
    check([kept(), vec![undo(3, 1, 1)], end(4)].concat(), &[]);
    check([kept(), end(3)].concat(), &["expected results"]);
    let twice = vec![undo(3, 1, 2), undo(4, 2, 1)];
    check([kept(), twice, end(5)].concat(), &["expected results"]);
}

#[test]
fn a_family_continues_as_new_in_one_other() {
    let input = Input::new(vec![
        Step::Transaction { n: 1 },
        Step::Continue,
        Step::Transaction { n: 2 },
    ]);
    let Expected::Continued(next) = input.expected() else {
        panic!("it continues as new");
    };
    let step = |position| record(position, RecordKind::TransactionCompleted, Some(0), "1");
    let continued = |position| record(position, RecordKind::ContinuedAsNew, None, "");
    let runs = || {
        let before = vec![step(1), reset(2, 2)];
        let after = vec![step(1), forked(2, 1), continued(3)];
        let mut runs = vec![
            program_of(1, &input, RunStatus::ContinuedAsNew, before),
            program_of(2, &input, RunStatus::ContinuedAsNew, after),
        ];
        runs.extend(taken_back([3, 4], &next, &[step(1)]));
        runs
    };
    let mut whole = evidence(&input, runs());
    whole.written(1);
    whole.written(3);
    check(&whole, &[]);
    let mut runs = runs();
    let other = vec![completed(1, &next)];
    runs.push(program_of(5, &next, RunStatus::Completed, other));
    let mut twice = evidence(&input, runs);
    twice.written(1);
    twice.written(3);
    check(&twice, &["expected results", "started once"]);
}

/// A run that started two children and was taken back to between them, and the one in its place, which started a third.
/// The first child was taken back too; the second one was cancelled.
fn with_children(input: &Input) -> Vec<History> {
    let before = vec![child_started(1, 0, 3), child_started(2, 1, 4), reset(3, 2)];
    let after = vec![
        child_started(1, 0, 3),
        forked(2, 1),
        child_started(3, 1, 5),
        completed(4, input),
    ];
    let mut children = taken_back([3, 6], input, &[]);
    for child in &mut children {
        child.info.workflow_id = child_of(2, 3).info.workflow_id;
        child.info.parent = Some(run(2));
    }
    let started = record(0, RecordKind::Started, None, "{}");
    let cancelled = vec![started, record(1, RecordKind::Cancelled, None, "")];
    let mut second = history_of(4, "child-4", RunStatus::Cancelled, cancelled);
    second.info.parent = Some(run(1));
    children.extend([
        second,
        child_of(2, 5),
        program_of(1, input, RunStatus::ContinuedAsNew, before),
        program_of(2, input, RunStatus::Completed, after),
    ]);
    children
}

fn check_children(rules: &[&str], change: impl FnOnce(&mut Vec<History>)) {
    let input = activity();
    let mut runs = with_children(&input);
    change(&mut runs);
    check(&evidence(&input, runs), rules);
}

#[test]
fn a_family_has_the_children_that_any_of_it_names() {
    check_children(&[], |_| {});
    // One that ended before its parent was taken back stays that one's.
    check_children(&[], |runs| {
        let ended = |child: &&mut History| child.info.workflow_id.as_str() == "child-3";
        for child in runs.iter_mut().filter(ended) {
            child.info.parent = Some(run(1));
        }
    });
    check_children(&["started once"], |runs| runs.push(child_of(2, 7)));
    let lost = ["expected results", "started once"];
    check_children(&lost, |runs| runs.retain(|lost| lost.info.run != run(5)));
}

#[test]
fn a_child_of_a_family_is_no_one_elses() {
    let stranger = ["expected results", "started once", "started once"];
    check_children(&stranger, |runs| {
        let mut children = runs.iter_mut();
        let third = children.find(|child| child.info.run == run(5)).unwrap();
        third.info.parent = Some(run(4));
    });
}

#[test]
fn a_child_is_cancelled_only_if_its_parent_was_taken_back() {
    check_children(&["expected results"], |runs| {
        let mut children = runs.iter_mut();
        let second = children.find(|child| child.info.run == run(4)).unwrap();
        second.info.parent = Some(run(2));
    });
}
