//! A journal whose payloads are encoded on their way to storage and decoded on their way back.
//!
//! Everything above sees payloads as they are, so that nothing that the engine compares (fingerprints, limits of
//! values) depends on how they are stored. Encoding gives the same bytes each time, so that a batch in doubt is
//! recognised by what it would have written.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{
    Attempt, Batch, BatchOutcome, BuildStore, ChildOutcome, Claim, ClaimRequest, ClaimedRun, Close,
    Closed, Debounce, DebounceOutcome, Deleted, Deletion, DueSchedules, Fork, ForkOutcome,
    ForkTarget, Hint, History, HistoryRecord, ImportedRun, Inbox, Journal, NewRun, NewSignal,
    OpenTransaction, Outlook, Page, Publication, Published, QueueInfo, QueueLimits, Renewal,
    Result, RunCommit, RunFilter, RunInfo, RunSelector, ScheduleRow, ScheduleStore, SignalOutcome,
    SignalledStart, StartOutcome, StepTransaction, TransactionCommit, Transition, WokenRun,
    memory::bounds::check_value,
};
use crate::{
    id::{NodeId, Position, RunId},
    payload::Codecs,
    record::Record,
};

/// A journal behind a chain of codecs.
pub(crate) struct Coded {
    journal: Arc<dyn Journal>,
    codecs: Codecs,
}

impl Coded {
    pub(crate) const fn new(journal: Arc<dyn Journal>, codecs: Codecs) -> Self {
        Self { journal, codecs }
    }

    fn encode(&self, payload: &Bytes) -> Result<Bytes> {
        // The limit of a value is that of the value itself: what is stored may be smaller.
        check_value(payload)?;
        Ok(self.codecs.encode(payload)?)
    }

    fn decode(&self, payload: &mut Bytes) -> Result<()> {
        *payload = self.codecs.decode(payload)?;
        Ok(())
    }

    fn encoded_record(&self, record: &Record) -> Result<Record> {
        Ok(Record {
            payload: self.encode(&record.payload)?,
            ..record.clone()
        })
    }

    fn encoded_run(&self, run: &NewRun) -> Result<NewRun> {
        Ok(NewRun {
            input: self.encode(&run.input)?,
            ..run.clone()
        })
    }

    fn encoded_signal(&self, signal: &NewSignal) -> Result<NewSignal> {
        Ok(NewSignal {
            payload: self.encode(&signal.payload)?,
            ..signal.clone()
        })
    }

    fn encoded_attempt(&self, attempt: &Attempt) -> Result<Attempt> {
        Ok(Attempt {
            failure: self.encode(&attempt.failure)?,
            details: self.encode(&attempt.details)?,
            ..attempt.clone()
        })
    }

    fn encoded_publication(&self, publication: &Publication) -> Result<Publication> {
        Ok(Publication {
            name: Arc::clone(&publication.name),
            payload: self.encode(&publication.payload)?,
        })
    }

    fn encoded_transition(&self, transition: &Transition) -> Result<Transition> {
        let Transition::Close(close) = transition else {
            return Ok(transition.clone());
        };
        let next = close.next.as_ref().map(|next| self.encoded_run(next));
        Ok(Transition::Close(Box::new(Close {
            next: next.transpose()?,
            ..Close::clone(close)
        })))
    }

    fn encoded_commit(&self, commit: &RunCommit) -> Result<RunCommit> {
        Ok(RunCommit {
            run: commit.run,
            records: all(&commit.records, |record| self.encoded_record(record))?,
            children: all(&commit.children, |child| self.encoded_run(child))?,
            consumed_signals: commit.consumed_signals.clone(),
            attempts: all(&commit.attempts, |attempt| self.encoded_attempt(attempt))?,
            settled_attempts: commit.settled_attempts.clone(),
            published: all(&commit.published, |shown| self.encoded_publication(shown))?,
            tags: commit.tags.clone(),
            transition: self.encoded_transition(&commit.transition)?,
        })
    }

    fn encoded_batch(&self, batch: &Batch) -> Result<Batch> {
        Ok(Batch {
            runs: all(&batch.runs, |commit| self.encoded_commit(commit))?,
            starts: all(&batch.starts, |run| self.encoded_run(run))?,
        })
    }

    fn decoded_end(&self, closed: Option<Closed>) -> Result<Option<Closed>> {
        let Some(mut closed) = closed else {
            return Ok(None);
        };
        self.decode(&mut closed.payload)?;
        Ok(Some(closed))
    }
}

fn all<T, U>(items: &[T], encoded: impl FnMut(&T) -> Result<U>) -> Result<Vec<U>> {
    items.iter().map(encoded).collect()
}

#[async_trait]
impl Journal for Coded {
    async fn separate(&self) -> Result<Option<Arc<dyn Journal>>> {
        let separate = self.journal.separate().await?;
        Ok(separate.map(|journal| self.codecs.on(journal)))
    }

    fn commits_at_once(&self) -> usize {
        self.journal.commits_at_once()
    }

    async fn enlist(&self, node: NodeId, lease: Duration) -> Result<Timestamp> {
        self.journal.enlist(node, lease).await
    }

    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Renewal> {
        self.journal.renew(node, lease).await
    }

    async fn renew_and_look(
        &self,
        node: NodeId,
        lease: Duration,
        request: &ClaimRequest,
    ) -> Result<(Renewal, Option<Outlook>)> {
        self.journal.renew_and_look(node, lease, request).await
    }

    async fn next_wake(&self, request: &ClaimRequest) -> Result<Option<Timestamp>> {
        self.journal.next_wake(request).await
    }

    async fn reap(&self, limit: u32) -> Result<Vec<NodeId>> {
        self.journal.reap(limit).await
    }

    async fn retire(&self, node: NodeId) -> Result<()> {
        self.journal.retire(node).await
    }

    async fn commit(&self, node: NodeId, batch: &Batch) -> Result<BatchOutcome> {
        self.journal.commit(node, &self.encoded_batch(batch)?).await
    }

    async fn was_committed(&self, node: NodeId, batch: &Batch) -> Result<Option<bool>> {
        let batch = self.encoded_batch(batch)?;
        self.journal.was_committed(node, &batch).await
    }

    async fn claim(&self, node: NodeId, request: &ClaimRequest) -> Result<Claim> {
        self.journal.claim(node, request).await
    }

    async fn owned(&self, node: NodeId) -> Result<Vec<ClaimedRun>> {
        self.journal.owned(node).await
    }

    async fn load(&self, run: RunId, from: Position, limit: u32) -> Result<History> {
        let mut history = self.journal.load(run, from, limit).await?;
        for record in &mut history.records {
            self.decode(&mut record.payload)?;
        }
        for attempt in &mut history.attempts {
            self.decode(&mut attempt.failure)?;
            self.decode(&mut attempt.details)?;
        }
        Ok(history)
    }

    async fn inbox(&self, run: RunId, children: &[RunId], limit: u32) -> Result<Inbox> {
        let mut inbox = self.journal.inbox(run, children, limit).await?;
        for signal in &mut inbox.signals {
            self.decode(&mut signal.payload)?;
        }
        let decoded = |outcome: ChildOutcome| -> Result<ChildOutcome> {
            let closed = self.decoded_end(outcome.closed)?;
            Ok(ChildOutcome { closed, ..outcome })
        };
        let children = inbox
            .children
            .into_iter()
            .map(decoded)
            .collect::<Result<_>>()?;
        Ok(Inbox { children, ..inbox })
    }

    async fn begin(&self) -> Result<OpenTransaction> {
        self.journal.begin().await
    }

    async fn commit_step(
        &self,
        transaction: OpenTransaction,
        commit: &TransactionCommit,
    ) -> Result<()> {
        let commit = TransactionCommit {
            record: self.encoded_record(&commit.record)?,
            ..commit.clone()
        };
        self.journal.commit_step(transaction, &commit).await
    }

    async fn start(&self, run: &NewRun) -> Result<StartOutcome> {
        self.journal.start(&self.encoded_run(run)?).await
    }

    async fn start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
    ) -> Result<StartOutcome> {
        let run = self.encoded_run(run)?;
        self.journal.start_in(transaction, &run).await
    }

    async fn signal(&self, signal: &NewSignal) -> Result<SignalOutcome> {
        self.journal.signal(&self.encoded_signal(signal)?).await
    }

    async fn send_signal(&self, node: NodeId, signal: &NewSignal) -> Result<SignalOutcome> {
        let signal = self.encoded_signal(signal)?;
        self.journal.send_signal(node, &signal).await
    }

    async fn signal_in(
        &self,
        transaction: StepTransaction<'_>,
        signal: &NewSignal,
    ) -> Result<SignalOutcome> {
        let signal = self.encoded_signal(signal)?;
        self.journal.signal_in(transaction, &signal).await
    }

    async fn signal_with_start(&self, run: &NewRun, signal: &NewSignal) -> Result<SignalledStart> {
        let (run, signal) = (self.encoded_run(run)?, self.encoded_signal(signal)?);
        self.journal.signal_with_start(&run, &signal).await
    }

    async fn signal_with_start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
        signal: &NewSignal,
    ) -> Result<SignalledStart> {
        let (run, signal) = (self.encoded_run(run)?, self.encoded_signal(signal)?);
        self.journal
            .signal_with_start_in(transaction, &run, &signal)
            .await
    }

    async fn debounce(&self, run: &NewRun, debounce: Debounce) -> Result<DebounceOutcome> {
        let run = self.encoded_run(run)?;
        self.journal.debounce(&run, debounce).await
    }

    async fn request_cancel(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.journal.request_cancel(run).await
    }

    async fn terminate(&self, run: &RunSelector, record: &Record) -> Result<Option<WokenRun>> {
        let record = self.encoded_record(record)?;
        self.journal.terminate(run, &record).await
    }

    async fn unpark(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.journal.unpark(run).await
    }

    async fn pause(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.journal.pause(run).await
    }

    async fn resume(&self, run: &RunSelector) -> Result<Option<WokenRun>> {
        self.journal.resume(run).await
    }

    async fn outcome(&self, run: RunId) -> Result<Option<Closed>> {
        self.decoded_end(self.journal.outcome(run).await?)
    }

    async fn published(&self, run: &RunSelector, name: &str) -> Result<Option<Published>> {
        let Some(mut published) = self.journal.published(run, name).await? else {
            return Ok(None);
        };
        self.decode(&mut published.payload)?;
        Ok(Some(published))
    }

    async fn describe(&self, run: &RunSelector) -> Result<Option<RunInfo>> {
        self.journal.describe(run).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Page<RunInfo>> {
        self.journal.list(filter).await
    }

    async fn history(&self, run: RunId, from: Position, limit: u32) -> Result<Page<HistoryRecord>> {
        let mut page = self.journal.history(run, from, limit).await?;
        for item in &mut page.items {
            // A person sees the rest of a history of which some cannot be read.
            if let Ok(payload) = self.codecs.decode(&item.record.payload) {
                item.record.payload = payload;
            }
        }
        Ok(page)
    }

    async fn limit_queue(&self, queue: &str, limits: &QueueLimits) -> Result<()> {
        self.journal.limit_queue(queue, limits).await
    }

    async fn pause_queue(&self, queue: &str, is_paused: bool) -> Result<()> {
        self.journal.pause_queue(queue, is_paused).await
    }

    async fn queues(&self) -> Result<Vec<QueueInfo>> {
        self.journal.queues().await
    }

    async fn delete_closed(&self, deletion: &Deletion) -> Result<Deleted> {
        self.journal.delete_closed(deletion).await
    }

    async fn import(&self, run: &ImportedRun) -> Result<StartOutcome> {
        let encoded = |item: &HistoryRecord| {
            Ok(HistoryRecord {
                record: self.encoded_record(&item.record)?,
                recorded_at: item.recorded_at,
            })
        };
        let imported = ImportedRun {
            records: all(&run.records, encoded)?,
            ..run.clone()
        };
        self.journal.import(&imported).await
    }

    async fn fork(&self, fork: &Fork) -> Result<ForkOutcome> {
        // What is copied is copied as it is stored.
        let target = match &fork.target {
            ForkTarget::Same { last, children } => ForkTarget::Same {
                last: self.encoded_record(last)?,
                children: children.clone(),
            },
            new @ ForkTarget::New(_) => new.clone(),
        };
        let forked = self.encoded_record(&fork.forked)?;
        let fork = Fork {
            forked,
            target,
            ..fork.clone()
        };
        self.journal.fork(&fork).await
    }

    fn schedules(&self) -> &dyn ScheduleStore {
        self
    }

    fn builds(&self) -> &dyn BuildStore {
        self.journal.builds()
    }

    async fn notify(&self, hints: &[Hint]) -> Result<()> {
        self.journal.notify(hints).await
    }

    async fn hints(&self) -> Vec<Hint> {
        self.journal.hints().await
    }
}

// A schedule holds the input of the runs that it starts.
#[async_trait]
impl ScheduleStore for Coded {
    async fn put_schedule(&self, row: &ScheduleRow) -> Result<bool> {
        let encoded = ScheduleRow {
            payload: self.encode(&row.payload)?,
            ..row.clone()
        };
        self.journal.schedules().put_schedule(&encoded).await
    }

    async fn delete_schedule(&self, id: &str) -> Result<bool> {
        self.journal.schedules().delete_schedule(id).await
    }

    async fn find_schedule(&self, id: &str) -> Result<Option<ScheduleRow>> {
        let Some(mut row) = self.journal.schedules().find_schedule(id).await? else {
            return Ok(None);
        };
        self.decode(&mut row.payload)?;
        Ok(Some(row))
    }

    async fn list_schedules(&self, after: Option<&str>, limit: u32) -> Result<Vec<ScheduleRow>> {
        let mut rows = self
            .journal
            .schedules()
            .list_schedules(after, limit)
            .await?;
        for row in &mut rows {
            self.decode(&mut row.payload)?;
        }
        Ok(rows)
    }

    async fn due_schedules(&self, queue: &str, limit: u32) -> Result<DueSchedules> {
        let mut due = self.journal.schedules().due_schedules(queue, limit).await?;
        for row in &mut due.rows {
            self.decode(&mut row.payload)?;
        }
        Ok(due)
    }
}
