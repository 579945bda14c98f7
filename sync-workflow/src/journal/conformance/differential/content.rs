//! What a journal holds.

use std::fmt::Write as _;

use super::{
    super::world::{QUEUE, WORKFLOW},
    answer::name_of,
};
use crate::{
    id::{Position, RunId},
    journal::{Journal, Result, RunFilter, RunInfo, RunSelector},
    record::Record,
};

/// Everything that a journal holds, without times.
pub(super) async fn dump(journal: &dyn Journal, runs: &[RunId]) -> Result<String> {
    let mut text = String::new();
    let filter = RunFilter {
        limit: RunFilter::MAX_LIMIT,
        ..RunFilter::default()
    };
    for info in journal.list(&filter).await?.items {
        writeln!(text, "{}", tell_info(&info)).expect("text grows");
    }
    for run in runs {
        let history = journal.load(*run, Position(0), 10_000).await?;
        let inbox = journal.inbox(*run, runs, 100).await?;
        let records: Vec<_> = history.records.iter().map(tell_record).collect();
        let signals: Vec<_> = inbox
            .signals
            .iter()
            .map(|signal| (&signal.name, &signal.payload))
            .collect();
        writeln!(
            text,
            "{run} {} {} {} {records:?} {signals:?}",
            inbox.count, inbox.cancel_requested, inbox.pause_requested
        )
        .expect("text grows");
        for name in [name_of(0), name_of(1)] {
            let shown = journal.published(&RunSelector::Run(*run), name).await?;
            let shown = shown.map(|shown| (shown.revision, shown.payload));
            writeln!(text, "{name} {shown:?}").expect("text grows");
        }
        // What a closed run leaves behind of its activities is nobody's business.
        let is_open = records.last().is_some()
            && !history.records.iter().any(|record| record.kind.is_final());
        if is_open {
            writeln!(text, "{:?}", history.attempts).expect("text grows");
        }
    }
    let outcomes = match runs.first() {
        Some(run) => journal.inbox(*run, runs, 0).await?.children,
        None => Vec::new(),
    };
    let mut outcomes: Vec<_> = outcomes
        .iter()
        .map(|outcome| format!("{outcome:?}"))
        .collect();
    outcomes.sort_unstable();
    write!(text, "{outcomes:#?}").expect("text grows");
    Ok(text)
}

fn tell_info(info: &RunInfo) -> String {
    assert_eq!((&*info.workflow, &*info.queue), (WORKFLOW, QUEUE));
    format!(
        "{} {} {} {:?} build {:?} parent {:?} closed {} wakes {} attempts {} cancel {} pause {} parked {:?} tags {:?}",
        info.run,
        info.workflow_id,
        info.status,
        info.node,
        info.build,
        info.parent,
        info.closed_at.is_some(),
        info.wake_at.is_some(),
        info.attempts,
        info.cancel_requested,
        info.pause_requested,
        info.parked_reason,
        info.tags
    )
}

fn tell_record(record: &Record) -> String {
    format!(
        "{} {:?} {} {} {:x} {:?}",
        record.position,
        record.kind,
        record.command,
        record.name,
        record.fingerprint,
        record.payload
    )
}
