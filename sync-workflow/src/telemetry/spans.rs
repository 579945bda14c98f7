//! The spans of a worker.

use std::sync::Arc;

use tracing::{Span, field::Empty};

use super::slice::SliceEnd;
use crate::{
    failure::Failure,
    id::{CommandId, NodeId},
    journal::ClaimedRun,
};

/// The span of a slice: from when a run comes into memory to when it leaves.
///
/// It belongs to the trace in which the run was started, unless the run rested since or continues another: then it
/// begins a trace of its own that is linked to that one, so that no trace lasts as long as a run may.
pub(crate) fn slice_span(claimed: &ClaimedRun, node: NodeId) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "run",
        otel.name = %format_args!("run {}", claimed.workflow),
        otel.kind = "consumer",
        otel.status_code = Empty,
        workflow = %claimed.workflow,
        workflow_id = %claimed.workflow_id,
        run_id = %claimed.run,
        queue = %claimed.queue,
        %node,
        attempt = claimed.attempts,
        replayed = Empty,
        outcome = Empty,
    );
    #[cfg(feature = "opentelemetry")]
    if let Some(trace) = &claimed.trace {
        match claimed.rested || claimed.chain != claimed.run {
            true => super::link::follows(&span, trace),
            false => super::link::belongs_to(&span, trace),
        }
    }
    span
}

/// How many records the code caught up with.
pub(crate) fn replayed(records: u32) {
    Span::current().record("replayed", records);
}

impl SliceEnd {
    /// Tells the current span, which is that of a slice.
    pub(crate) fn tell_span(self) {
        let span = Span::current();
        span.record("outcome", self.as_str());
        if self.is_error() {
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// The span of one attempt of an activity, within that of the run's slice.
pub(crate) fn attempt_span(
    slice: &Span,
    activity: &Arc<str>,
    command: CommandId,
    attempt: u32,
) -> Span {
    tracing::info_span!(
        parent: slice,
        "activity",
        otel.name = %format_args!("activity {activity}"),
        otel.status_code = Empty,
        %activity,
        %command,
        attempt,
        failure = Empty,
    )
}

/// Tells the span of an attempt that it failed.
pub(crate) fn attempt_failed(span: &Span, failure: &Failure) {
    span.record("otel.status_code", "ERROR");
    span.record("failure", tracing::field::display(failure));
}
