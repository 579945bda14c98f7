//! What runs show to others: published values, tags, answers to updates.
//!
//! A program draws a fresh value for each thing that it shows, as a side effect, and shows it in the same turn. So
//! the journal says what must be seen: the last value that was drawn, no earlier and no later.

use sync_workflow::{
    Context, Failure,
    journal::{Journal, Published, RunCommit, RunSelector},
    record::{Record, RecordKind},
};

use crate::{
    audit::Told,
    interpret::{Interpreter, Outcome, Stopped, outcome},
    ledger::records,
    lineage::is_received,
    program::{UPDATE, answer_to},
    world::{World, at_once},
};

/// The name under which a program publishes.
pub(crate) const PROGRESS: &str = "progress";
/// The tag that a program sets.
const MARK: &str = "mark";

/// Side effects, by what a program does in the same turn.
const SHOWN: &str = "shown";
const TAGGED: &str = "tagged";
const UNTAGGED: &str = "untagged";
const ANSWERED: &str = "answered";

impl Interpreter {
    pub(crate) fn show(&self, ctx: &Context) -> Outcome {
        let value: u64 = ctx.side_effect(SHOWN, || self.0.draw());
        ctx.publish(PROGRESS, &value)
            .expect("a number has a JSON form");
        Outcome::Shown
    }

    pub(crate) fn tag(&self, ctx: &Context, removes: bool) -> Outcome {
        let effect = if removes { UNTAGGED } else { TAGGED };
        let value: u64 = ctx.side_effect(effect, || self.0.draw());
        let changed = match removes {
            true => ctx.remove_tag(MARK),
            false => ctx.set_tag(MARK, &value.to_string()),
        };
        changed.expect("a number is a tag");
        Outcome::Tagged
    }
}

/// Waits for an update and answers it.
pub(crate) async fn answer(ctx: &Context) -> Result<Outcome, Stopped> {
    let update = ctx.update::<u64, u64>(UPDATE).await;
    let answered = update.map(|update| {
        let asked = *update.input();
        let _told: u64 = ctx.side_effect(ANSWERED, || asked);
        let answered = match answer_to(asked) {
            Some(answer) => update.accept(&answer),
            None => update.reject(Failure::new("odd")),
        };
        answered.expect("an answer has a JSON form");
        asked
    });
    outcome(ctx, answered, Outcome::Answered)
}

/// The name of the signals that carry updates.
pub(crate) fn update_signal() -> String {
    format!("update/{UPDATE}")
}

/// Looks at what a run shows when one of its commits has happened.
pub(crate) fn check_commit(world: &World, commit: &RunCommit) {
    if let Err(what) = look(world, commit) {
        world.violate(|| format!("{}: {what}", commit.run));
    }
}

fn look(world: &World, commit: &RunCommit) -> Result<(), String> {
    let run = RunSelector::Run(commit.run);
    for publication in &commit.published {
        if *publication.name == *PROGRESS
            && !draws(&records(world, commit.run), &publication.payload)
        {
            return Err("it shows a value that is not in its journal".into());
        }
    }
    if let Some(drawn) = last(&commit.records, &[SHOWN]) {
        forward(world, commit, drawn)?;
        check_shown(world, &run, drawn)?;
    }
    if let Some(drawn) = last(&commit.records, &[TAGGED, UNTAGGED]) {
        check_tag(world, &run, drawn)?;
    }
    commit
        .records
        .iter()
        .filter(|record| is_effect(record, ANSWERED))
        .try_for_each(|asked| check_answer(world, &run, asked))
}

/// Whether a value that was shown was drawn in these records.
pub(crate) fn draws(records: &[Record], value: &[u8]) -> bool {
    let mut drawn = records.iter().filter(|record| is_effect(record, SHOWN));
    drawn.any(|record| *record.payload == *value)
}

/// What a chain shows in the end is what its runs drew last. One that was begun again may show besides what its origin showed
/// after the place.
pub(crate) fn check_shown_by(
    world: &World,
    id: &str,
    chain: &[&Told],
    is_again: bool,
) -> Result<(), String> {
    let Some(end) = chain.last() else {
        return Ok(());
    };
    let run = RunSelector::Run(end.info.run);
    let records: Vec<&Record> = chain.iter().flat_map(|told| &told.records).collect();
    let last = |names: &[&str]| {
        let mut latest = records.iter().rev();
        latest.find(|record| names.iter().any(|name| is_effect(record, name)))
    };
    match last(&[SHOWN]) {
        Some(drawn) => check_shown(world, &run, drawn)?,
        None if !is_again && published(world, &run, PROGRESS).is_some() => {
            return Err(format!("{id} shows what it never published"));
        }
        None => {}
    }
    match last(&[TAGGED, UNTAGGED]) {
        Some(drawn) => check_tag(world, &run, drawn)?,
        None if !is_again && !end.info.tags.is_empty() => {
            return Err(format!("{id} has a tag of nobody's"));
        }
        None => {}
    }
    let answered = records.iter().filter(|record| is_effect(record, ANSWERED));
    for asked in answered {
        check_answer(world, &run, asked)?;
    }
    Ok(())
}

/// Updates were received in the order in which they arrived, each once, and none was left out but where there is a gap.
pub(crate) fn check_received(
    world: &World,
    id: &str,
    line: &[&Told],
    has_gap: bool,
) -> Result<(), String> {
    let records = line.iter().flat_map(|told| &told.records);
    let received: Vec<u64> = records
        .filter(|record| is_received(record) && *record.name == *update_signal())
        .filter_map(|record| {
            let request: serde_json::Value = serde_json::from_slice(&record.payload).ok()?;
            request.get("input")?.as_u64()
        })
        .collect();
    let state = world.lock();
    let sent = state.ledger.asked.get(id).map(Vec::as_slice);
    let sent = sent.unwrap_or_default();
    let mut left = sent.iter();
    let is_right = match has_gap {
        true => received.iter().all(|value| left.any(|sent| sent == value)),
        false => sent.starts_with(&received),
    };
    if is_right {
        Ok(())
    } else {
        Err(format!("{id} was asked {sent:?} and heard {received:?}"))
    }
}

/// Values are drawn in rising order: none that was shown before comes back.
fn forward(world: &World, commit: &RunCommit, drawn: &Record) -> Result<(), String> {
    let value: u64 =
        serde_json::from_slice(&drawn.payload).map_err(|_| "it shows no number".to_owned())?;
    let info = at_once(world.journal.describe(&RunSelector::Run(commit.run)));
    let Some(info) = info.ok().flatten() else {
        return Err("it commits and is not there".into());
    };
    let mut state = world.lock();
    let shown = state
        .ledger
        .shown
        .entry(info.workflow_id.to_string())
        .or_default();
    if value < *shown {
        return Err(format!("it shows {value} after {shown}"));
    }
    *shown = value;
    Ok(())
}

fn check_shown(world: &World, run: &RunSelector, drawn: &Record) -> Result<(), String> {
    let shown = published(world, run, PROGRESS).map(|shown| shown.payload);
    if shown.as_ref() == Some(&drawn.payload) {
        return Ok(());
    }
    Err(format!(
        "it shows {shown:?} where its journal says {:?}",
        drawn.payload
    ))
}

fn check_tag(world: &World, run: &RunSelector, drawn: &Record) -> Result<(), String> {
    let info = at_once(world.journal.describe(run)).ok().flatten();
    let tags = info.map(|info| info.tags).unwrap_or_default();
    let wanted = match *drawn.name == *TAGGED {
        true => Some(String::from_utf8_lossy(&drawn.payload).into_owned()),
        false => None,
    };
    if tags.get(MARK) == wanted.as_deref() {
        return Ok(());
    }
    Err(format!("its tags are {tags:?} where it set {wanted:?}"))
}

fn check_answer(world: &World, run: &RunSelector, asked: &Record) -> Result<(), String> {
    let id = String::from_utf8_lossy(&asked.payload);
    let answer = published(world, run, &format!("update/{id}"));
    let answer = answer.and_then(|answer| serde_json::from_slice(&answer.payload).ok());
    let answer: serde_json::Value = answer.ok_or_else(|| format!("no answer to update {id}"))?;
    let is_right = match id.parse().ok().and_then(answer_to) {
        Some(value) => answer == serde_json::json!({ "accepted": value }),
        None => answer.get("rejected").is_some(),
    };
    if is_right {
        Ok(())
    } else {
        Err(format!("update {id} was answered {answer}"))
    }
}

/// How many values were shown, tags changed and updates answered.
pub(crate) fn count(told: &Told) -> [u64; 3] {
    let count = |names: &[&str]| {
        let records = told.records.iter();
        let counted = records.filter(|record| names.iter().any(|name| is_effect(record, name)));
        counted.count() as u64
    };
    [
        count(&[SHOWN]),
        count(&[TAGGED, UNTAGGED]),
        count(&[ANSWERED]),
    ]
}

pub(crate) fn published(world: &World, run: &RunSelector, name: &str) -> Option<Published> {
    at_once(world.journal.published(run, name)).ok().flatten()
}

fn last<'a>(records: &'a [Record], names: &[&str]) -> Option<&'a Record> {
    let mut latest = records.iter().rev();
    latest.find(|record| names.iter().any(|name| is_effect(record, name)))
}

fn is_effect(record: &Record, name: &str) -> bool {
    record.kind == RecordKind::SideEffect && *record.name == *name
}
