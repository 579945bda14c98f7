//! How runs ended, against the oracle.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};

use sync_workflow::{
    Failure,
    id::RunId,
    record::{Record, RecordKind},
    status::RunStatus,
};

use super::{Histories, Violation, history::History};
use crate::{
    load::{Plan, Started},
    program::{Expected, Input, MARK, Step, effect_of, sum_of, undo_of},
    workflow::{Listening, decode},
};

/// The run ended as its input says, whoever started it.
pub(super) fn check_run(history: &History, all: &Histories, found: &mut Vec<Violation>) {
    let ended = match &*history.info.workflow {
        _ if history.info.status == RunStatus::Cancelled && all.is_shaken(history) => Ok(()),
        _ if history.was_reset() => place_is_taken(history, all),
        "program" => program(history, all),
        "until_cancelled" => expect_status(history, RunStatus::Cancelled),
        "sleeper" => expect_status(history, RunStatus::Cancelled),
        "failing" => expect_status(history, RunStatus::Failed),
        "listener" => listener(history),
        "activity/effect" | "fan-out/branch" => expect_status(history, RunStatus::Completed),
        other => Err(format!("nobody knows the workflow {other}")),
    };
    let is_right = ended
        .and_then(|()| names_origin(history))
        .and_then(|()| children(history, all));
    if let Err(detail) = is_right {
        let run = history.info.run;
        let detail = format!(
            "run {run} ({}): {detail}",
            history.info.workflow_id.as_str()
        );
        found.push(Violation::new("expected results", detail));
    }
}

/// What a copy says about the run that it is one of can be read.
fn names_origin(history: &History) -> Result<(), String> {
    match history.is_copy() && history.origin().is_none() {
        true => Err("it does not say whose copy it is".into()),
        false => Ok(()),
    }
}

/// The run that is to go on in the place of one that was taken back does, under the same workflow id.
fn place_is_taken(history: &History, all: &Histories) -> Result<(), String> {
    let last = records(history).last().ok_or("it has no records")?;
    let next = String::from_utf8_lossy(&last.payload);
    let root = all.root(history.info.run);
    let is_it = |other: &History| {
        let run = other.info.run;
        run.to_string() == next && all.root(run) == root
    };
    if all.others(history).any(is_it) {
        return Ok(());
    }
    Err(format!("it was taken back, and {next} is not in its place"))
}

fn program(history: &History, all: &Histories) -> Result<(), String> {
    let input: Input = first_payload(history)?;
    let expected = input.expected();
    shows(history, &input, &expected)?;
    undone(history, &input)?;
    match expected {
        Expected::Completed(value) => {
            expect_status(history, RunStatus::Completed)?;
            let got: u64 = last_payload(history)?;
            if got != value {
                return Err(format!("it came to {got} instead of {value}"));
            }
            Ok(())
        }
        Expected::Failed => {
            expect_status(history, RunStatus::Failed)?;
            let failure: Failure = last_payload(history)?;
            if failure.message != "as planned" {
                return Err(format!("it failed with {failure}"));
            }
            Ok(())
        }
        Expected::Continued(next) => {
            expect_status(history, RunStatus::ContinuedAsNew)?;
            let root = all.root(history.info.run);
            let others = all
                .others(history)
                .filter(|other| all.is_begin(other) && all.root(other.info.run) != root);
            let went_on: Vec<Input> = others.map(first_payload).collect::<Result<_, _>>()?;
            if went_on != [next] {
                return Err(format!(
                    "it continues in {} runs, or with another input",
                    went_on.len()
                ));
            }
            Ok(())
        }
    }
}

/// It shows and is found by what its chain has set last.
fn shows(history: &History, input: &Input, expected: &Expected) -> Result<(), String> {
    let shown = input.shows();
    let tag = history.info.tags.get(MARK);
    if tag.map(str::parse) != shown.tag.map(Ok) {
        return Err(format!("its tag is {tag:?} instead of {:?}", shown.tag));
    }
    let published = history.published.unwrap_or_default();
    let goes_on = matches!(expected, Expected::Continued(_));
    // What the next run of the chain shows takes the place of what this one did.
    if published == shown.published || goes_on && published > shown.published {
        return Ok(());
    }
    let due = shown.published;
    Err(format!("it shows {published} and has published {due}"))
}

/// What a saga has done was undone in reverse if the saga failed, and not at all otherwise.
fn undone(history: &History, input: &Input) -> Result<(), String> {
    for step in input.own_steps() {
        let Step::Saga { each, fails } = step else {
            continue;
        };
        let undos: Vec<u64> = each.iter().rev().map(|n| effect_of(undo_of(*n))).collect();
        let undone: Vec<u64> = records(history)
            .filter(|record| record.kind == RecordKind::ActivityCompleted)
            .filter_map(|record| decode(&record.payload).ok())
            .filter(|value| undos.contains(value))
            .collect();
        let is_right = match fails {
            true => undone == undos,
            false => undone.is_empty(),
        };
        if !is_right {
            return Err(format!("of {step:?}, {undone:?} was undone"));
        }
    }
    Ok(())
}

/// It heard each word once, in order.
fn listener(history: &History) -> Result<(), String> {
    expect_status(history, RunStatus::Completed)?;
    let told: Listening = first_payload(history)?;
    let heard: Result<Vec<u64>, _> = records(history)
        .filter(|record| record.kind == RecordKind::SignalReceived)
        .map(|record| decode(&record.payload))
        .collect();
    let heard = heard.map_err(|error| format!("{error:#}"))?;
    if heard != told.words {
        return Err(format!("it heard {heard:?} and was told {:?}", told.words));
    }
    let sum: u64 = last_payload(history)?;
    if sum != sum_of(&told.words) {
        return Err(format!("it made {sum} of {heard:?}"));
    }
    Ok(())
}

fn expect_status(history: &History, expected: RunStatus) -> Result<(), String> {
    let status = history.info.status;
    if status == expected {
        return Ok(());
    }
    let end = history.records.last().map(|last| {
        format!(
            "{:?} {}",
            last.kind(),
            String::from_utf8_lossy(&last.record.payload)
        )
    });
    Err(format!(
        "it is {status} and not {expected}: {}",
        end.unwrap_or_default()
    ))
}

/// Each child that the journal names exists, once.
fn children(history: &History, all: &Histories) -> Result<(), String> {
    for run in started_children(history)? {
        let Some(child) = all.get(run) else {
            return Err(format!("its child {run} does not exist"));
        };
        // A run that takes the place of another one takes its children over.
        let parent = child.info.parent.map(|parent| all.root(parent));
        if parent != Some(all.root(history.info.run)) {
            return Err(format!("its child {run} has another parent"));
        }
    }
    Ok(())
}

/// Every run that was started exists, and every run that exists was started, as often as its plan says.
pub(super) fn check_chains(started: &[Started], all: &Histories, found: &mut Vec<Violation>) {
    let mut runs: HashMap<&str, Vec<&History>> = HashMap::new();
    // By the run that began by itself of those that took each other's places.
    let mut children: HashMap<RunId, HashSet<RunId>> = HashMap::new();
    for history in all.iter().filter(|history| all.is_begin(history)) {
        match history.info.parent {
            None => {
                let runs = runs.entry(history.info.workflow_id.as_str()).or_default();
                runs.push(history);
            }
            Some(parent) => {
                let children = children.entry(all.root(parent)).or_default();
                children.insert(history.info.run);
            }
        }
    }
    for Started { workflow_id, plan } in started {
        let began = runs.remove(workflow_id.as_str()).unwrap_or_default();
        let got = began.len();
        let wrong = match runs_due(plan, &began) {
            Ok(due) if got == due => continue,
            Ok(due) => format!("{got} runs instead of {due}"),
            Err(why) => format!("{got} runs, {why}"),
        };
        let detail = format!("{workflow_id} has {wrong}");
        found.push(Violation::new("started once", detail));
    }
    for (workflow_id, runs) in runs {
        let runs = runs.len();
        let detail = format!("{workflow_id} has {runs} runs, and nobody started it");
        found.push(Violation::new("started once", detail));
    }
    let mut named: HashMap<RunId, HashSet<RunId>> = HashMap::new();
    for history in all.iter() {
        let run = history.info.run;
        let named = named.entry(all.root(run)).or_default();
        match started_children(history) {
            Ok(children) => named.extend(children),
            Err(detail) => {
                let detail = format!("run {run}: {detail}");
                found.push(Violation::new("started once", detail));
            }
        }
    }
    for (run, named) in named {
        let got = children.remove(&run).unwrap_or_default();
        if got != named {
            let (got, named) = (got.len(), named.len());
            let detail = format!("run {run} has {got} children, its journal names {named}");
            found.push(Violation::new("started once", detail));
        }
    }
    for (run, children) in children {
        let children = children.len();
        let detail = format!("run {run} has {children} children and does not exist");
        found.push(Violation::new("started once", detail));
    }
}

/// The children that a journal names.
fn started_children(history: &History) -> Result<Vec<RunId>, String> {
    #[derive(serde::Deserialize)]
    struct Child {
        run: RunId,
    }
    let started = records(history).filter(|record| record.kind == RecordKind::ChildStarted);
    let child = |record: &Record| match decode(&record.payload) {
        Ok(Child { run }) => Ok(run),
        Err(error) => Err(format!("record {}: {error:#}", record.position)),
    };
    started.map(child).collect()
}

/// How many runs a plan leads to, of which these began.
fn runs_due(plan: &Plan, began: &[&History]) -> Result<usize, &'static str> {
    match plan {
        Plan::Program(input) => Ok(runs_of(input)),
        Plan::UntilCancelled => Ok(1),
        Plan::Debounced { inputs, taken } => {
            let taken = &inputs[taken.load(Ordering::SeqCst)..];
            let began_with = |input: &&Input| {
                let is_it = |run: &&History| first_payload(run).as_ref() == Ok(*input);
                began.iter().any(is_it)
            };
            let begun = taken.iter().find(began_with).map(runs_of);
            begun.ok_or("and none began with the input that was taken last, or a later one")
        }
    }
}

fn runs_of(input: &Input) -> usize {
    match input.expected() {
        Expected::Continued(next) => 1 + runs_of(&next),
        Expected::Completed(_) | Expected::Failed => 1,
    }
}

fn records(history: &History) -> impl Iterator<Item = &Record> {
    history.records.iter().map(|entry| &entry.record)
}

fn first_payload<T: serde::de::DeserializeOwned>(history: &History) -> Result<T, String> {
    let first = records(history).next().ok_or("it has no records")?;
    decode(&first.payload).map_err(|error| format!("{error:#}"))
}

fn last_payload<T: serde::de::DeserializeOwned>(history: &History) -> Result<T, String> {
    let last = records(history).last().ok_or("it has no records")?;
    decode(&last.payload).map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use super::super::history::tests::{
        forked, histories, history, history_of, record, reset, run,
    };
    use super::*;

    /// Asserts that these rules are broken, each as often.
    fn check(started: &[Started], runs: Vec<History>, rules: &[&str]) {
        let all = histories(runs);
        let mut found = Vec::new();
        for history in all.iter() {
            check_run(history, &all, &mut found);
        }
        check_chains(started, &all, &mut found);
        let mut broken: Vec<_> = found.iter().map(|violation| violation.rule).collect();
        broken.sort_unstable();
        assert_eq!(broken, rules, "{found:?}");
    }

    fn until_cancelled() -> Started {
        Started {
            workflow_id: "top-1".into(),
            plan: Plan::UntilCancelled,
        }
    }

    #[test]
    fn a_start_of_a_child_that_cannot_be_read_is_found() {
        let records = vec![
            record(0, RecordKind::Started, None, "{}"),
            record(1, RecordKind::ChildStarted, Some(0), "{}"),
            record(2, RecordKind::Failed, None, "{}"),
        ];
        check(
            &[until_cancelled()],
            vec![history(RunStatus::Failed, records)],
            &["expected results", "started once"],
        );
    }

    #[test]
    fn a_copy_that_does_not_say_of_which_run_is_found() {
        for origin in ["{}", r#"{"run":7}"#] {
            let records = vec![
                record(0, RecordKind::Started, None, "{}"),
                record(1, RecordKind::Forked, None, origin),
                record(2, RecordKind::Failed, None, "{}"),
            ];
            let copy = history(RunStatus::Failed, records);
            check(&[until_cancelled()], vec![copy], &["expected results"]);
        }
    }

    #[test]
    fn a_run_that_was_taken_back_has_one_in_its_place() {
        let started = || record(0, RecordKind::Started, None, "{}");
        let taken_back = |next| {
            let records = vec![started(), reset(1, next)];
            history_of(1, "top-1", RunStatus::ContinuedAsNew, records)
        };
        let copy_of = |origin, workflow_id| {
            let failed = record(2, RecordKind::Failed, None, "{}");
            let records = vec![started(), forked(1, origin), failed];
            history_of(2, workflow_id, RunStatus::Failed, records)
        };
        let copy = || copy_of(1, "top-1");
        let top = [until_cancelled()];
        check(&top, vec![taken_back(2), copy()], &[]);
        for gone in [1, 3] {
            check(&top, vec![taken_back(gone), copy()], &["expected results"]);
        }
        let two = [
            until_cancelled(),
            Started {
                workflow_id: "fork-1".into(),
                plan: Plan::UntilCancelled,
            },
        ];
        let beside = vec![taken_back(2), copy_of(1, "fork-1")];
        check(&two, beside, &["expected results"]);
        let strange = vec![taken_back(2), copy_of(7, "top-1")];
        check(&top, strange, &["expected results", "started once"]);
    }

    /// A program under the workflow id `top-1` that wrote these records after its start.
    pub(crate) fn program_of(
        number: u128,
        input: &Input,
        status: RunStatus,
        rest: Vec<Record>,
    ) -> History {
        let input = serde_json::to_string(input).unwrap();
        let mut records = vec![record(0, RecordKind::Started, None, &input)];
        records.extend(rest);
        let mut history = history_of(number, "top-1", status, records);
        history.info.workflow = "program".into();
        history
    }

    pub(crate) fn completed(position: u32, input: &Input) -> Record {
        let Expected::Completed(value) = input.expected() else {
            panic!("it does not complete: {input:?}");
        };
        record(position, RecordKind::Completed, None, &value.to_string())
    }

    #[test]
    fn a_debounced_run_has_the_input_that_was_taken_last_or_a_later_one() {
        let input = |n| Input::new(vec![Step::Transaction { n }]);
        let inputs: Vec<_> = (0..3).map(input).collect();
        let started = [Started {
            workflow_id: "top-1".into(),
            plan: Plan::Debounced {
                inputs: inputs.clone(),
                taken: Arc::new(AtomicUsize::new(1)),
            },
        }];
        let run = |number, input: usize| {
            let input = &inputs[input];
            program_of(
                number,
                input,
                RunStatus::Completed,
                vec![completed(1, input)],
            )
        };
        for later in [1, 2] {
            check(&started, vec![run(1, later)], &[]);
        }
        check(&started, vec![run(1, 0)], &["started once"]);
        check(&started, vec![run(1, 1), run(2, 2)], &["started once"]);
        check(&started, Vec::new(), &["started once"]);
    }

    pub(crate) fn child_of(parent: u128, number: u128) -> History {
        let records = vec![
            record(0, RecordKind::Started, None, "{}"),
            record(1, RecordKind::Failed, None, "{}"),
        ];
        let workflow_id = format!("child-{number}");
        let mut child = history_of(number, &workflow_id, RunStatus::Failed, records);
        child.info.parent = Some(run(parent));
        child
    }

    pub(crate) fn child_started(position: u32, command: u32, child: u128) -> Record {
        let payload = format!(r#"{{"run":"{}"}}"#, run(child));
        record(position, RecordKind::ChildStarted, Some(command), &payload)
    }

    #[test]
    fn a_child_is_named_by_its_parent_and_the_other_way_round() {
        let parent = |child| {
            let records = vec![
                record(0, RecordKind::Started, None, "{}"),
                child_started(1, 0, child),
                record(2, RecordKind::Failed, None, "{}"),
            ];
            history(RunStatus::Failed, records)
        };
        let top = [until_cancelled()];
        check(&top, vec![parent(2), child_of(1, 2)], &[]);
        let twice = vec![parent(2), child_of(1, 2), child_of(1, 3)];
        check(&top, twice, &["started once"]);
        let lost = ["expected results", "started once"];
        check(&top, vec![parent(2)], &lost);
        let orphan = vec![parent(2), child_of(1, 2), child_of(7, 3)];
        check(&top, orphan, &["started once"]);
    }
}
