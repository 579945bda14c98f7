//! Queues with limits: who waits, and who is admitted.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::state::{Run, Stand, State};
use crate::{
    id::RunId,
    journal::{
        Admission, ClaimRequest, Managed, QueueInfo, QueueLimits,
        queue::{Budget, MOST_FREED, MOST_SORTED},
    },
};

/// A queue with limits.
#[derive(Debug)]
pub(super) struct Queue {
    budget: Budget,
    tokens_at: Timestamp,
    turn: u64,
    keys: BTreeMap<Arc<str>, Key>,
    /// Runs that have ended, until they are counted.
    releases: Vec<(Arc<str>, Release)>,
}

/// The runs of a key.
#[derive(Debug, Default)]
struct Key {
    running: u32,
    /// When it was served last.
    turn: u64,
    waiting: BTreeSet<(Reverse<i16>, RunId)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    Admitted,
    Waiting,
}

/// What came of admitting.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    pub(super) more: bool,
    pub(super) next_at: Option<Timestamp>,
    pub(super) managed: Option<Managed>,
}

impl Queue {
    fn new(now: Timestamp) -> Self {
        Self {
            budget: Budget {
                limits: QueueLimits::default(),
                is_paused: false,
                running: 0,
                tokens: 0.0,
            },
            tokens_at: now,
            turn: 0,
            keys: BTreeMap::new(),
            releases: Vec::new(),
        }
    }

    fn has_waiting(&self) -> bool {
        self.keys.values().any(|key| !key.waiting.is_empty())
    }

    fn nothing(&self) -> Admitted {
        Admitted {
            managed: Some(Managed {
                max_in_worker: self.budget.limits.max_in_worker,
            }),
            ..Admitted::default()
        }
    }

    /// Counts what has ended. Returns the keys of it.
    fn count_ended(&mut self) -> Vec<Arc<str>> {
        let count = self.releases.len().min(MOST_FREED);
        let ended: Vec<_> = self.releases.drain(..count).collect();
        for (key, _) in ended.iter().filter(|(_, was)| *was == Release::Admitted) {
            self.budget.running -= 1;
            if let Some(key) = self.keys.get_mut(key) {
                key.running -= 1;
            }
        }
        ended.into_iter().map(|(key, _)| key).collect()
    }

    /// Chooses whom to admit: keys take turns, and each takes its share of what is free.
    fn choose(
        &mut self,
        free: u32,
        is_known: impl Fn(RunId) -> bool,
    ) -> (Vec<RunId>, Vec<Arc<str>>) {
        let mut eligible: Vec<_> = self
            .keys
            .iter()
            .filter(|(_, key)| self.budget.has_room_for_key(key.running))
            .filter(|(_, key)| key.waiting.iter().any(|(_, run)| is_known(*run)))
            .map(|(name, key)| (key.turn, Arc::clone(name)))
            .collect();
        eligible.sort_unstable();
        eligible.truncate(free as usize);
        let mut chosen = Vec::new();
        for (_, name) in &eligible {
            let left = free as usize - chosen.len();
            let Some(key) = self.keys.get_mut(name) else {
                continue;
            };
            let quota = self.budget.quota(free, eligible.len(), key.running);
            let begun: Vec<_> = key
                .waiting
                .iter()
                .filter(|(_, run)| is_known(*run))
                .take(quota.min(left))
                .copied()
                .collect();
            if !begun.is_empty() {
                key.turn = self.turn + 1;
            }
            key.running += u32::try_from(begun.len()).unwrap_or(u32::MAX);
            for place in begun {
                key.waiting.remove(&place);
                chosen.push(place.1);
            }
        }
        (chosen, eligible.into_iter().map(|(_, key)| key).collect())
    }

    /// Forgets those of some keys of which none waits and none runs.
    fn forget_idle(&mut self, keys: impl IntoIterator<Item = Arc<str>>) {
        for name in keys {
            let is_idle = |key: &Key| key.waiting.is_empty() && key.running == 0;
            if self.keys.get(&name).is_some_and(is_idle) {
                self.keys.remove(&name);
            }
        }
    }
}

impl State {
    pub(super) fn limit_queue(&mut self, queue: &str, limits: QueueLimits, now: Timestamp) {
        let queue = self.managed(queue, now);
        if queue.budget.limits.rate != limits.rate {
            queue.budget.tokens = limits.rate.map_or(0.0, |rate| f64::from(rate.limit));
        }
        queue.budget.limits = limits;
    }

    pub(super) fn pause_queue(&mut self, queue: &str, is_paused: bool, now: Timestamp) {
        self.managed(queue, now).budget.is_paused = is_paused;
    }

    fn managed(&mut self, queue: &str, now: Timestamp) -> &mut Queue {
        self.queues
            .entry(queue.into())
            .or_insert_with(|| Queue::new(now))
    }

    pub(super) fn queues(&self) -> Vec<QueueInfo> {
        let info = |(name, queue): (&Arc<str>, &Queue)| {
            let is_admitted = |release: &&(_, Release)| release.1 == Release::Admitted;
            let ended = queue.releases.iter().filter(is_admitted).count();
            let waits = |run: &&Run| {
                run.queue == *name
                    && run.ticket.admission == Admission::Waiting
                    && matches!(run.stand(), Stand::Pending(_))
            };
            let waiting = self.runs.values().filter(waits).count();
            QueueInfo {
                queue: Arc::clone(name),
                limits: queue.budget.limits,
                is_paused: queue.budget.is_paused,
                running: queue.budget.running.max(0).cast_unsigned() - ended as u64,
                waiting: (waiting as u64).min(QueueInfo::MOST_COUNTED.into()),
            }
        };
        self.queues.iter().map(info).collect()
    }

    /// Whether a claim may take a run: a queue with limits must have admitted it.
    pub(super) fn may_run(&self, id: RunId) -> bool {
        self.runs.get(&id).is_some_and(|run| {
            !self.queues.contains_key(&run.queue)
                || matches!(
                    run.ticket.admission,
                    Admission::Admitted | Admission::Exempt
                )
        })
    }

    /// Admits as many runs as the limits of their queue and the room of the node allow; none for a node that would not
    /// take them.
    pub(super) fn admit(
        &mut self,
        request: &ClaimRequest,
        takes_new: bool,
        now: Timestamp,
    ) -> Admitted {
        let room = if takes_new { request.limit } else { 0 };
        let due = self.unsorted(request, now);
        let Some(queue) = self.queues.get_mut(&request.queue) else {
            return Admitted::default();
        };
        let has_releases = !queue.releases.is_empty();
        if due.is_empty() && (queue.budget.is_exhausted(room, has_releases) || !queue.has_waiting())
        {
            return queue.nothing();
        }
        let mut touched = queue.count_ended();
        let ended = touched.len();
        let sorted = due.len();
        touched.extend(self.sort(&request.queue, due));
        let (Some(queue), runs) = (self.queues.get_mut(&request.queue), &self.runs) else {
            return Admitted::default();
        };
        let passed = now.duration_since(queue.tokens_at);
        queue
            .budget
            .refill(Duration::try_from(passed).unwrap_or_default());
        queue.tokens_at = now;
        let free = queue.budget.free(room);
        let (chosen, keys) = queue.choose(free, |id| {
            runs.get(&id)
                .is_some_and(|run| request.workflows.contains(&run.workflow))
        });
        queue.forget_idle(touched.into_iter().chain(keys));
        let admitted = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
        queue.budget.spend(admitted);
        queue.turn += 1;
        let wait = queue.budget.until_next().filter(|_| queue.has_waiting());
        let admitted = Admitted {
            more: sorted == MOST_SORTED || ended == MOST_FREED || admitted > 0 && admitted < free,
            next_at: wait.and_then(|wait| now.checked_add(wait).ok()),
            ..queue.nothing()
        };
        for id in chosen {
            if let Some(run) = self.runs.get_mut(&id) {
                run.ticket.admission = Admission::Admitted;
            }
            self.move_to(id, Stand::Pending(Some(now)));
        }
        admitted
    }

    /// The runs that have become due and were not admitted.
    fn unsorted(&self, request: &ClaimRequest, now: Timestamp) -> Vec<RunId> {
        if !self.queues.contains_key(&request.queue) {
            return Vec::new();
        }
        self.sleepers(&request.queue)
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| id)
            .filter(|id| !self.may_run(*id))
            .filter(|id| {
                self.runs
                    .get(id)
                    .is_some_and(|run| request.workflows.contains(&run.workflow))
            })
            .take(MOST_SORTED)
            .collect()
    }

    /// Has runs wait, but for those that are to be cancelled. Returns the keys of these.
    fn sort(&mut self, queue: &str, due: Vec<RunId>) -> Vec<Arc<str>> {
        let mut exempt = Vec::new();
        for id in due {
            let Some(run) = self.runs.get_mut(&id) else {
                continue;
            };
            let Some(queue) = self.queues.get_mut(queue) else {
                continue;
            };
            let place = (Reverse(run.ticket.priority), id);
            if run.cancel_requested {
                run.ticket.admission = Admission::Exempt;
                if let Some(key) = queue.keys.get_mut(&run.ticket.key) {
                    key.waiting.remove(&place);
                }
                exempt.push(Arc::clone(&run.ticket.key));
                continue;
            }
            run.ticket.admission = Admission::Waiting;
            let turn = queue.turn;
            let key = queue.keys.entry(Arc::clone(&run.ticket.key));
            let key = key.or_insert_with(|| Key {
                turn,
                ..Key::default()
            });
            key.waiting.insert(place);
            self.move_to(id, Stand::Pending(None));
        }
        exempt
    }

    /// Gives back the turn of a run that ends, unless it hands it on.
    pub(super) fn release_turn(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(&run.queue) else {
            return;
        };
        let ticket = &run.ticket;
        let release = match ticket.admission {
            Admission::None | Admission::Exempt => return,
            Admission::Admitted => Release::Admitted,
            Admission::Waiting => Release::Waiting,
        };
        queue.releases.push((Arc::clone(&ticket.key), release));
    }

    /// A run that waited is paused, or has ended.
    pub(super) fn stop_waiting(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id) else {
            return;
        };
        let ticket = &run.ticket;
        if let Some(queue) = self.queues.get_mut(&run.queue)
            && let Some(key) = queue.keys.get_mut(&ticket.key)
        {
            key.waiting.remove(&(Reverse(ticket.priority), id));
        }
    }
}
