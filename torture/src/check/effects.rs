//! Effects: those of transactional steps in the database, those of activities in the ledger.

use std::collections::{HashMap, HashSet};

use sync_workflow::record::RecordKind;

use super::{Evidence, Ground, Histories, Violation};
use crate::ledger::Begun;

/// A transactional step and its SQL happened together, once, or not at all.
pub(super) fn check_transactions(
    histories: &Histories,
    effects: &[(String, String)],
    found: &mut Vec<Violation>,
) {
    let mut written: HashMap<(String, &str), usize> = HashMap::new();
    for (run, step) in effects {
        *written.entry((run.clone(), step)).or_default() += 1;
    }
    for history in histories.iter() {
        let run = history.info.run.to_string();
        for entry in history.own() {
            if entry.kind() != RecordKind::TransactionCompleted {
                continue;
            }
            let step = &*entry.record.name;
            let times = written.remove(&(run.clone(), step)).unwrap_or_default();
            if times != 1 {
                let detail =
                    format!("run {run}: {step} is journaled and was written {times} times");
                found.push(Violation::new("exactly once", detail));
            }
        }
    }
    for ((run, step), times) in written {
        let detail = format!("run {run}: {step} was written {times} times and is not journaled");
        found.push(Violation::new("exactly once", detail));
    }
}

/// What the journal says of one activity.
#[derive(Default)]
struct Journaled {
    /// When its result was committed.
    completed_at: Option<i64>,
    has_value: bool,
    at_most_once: bool,
}

/// No activity was tried without need, and none has a result without an effect.
pub(super) fn check_activities(evidence: &Evidence, ground: Ground, found: &mut Vec<Violation>) {
    let journaled = journaled(&evidence.histories);
    let entries = &evidence.entries;
    for (key, activity) in &journaled {
        if activity.has_value && !entries.effects.contains_key(key) {
            let detail = format!("activity {key} has a result, but never had its effect");
            found.push(Violation::new("no result without its effect", detail));
        }
    }
    for key in kept(&evidence.histories) {
        if entries.begun.contains_key(&key) {
            let detail = format!("activity {key} was tried, although its end was copied");
            found.push(Violation::new("a journaled result stands", detail));
        }
    }
    for (key, tries) in &entries.begun {
        let Some(activity) = journaled.get(key) else {
            // The loser of a race, or one that was cancelled, leaves no record.
            check_tries(key, tries, &Journaled::default(), evidence, ground, found);
            continue;
        };
        check_tries(key, tries, activity, evidence, ground, found);
    }
}

/// The activities that runs were born with, ended.
fn kept(histories: &Histories) -> impl Iterator<Item = String> {
    histories.iter().flat_map(|history| {
        let ended = history.kept().filter(|record| {
            matches!(
                record.kind,
                RecordKind::ActivityCompleted | RecordKind::ActivityFailed
            )
        });
        ended.map(|record| format!("{}/{}", history.info.run, record.command))
    })
}

fn journaled(histories: &Histories) -> HashMap<String, Journaled> {
    let mut journaled: HashMap<String, Journaled> = HashMap::new();
    for history in histories.iter() {
        for entry in history.own() {
            let key = || format!("{}/{}", history.info.run, entry.record.command);
            match entry.kind() {
                RecordKind::ActivityAttempted => {
                    journaled.entry(key()).or_default().at_most_once = true;
                }
                RecordKind::ActivityCompleted | RecordKind::ActivityFailed => {
                    let activity = journaled.entry(key()).or_default();
                    activity.completed_at = Some(entry.recorded_at.as_microsecond());
                    activity.has_value = entry.kind() == RecordKind::ActivityCompleted;
                }
                _ => {}
            }
        }
    }
    journaled
}

fn check_tries(
    key: &str,
    tries: &[Begun],
    activity: &Journaled,
    evidence: &Evidence,
    ground: Ground,
    found: &mut Vec<Violation>,
) {
    let mut tell = |rule, detail: String| {
        found.push(Violation::new(rule, format!("activity {key}: {detail}")));
    };
    let ended = |begun: &Begun| evidence.node_ends.get(&begun.node).copied();
    if activity.at_most_once && tries.len() > 1 {
        tell(
            "at most once",
            format!("it was tried {} times", tries.len()),
        );
    }
    let mut seen = HashSet::new();
    for begun in tries {
        if !seen.insert((begun.node, begun.attempt)) {
            let (attempt, node) = (begun.attempt, begun.node);
            tell(
                "no needless attempt",
                format!("attempt {attempt} was made twice by node {node}"),
            );
        }
    }
    let attempts: HashSet<_> = tries.iter().map(|begun| begun.attempt).collect();
    if ground.is_graceful && attempts.len() < tries.len() {
        let (tries, attempts) = (tries.len(), attempts.len());
        tell(
            "no needless attempt",
            format!("{attempts} attempts were made {tries} times although no node died"),
        );
    }
    if ground.clocks_are_true {
        check_order(tries, activity, &ended, &mut tell);
    }
}

/// Whoever tries has taken over from a dead node, or is a dead one itself.
fn check_order(
    tries: &[Begun],
    activity: &Journaled,
    ended: &dyn Fn(&Begun) -> Option<i64>,
    tell: &mut impl FnMut(&'static str, String),
) {
    let had_ended = |begun: &Begun, at| ended(begun).is_some_and(|end| end <= at);
    let mut in_order: Vec<_> = tries.iter().collect();
    in_order.sort_by_key(|begun| begun.at);
    for (one, next) in in_order.iter().zip(in_order.iter().skip(1)) {
        // The next attempt may be another node's in any case: a node that drains gives its runs away.
        let is_same = one.attempt == next.attempt && one.node != next.node;
        if is_same && !had_ended(one, next.at) && !had_ended(next, next.at) {
            let (one, next) = (one.node, next.node);
            let detail = format!("{next} tried it while {one} was alive");
            tell("no needless attempt", detail);
        }
    }
    let Some(completed_at) = activity.completed_at else {
        return;
    };
    for begun in tries.iter().filter(|begun| begun.at > completed_at) {
        // Only a node that has been declared dead, and does not know it yet, may still try.
        if !had_ended(begun, begun.at) {
            let (node, late) = (begun.node, begun.at - completed_at);
            let detail = format!("node {node} tried it {late} µs after its result was journaled");
            tell("a journaled result stands", detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use sync_workflow::{id::NodeId, status::RunStatus};
    use uuid::Uuid;

    use super::super::history::tests::{histories, history, record};
    use super::*;
    use crate::ledger::Entries;

    const GROUND: Ground = Ground {
        clocks_are_true: true,
        is_graceful: false,
    };
    const RUN: Uuid = Uuid::from_u128(1);

    fn node(number: u128) -> NodeId {
        NodeId::from_uuid(Uuid::from_u128(number))
    }

    fn begun(second: i64, number: u128, attempt: u32) -> Begun {
        Begun {
            at: second * 1_000_000,
            node: node(number),
            attempt,
        }
    }

    /// An activity whose result was journaled at second 10, and these tries of it. Node 1 ended at
    /// second 5, nodes 2 and 3 at second 100.
    fn evidence(tries: Vec<Begun>, kind: RecordKind) -> Evidence {
        let mut records: Vec<_> = (0..9)
            .map(|position| record(position, RecordKind::SideEffect, Some(100), ""))
            .collect();
        records.push(record(9, kind, Some(0), "1"));
        let key = format!("{RUN}/0");
        let entries = Entries {
            begun: [(key.clone(), tries)].into(),
            effects: [(key, 1)].into(),
            ..Entries::default()
        };
        Evidence {
            histories: histories(vec![history(RunStatus::Completed, records)]),
            started: Vec::new(),
            entries,
            effects: Vec::new(),
            node_ends: [
                (node(1), 5_000_000),
                (node(2), 100_000_000),
                (node(3), 100_000_000),
            ]
            .into(),
        }
    }

    fn check_tries(tries: Vec<Begun>, rules: &[&str]) {
        let mut found = Vec::new();
        let evidence = evidence(tries, RecordKind::ActivityCompleted);
        check_activities(&evidence, GROUND, &mut found);
        let broken: Vec<_> = found.iter().map(|violation| violation.rule).collect();
        assert_eq!(broken, rules, "{found:?}");
    }

    #[test]
    fn a_try_by_whoever_took_over_from_a_dead_node_is_fine_and_so_is_one_of_a_zombie() {
        check_tries(vec![begun(1, 1, 1), begun(6, 2, 1)], &[]);
        check_tries(vec![begun(1, 1, 1), begun(6, 2, 1), begun(20, 1, 2)], &[]);
    }

    #[test]
    fn needless_tries_are_found() {
        check_tries(
            vec![begun(1, 2, 1), begun(2, 2, 1)],
            &["no needless attempt"],
        );
        check_tries(
            vec![begun(1, 2, 1), begun(2, 3, 1)],
            &["no needless attempt"],
        );
    }

    #[test]
    fn a_try_after_the_result_is_found() {
        check_tries(
            vec![begun(1, 2, 1), begun(11, 2, 2)],
            &["a journaled result stands"],
        );
    }

    #[test]
    fn a_second_try_of_what_runs_at_most_once_is_found() {
        let mut evidence = evidence(
            vec![begun(1, 1, 1), begun(6, 2, 1)],
            RecordKind::ActivityAttempted,
        );
        let mut found = Vec::new();
        check_activities(&evidence, GROUND, &mut found);
        assert_eq!(found[0].rule, "at most once");
        evidence.entries.begun.clear();
        found.clear();
        check_activities(&evidence, GROUND, &mut found);
        assert!(found.is_empty());
    }

    #[test]
    fn a_result_without_an_effect_is_found() {
        let mut evidence = evidence(vec![begun(1, 2, 1)], RecordKind::ActivityCompleted);
        evidence.entries.effects.clear();
        let mut found = Vec::new();
        check_activities(&evidence, GROUND, &mut found);
        assert_eq!(found[0].rule, "no result without its effect");
    }

    #[test]
    fn sql_that_happened_twice_or_without_its_record_is_found() {
        let records = vec![record(0, RecordKind::TransactionCompleted, Some(0), "1")];
        let histories = histories(vec![history(RunStatus::Completed, records)]);
        let written = |step: &str| (RUN.to_string(), step.to_owned());
        let check = |effects: &[(String, String)], violations: usize| {
            let mut found = Vec::new();
            check_transactions(&histories, effects, &mut found);
            assert_eq!(found.len(), violations, "{found:?}");
        };
        check(&[written("step")], 0);
        check(&[], 1);
        check(&[written("step"), written("step")], 1);
        check(&[written("step"), written("other")], 1);
    }
}
