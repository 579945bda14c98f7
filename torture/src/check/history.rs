//! All runs with all their records.

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use sync_workflow::{
    Client,
    id::{Position, RunId, WorkflowId},
    journal::{HistoryRecord, RunFilter, RunInfo, RunSelector},
    record::{Record, RecordKind},
};

use crate::{load::again, program::PROGRESS, workflow::decode};

/// One run and its records.
pub(crate) struct History {
    pub(crate) info: RunInfo,
    pub(crate) records: Vec<HistoryRecord>,
    /// Attempts of activities that the journal still keeps.
    pub(crate) attempts_kept: usize,
    /// What a program shows, if it does.
    pub(crate) published: Option<u64>,
}

/// Every run.
pub(crate) struct Histories {
    runs: HashMap<RunId, History>,
    chains: HashMap<WorkflowId, Vec<RunId>>,
    /// When records were committed, in microseconds, in order.
    moments: Vec<i64>,
}

/// Histories that are read at the same time.
const SIDE_BY_SIDE: usize = 4;
/// Records that are read at once.
const PAGE: u32 = 1_000;

impl Histories {
    pub(crate) async fn read(client: &Client) -> anyhow::Result<Self> {
        let infos = all_runs(client).await?;
        let runs: HashMap<_, _> = stream::iter(infos)
            .map(|info| async move {
                let history = read_one(client, info).await?;
                anyhow::Ok((history.info.run, history))
            })
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect()
            .await?;
        Ok(Self::of(runs))
    }

    fn of(runs: HashMap<RunId, History>) -> Self {
        let mut moments: Vec<_> = runs.values().flat_map(History::moments).collect();
        moments.sort_unstable();
        let mut chains: HashMap<_, Vec<_>> = HashMap::new();
        for history in runs.values() {
            let chain = chains.entry(history.info.workflow_id.clone()).or_default();
            chain.push(history.info.run);
        }
        Self {
            runs,
            chains,
            moments,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &History> {
        self.runs.values()
    }

    pub(crate) fn get(&self, run: RunId) -> Option<&History> {
        self.runs.get(&run)
    }

    /// The run that began by itself of which this one is a copy, of a copy; or the run itself.
    pub(crate) fn root(&self, run: RunId) -> RunId {
        let before = |run: &RunId| self.get(*run).and_then(History::origin);
        // Copies in a circle, which no journal should have, end too.
        let line = std::iter::successors(Some(run), before).take(self.runs() + 1);
        line.last().unwrap_or(run)
    }

    /// Whether a run began by itself under its workflow id, and not as one that was taken back.
    pub(crate) fn is_begin(&self, history: &History) -> bool {
        let origin = history.origin().and_then(|origin| self.get(origin));
        origin.is_none_or(|origin| origin.info.workflow_id != history.info.workflow_id)
    }

    /// Whether it may have been cancelled because a run above it was taken back, or because such a one was copied.
    pub(crate) fn is_shaken(&self, history: &History) -> bool {
        let cancels = |record: &Record| record.kind == RecordKind::CancelRequested;
        if history.kept().any(cancels) {
            return true;
        }
        let above = |history: &&History| history.info.parent.and_then(|parent| self.get(parent));
        // Families in a circle, which no journal should have, end too.
        let line = std::iter::successors(Some(history), above).take(self.runs() + 1);
        line.skip(1)
            .any(|parent| parent.was_reset() || parent.kept().any(cancels))
    }

    /// The other runs of the same workflow id.
    pub(crate) fn others(&self, history: &History) -> impl Iterator<Item = &History> {
        let chain = self.chains.get(&history.info.workflow_id);
        let runs = chain.into_iter().flatten();
        let this = history.info.run;
        runs.filter(move |run| **run != this)
            .filter_map(|run| self.runs.get(run))
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn records(&self) -> usize {
        self.moments.len()
    }

    /// When the next record of any run was committed.
    pub(crate) fn next_after(&self, at: i64) -> Option<i64> {
        let next = self.moments.partition_point(|moment| *moment <= at);
        self.moments.get(next).copied()
    }
}

impl History {
    /// The records that were copied from another run, and the one that says so.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Record> {
        self.records[..self.own_from()]
            .iter()
            .map(|entry| &entry.record)
    }

    /// The records that the run wrote itself.
    pub(crate) fn own(&self) -> impl Iterator<Item = &HistoryRecord> {
        self.records[self.own_from()..].iter()
    }

    fn own_from(&self) -> usize {
        let is_fork = |entry: &HistoryRecord| entry.kind() == RecordKind::Forked;
        self.records
            .iter()
            .rposition(is_fork)
            .map_or(0, |last| last + 1)
    }

    /// Whether its first records are those of another run.
    pub(crate) fn is_copy(&self) -> bool {
        self.own_from() > 0
    }

    /// The run whose first records it began with; nothing, too, if the record that names it cannot be read.
    pub(crate) fn origin(&self) -> Option<RunId> {
        #[derive(Deserialize)]
        struct Origin {
            run: RunId,
        }
        let forked = self.kept().last()?;
        decode::<Origin>(&forked.payload)
            .ok()
            .map(|origin| origin.run)
    }

    /// Whether an operator has taken it back while it was open.
    pub(crate) fn was_reset(&self) -> bool {
        let is_reset = |end: &HistoryRecord| {
            end.kind() == RecordKind::ContinuedAsNew && *end.record.name == *"reset"
        };
        self.records.last().is_some_and(is_reset)
    }

    fn moments(&self) -> impl Iterator<Item = i64> {
        self.records
            .iter()
            .map(|record| record.recorded_at.as_microsecond())
    }

    /// When its next record was committed.
    pub(crate) fn next_after(&self, at: i64) -> Option<i64> {
        self.moments().find(|moment| *moment > at)
    }
}

async fn all_runs(client: &Client) -> anyhow::Result<Vec<RunInfo>> {
    let mut filter = RunFilter {
        limit: RunFilter::MAX_LIMIT,
        ..RunFilter::default()
    };
    let mut found: Vec<RunInfo> = Vec::new();
    loop {
        let page = again(|| client.list(&filter)).await?;
        found.extend(page.items);
        filter.before = found.last().map(|info| info.run);
        if !page.more {
            return Ok(found);
        }
    }
}

async fn read_one(client: &Client, info: RunInfo) -> anyhow::Result<History> {
    let mut records: Vec<HistoryRecord> = Vec::new();
    loop {
        let from = u32::try_from(records.len())?;
        let page = again(|| client.history(info.run, from, PAGE)).await?;
        records.extend(page.items);
        if !page.more {
            break;
        }
    }
    let loaded = again(|| async {
        let loaded = client.journal().load(info.run, Position(0), 1).await;
        loaded.map_err(Into::into)
    });
    Ok(History {
        attempts_kept: loaded.await?.attempts.len(),
        published: published(client, &info).await?,
        info,
        records,
    })
}

async fn published(client: &Client, info: &RunInfo) -> anyhow::Result<Option<u64>> {
    if &*info.workflow != "program" {
        return Ok(None);
    }
    let run = RunSelector::Run(info.run);
    let shown = again(|| async {
        let shown = client.journal().published(&run, PROGRESS).await;
        shown.map_err(Into::into)
    });
    let shown = shown.await?;
    shown.map(|shown| decode(&shown.payload)).transpose()
}

/// Histories for the tests of the rules.
#[cfg(test)]
pub(super) mod tests {
    use jiff::Timestamp;
    use sync_workflow::{
        id::CommandId,
        journal::Ticket,
        record::{Record, RecordKind},
        status::RunStatus,
    };
    use uuid::Uuid;

    use super::*;

    pub(crate) fn record(
        position: u32,
        kind: RecordKind,
        command: Option<u32>,
        payload: &str,
    ) -> Record {
        Record {
            position: Position(position),
            kind,
            command: command.map_or(Record::RUN, CommandId),
            name: "step".into(),
            fingerprint: 0,
            payload: payload.to_owned().into(),
        }
    }

    /// A run whose records were committed a second apart, from the first second on.
    pub(crate) fn history(status: RunStatus, records: Vec<Record>) -> History {
        let info = RunInfo {
            run: run(1),
            workflow_id: WorkflowId::new("top-1").unwrap(),
            workflow: "failing".into(),
            queue: "default".into(),
            build: None,
            status,
            node: None,
            parent: None,
            created_at: Timestamp::UNIX_EPOCH,
            closed_at: None,
            wake_at: None,
            attempts: 0,
            cancel_requested: false,
            ticket: Ticket::default(),
            pause_requested: false,
            parked_reason: None,
            trace: None,
            parked_at: None,
            parked_position: None,
            tags: sync_workflow::tag::Tags::new(),
        };
        let recorded = |record: Record| HistoryRecord {
            recorded_at: Timestamp::from_second(i64::from(record.position.0) + 1).unwrap(),
            record,
        };
        History {
            info,
            records: records.into_iter().map(recorded).collect(),
            attempts_kept: 0,
            published: None,
        }
    }

    pub(crate) fn run(number: u128) -> RunId {
        RunId::from_uuid(Uuid::from_u128(number))
    }

    /// The run of this number under this workflow id, else as [`history`].
    pub(crate) fn history_of(
        number: u128,
        workflow_id: &str,
        status: RunStatus,
        records: Vec<Record>,
    ) -> History {
        let mut history = history(status, records);
        history.info.run = run(number);
        history.info.workflow_id = WorkflowId::new(workflow_id).unwrap();
        history
    }

    /// What follows the records that are those of another run.
    pub(crate) fn forked(position: u32, origin: u128) -> Record {
        let payload = format!(r#"{{"run":"{}","workflow_id":"top-1"}}"#, run(origin));
        record(position, RecordKind::Forked, None, &payload)
    }

    /// The end of a run in whose place another one goes on.
    pub(crate) fn reset(position: u32, next: u128) -> Record {
        let next = run(next).to_string();
        Record {
            name: "reset".into(),
            ..record(position, RecordKind::ContinuedAsNew, None, &next)
        }
    }

    pub(crate) fn histories(all: Vec<History>) -> Histories {
        let runs: HashMap<_, _> = all
            .into_iter()
            .map(|history| (history.info.run, history))
            .collect();
        Histories::of(runs)
    }

    #[test]
    fn the_next_record_is_found_in_one_run_and_in_all() {
        let records = vec![
            record(0, RecordKind::Started, None, "{}"),
            record(1, RecordKind::Failed, None, "{}"),
        ];
        let history = history(RunStatus::Failed, records);
        assert_eq!(history.next_after(1_000_000), Some(2_000_000));
        assert_eq!(history.next_after(2_000_000), None);
        let all = histories(vec![history]);
        assert_eq!(all.next_after(0), Some(1_000_000));
        assert_eq!((all.runs(), all.records()), (1, 2));
    }

    fn cancel_requested(position: u32) -> Record {
        record(position, RecordKind::CancelRequested, None, "")
    }

    /// The first run was taken back to before the second, of which the third is a fork. The fourth is that fork, taken back.
    fn copies() -> Histories {
        let started = || record(0, RecordKind::Started, None, "{}");
        let failed = |position| record(position, RecordKind::Failed, None, "{}");
        let taken_back = RunStatus::ContinuedAsNew;
        let second = vec![started(), forked(1, 1), failed(2)];
        let third = vec![started(), forked(1, 1), forked(2, 2), reset(3, 4)];
        let fourth = vec![started(), forked(1, 3), failed(2)];
        histories(vec![
            history_of(1, "top-1", taken_back, vec![started(), reset(1, 2)]),
            history_of(2, "top-1", RunStatus::Failed, second),
            history_of(3, "fork-1", taken_back, third),
            history_of(4, "fork-1", RunStatus::Failed, fourth),
            history_of(5, "top-1", RunStatus::Failed, vec![started(), failed(1)]),
        ])
    }

    #[test]
    fn a_copy_of_a_copy_goes_back_to_the_run_that_began_by_itself() {
        let all = copies();
        let roots = [1, 2, 3, 4, 5].map(|number| all.root(run(number)));
        assert_eq!(roots, [1, 1, 1, 1, 5].map(run));
        let third = all.get(run(3)).unwrap();
        assert_eq!(third.origin(), Some(run(2)));
        assert_eq!((third.kept().count(), third.own().count()), (3, 1));
    }

    #[test]
    fn copies_in_a_circle_have_an_end() {
        let copy_of = |number, origin| {
            let records = vec![
                record(0, RecordKind::Started, None, "{}"),
                forked(1, origin),
            ];
            let mut copy = history_of(number, "top-1", RunStatus::Failed, records);
            copy.info.parent = Some(run(origin));
            copy
        };
        let all = histories(vec![copy_of(1, 2), copy_of(2, 1)]);
        assert!([1, 2].map(run).contains(&all.root(run(1))));
        assert!(!all.is_shaken(all.get(run(1)).unwrap()));
    }

    #[test]
    fn what_takes_the_place_of_a_run_is_no_begin_and_a_fork_beside_it_is() {
        let all = copies();
        let begins = [1, 2, 3, 4, 5].map(|number| all.is_begin(all.get(run(number)).unwrap()));
        assert_eq!(begins, [true, false, true, false, true]);
    }

    #[test]
    fn a_run_below_one_that_was_taken_back_is_shaken() {
        let below = |number, parent| {
            let records = vec![record(0, RecordKind::Started, None, "{}")];
            let mut history = history_of(number, "child", RunStatus::Cancelled, records);
            history.info.parent = parent;
            history
        };
        let mut all = copies();
        all.runs.extend([
            (run(6), below(6, Some(run(1)))),
            (run(7), below(7, Some(run(6)))),
            (run(8), below(8, Some(run(2)))),
            (run(9), below(9, None)),
        ]);
        let shaken = [1, 2, 6, 7, 8, 9].map(|number| all.is_shaken(all.get(run(number)).unwrap()));
        assert_eq!(shaken, [false, false, true, true, false, false]);
    }

    #[test]
    fn a_run_is_shaken_by_a_request_to_cancel_that_was_copied_and_not_by_its_own() {
        let started = || record(0, RecordKind::Started, None, "{}");
        let copied = vec![started(), cancel_requested(1), forked(2, 1)];
        let own = vec![started(), forked(1, 1), cancel_requested(2)];
        for (records, is_shaken) in [(copied, true), (own, false)] {
            let copy = history_of(2, "top-1", RunStatus::Cancelled, records);
            let all = histories(vec![copy]);
            assert_eq!(all.is_shaken(all.get(run(2)).unwrap()), is_shaken);
        }
    }
}
