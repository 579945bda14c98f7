//! The heartbeat: renews the node's lease from a thread of its own, and reaps dead nodes.

use std::{
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::node::Node;
use crate::{
    journal::{Error, Journal},
    telemetry::FencedWrite,
};

/// How many dead nodes are reaped at once.
const REAP_LIMIT: u32 = 16;

/// The heartbeat. It ends when told to, or when the node is fenced.
pub(crate) struct Heartbeat {
    stop: Option<oneshot::Sender<()>>,
    /// `None` in a simulation, where it is a task beside the others.
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Starts the heartbeat. `enlisted` is when the node's lease was asked for.
    pub(crate) fn start(node: Arc<Node>, enlisted: Instant) -> Result<Self, std::io::Error> {
        if node.settings.simulation.is_some() {
            return Ok(Self::simulate(node, enlisted));
        }
        Self::start_thread(node, enlisted)
    }

    /// Beats on the calling runtime, whose clock a simulation moves by hand.
    fn simulate(node: Arc<Node>, enlisted: Instant) -> Self {
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(beat(node, enlisted, stopped));
        Self {
            stop: Some(stop),
            thread: None,
        }
    }

    fn start_thread(node: Arc<Node>, enlisted: Instant) -> Result<Self, std::io::Error> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                match runtime {
                    Ok(runtime) => {
                        let _started = ready.send(Ok(()));
                        runtime.block_on(beat(node, enlisted, stopped));
                    }
                    Err(error) => {
                        let _failed = ready.send(Err(error));
                    }
                }
            })?;
        match is_ready.recv() {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) | Err(_) => Ok(Self {
                stop: Some(stop),
                thread: Some(thread),
            }),
        }
    }

    /// Ends the heartbeat, and waits for its thread.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _joined = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// When the lease was renewed last, by when the renewal was sent.
struct Lease {
    sent: Instant,
    next_expiry: Option<Timestamp>,
}

impl Lease {
    fn age(&self, node: &Node) -> Duration {
        node.clock.moment().saturating_duration_since(self.sent)
    }
}

async fn beat(node: Arc<Node>, enlisted: Instant, mut stopped: oneshot::Receiver<()>) {
    let mut lease = Lease {
        sent: enlisted,
        next_expiry: None,
    };
    // A connection of its own where the journal has one; opening it is the first thing that may
    // hang, so it counts against the lease.
    let mut separate: Option<Arc<dyn Journal>> = None;
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => return,
            () = node.fenced() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let left = node
            .settings
            .self_fence_after()
            .saturating_sub(lease.age(&node));
        let renewed = tokio::time::timeout(left, renew(&node, &mut separate, &mut lease)).await;
        match renewed {
            Ok(Ok(())) => {
                let journal = separate.as_ref().unwrap_or(&node.journal);
                reap(&node, &**journal, &mut lease).await;
                wait = next_beat(&node, &lease);
            }
            Ok(Err(Error::Fenced)) => {
                node.metrics.fenced(FencedWrite::Lease);
                return node.fence();
            }
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, node = %node.id, "heartbeat_failed");
                separate = None;
                wait = (node.settings.lease / 20).min(Duration::from_millis(500));
            }
            Err(_elapsed) => {}
        }
        if lease.age(&node) >= node.settings.self_fence_after() {
            return node.fence();
        }
    }
}

async fn renew(
    node: &Node,
    separate: &mut Option<Arc<dyn Journal>>,
    lease: &mut Lease,
) -> Result<(), Error> {
    if separate.is_none() {
        *separate = node.journal.separate().await?;
    }
    let journal = separate.as_ref().unwrap_or(&node.journal);
    let sent = node.clock.moment();
    let renewal = match node.is_empty() {
        false => journal.renew(node.id, node.settings.lease).await?,
        // Nothing else has to be asked then.
        true => {
            let request = node.claim_request(0);
            let looked = journal.renew_and_look(node.id, node.settings.lease, &request);
            let (renewal, outlook) = looked.await?;
            if let Some(outlook) = outlook {
                node.saw(sent, renewal.now, outlook);
            }
            renewal
        }
    };
    node.clock.anchor(sent, renewal.now);
    *lease = Lease {
        sent,
        next_expiry: renewal.next_expiry,
    };
    Ok(())
}

/// Declares nodes dead whose lease has run out.
async fn reap(node: &Node, journal: &dyn Journal, lease: &mut Lease) {
    if lease
        .next_expiry
        .is_none_or(|expiry| expiry > node.clock.now())
    {
        return;
    }
    match journal.reap(REAP_LIMIT).await {
        Ok(dead) if dead.is_empty() => {}
        Ok(dead) => {
            node.metrics.reaped(dead.len());
            for dead in dead {
                tracing::warn!(%dead, "node_reaped");
            }
            node.dispatch.notify_one();
        }
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "reap_failed"),
    }
    lease.next_expiry = None;
}

/// The time to the next heartbeat: the interval, or sooner when another node's lease ends before.
fn next_beat(node: &Node, lease: &Lease) -> Duration {
    let interval = node
        .settings
        .heartbeat_interval()
        .mul_f64(1.0 + 0.2 * fastrand::f64());
    let Some(expiry) = lease.next_expiry else {
        return interval;
    };
    // Nodes that look at once would all try; the jitter lets one be first.
    let jitter = Duration::from_millis(fastrand::u64(5..100));
    interval.min(node.clock.until(expiry) + jitter)
}
