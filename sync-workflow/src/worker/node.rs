//! The node: one incarnation of a worker, from its enlisting to its end.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tracing::Instrument as _;

use super::{
    backoff::Backoff,
    clock::DatabaseClock,
    committer::{CommitQueue, Tally, Told},
    driver::{Driver, Origin},
    mailbox::{Mailbox, Message},
    notifier::Notifier,
    registry::Registry,
    settings::Settings,
    watchers::Watchers,
};
use crate::{
    id::{NodeId, RunId},
    journal::{
        Batch, ClaimRequest, ClaimedRun, Error, Hint, Journal, Managed, NewRun, Outlook, Placement,
        RunCommit, Transition, WokenRun,
    },
    telemetry::{Metrics, slice_span},
};

/// How many signals of workflows are delivered at once. Each takes a connection for a moment.
const MAX_SENDS: usize = 16;

/// What the tasks of a node share.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: DatabaseClock,
    pub(crate) registry: Arc<Registry>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) commits: CommitQueue,
    pub(crate) activity_slots: Arc<Semaphore>,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) notifier: Notifier,
    pub(crate) metrics: Metrics,
    /// Wakes the dispatcher: there may be runs to claim.
    pub(crate) dispatch: Notify,
    /// Wakes the scheduler: a schedule was changed.
    pub(crate) schedules: Notify,
    /// Told whenever a run leaves.
    pub(crate) departed: Notify,
    /// Turns for signals that workflows send.
    pub(crate) sends: Semaphore,
    places: Arc<Semaphore>,
    /// Those of its runs that were told of a commit and have not answered yet.
    pub(crate) told: Arc<Tally>,
    /// The runs in memory.
    residents: Mutex<HashMap<RunId, Resident>>,
    /// Places kept for runs whose start is being committed.
    kept_places: Mutex<HashMap<RunId, OwnedSemaphorePermit>>,
    is_fenced: watch::Sender<bool>,
    is_draining: AtomicBool,
    is_claiming: AtomicBool,
    /// The dispatcher found no room: whoever leaves wakes it.
    is_crowded: AtomicBool,
    /// The dispatcher is to compare the runs that name this node with those in memory.
    looks_at_owned: AtomicBool,
    /// A claim has told whether the queue has limits.
    knows_queue: AtomicBool,
    /// The queue has limits: what is started here has to ask for admission like everybody else.
    is_queue_managed: AtomicBool,
    /// How many runs of the queue may be in memory, by its limits.
    max_in_worker: AtomicUsize,
    /// When the dispatcher claims again by itself, in microseconds of the database's clock; long ago while it claims.
    looks_again_at: AtomicI64,
    /// What the heartbeat saw last, and when it asked.
    outlook: Mutex<Option<(Instant, Outlook)>>,
    /// The earliest time at which a run is due that fell asleep since the dispatcher began to claim.
    earliest_due: AtomicI64,
}

/// A run in memory.
struct Resident {
    mailbox: Mailbox,
    /// The run was claimed again while its driver was about to leave: it is driven anew then.
    claimed_again: Option<(ClaimedRun, OwnedSemaphorePermit)>,
}

/// What a new node is made of.
pub(crate) struct NodeParts {
    pub(crate) id: NodeId,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: DatabaseClock,
    pub(crate) registry: Arc<Registry>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) commits: CommitQueue,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) notifier: Notifier,
}

/// While it is there, the node has asked for runs and has not taken all of them over.
pub(crate) struct Claiming<'n>(&'n Node);

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        self.0.is_claiming.store(false, Ordering::SeqCst);
        self.0.departed.notify_waiters();
    }
}

impl Node {
    pub(crate) fn new(parts: NodeParts) -> Arc<Self> {
        let (registry, settings) = (&parts.registry, &parts.settings);
        let metrics = Metrics::new(
            registry.workflow_names(),
            registry.activity_names(),
            settings.max_resident_runs,
            settings.activity_slots,
        );
        Arc::new(Self {
            metrics,
            activity_slots: Arc::new(Semaphore::new(parts.settings.activity_slots)),
            places: Arc::new(Semaphore::new(parts.settings.max_resident_runs)),
            sends: Semaphore::new(MAX_SENDS),
            told: Arc::default(),
            id: parts.id,
            journal: parts.journal,
            clock: parts.clock,
            registry: parts.registry,
            settings: parts.settings,
            commits: parts.commits,
            watchers: parts.watchers,
            notifier: parts.notifier,
            dispatch: Notify::new(),
            schedules: Notify::new(),
            departed: Notify::new(),
            residents: Mutex::default(),
            kept_places: Mutex::default(),
            is_fenced: watch::channel(false).0,
            is_draining: AtomicBool::new(false),
            is_claiming: AtomicBool::new(false),
            is_crowded: AtomicBool::new(false),
            looks_at_owned: AtomicBool::new(false),
            knows_queue: AtomicBool::new(false),
            is_queue_managed: AtomicBool::new(false),
            max_in_worker: AtomicUsize::new(usize::MAX),
            looks_again_at: AtomicI64::new(i64::MIN),
            outlook: Mutex::default(),
            earliest_due: AtomicI64::new(i64::MAX),
        })
    }

    /// Keeps a place for a new run, if this node can run it and has room: it is then born here.
    pub(crate) fn place(&self, run: &mut NewRun) {
        let is_ours = run.placement == Placement::Anywhere
            && !self.is_draining()
            // With a build everything passes through a claim, which alone knows whose it is.
            && self.settings.build.is_none()
            && run.queue == self.settings.queue
            && (!self.is_queue_managed() || run.ticket.admission.may_run())
            && self.registry.workflow(&run.workflow).is_some();
        if !is_ours {
            return;
        }
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            lock(&self.kept_places).insert(run.run, place);
            run.placement = Placement::Here;
        }
    }

    /// A run for which a place was kept was not started.
    pub(crate) fn unplace(&self, run: &NewRun) {
        lock(&self.kept_places).remove(&run.run);
    }

    /// Nothing that a commit would have started was started.
    pub(crate) fn unplace_started(&self, commit: &RunCommit) {
        for child in &commit.children {
            self.unplace(child);
        }
        if let Transition::Close(close) = &commit.transition
            && let Some(next) = &close.next
        {
            self.unplace(next);
        }
    }

    /// A run was started: drives it if it was born here, tells the others if not.
    pub(crate) fn placed(self: &Arc<Self>, run: NewRun) {
        // Until the run is in memory its place counts as kept: a node that drains waits for it.
        let mut kept_places = lock(&self.kept_places);
        let place = kept_places.remove(&run.run);
        match (run.placement, place) {
            (Placement::Here, Some(place)) => {
                let claimed = ClaimedRun {
                    run: run.run,
                    chain: run.chain,
                    workflow_id: run.workflow_id.clone(),
                    workflow: Arc::clone(&run.workflow),
                    queue: Arc::clone(&run.queue),
                    parent: run.parent,
                    inbox: 0,
                    attempts: 1,
                    ticket: run.ticket.clone(),
                    ready_at: None,
                    rested: false,
                    trace: run.trace.clone(),
                };
                self.drive(claimed, Origin::Born(run), place, Some(self.told.tell()));
            }
            (Placement::Here, None) => {}
            (Placement::Anywhere, _) => {
                self.dispatch.notify_one();
                self.notifier.hint(Hint::Ready(run.queue));
            }
            (Placement::NotBefore(_), _) => self.dispatch.notify_one(),
        }
    }

    pub(crate) fn has_place_kept(&self, run: RunId) -> bool {
        lock(&self.kept_places).contains_key(&run)
    }

    /// Takes places for up to this many more runs. Where there is none, the next run that leaves wakes the
    /// dispatcher.
    pub(crate) fn take_places(&self, limit: usize) -> Option<OwnedSemaphorePermit> {
        // Told before it looks, so that no departure falls in between.
        self.is_crowded.store(true, Ordering::SeqCst);
        let max_in_worker = self.max_in_worker.load(Ordering::SeqCst);
        let limit = limit.min(max_in_worker.saturating_sub(self.resident_count()));
        loop {
            let room = self.places.available_permits().min(limit);
            let count = u32::try_from(room).ok().filter(|count| *count > 0)?;
            // A run that is born meanwhile may take one of them.
            if let Ok(places) = Arc::clone(&self.places).try_acquire_many_owned(count) {
                self.is_crowded.store(false, Ordering::SeqCst);
                return Some(places);
            }
        }
    }

    /// Takes over what a claim told of the queue.
    pub(crate) fn queue_is(&self, managed: Option<Managed>) {
        let max = managed.and_then(|managed| managed.max_in_worker);
        let max = max.map_or(usize::MAX, |max| max as usize);
        self.max_in_worker.store(max, Ordering::SeqCst);
        self.is_queue_managed
            .store(managed.is_some(), Ordering::SeqCst);
        self.knows_queue.store(true, Ordering::SeqCst);
    }

    pub(crate) fn knows_queue(&self) -> bool {
        self.knows_queue.load(Ordering::SeqCst)
    }

    pub(crate) fn is_queue_managed(&self) -> bool {
        self.is_queue_managed.load(Ordering::SeqCst)
    }

    /// Has the dispatcher compare, soon, the runs that name this node with those in memory.
    pub(crate) fn look_at_owned(&self) {
        self.looks_at_owned.store(true, Ordering::SeqCst);
        self.dispatch.notify_one();
    }

    /// Whether somebody asked for that since the last time.
    pub(crate) fn takes_look_at_owned(&self) -> bool {
        self.looks_at_owned.swap(false, Ordering::SeqCst)
    }

    /// The dispatcher is about to claim, and the node counts as not empty until it has taken over what it is given.
    /// Nothing if the node takes nothing any more. What falls asleep from here on is remembered, for the claim may
    /// not see it.
    pub(crate) fn begins_to_claim(&self) -> Option<Claiming<'_>> {
        // Said first: either who drains the node finds it, or it finds that the node drains.
        self.is_claiming.store(true, Ordering::SeqCst);
        let claiming = Claiming(self);
        if self.is_fenced() || self.is_draining() {
            return None;
        }
        self.looks_again_at.store(i64::MIN, Ordering::SeqCst);
        self.earliest_due.store(i64::MAX, Ordering::SeqCst);
        Some(claiming)
    }

    /// The dispatcher would not claim before this time. Returns when a run is due that fell asleep since it began
    /// to claim, if that is sooner.
    pub(crate) fn looks_again_at(&self, time: Timestamp) -> Option<Timestamp> {
        let time = time.as_microsecond();
        self.looks_again_at.store(time, Ordering::SeqCst);
        let due = self.earliest_due();
        due.filter(|due| due.as_microsecond() < time)
    }

    /// When a run is due that fell asleep since the dispatcher began to claim.
    pub(crate) fn earliest_due(&self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.earliest_due.load(Ordering::SeqCst)).ok()
    }

    /// A run has left memory until this time: the dispatcher must not sleep longer.
    pub(crate) fn is_due_at(&self, time: Timestamp) {
        let time = time.as_microsecond();
        // Remembered first: either the dispatcher finds it, or it is found to be waiting too long.
        self.earliest_due.fetch_min(time, Ordering::SeqCst);
        if time < self.looks_again_at.load(Ordering::SeqCst) {
            self.dispatch.notify_one();
        }
    }

    /// What to claim with room for so many.
    pub(crate) fn claim_request(&self, limit: u32) -> ClaimRequest {
        ClaimRequest {
            queue: Arc::clone(&self.settings.queue),
            workflows: self.registry.workflow_names(),
            build: self.settings.build.clone(),
            limit,
        }
    }

    /// The heartbeat of this node, while it was idle, saw what there is to do.
    pub(crate) fn saw(&self, asked: Instant, now: Timestamp, outlook: Outlook) {
        *lock(&self.outlook) = Some((asked, outlook));
        self.metrics.oldest_ready(now, outlook.next_wake);
        if outlook.holds_runs {
            self.look_at_owned();
        }
        match outlook.next_wake {
            Some(due) if due <= now => self.dispatch.notify_one(),
            Some(due) => self.is_due_at(due),
            None => {}
        }
    }

    /// When the heartbeat last saw that there was nothing to do for this node, and when that ends.
    pub(crate) fn last_quiet(&self) -> Option<(Instant, Option<Timestamp>)> {
        let (asked, outlook) = (*lock(&self.outlook))?;
        // The heartbeat does not see who may be admitted.
        let is_quiet = !outlook.holds_runs && self.is_empty() && !self.is_queue_managed();
        is_quiet.then_some((asked, outlook.next_wake))
    }

    /// Drives a run that this node claimed, in the place that it took for it.
    pub(crate) fn adopt(self: &Arc<Self>, claimed: ClaimedRun, place: OwnedSemaphorePermit) {
        self.drive(claimed, Origin::Claimed, place, None);
    }

    /// Drives a run that names this node, if there is room; else it is for the next look.
    pub(crate) fn adopt_if_room(self: &Arc<Self>, owned: ClaimedRun) {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            self.drive(owned, Origin::Claimed, place, None);
        }
    }

    fn drive(
        self: &Arc<Self>,
        claimed: ClaimedRun,
        origin: Origin,
        place: OwnedSemaphorePermit,
        told: Option<Told>,
    ) {
        if self.is_fenced() {
            return;
        }
        let (mailbox, messages) = Mailbox::new();
        {
            let mut residents = lock(&self.residents);
            if let Some(resident) = residents.get_mut(&claimed.run) {
                // It has given the run back and is about to leave.
                resident.claimed_again = Some((claimed, place));
                return;
            }
            let resident = Resident {
                mailbox: mailbox.clone(),
                claimed_again: None,
            };
            residents.insert(claimed.run, resident);
        }
        if *self.is_fenced.borrow() {
            mailbox.send(Message::Fenced);
        } else if self.is_draining() {
            mailbox.send(Message::Drain);
        }
        self.metrics.arrived();
        let span = slice_span(&claimed, self.id);
        let driver = Driver::new(Arc::clone(self), claimed, mailbox, place, told);
        tokio::spawn(driver.run(origin, messages).instrument(span));
    }

    /// A run has left memory.
    pub(crate) fn depart(self: &Arc<Self>, run: RunId) {
        let left = lock(&self.residents).remove(&run);
        if let Some((claimed, place)) = left.and_then(|resident| resident.claimed_again) {
            self.drive(claimed, Origin::Claimed, place, None);
            return;
        }
        self.departed.notify_waiters();
        if self.is_crowded.swap(false, Ordering::SeqCst) {
            self.dispatch.notify_one();
        }
    }

    /// A run that its queue had admitted has ended: another may begin, here or where its workflow is known.
    pub(crate) fn turn_is_free(&self) {
        self.dispatch.notify_one();
        self.notifier
            .hint(Hint::Ready(Arc::clone(&self.settings.queue)));
    }

    /// Tells the driver of a run something, if the run is in memory here.
    pub(crate) fn tell(&self, run: RunId, message: Message) -> bool {
        let mailbox = lock(&self.residents)
            .get(&run)
            .map(|resident| resident.mailbox.clone());
        match mailbox {
            Some(mailbox) => {
                mailbox.send(message);
                true
            }
            None => false,
        }
    }

    /// Something arrived for a run that this node holds.
    pub(crate) fn tell_arrived(&self, run: RunId) {
        self.tell(run, Message::Arrived);
    }

    /// The runs that are in memory.
    pub(crate) fn residents(&self) -> HashSet<RunId> {
        lock(&self.residents).keys().copied().collect()
    }

    pub(crate) fn is_resident(&self, run: RunId) -> bool {
        lock(&self.residents).contains_key(&run)
    }

    /// Whether nothing is in memory, and nothing that begins here is being started or claimed.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_claiming.load(Ordering::SeqCst)
            && self.kept_place_count() == 0
            && self.resident_count() == 0
    }

    pub(crate) fn kept_place_count(&self) -> usize {
        lock(&self.kept_places).len()
    }

    pub(crate) fn resident_count(&self) -> usize {
        lock(&self.residents).len()
    }

    /// Tells every driver something.
    pub(crate) fn tell_all(&self, message: impl Fn() -> Message) {
        let mut mailboxes: Vec<_> = lock(&self.residents)
            .iter()
            .map(|(run, resident)| (*run, resident.mailbox.clone()))
            .collect();
        // In an order that does not change from process to process.
        mailboxes.sort_unstable_by_key(|(run, _)| *run);
        for (_, mailbox) in mailboxes {
            mailbox.send(message());
        }
    }

    /// The inboxes of these runs were moved by a commit of this node, or by a client of its process.
    pub(crate) fn woken(&self, woken: &[WokenRun]) {
        for WokenRun { run, node } in woken {
            match node {
                // Its driver is told directly, or finds out when it would suspend.
                Some(node) if *node == self.id => {}
                Some(node) => self.notifier.hint(Hint::Arrived {
                    node: *node,
                    run: *run,
                }),
                // This node takes it, or another one: it may have no room here, or be of another
                // queue.
                None => {
                    self.dispatch.notify_one();
                    self.notifier.woken(*run);
                }
            }
        }
    }

    /// A run was asked to cancel by this node: whoever holds it hears of it, or may take it.
    pub(crate) fn cancelled(&self, woken: WokenRun) {
        match woken.node {
            Some(node) if node == self.id => self.tell_arrived(woken.run),
            Some(_) | None => self.woken(&[woken]),
        }
    }

    /// A run is parked: whoever awaits it, here or elsewhere, looks.
    pub(crate) fn parked(&self, run: RunId) {
        self.watchers.changed(run);
        self.notifier.hint(Hint::Closed(run));
    }

    /// Clients of other processes await these runs.
    pub(crate) fn closed_elsewhere_awaited(&self, runs: Vec<RunId>) {
        for run in runs {
            self.notifier.hint(Hint::Closed(run));
        }
    }

    /// What these runs published is read by clients of other processes.
    pub(crate) fn published_elsewhere_awaited(&self, runs: Vec<RunId>) {
        for run in runs {
            self.notifier.hint(Hint::Published(run));
        }
    }

    /// The node was declared dead, or could not renew its lease in time: nothing that it holds may
    /// go on.
    pub(crate) fn fence(&self) {
        if !self.is_fenced.send_replace(true) {
            tracing::warn!(node = %self.id, "node_fenced");
            self.tell_all(|| Message::Fenced);
        }
    }

    pub(crate) fn is_fenced(&self) -> bool {
        *self.is_fenced.borrow()
    }

    /// Completes when the node is fenced.
    pub(crate) async fn fenced(&self) {
        let mut fenced = self.is_fenced.subscribe();
        // The sender lives as long as the node.
        let _alive = fenced.wait_for(|is_fenced| *is_fenced).await;
    }

    pub(crate) fn start_draining(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
        self.tell_all(|| Message::Drain);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    /// Finds out whether a commit happened whose acknowledgement was lost, once it has ended.
    pub(crate) async fn has_happened(&self, batch: &Batch) -> Result<bool, Error> {
        let mut pause = Backoff::new(Duration::from_millis(5));
        loop {
            match self.journal.was_committed(self.id, batch).await {
                Ok(happened) => return Ok(happened == Some(true)),
                Err(error) if error.is_transient() => self.pause(&mut pause).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits before an operation is repeated, longer each time.
    ///
    /// # Errors
    ///
    /// [`Error::Fenced`] when the node ends meanwhile.
    pub(crate) async fn pause(&self, pause: &mut Backoff) -> Result<(), Error> {
        self.metrics.retried();
        let jittered = pause.next();
        tokio::select! {
            biased;
            () = self.fenced() => Err(Error::Fenced),
            () = tokio::time::sleep(jittered) => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
