//! Which runs follow one another: a chain goes on from run to run, and what was begun again goes on from a place of another run.
//!
//! When all has ended, these hold:
//!
//! - each chain has one end, and each workflow id as many chains as it was begun again after its end, and one more;
//! - a line, which goes from the first segment of a program to such an end and leaves out what was taken back, consists of the
//!   program's segments in their order, and received the signals that were sent to it in the order in which they arrived, each
//!   once, none left out: what was received after a place arrives again after it;
//! - no activity whose result was kept has run again, and each one whose result is a run's own has run in it. That it ran under
//!   an idempotency key of that run alone is seen when it begins.

use std::collections::{HashMap, HashSet};

use sync_workflow::{
    id::{Position, RunId},
    record::{Record, RecordKind},
    status::RunStatus,
};

use crate::{
    again::Origin,
    audit::{Does, Told},
    program::{SIGNALS, act_value, sent_value},
    shown,
    world::World,
};

/// The runs of a simulation, by what they follow.
pub(crate) struct Lineage<'a> {
    runs: HashMap<RunId, &'a Told>,
    /// The run that went on in each.
    before: HashMap<RunId, RunId>,
    origins: HashMap<RunId, Origin>,
    revivals: HashMap<String, usize>,
}

/// The runs in which a program came from its first segment to an end.
struct Line<'a> {
    runs: Vec<&'a Told>,
    /// How many of them, from the first on, are of other chains than the end.
    elsewhere: usize,
    /// Whether any of it was begun again.
    is_again: bool,
    has_gap: bool,
}

/// Looks at every program's runs.
pub(crate) fn check(world: &World, runs: &[Told]) -> Result<(), String> {
    let lineage = Lineage::new(world, runs)?;
    lineage.chains_end_once()?;
    for end in runs.iter().filter(|run| is_end(run)) {
        let line = lineage.line(end)?;
        line.check(world)
            .map_err(|what| format!("{} ({}): {what}", end.info.workflow_id, end.info.run))?;
    }
    for run in runs {
        lineage
            .ran_where_recorded(world, run)
            .map_err(|what| format!("{} ({}): {what}", run.info.workflow_id, run.info.run))?;
    }
    Ok(())
}

fn is_end(run: &Told) -> bool {
    run.job().is_some() && run.info.status != RunStatus::ContinuedAsNew
}

impl<'a> Lineage<'a> {
    fn new(world: &World, runs: &'a [Told]) -> Result<Self, String> {
        let state = world.lock();
        let again = &state.ledger.again;
        let mut lineage = Self {
            runs: runs.iter().map(|run| (run.info.run, run)).collect(),
            before: HashMap::new(),
            origins: again.origins.clone(),
            revivals: again.revivals.clone(),
        };
        drop(state);
        for run in runs {
            let Some(next) = run.next else { continue };
            if lineage.before.insert(next, run.info.run).is_some() {
                return Err(format!("{next} follows two runs"));
            }
        }
        Ok(lineage)
    }

    fn chains_end_once(&self) -> Result<(), String> {
        let mut ends: HashMap<&str, usize> = HashMap::new();
        for run in self.runs.values() {
            let id = run.info.workflow_id.as_str();
            let goes_on = run.info.status == RunStatus::ContinuedAsNew;
            if goes_on != run.next.is_some_and(|next| self.runs.contains_key(&next)) {
                return Err(format!("the chain of {id} is broken at {}", run.info.run));
            }
            if is_end(run) {
                *ends.entry(id).or_default() += 1;
            }
        }
        for (id, ends) in ends {
            let revivals = self.revivals.get(id).copied().unwrap_or_default();
            if ends != revivals + 1 {
                return Err(format!(
                    "{id} has {ends} ends, and was begun again after {revivals} of them"
                ));
            }
        }
        Ok(())
    }

    /// The runs from the first segment of a program to this end, without those that were taken back.
    fn line(&self, end: &'a Told) -> Result<Line<'a>, String> {
        let mut line = Line {
            runs: vec![end],
            elsewhere: 0,
            is_again: false,
            has_gap: false,
        };
        let mut at = end;
        let mut is_elsewhere = false;
        loop {
            let mut first = at.info.run;
            while let Some(origin) = self.origins.get(&first) {
                line.is_again = true;
                is_elsewhere |= origin.begins_chain;
                line.has_gap |= origin.has_gap;
                first = origin.run;
            }
            let Some(before) = self.before.get(&first) else {
                line.runs.reverse();
                return Ok(line);
            };
            at = self.runs.get(before).ok_or("a run is gone")?;
            line.runs.push(at);
            line.elsewhere += usize::from(is_elsewhere);
        }
    }

    /// What was kept did not happen again, and what is a run's own happened in it.
    fn ran_where_recorded(&self, world: &World, run: &Told) -> Result<(), String> {
        if !matches!(run.does, Does::Program(_)) {
            return Ok(());
        }
        let mut state = world.lock();
        for record in &run.records {
            let Some(act) = act_of(world, record) else {
                continue;
            };
            let spec = &world.script.acts[act];
            if spec.is_remote {
                continue;
            }
            let times = |run| state.ledger.executions.get(&(run, act)).copied();
            let times_here = times(run.info.run).unwrap_or(0);
            let is_kept = record.position < run.own_from();
            if is_kept && times_here > 0 {
                return Err(format!("act {act} ran again although its result was kept"));
            }
            if !is_kept && times_here == 0 {
                return Err(format!("act {act} has a result and never ran"));
            }
            let origin = self.origins.get(&run.info.run);
            let is_again = origin.is_some_and(|origin| times(origin.run).is_some());
            state.ledger.variety.acts_again += u64::from(is_again && !is_kept);
        }
        Ok(())
    }
}

/// The activity whose result a record holds.
fn act_of(world: &World, record: &Record) -> Option<usize> {
    if record.kind != RecordKind::ActivityCompleted {
        return None;
    }
    let value: u64 = serde_json::from_slice(&record.payload).ok()?;
    let act = usize::try_from(value.checked_sub(act_value(0))?).ok()?;
    (act < world.script.acts.len()).then_some(act)
}

impl Line<'_> {
    fn check(&self, world: &World) -> Result<(), String> {
        for (place, run) in self.runs.iter().enumerate() {
            let goes_on = place + 1 < self.runs.len();
            let segment = run.job().map(|job| job.segment);
            let is_taken_back = goes_on && run.was_reset();
            if segment != Some(place) || is_taken_back {
                return Err(format!("it has segment {segment:?} in place {place}"));
            }
        }
        let Some(end) = self.runs.last() else {
            return Ok(());
        };
        let id = end.info.workflow_id.as_str();
        let here = self.runs.get(self.elsewhere..).unwrap_or_default();
        if !end.was_silenced() {
            shown::check_shown_by(world, id, here, self.is_again)?;
        }
        shown::check_received(world, id, &self.runs, self.has_gap)?;
        let state = world.lock();
        let sent = state.ledger.delivered.get(id).map(Vec::as_slice);
        for name in SIGNALS {
            let received: Vec<u64> = self
                .runs
                .iter()
                .flat_map(|run| &run.records)
                .filter(|record| is_received(record) && *record.name == *name)
                .filter_map(|record| serde_json::from_slice(&record.payload).ok())
                .collect();
            let name_of = |value: u64| SIGNALS[usize::try_from(value / 1_000 % 10).unwrap_or(0)];
            let sent = sent.unwrap_or_default().iter().copied();
            let mut sent = sent.filter(|value| name_of(*value) == name);
            let in_order = match self.has_gap {
                // Some were received where the origin had gone on.
                true => received.iter().all(|value| sent.any(|sent| sent == *value)),
                false => sent.take(received.len()).eq(received.iter().copied()),
            };
            // A workflow that was begun again sends again.
            let of_clients = received.iter().filter(|value| **value < sent_value(0, 0));
            let once: HashSet<u64> = of_clients.clone().copied().collect();
            if !in_order || once.len() < of_clients.count() {
                return Err(format!("it received {name} as {received:?}"));
            }
        }
        Ok(())
    }
}

/// Whether a run received a signal, or an update, and was not born with it.
pub(crate) fn is_received(record: &Record) -> bool {
    record.kind == RecordKind::SignalReceived && !record.is_carried_over()
}

impl Told {
    /// Where the records that are the run's own begin.
    pub(crate) fn own_from(&self) -> Position {
        let is_fork = |record: &&Record| record.kind == RecordKind::Forked;
        let last = self.records.iter().rfind(is_fork);
        last.map_or(Position(0), |forked| forked.position)
    }

    /// Whether it was begun again and ended before its code did anything: it has shown nothing.
    fn was_silenced(&self) -> bool {
        let own = self.own_from();
        let first = self.records.iter().find(|record| record.position > own);
        own > Position(0) && first.is_some_and(|first| first.kind == RecordKind::Terminated)
    }

    /// Whether an operator has taken it back.
    pub(crate) fn was_reset(&self) -> bool {
        let is_reset =
            |end: &Record| end.kind == RecordKind::ContinuedAsNew && *end.name == *"reset";
        self.records.last().is_some_and(is_reset)
    }
}
