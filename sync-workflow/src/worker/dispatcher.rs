//! The dispatcher: claims runs while there is room for them.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{mailbox::Message, node::Node};
use crate::{
    journal::{ClaimRequest, Error, Hint},
    telemetry::FencedWrite,
};

/// How many runs are claimed at once at most.
const MAX_CLAIM: usize = 256;
/// Runs that only wait are asked to leave this often at most, when there is no room.
const EVICT_EVERY: Duration = Duration::from_millis(50);

/// Claims until the node is fenced or drains.
pub(crate) async fn run(node: Arc<Node>) {
    let mut evicted = node.clock.moment();
    let mut looked = evicted;
    let mut pause = Duration::from_millis(10);
    loop {
        if node.is_fenced() || node.is_draining() {
            return;
        }
        node.begins_to_claim();
        let next_wake = match claim(&node).await {
            Ok(next_wake) => {
                pause = Duration::from_millis(10);
                next_wake
            }
            Err(Error::Fenced) => {
                node.metrics.fenced(FencedWrite::Claim);
                return node.fence();
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, node = %node.id, "claim_failed");
                if node.pause(&mut pause).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let now = node.clock.moment();
        if node.takes_look_at_owned() || now - looked >= node.settings.poll_interval {
            looked = now;
            look_at_owned(&node).await;
        }
        match next_wake {
            Wake::Now => continue,
            Wake::Crowded => {
                let now = node.clock.moment();
                if now - evicted >= EVICT_EVERY {
                    evicted = now;
                    node.tell_all(|| Message::Evict);
                }
                wait(&node, Some(EVICT_EVERY)).await;
            }
            Wake::At(due) => {
                let until = due.map(|due| node.clock.until(due));
                wait(&node, until).await;
            }
        }
    }
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
    let request = ClaimRequest {
        queue: Arc::clone(&node.settings.queue),
        workflows: node.registry.workflow_names(),
        limit,
    };
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

/// Waits for a hint, a due run, or the poll interval with its jitter.
async fn wait(node: &Node, until: Option<Duration>) {
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
        () = node.dispatch.notified() => {}
        () = node.fenced() => {}
        () = tokio::time::sleep(limit) => {}
    }
}

/// Compares the runs that name this node with those in memory: a lost answer may have left some
/// without a driver, a lost hint may have left news unread.
async fn look_at_owned(node: &Arc<Node>) {
    // What leaves while the question is under way may be in the answer, and is not this node's any more.
    let were_resident = node.residents();
    let owned = match node.journal.owned(node.id).await {
        Ok(owned) => owned,
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "owned_failed");
            return;
        }
    };
    for run in owned {
        if node.is_resident(run.run) {
            node.tell(run.run, Message::ArrivedUpTo(run.inbox));
        } else if !node.has_place_kept(run.run) && !were_resident.contains(&run.run) {
            node.adopt_if_room(run);
        }
    }
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
                Hint::Ready(_) => node.dispatch.notify_one(),
                Hint::Arrived { node: to, run } if to == node.id => {
                    node.tell(run, Message::Arrived);
                }
                Hint::Arrived { .. } => {}
                Hint::Closed(run) => node.watchers.changed(run),
                Hint::Published(run) => node.watchers.published(run),
                Hint::LookAgain => {
                    node.dispatch.notify_one();
                    node.watchers.look_again();
                    node.tell_all(|| Message::Arrived);
                }
            }
        }
    }
}
