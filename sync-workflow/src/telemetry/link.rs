//! Traces of OpenTelemetry: taken from spans, and given to them.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::trace::TraceContext;

/// The trace of the current span, if it has one.
pub(super) fn current() -> Option<TraceContext> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return None;
    }
    let flags = u8::from(span.is_sampled());
    let parent = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
    let trace = TraceContext::new(&parent).ok()?;
    let state = span.trace_state().header();
    Some(trace.clone().with_state(&state).unwrap_or(trace))
}

/// Makes a span, which is new, part of a trace.
pub(super) fn belongs_to(span: &Span, trace: &TraceContext) {
    let context = Context::new().with_remote_span_context(span_context(trace));
    if let Err(error) = span.set_parent(context) {
        // No layer is there that would keep it.
        tracing::trace!(%error, "span_without_parent");
    }
}

/// Links a span to a trace that it is no part of.
pub(super) fn follows(span: &Span, trace: &TraceContext) {
    span.add_link(span_context(trace));
}

fn span_context(trace: &TraceContext) -> SpanContext {
    let state = trace.tracestate().unwrap_or_default();
    SpanContext::new(
        TraceId::from_hex(trace.trace_id()).unwrap_or(TraceId::INVALID),
        SpanId::from_hex(trace.span_id()).unwrap_or(SpanId::INVALID),
        TraceFlags::default().with_sampled(trace.is_sampled()),
        true,
        state.parse::<TraceState>().unwrap_or_default(),
    )
}
