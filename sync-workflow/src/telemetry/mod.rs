//! What a worker tells of itself: spans, metrics, and log lines that a replay does not repeat.
//!
//! - Spans of `tracing`: one for each stretch in which a run is in memory, one for each attempt of an activity, none
//!   for what is replayed.
//! - [`METRICS`]: what is counted and timed, exported through the `metrics` facade (feature `metrics`).
//! - `ReplayFilter` (feature `tracing-subscriber`): keeps the log lines of workflow code that runs again out.
//! - With the feature `opentelemetry`, runs take their [`TraceContext`] from the span of whoever
//!   starts them, and spans of runs join that trace.

mod catalog;
#[cfg(feature = "opentelemetry")]
mod link;
mod meter;
mod metrics;
#[cfg(feature = "tracing-subscriber")]
mod replay_filter;
mod slice;
mod spans;

pub use catalog::{METRICS, Metric, MetricKind};
#[cfg(feature = "postgres")]
pub(crate) use metrics::PoolMeter;
pub(crate) use metrics::{FencedWrite, Metrics};
#[cfg(feature = "tracing-subscriber")]
pub use replay_filter::ReplayFilter;
pub(crate) use slice::SliceEnd;
pub(crate) use spans::{attempt_failed, attempt_span, replayed, slice_span};

use crate::trace::TraceContext;

impl TraceContext {
    /// The trace of the caller's current span. `None` without the feature `opentelemetry`, or where no layer of
    /// `tracing-opentelemetry` is installed.
    #[must_use]
    pub fn current() -> Option<Self> {
        #[cfg(feature = "opentelemetry")]
        {
            link::current()
        }
        #[cfg(not(feature = "opentelemetry"))]
        None
    }
}
