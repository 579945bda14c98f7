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
        for entry in &history.records {
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
    for (key, tries) in &entries.begun {
        let Some(activity) = journaled.get(key) else {
            // The loser of a race, or one that was cancelled, leaves no record.
            check_tries(key, tries, &Journaled::default(), evidence, ground, found);
            continue;
        };
        check_tries(key, tries, activity, evidence, ground, found);
    }
}

fn journaled(histories: &Histories) -> HashMap<String, Journaled> {
    let mut journaled: HashMap<String, Journaled> = HashMap::new();
    for history in histories.iter() {
        for entry in &history.records {
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
    let nodes: HashSet<_> = tries.iter().map(|begun| begun.node).collect();
    if ground.is_graceful && nodes.len() > 1 {
        tell(
            "no needless attempt",
            format!("{} nodes tried it although none died", nodes.len()),
        );
    }
    if !ground.clocks_are_true {
        return;
    }
    let mut in_order: Vec<_> = tries.iter().collect();
    in_order.sort_by_key(|begun| begun.at);
    for (one, next) in in_order.iter().zip(in_order.iter().skip(1)) {
        // Whoever tries after another node has taken over from a dead one, or is a dead one itself.
        let has_ended = |begun: &Begun| ended(begun).is_some_and(|end| end <= next.at);
        if one.node != next.node && !has_ended(one) && !has_ended(next) {
            let (one, next) = (one.node, next.node);
            tell(
                "no needless attempt",
                format!("{next} tried it while {one} was alive"),
            );
        }
    }
    let Some(completed_at) = activity.completed_at else {
        return;
    };
    for begun in tries.iter().filter(|begun| begun.at > completed_at) {
        // Only a node that has been declared dead, and does not know it yet, may still try.
        let is_zombie = ended(begun).is_some_and(|end| end <= begun.at);
        if !is_zombie {
            let late = begun.at - completed_at;
            tell(
                "a journaled result stands",
                format!(
                    "node {} tried it {late} µs after its result was journaled",
                    begun.node
                ),
            );
        }
    }
}
