//! The shape of a run's journal: no holes, each command completed once, an end that fits.

use std::collections::HashSet;

use sync_workflow::record::{Record, RecordKind};

use super::{Violation, history::History};

/// How much earlier than its time a timer may be recorded, in microseconds: the clocks of worker and
/// database drift apart between two answers.
const EARLY: i64 = 5_000;

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    let run = history.info.run;
    let mut tell = |rule, detail: String| {
        found.push(Violation::new(rule, format!("run {run}: {detail}")));
    };
    positions(history, &mut tell);
    end(history, &mut tell);
    commands(history, &mut tell);
    versions(history, &mut tell);
    timers(history, &mut tell);
    if history.info.status.is_closed() && history.attempts_kept > 0 {
        let kept = history.attempts_kept;
        tell(
            "nothing is left",
            format!("{kept} attempts are kept of a closed run"),
        );
    }
}

fn positions(history: &History, tell: &mut impl FnMut(&'static str, String)) {
    for (index, record) in history.records.iter().enumerate() {
        if record.position().0 as usize != index {
            let position = record.position();
            tell(
                "no holes",
                format!("position {position} where {index} was due"),
            );
            return;
        }
    }
    if history.records.first().map(|first| first.kind()) != Some(RecordKind::Started) {
        tell("no holes", "it does not begin with its start".into());
    }
}

fn end(history: &History, tell: &mut impl FnMut(&'static str, String)) {
    let status = history.info.status;
    let Some((last, before)) = history.records.split_last() else {
        return;
    };
    for record in before.iter().filter(|record| record.kind().is_final()) {
        let position = record.position();
        tell("one end", format!("it ends at {position}, and goes on"));
    }
    let Some(expected) = last.kind().final_status() else {
        let (kind, parked) = (last.kind(), history.info.parked_reason.as_deref());
        let parked = parked.unwrap_or_default();
        let detail = format!("{status} after {kind:?} {parked}");
        tell("every run ends", detail);
        return;
    };
    if status != expected {
        tell(
            "one end",
            format!("its status is {status}, its last record {expected}"),
        );
    }
}

fn commands(history: &History, tell: &mut impl FnMut(&'static str, String)) {
    let (mut created, mut completed) = (HashSet::new(), HashSet::new());
    for record in history.records.iter().map(|entry| &entry.record) {
        if record.command == Record::RUN {
            continue;
        }
        let seen = match record.kind {
            RecordKind::ActivityAttempted | RecordKind::TimerStarted | RecordKind::ChildStarted => {
                &mut created
            }
            RecordKind::ActivityCompleted
            | RecordKind::ActivityFailed
            | RecordKind::TransactionCompleted
            | RecordKind::TransactionFailed
            | RecordKind::TimerFired
            | RecordKind::SignalReceived
            | RecordKind::SignalSent
            | RecordKind::SignalFailed
            | RecordKind::ChildCompleted
            | RecordKind::ChildFailed => &mut completed,
            RecordKind::Started
            | RecordKind::SideEffect
            | RecordKind::VersionChosen
            | RecordKind::Forked
            | RecordKind::CancelRequested
            | RecordKind::Completed
            | RecordKind::Failed
            | RecordKind::Cancelled
            | RecordKind::Terminated
            | RecordKind::ContinuedAsNew => continue,
        };
        if !seen.insert(record.command) {
            let (command, kind) = (record.command, record.kind);
            tell("once only", format!("command {command} has {kind:?} twice"));
        }
    }
}

/// Each change of the code has one version.
fn versions(history: &History, tell: &mut impl FnMut(&'static str, String)) {
    let mut chosen = HashSet::new();
    for entry in &history.records {
        if entry.kind() == RecordKind::VersionChosen && !chosen.insert(&entry.record.name) {
            let change = &entry.record.name;
            tell("once only", format!("{change} has a version twice"));
        }
    }
}

fn timers(history: &History, tell: &mut impl FnMut(&'static str, String)) {
    let of_kind = |kind| {
        history
            .records
            .iter()
            .filter(move |entry| entry.kind() == kind)
    };
    for fired in of_kind(RecordKind::TimerFired) {
        let command = fired.record.command;
        let started =
            of_kind(RecordKind::TimerStarted).find(|entry| entry.record.command == command);
        let due = started.and_then(|entry| due(&entry.record));
        match due {
            None => tell("timers", format!("timer {command} fired and was never set")),
            Some(due) if fired.recorded_at.as_microsecond() + EARLY < due => {
                let early = due - fired.recorded_at.as_microsecond();
                tell("timers", format!("timer {command} fired {early} µs early"));
            }
            Some(_) => {}
        }
    }
}

fn due(record: &Record) -> Option<i64> {
    serde_json::from_slice(&record.payload).ok()
}

#[cfg(test)]
mod tests {
    use sync_workflow::{id::CommandId, status::RunStatus};

    use super::super::history::tests::{history, record};
    use super::*;

    fn check_rules(history: &History, rules: &[&str]) {
        let mut found = Vec::new();
        check(history, &mut found);
        let broken: Vec<_> = found.iter().map(|violation| violation.rule).collect();
        assert_eq!(broken, rules, "{found:?}");
    }

    fn whole() -> Vec<Record> {
        vec![
            record(0, RecordKind::Started, None, "{}"),
            record(1, RecordKind::ActivityCompleted, Some(0), "1"),
            record(2, RecordKind::TimerStarted, Some(1), "0"),
            record(3, RecordKind::TimerFired, Some(1), ""),
            record(4, RecordKind::Completed, None, "1"),
        ]
    }

    #[test]
    fn a_whole_journal_is_accepted() {
        check_rules(&history(RunStatus::Completed, whole()), &[]);
    }

    #[test]
    fn a_hole_is_found() {
        let mut records = whole();
        records.remove(1);
        check_rules(&history(RunStatus::Completed, records), &["no holes"]);
    }

    #[test]
    fn a_command_that_completes_twice_is_found() {
        let mut records = whole();
        records[3] = record(3, RecordKind::ActivityCompleted, Some(0), "1");
        check_rules(&history(RunStatus::Completed, records), &["once only"]);
    }

    #[test]
    fn a_change_with_two_versions_is_found() {
        let mut records = whole();
        records[1] = record(1, RecordKind::VersionChosen, None, "1");
        check_rules(&history(RunStatus::Completed, records.clone()), &[]);
        records.pop();
        records.push(record(4, RecordKind::VersionChosen, None, "1"));
        records.push(record(5, RecordKind::Completed, None, "1"));
        check_rules(&history(RunStatus::Completed, records), &["once only"]);
    }

    #[test]
    fn a_timer_that_fires_before_its_time_is_found() {
        let mut records = whole();
        records[2] = record(2, RecordKind::TimerStarted, Some(1), &i64::MAX.to_string());
        check_rules(&history(RunStatus::Completed, records), &["timers"]);
        let mut records = whole();
        records[3].command = CommandId(7);
        check_rules(&history(RunStatus::Completed, records), &["timers"]);
    }

    #[test]
    fn a_run_that_does_not_end_is_found_and_so_is_one_that_ends_twice() {
        let mut records = whole();
        records.pop();
        check_rules(&history(RunStatus::Pending, records), &["every run ends"]);
        let mut records = whole();
        records.push(record(5, RecordKind::Completed, None, "1"));
        check_rules(&history(RunStatus::Completed, records), &["one end"]);
        check_rules(&history(RunStatus::Failed, whole()), &["one end"]);
    }

    #[test]
    fn attempts_that_are_kept_of_a_closed_run_are_found() {
        let mut history = history(RunStatus::Completed, whole());
        history.attempts_kept = 1;
        check_rules(&history, &["nothing is left"]);
    }
}
