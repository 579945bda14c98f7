//! Timers by the database's clock: none fires before it is due.

use std::collections::HashMap;

use jiff::Timestamp;
use sync_workflow::{
    id::{CommandId, Position},
    journal::Journal,
    record::{Record, RecordKind},
};

use crate::{
    audit::Told,
    world::{World, at_once},
};

/// Looks at every timer of every run.
pub(crate) fn check(world: &World, runs: &[Told]) -> Result<(), String> {
    for run in runs {
        let history = at_once(world.journal.history(run.info.run, Position(0), u32::MAX))
            .map_err(|error| error.to_string())?;
        let mut due: HashMap<CommandId, Timestamp> = HashMap::new();
        for item in history.items {
            match item.kind() {
                RecordKind::TimerStarted => {
                    due.extend(due_at(&item.record).map(|at| (item.record.command, at)));
                }
                RecordKind::TimerFired => {
                    let early = due
                        .get(&item.record.command)
                        .map_or(0, |due| due.duration_since(item.recorded_at).as_millis());
                    if early > i128::from(tolerance(world)) {
                        return Err(format!(
                            "a timer of {} fired {early} ms before it was due",
                            run.info.workflow_id
                        ));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn due_at(record: &Record) -> Option<Timestamp> {
    let micros = std::str::from_utf8(&record.payload).ok()?.parse().ok()?;
    Timestamp::from_microsecond(micros).ok()
}

/// How far a worker's idea of the database's time may run ahead, in milliseconds: as far as the two
/// clocks drift apart until a quick answer puts it right (as long as its lease lasts, or until the
/// faults are over), and as far as they leapt.
fn tolerance(world: &World) -> i64 {
    let profile = &world.profile;
    let rates = profile.machine_rates.iter().copied().map(i64::from);
    let drift = rates.map(|rate| rate - profile.clock_rate).max();
    let lease = i64::try_from(profile.lease.as_millis()).unwrap_or(i64::MAX);
    let quiet_at = i64::try_from(profile.quiet_at).unwrap_or(i64::MAX);
    let leaps = i64::try_from(world.lock().ledger.leaps).unwrap_or(i64::MAX);
    (lease + quiet_at) * drift.unwrap_or(0).max(0) / 900 + leaps + 5
}
