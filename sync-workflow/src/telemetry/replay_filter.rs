//! The layer that keeps log lines of replayed code out.

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, Layer};

use crate::replay::is_replaying;

/// Keeps the log lines of workflow code that runs again out: the events that it emits while it catches up with its
/// journal. So a line appears once, however often the run sleeps and wakes. A worker that dies may have written lines
/// that whoever takes its run over writes again: those since the last record.
///
/// As a layer it holds for all layers of the subscriber; as a filter (`with_filter`), for one of them. Events of
/// activities and of the engine pass, and so do spans: what code opened before it slept surrounds what it does now.
///
/// ```
/// use sync_workflow::telemetry::ReplayFilter;
/// use tracing_subscriber::layer::SubscriberExt as _;
///
/// let subscriber = tracing_subscriber::registry().with(ReplayFilter);
/// # let _ = subscriber;
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct ReplayFilter;

impl<S: Subscriber> Layer<S> for ReplayFilter {
    fn event_enabled(&self, _event: &Event<'_>, _context: Context<'_, S>) -> bool {
        !is_replaying()
    }
}

impl<S> Filter<S> for ReplayFilter {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, _event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        !is_replaying()
    }
}
