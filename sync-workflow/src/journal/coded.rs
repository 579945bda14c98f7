//! A journal whose payloads are encoded on their way to storage and decoded on their way back.
//!
//! Everything above sees payloads as they are, so that nothing that the engine compares (fingerprints, limits of
//! values) depends on how they are stored. Encoding gives the same bytes each time, so that a batch in doubt is
//! recognised by what it would have written.
//!
//! What is too large for its record is kept in pieces before the record that refers to it is written. So a record that is
//! there has its pieces, and a crash in between leaves pieces that go with their run.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use super::{
    Attempt, Batch, BatchOutcome, BuildStore, Claim, ClaimRequest, ClaimedRun, Close, Closed,
    Debounce, DebounceOutcome, Deleted, Deletion, DueSchedules, Fork, ForkOutcome, ForkTarget,
    Hint, History, HistoryRecord, ImportedRun, Inbox, Journal, NewRun, NewSignal, OpenTransaction,
    Outlook, Page, Piece, PiecePlace, Publication, Published, QueueInfo, QueueLimits, Renewal,
    Result, RunCommit, RunFilter, RunInfo, RunSelector, ScheduleRow, ScheduleStore, SignalOutcome,
    SignalledStart, StartOutcome, StepTransaction, TransactionCommit, Transition, WokenRun,
    memory::bounds::{check_value, within},
};
use crate::{
    id::{NodeId, Position, RunId},
    payload::{CodecError, Codecs, envelope::MAX_ENVELOPE_BYTES, reference::Reference},
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

    /// As [`Self::encode`], for what may be kept offloaded.
    fn encode_offloaded(
        &self,
        run: RunId,
        payload: &Bytes,
        offloaded: &mut Offloaded,
    ) -> Result<Bytes> {
        within(payload.len(), self.codecs.max_payload_bytes())?;
        let stored = self.codecs.encode(payload)?;
        if !self.codecs.offloads(&stored) {
            return Ok(stored);
        }
        let reference = Reference::to(&stored);
        offloaded.payloads.push((run, reference, stored));
        Ok(reference.to_bytes())
    }

    fn encoded_record(&self, record: &Record) -> Result<Record> {
        Ok(Record {
            payload: self.encode(&record.payload)?,
            ..record.clone()
        })
    }

    fn encoded_record_of(
        &self,
        run: RunId,
        record: &Record,
        offloaded: &mut Offloaded,
    ) -> Result<Record> {
        Ok(Record {
            payload: self.encode_offloaded(run, &record.payload, offloaded)?,
            ..record.clone()
        })
    }

    /// A run whose input stays in its record.
    fn encoded_run_whole(&self, run: &NewRun) -> Result<NewRun> {
        Ok(NewRun {
            input: self.encode(&run.input)?,
            ..run.clone()
        })
    }

    fn encoded_run(&self, run: &NewRun, offloaded: &mut Offloaded) -> Result<NewRun> {
        let before = offloaded.payloads.len();
        let input = self.encode_offloaded(run.run, &run.input, offloaded)?;
        let carried_over = all(&run.carried_over, |record| {
            self.encoded_record_of(run.run, record, offloaded)
        })?;
        if offloaded.payloads.len() > before {
            offloaded.births.push(run.run);
        }
        Ok(NewRun {
            input,
            carried_over,
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

    fn encoded_transition(
        &self,
        transition: &Transition,
        offloaded: &mut Offloaded,
    ) -> Result<Transition> {
        let Transition::Close(close) = transition else {
            return Ok(transition.clone());
        };
        let next = close.next.as_ref();
        let next = next.map(|next| self.encoded_run(next, offloaded));
        Ok(Transition::Close(Box::new(Close {
            next: next.transpose()?,
            ..Close::clone(close)
        })))
    }

    fn encoded_commit(&self, commit: &RunCommit, offloaded: &mut Offloaded) -> Result<RunCommit> {
        Ok(RunCommit {
            run: commit.run,
            records: all(&commit.records, |record| {
                self.encoded_record_of(commit.run, record, offloaded)
            })?,
            children: all(&commit.children, |child| self.encoded_run(child, offloaded))?,
            consumed_signals: commit.consumed_signals.clone(),
            attempts: all(&commit.attempts, |attempt| self.encoded_attempt(attempt))?,
            settled_attempts: commit.settled_attempts.clone(),
            published: all(&commit.published, |shown| self.encoded_publication(shown))?,
            tags: commit.tags.clone(),
            transition: self.encoded_transition(&commit.transition, offloaded)?,
        })
    }

    fn encoded_batch(&self, batch: &Batch, offloaded: &mut Offloaded) -> Result<Batch> {
        Ok(Batch {
            runs: all(&batch.runs, |commit| self.encoded_commit(commit, offloaded))?,
            starts: all(&batch.starts, |run| self.encoded_run(run, offloaded))?,
        })
    }

    /// Keeps what records are about to refer to, piece by piece.
    async fn keep(&self, offloaded: &Offloaded) -> Result<()> {
        for (run, reference, stored) in &offloaded.payloads {
            let pieces = (0..stored.len()).step_by(Piece::BYTES);
            for (from, number) in pieces.zip(0..) {
                let to = stored.len().min(from + Piece::BYTES);
                let piece = Piece {
                    run: *run,
                    place: PiecePlace {
                        digest: reference.digest,
                        number,
                    },
                    bytes: stored.slice(from..to),
                    is_before_birth: offloaded.births.contains(run),
                };
                self.journal.keep_piece(&piece).await?;
            }
        }
        Ok(())
    }

    /// Keeps for a fork what the records refer to that it is to begin with.
    async fn copy_pieces(&self, fork: &Fork) -> Result<Offloaded> {
        const PAGE: u32 = 1_000;
        let mut births = Offloaded::default();
        let end = fork.forked.position.0;
        let mut from = 0;
        while from < end {
            let limit = PAGE.min(end - from);
            let page = self
                .journal
                .load(fork.origin, Position(from), limit)
                .await?;
            for record in &page.records {
                if let Some(reference) = Reference::in_record(&record.payload)? {
                    births.births = vec![fork.run];
                    self.copy_payload(fork, reference).await?;
                }
            }
            if page.records.is_empty() {
                break;
            }
            from += limit;
        }
        Ok(births)
    }

    async fn copy_payload(&self, fork: &Fork, reference: Reference) -> Result<()> {
        let (mut copied, mut number) = (0, 0);
        while copied < reference.length {
            let digest = reference.digest;
            let place = PiecePlace { digest, number };
            let piece = self.journal.piece(fork.origin, place).await?;
            let Some(bytes) = piece.filter(|piece| !piece.is_empty()) else {
                return Err(CodecError::Missing { piece: number }.into());
            };
            copied += bytes.len() as u64;
            number += 1;
            let piece = Piece {
                run: fork.run,
                place,
                bytes,
                is_before_birth: true,
            };
            self.journal.keep_piece(&piece).await?;
        }
        Ok(())
    }

    /// Forgets what was kept for runs that were not started after all.
    async fn settle(&self, offloaded: &Offloaded) {
        if offloaded.births.is_empty() {
            return;
        }
        // Whoever keeps something later does it otherwise.
        if let Err(error) = self.journal.settle_pieces(&offloaded.births).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "pieces_not_settled"
            );
        }
    }

    /// A payload of a run as it was before it was stored.
    async fn read(&self, run: RunId, payload: &mut Bytes) -> Result<()> {
        if let Some(reference) = Reference::in_record(payload)? {
            *payload = self.gathered(run, reference).await?;
        }
        self.decode(payload)
    }

    /// A payload that is kept offloaded, one piece after the other.
    async fn gathered(&self, run: RunId, reference: Reference) -> Result<Bytes> {
        let limit = self.codecs.max_payload_bytes();
        let length = usize::try_from(reference.length).unwrap_or(usize::MAX);
        if length > limit.saturating_add(MAX_ENVELOPE_BYTES) {
            let bytes = length;
            return Err(CodecError::TooLarge { bytes, limit }.into());
        }
        let mut whole = BytesMut::with_capacity(length);
        let mut number = 0;
        while whole.len() < length {
            let digest = reference.digest;
            let place = PiecePlace { digest, number };
            match self.journal.piece(run, place).await? {
                Some(piece) if !piece.is_empty() => whole.extend_from_slice(&piece),
                Some(_) | None => return Err(CodecError::Missing { piece: number }.into()),
            }
            number += 1;
        }
        let whole = whole.freeze();
        match Reference::to(&whole) == reference {
            true => Ok(whole),
            false => Err(CodecError::Damaged { what: "pieces" }.into()),
        }
    }

    async fn read_end(&self, run: RunId, closed: Option<Closed>) -> Result<Option<Closed>> {
        let Some(mut closed) = closed else {
            return Ok(None);
        };
        self.read(run, &mut closed.payload).await?;
        Ok(Some(closed))
    }
}

/// What is offloaded for a write, before it.
#[derive(Default)]
struct Offloaded {
    /// As they are stored, each with its run and what refers to it.
    payloads: Vec<(RunId, Reference, Bytes)>,
    /// Those of the runs that the write is to start.
    births: Vec<RunId>,
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

    fn writes_at_once(&self) -> usize {
        self.journal.writes_at_once()
    }

    fn max_payload_bytes(&self) -> usize {
        self.codecs.max_payload_bytes()
    }

    async fn keep_piece(&self, piece: &Piece) -> Result<()> {
        self.journal.keep_piece(piece).await
    }

    async fn piece(&self, run: RunId, place: PiecePlace) -> Result<Option<Bytes>> {
        self.journal.piece(run, place).await
    }

    async fn settle_pieces(&self, runs: &[RunId]) -> Result<()> {
        self.journal.settle_pieces(runs).await
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
        let mut offloaded = Offloaded::default();
        let batch = self.encoded_batch(batch, &mut offloaded)?;
        self.keep(&offloaded).await?;
        let outcome = self.journal.commit(node, &batch).await?;
        self.settle(&offloaded).await;
        Ok(outcome)
    }

    async fn was_committed(&self, node: NodeId, batch: &Batch) -> Result<Option<bool>> {
        let batch = self.encoded_batch(batch, &mut Offloaded::default())?;
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
            self.read(run, &mut record.payload).await?;
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
        for outcome in &mut inbox.children {
            outcome.closed = self.read_end(outcome.child, outcome.closed.take()).await?;
        }
        Ok(inbox)
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
        let mut offloaded = Offloaded::default();
        let run = self.encoded_run(run, &mut offloaded)?;
        self.keep(&offloaded).await?;
        let outcome = self.journal.start(&run).await?;
        self.settle(&offloaded).await;
        Ok(outcome)
    }

    async fn start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
    ) -> Result<StartOutcome> {
        let run = self.encoded_run_whole(run)?;
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
        let mut offloaded = Offloaded::default();
        let signal = self.encoded_signal(signal)?;
        let run = self.encoded_run(run, &mut offloaded)?;
        self.keep(&offloaded).await?;
        let outcome = self.journal.signal_with_start(&run, &signal).await?;
        self.settle(&offloaded).await;
        Ok(outcome)
    }

    async fn signal_with_start_in(
        &self,
        transaction: StepTransaction<'_>,
        run: &NewRun,
        signal: &NewSignal,
    ) -> Result<SignalledStart> {
        let (run, signal) = (self.encoded_run_whole(run)?, self.encoded_signal(signal)?);
        self.journal
            .signal_with_start_in(transaction, &run, &signal)
            .await
    }

    async fn debounce(&self, run: &NewRun, debounce: Debounce) -> Result<DebounceOutcome> {
        let run = self.encoded_run_whole(run)?;
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
        self.read_end(run, self.journal.outcome(run).await?).await
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
            let mut payload = item.record.payload.clone();
            match self.read(run, &mut payload).await {
                Ok(()) => item.record.payload = payload,
                Err(error) if error.is_transient() => return Err(error),
                // A person sees the rest of a history of which some cannot be read.
                Err(_) => {}
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
        let mut offloaded = Offloaded::default();
        let imported = ImportedRun {
            records: all(&run.records, |item| {
                Ok(HistoryRecord {
                    record: self.encoded_record_of(run.run, &item.record, &mut offloaded)?,
                    recorded_at: item.recorded_at,
                })
            })?,
            ..run.clone()
        };
        if !offloaded.payloads.is_empty() {
            offloaded.births.push(run.run);
        }
        self.keep(&offloaded).await?;
        let outcome = self.journal.import(&imported).await?;
        self.settle(&offloaded).await;
        Ok(outcome)
    }

    async fn fork(&self, fork: &Fork) -> Result<ForkOutcome> {
        // What is copied is copied as it is stored, with what it refers to.
        let births = self.copy_pieces(fork).await?;
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
        let outcome = self.journal.fork(&fork).await?;
        self.settle(&births).await;
        Ok(outcome)
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
