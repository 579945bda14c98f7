//! The dispatcher: claims runs while there is room for them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{backoff::Backoff, mailbox::Message, node::Node};
use crate::{
    journal::{Error, Hint},
    telemetry::FencedWrite,
};

/// How many runs are claimed at once at most.
const MAX_CLAIM: usize = 256;
/// Runs that only wait are asked to leave this often at most, when there is no room.
const EVICT_EVERY: Duration = Duration::from_millis(50);

/// Claims until the node is fenced or drains.
pub(crate) async fn run(node: Arc<Node>) {
    let mut evicted = node.clock.moment();
    let (mut looked, mut measured) = (evicted, evicted);
    let (mut pause, mut look_pause) = (backoff(), backoff());
    loop {
        let claimed = node.clock.moment();
        let Some(claiming) = node.begins_to_claim() else {
            return;
        };
        let next_wake = match claim(&node).await {
            Ok(next_wake) => {
                pause = backoff();
                next_wake
            }
            Err(Error::Fenced) => {
                node.metrics.fenced(FencedWrite::Claim);
                return node.fence();
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, node = %node.id, "claim_failed");
                drop(claiming);
                if node.pause(&mut pause).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let now = node.clock.moment();
        if node.takes_look_at_owned() || now - looked >= node.settings.poll_interval {
            if let Err(error) = look_at_owned(&node).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "owned_failed");
                // Who asked for it was told of news that only this look can find.
                node.look_at_owned();
                drop(claiming);
                if node.pause(&mut look_pause).await.is_err() {
                    return;
                }
                continue;
            }
            looked = now;
            look_pause = backoff();
        }
        drop(claiming);
        match next_wake {
            Wake::Now => continue,
            Wake::Crowded => {
                let now = node.clock.moment();
                if now - evicted >= EVICT_EVERY {
                    evicted = now;
                    node.tell_all(|| Message::Evict);
                }
                if node.metrics.are_exported() && now - measured >= node.settings.poll_interval {
                    measured = now;
                    measure_backlog(&node).await;
                }
                wait(&node, Some(EVICT_EVERY)).await;
            }
            Wake::At(due) => {
                let until = due.map(|due| node.clock.until(due));
                let mut woken = wait(&node, until).await;
                while let (Woken::ByTime, Some((asked, until))) = (woken, quiet(&node, claimed)) {
                    looked = looked.max(asked);
                    woken = wait(&node, Some(until)).await;
                }
            }
        }
    }
}

/// The pauses before what failed is repeated.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(10))
}

/// When to claim again.
enum Wake {
    /// There may be more.
    Now,
    /// There is no room.
    Crowded,
    /// When this run is due, or when the poll interval is over.
    At(Option<Timestamp>),
}

async fn claim(node: &Arc<Node>) -> Result<Wake, Error> {
    // Taken before the claim: no run is claimed that would find no place.
    let Some(mut places) = node.take_places(MAX_CLAIM) else {
        return Ok(Wake::Crowded);
    };
    // The first one only asks whether the queue has limits.
    let room = match node.knows_queue() {
        true => places.num_permits(),
        false => 0,
    };
    let limit = u32::try_from(room).unwrap_or(u32::MAX);
    let request = node.claim_request(limit);
    let asked = node.clock.moment();
    let claim = node.journal.claim(node.id, &request).await?;
    node.clock.anchor(asked, claim.now);
    node.metrics.claimed(&claim);
    node.queue_is(claim.managed);
    let is_full = claim.runs.len() >= room || claim.more;
    for claimed in claim.runs {
        if let Some(place) = places.split(1) {
            node.adopt(claimed, place);
        }
    }
    Ok(if is_full {
        Wake::Now
    } else {
        Wake::At(claim.next_wake)
    })
}

/// Why a wait ended.
#[derive(Clone, Copy)]
enum Woken {
    /// There is news.
    ByNews,
    /// It was over.
    ByTime,
}

/// When the heartbeat last looked and saw nothing to do, since this claim, and how long that is good for; nothing if it
/// is over.
fn quiet(node: &Node, claimed: Instant) -> Option<(Instant, Duration)> {
    /// Somewhat longer than from one heartbeat to the next, where these come as often as the worker looks.
    const GOOD_FOR: f64 = 1.5;
    let (asked, next_wake) = node.last_quiet().filter(|(asked, _)| *asked > claimed)?;
    let age = node.clock.moment().saturating_duration_since(asked);
    let left = node
        .settings
        .poll_interval
        .mul_f64(GOOD_FOR)
        .saturating_sub(age);
    let due = next_wake.into_iter().chain(node.earliest_due()).min();
    let left = due.map_or(left, |due| left.min(node.clock.until(due)));
    (!left.is_zero()).then_some((asked, left))
}

/// Asks how long work has waited that there is no room for.
async fn measure_backlog(node: &Node) {
    match node.journal.next_wake(&node.claim_request(0)).await {
        Ok(next_wake) => node.metrics.oldest_ready(node.clock.now(), next_wake),
        Err(error) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "backlog_not_measured"
            );
        }
    }
}

/// Waits for a hint, a due run, or the poll interval with its jitter.
async fn wait(node: &Node, until: Option<Duration>) -> Woken {
    let poll = node
        .settings
        .poll_interval
        .mul_f64(0.8 + 0.4 * fastrand::f64());
    let mut limit = until.map_or(poll, |until| until.min(poll));
    let next = node
        .clock
        .now()
        .checked_add(limit)
        .unwrap_or(Timestamp::MAX);
    if let Some(sooner) = node.looks_again_at(next) {
        limit = node.clock.until(sooner);
    }
    tokio::select! {
        biased;
        () = node.dispatch.notified() => Woken::ByNews,
        () = node.fenced() => Woken::ByNews,
        () = tokio::time::sleep(limit) => Woken::ByTime,
    }
}

/// Compares the runs that name this node with those in memory: a lost answer may have left some
/// without a driver, a lost hint may have left news unread.
async fn look_at_owned(node: &Arc<Node>) -> Result<(), Error> {
    // What leaves while the question is under way may be in the answer, and is not this node's any more.
    let were_resident = node.residents();
    for run in node.journal.owned(node.id).await? {
        if node.is_resident(run.run) {
            node.tell(run.run, Message::ArrivedUpTo(run.inbox));
        } else if !node.has_place_kept(run.run) && !were_resident.contains(&run.run) {
            node.adopt_if_room(run);
        }
    }
    Ok(())
}

/// Listens to the hints of other processes until the node is fenced or stopped.
pub(crate) async fn listen(node: Arc<Node>) {
    loop {
        let hints = tokio::select! {
            biased;
            hints = node.journal.hints() => hints,
            () = node.fenced() => return,
        };
        for hint in hints {
            match hint {
                Hint::Ready(queue) => {
                    if queue.is_empty() || queue == node.settings.queue {
                        node.dispatch.notify_one();
                    }
                }
                Hint::Schedules(queue) => {
                    if queue == node.settings.queue {
                        node.schedules.notify_one();
                    }
                }
                Hint::Arrived { node: to, run } if to == node.id => {
                    node.tell(run, Message::Arrived);
                }
                Hint::Arrived { .. } => {}
                Hint::Closed(run) => node.watchers.changed(run),
                Hint::Published(run) => node.watchers.published(run),
                Hint::LookAgain => {
                    node.schedules.notify_one();
                    node.watchers.look_again();
                    // One look for all runs tells which of them has news.
                    node.look_at_owned();
                }
            }
        }
    }
}
