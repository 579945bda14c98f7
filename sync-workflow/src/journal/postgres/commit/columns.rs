//! A batch, turned on its side: one array per column, as `unnest` takes them.

use sqlx::{Postgres, postgres::PgArguments, query::QueryAs};
use uuid::Uuid;

use super::Part;
use crate::{
    id::{NodeId, RunId},
    journal::{
        Attempt, Batch, Close, NewRun, ParentCloses, Placement, RunCommit, Transition, WakeAt,
        postgres::time::Moment, seal::seal,
    },
    record::Record,
    trace::TraceContext,
};

type Query<'q, Row> = QueryAs<'q, Postgres, Row, PgArguments>;

/// Who sends a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender {
    pub(super) node: NodeId,
    /// How many looks at its commits in doubt it knows of.
    pub(super) doubts: i32,
}

impl Sender {
    fn bind<Row>(self, query: Query<'_, Row>) -> Query<'_, Row> {
        query.bind(self.node.as_uuid()).bind(self.doubts)
    }
}

/// The columns of a batch.
#[derive(Debug, Default)]
pub(super) struct Columns<'b> {
    /// The node's runs in the batch.
    held: Vec<Uuid>,
    records: Records<'b>,
    transitions: Transitions,
    runs: NewRuns<'b>,
    signals: Signals,
    attempts: Attempts<'b>,
    settled: Settled,
    published: Published<'b>,
    tags: Tags<'b>,
}

impl<'b> Columns<'b> {
    /// The columns of those runs of a batch that `includes` admits, and of its starts.
    pub(super) fn of(batch: &'b Batch, includes: impl Fn(&RunCommit) -> bool) -> Self {
        let mut columns = Self::default();
        for commit in batch.runs.iter().filter(|commit| includes(commit)) {
            columns.add_commit(commit);
        }
        for start in &batch.starts {
            columns.add_run(start, Origin::Start, Uuid::nil(), false);
        }
        columns
    }

    /// The leanest statement that can carry these columns.
    pub(super) fn part(&self) -> Part {
        if self.held.is_empty() && !self.runs.have_ties && self.tags.run.is_empty() {
            return Part::Starts;
        }
        let has_more = !self.runs.run.is_empty()
            || !self.signals.run.is_empty()
            || !self.attempts.run.is_empty()
            || !self.settled.run.is_empty()
            || !self.published.run.is_empty()
            || !self.tags.run.is_empty();
        match (has_more, self.transitions.run.is_empty()) {
            (true, _) => Part::Everything,
            (false, false) if !self.transitions.concern_others => Part::Ends,
            (false, false) => Part::Transitions,
            (false, true) => Part::Records,
        }
    }

    pub(super) fn bind_records<'q, Row>(
        &'q self,
        sender: Sender,
        query: Query<'q, Row>,
    ) -> Query<'q, Row> {
        self.records.bind(sender.bind(query).bind(&self.held))
    }

    pub(super) fn bind_starts<'q, Row>(
        &'q self,
        sender: Sender,
        query: Query<'q, Row>,
    ) -> Query<'q, Row> {
        self.runs.bind_starts(sender.bind(query))
    }

    pub(super) fn bind_ends<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        query
            .bind(&self.transitions.run)
            .bind(&self.transitions.status)
    }

    pub(super) fn bind_transitions<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        self.transitions.bind(query)
    }

    pub(super) fn bind_everything_else<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        let query = self.signals.bind(self.runs.bind(query));
        let query = self.settled.bind(self.attempts.bind(query));
        let query = self.published.bind(query.bind(&self.runs.seal));
        let query = self.runs.bind_tickets(query).bind(&self.runs.trace);
        self.tags.bind(query)
    }

    fn add_commit(&mut self, commit: &'b RunCommit) {
        let run = commit.run.as_uuid();
        self.held.push(run);
        for record in &commit.records {
            self.records.add(run, record);
        }
        self.transitions.add(run, &commit.transition);
        let orphans = leaves_children(&commit.transition);
        for child in &commit.children {
            let cancelled = orphans
                && child
                    .parent
                    .is_some_and(|parent| parent.on_close == ParentCloses::Cancel);
            self.add_run(child, Origin::Child, run, cancelled);
        }
        if let Transition::Close(close) = &commit.transition {
            if let Some(next) = &close.next {
                // Its tags are those of the run that it continues.
                self.runs.add(next, Origin::Continuation, run, false);
                for record in &next.carried_over {
                    self.records.add(next.run.as_uuid(), record);
                }
            }
        } else {
            self.add_attempts(run, commit);
        }
        for publication in &commit.published {
            self.published.run.push(run);
            self.published.name.push(&publication.name);
            self.published.payload.push(&publication.payload);
        }
        for change in &commit.tags {
            self.tags.add(run, &change.name, change.value.as_deref());
        }
        for sequence in &commit.consumed_signals {
            self.signals.run.push(run);
            self.signals.sequence.push(*sequence);
        }
    }

    fn add_run(&mut self, new: &'b NewRun, origin: Origin, from_run: Uuid, cancelled: bool) {
        self.runs.add(new, origin, from_run, cancelled);
        for (name, value) in new.tags.iter() {
            self.tags.add(new.run.as_uuid(), name, Some(value));
        }
    }

    fn add_attempts(&mut self, run: Uuid, commit: &'b RunCommit) {
        for (place, attempt) in commit.attempts.iter().enumerate() {
            let is_settled = commit.settled_attempts.contains(&attempt.command);
            let is_overwritten = commit.attempts[place + 1..]
                .iter()
                .any(|later| later.command == attempt.command);
            if !is_settled && !is_overwritten {
                self.attempts.add(run, attempt);
            }
        }
        for command in &commit.settled_attempts {
            self.settled.run.push(run);
            self.settled.command.push(command.0.cast_signed());
        }
    }
}

/// Whether a child that is started with this transition is left by its parent at once.
fn leaves_children(transition: &Transition) -> bool {
    matches!(transition, Transition::Close(close) if close.has_open_children)
}

#[derive(Debug, Default)]
struct Records<'b> {
    run: Vec<Uuid>,
    position: Vec<i32>,
    kind: Vec<i16>,
    command: Vec<i32>,
    name: Vec<&'b str>,
    fingerprint: Vec<i64>,
    payload: Vec<&'b [u8]>,
}

impl<'b> Records<'b> {
    fn add(&mut self, run: Uuid, record: &'b Record) {
        self.run.push(run);
        self.position.push(record.position.0.cast_signed());
        self.kind.push(record.kind.code());
        self.command.push(record.command.0.cast_signed());
        self.name.push(&record.name);
        self.fingerprint.push(seal(RunId::from_uuid(run), record));
        self.payload.push(&record.payload);
    }

    fn bind<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        query
            .bind(&self.run)
            .bind(&self.position)
            .bind(&self.kind)
            .bind(&self.command)
            .bind(&self.name)
            .bind(&self.fingerprint)
            .bind(&self.payload)
    }
}

#[derive(Debug, Default)]
struct Transitions {
    /// Whether one of them is no end of a run, or an end that a parent or a child hears of.
    concern_others: bool,
    run: Vec<Uuid>,
    code: Vec<i16>,
    wake_at: Vec<Option<Moment>>,
    seen: Vec<Option<i64>>,
    status: Vec<Option<i16>>,
    has_children: Vec<bool>,
    parked_run: Vec<Uuid>,
    parked_reason: Vec<String>,
}

/// The numbers of transitions in the statements.
pub(super) const SUSPEND: i16 = 1;
pub(super) const RELEASE: i16 = 2;
pub(super) const PARK: i16 = 3;
pub(super) const CLOSE: i16 = 4;

impl Transitions {
    fn add(&mut self, run: Uuid, transition: &Transition) {
        let (code, wake_at, seen, status, has_children) = match transition {
            Transition::Continue => return,
            Transition::Suspend {
                wake_at,
                seen_inbox,
            } => (
                SUSPEND,
                Some(wake(*wake_at)),
                Some(*seen_inbox),
                None,
                false,
            ),
            Transition::Release => (RELEASE, None, None, None, false),
            Transition::Park { reason } => {
                self.parked_run.push(run);
                // Text cannot hold a NUL, and a reason may quote anything.
                self.parked_reason.push(reason.replace('\0', "\u{fffd}"));
                (PARK, None, None, None, false)
            }
            Transition::Close(close) => {
                let Close {
                    status,
                    has_open_children,
                    has_parent,
                    next: _,
                } = &**close;
                self.concern_others |= *has_open_children || *has_parent;
                (CLOSE, None, None, Some(status.code()), *has_open_children)
            }
        };
        self.concern_others |= code != CLOSE;
        self.run.push(run);
        self.code.push(code);
        self.wake_at.push(wake_at);
        self.seen.push(seen);
        self.status.push(status);
        self.has_children.push(has_children);
    }

    fn bind<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        query
            .bind(&self.run)
            .bind(&self.code)
            .bind(&self.wake_at)
            .bind(&self.seen)
            .bind(&self.status)
            .bind(&self.has_children)
            .bind(&self.parked_run)
            .bind(&self.parked_reason)
    }
}

fn wake(wake_at: WakeAt) -> Moment {
    match wake_at {
        WakeAt::Arrival => Moment::Never,
        WakeAt::Time(at) => at.into(),
    }
}

/// Why a run is started. The numbers are those of the statement.
#[derive(Debug, Clone, Copy)]
#[repr(i16)]
enum Origin {
    Start = 0,
    Child = 1,
    Continuation = 2,
}

#[derive(Debug, Default)]
struct NewRuns<'b> {
    /// Whether one of them has a parent or continues another run.
    have_ties: bool,
    origin: Vec<i16>,
    run: Vec<Uuid>,
    chain: Vec<Uuid>,
    workflow_id: Vec<&'b str>,
    workflow: Vec<&'b str>,
    queue: Vec<&'b str>,
    input: Vec<&'b [u8]>,
    reuse: Vec<i16>,
    parent_run: Vec<Option<Uuid>>,
    parent_command: Vec<Option<i32>>,
    parent_close: Vec<Option<i16>>,
    here: Vec<bool>,
    wake_at: Vec<Option<Moment>>,
    from_run: Vec<Uuid>,
    cancelled: Vec<bool>,
    queue_key: Vec<&'b str>,
    priority: Vec<i16>,
    admission: Vec<i16>,
    /// The seals of their first records.
    seal: Vec<i64>,
    trace: Vec<Option<&'b str>>,
}

impl<'b> NewRuns<'b> {
    fn add(&mut self, new: &'b NewRun, origin: Origin, from_run: Uuid, cancelled: bool) {
        self.have_ties |= new.parent.is_some() || new.chain != new.run;
        self.origin.push(origin as i16);
        self.run.push(new.run.as_uuid());
        self.chain.push(new.chain.as_uuid());
        self.workflow_id.push(new.workflow_id.as_str());
        self.workflow.push(&new.workflow);
        self.queue.push(&new.queue);
        self.input.push(&new.input);
        self.reuse.push(new.reuse as i16);
        self.parent_run
            .push(new.parent.map(|parent| parent.run.as_uuid()));
        self.parent_command
            .push(new.parent.map(|parent| parent.command.0.cast_signed()));
        self.parent_close
            .push(new.parent.map(|parent| parent.on_close as i16));
        self.here.push(new.placement == Placement::Here);
        self.wake_at.push(not_before(new.placement));
        self.from_run.push(from_run);
        self.cancelled.push(cancelled);
        self.queue_key.push(&new.ticket.key);
        self.priority.push(new.ticket.priority);
        self.admission.push(new.ticket.admission.code());
        self.seal.push(seal(new.run, &new.first_record()));
        self.trace
            .push(new.trace.as_ref().map(TraceContext::as_stored));
    }

    fn bind<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        query
            .bind(&self.origin)
            .bind(&self.run)
            .bind(&self.chain)
            .bind(&self.workflow_id)
            .bind(&self.workflow)
            .bind(&self.queue)
            .bind(&self.input)
            .bind(&self.reuse)
            .bind(&self.parent_run)
            .bind(&self.parent_command)
            .bind(&self.parent_close)
            .bind(&self.here)
            .bind(&self.wake_at)
            .bind(&self.from_run)
            .bind(&self.cancelled)
    }

    fn bind_tickets<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        query
            .bind(&self.queue_key)
            .bind(&self.priority)
            .bind(&self.admission)
    }

    /// Those columns that differ between starts without ties.
    fn bind_starts<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        query
            .bind(&self.run)
            .bind(&self.workflow_id)
            .bind(&self.workflow)
            .bind(&self.queue)
            .bind(&self.input)
            .bind(&self.reuse)
            .bind(&self.here)
            .bind(&self.wake_at)
            .bind(&self.seal)
            .bind(&self.queue_key)
            .bind(&self.priority)
            .bind(&self.trace)
    }
}

/// When a new run becomes ready, if not at once.
pub(in crate::journal::postgres) fn not_before(placement: Placement) -> Option<Moment> {
    match placement {
        Placement::Here | Placement::Anywhere => None,
        Placement::NotBefore(at) => Some(at.into()),
    }
}

#[derive(Debug, Default)]
struct Signals {
    run: Vec<Uuid>,
    sequence: Vec<i64>,
}

impl Signals {
    fn bind<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        query.bind(&self.run).bind(&self.sequence)
    }
}

#[derive(Debug, Default)]
struct Attempts<'b> {
    run: Vec<Uuid>,
    command: Vec<i32>,
    failed: Vec<i32>,
    next_at: Vec<Option<Moment>>,
    scheduled_at: Vec<Moment>,
    failure: Vec<&'b [u8]>,
    details: Vec<&'b [u8]>,
}

impl<'b> Attempts<'b> {
    fn add(&mut self, run: Uuid, attempt: &'b Attempt) {
        self.run.push(run);
        self.command.push(attempt.command.0.cast_signed());
        self.failed.push(attempt.failed.cast_signed());
        self.next_at.push(attempt.next_at.map(Moment::from));
        self.scheduled_at.push(attempt.scheduled_at.into());
        self.failure.push(&attempt.failure);
        self.details.push(&attempt.details);
    }

    fn bind<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        query
            .bind(&self.run)
            .bind(&self.command)
            .bind(&self.failed)
            .bind(&self.next_at)
            .bind(&self.scheduled_at)
            .bind(&self.failure)
            .bind(&self.details)
    }
}

#[derive(Debug, Default)]
struct Settled {
    run: Vec<Uuid>,
    command: Vec<i32>,
}

impl Settled {
    fn bind<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        query.bind(&self.run).bind(&self.command)
    }
}

#[derive(Debug, Default)]
struct Published<'b> {
    run: Vec<Uuid>,
    name: Vec<&'b str>,
    payload: Vec<&'b [u8]>,
}

impl Published<'_> {
    fn bind<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        query.bind(&self.run).bind(&self.name).bind(&self.payload)
    }
}

/// Tags to set, and to take away where there is no value.
#[derive(Debug, Default)]
struct Tags<'b> {
    run: Vec<Uuid>,
    name: Vec<&'b str>,
    value: Vec<Option<&'b str>>,
}

impl<'b> Tags<'b> {
    fn add(&mut self, run: Uuid, name: &'b str, value: Option<&'b str>) {
        self.run.push(run);
        self.name.push(name);
        self.value.push(value);
    }

    fn bind<'q, Row>(&'q self, query: Query<'q, Row>) -> Query<'q, Row> {
        query.bind(&self.run).bind(&self.name).bind(&self.value)
    }
}
