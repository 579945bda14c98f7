//! The one trivial step that every engine runs.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::mpsc;

/// A step that costs nothing itself: it counts how often it ran. A traced one also tells when, and
/// never ends where it is told to stall.
#[derive(Clone)]
pub(crate) struct Step(Arc<Inner>);

struct Inner {
    passed: AtomicU64,
    trace: Option<Trace>,
}

struct Trace {
    passes: mpsc::UnboundedSender<Pass>,
    stalls: Stall,
}

/// Where a traced step stalls: whichever of the two comes first.
#[derive(Clone, Copy)]
pub(crate) struct Stall {
    pub(crate) at: u64,
    pub(crate) after: Option<Instant>,
}

/// One time that a traced step ran.
#[derive(Clone, Copy)]
pub(crate) struct Pass {
    pub(crate) number: u64,
    pub(crate) at: Instant,
    /// Whether the step never ends.
    pub(crate) has_stalled: bool,
}

impl Step {
    pub(crate) fn counted() -> Self {
        Self::with(None)
    }

    /// A step whose runs can be received.
    pub(crate) fn traced(stalls: Stall) -> (Self, mpsc::UnboundedReceiver<Pass>) {
        let (passes, received) = mpsc::unbounded_channel();
        (Self::with(Some(Trace { passes, stalls })), received)
    }

    fn with(trace: Option<Trace>) -> Self {
        let passed = AtomicU64::new(0);
        Self(Arc::new(Inner { passed, trace }))
    }

    /// Runs the step with this number.
    pub(crate) async fn run(&self, number: u64) -> u64 {
        self.0.passed.fetch_add(1, Ordering::Relaxed);
        if let Some(trace) = &self.0.trace {
            trace.pass(number).await;
        }
        number + 1
    }

    /// How many steps ran.
    pub(crate) fn passed(&self) -> u64 {
        self.0.passed.load(Ordering::Relaxed)
    }
}

impl Trace {
    async fn pass(&self, number: u64) {
        let at = Instant::now();
        let has_stalled =
            number >= self.stalls.at || self.stalls.after.is_some_and(|deadline| at >= deadline);
        let pass = Pass {
            number,
            at,
            has_stalled,
        };
        // Nobody receives any more once the job is over.
        let _ = self.passes.send(pass);
        if has_stalled {
            pending::<()>().await;
        }
    }
}
