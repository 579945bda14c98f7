//! Trace context: which distributed trace a run belongs to, as the W3C headers say it.

use std::{fmt, str::FromStr, sync::Arc};

/// The place of a run in a distributed trace: the values of the headers `traceparent` and `tracestate`.
///
/// A run gets one from [`Start::trace`](crate::client::Start::trace), keeps it for its life, and hands it on to its
/// children and to the run in which it continues. Activities read it with `ActivityContext::trace`, to send it along
/// with their own requests.
///
/// Specification: <https://www.w3.org/TR/trace-context/>.
///
/// ```
/// use sync_workflow::TraceContext;
///
/// let trace = TraceContext::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")?;
/// assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert!(trace.is_sampled());
/// # Ok::<(), sync_workflow::InvalidTraceContext>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceContext(
    /// The traceparent, and after a space the tracestate if there is one: as the journal keeps it.
    Arc<str>,
);

/// The length of a traceparent of version 00.
const PARENT_BYTES: usize = 55;

impl TraceContext {
    /// The longest `tracestate` that is kept, in bytes: what the specification asks everybody to hand on.
    pub const MAX_STATE_BYTES: usize = 512;

    /// Checks and wraps the value of a `traceparent` header.
    ///
    /// What a version after 00 adds is dropped, as the specification says.
    ///
    /// # Errors
    ///
    /// [`InvalidTraceContext::Parent`] when it is none.
    pub fn new(traceparent: &str) -> Result<Self, InvalidTraceContext> {
        let fields = parse_parent(traceparent).ok_or(InvalidTraceContext::Parent)?;
        let text = match traceparent.len() == PARENT_BYTES && traceparent.starts_with("00") {
            true => traceparent.into(),
            false => fields.to_string().into(),
        };
        Ok(Self(text))
    }

    /// Adds the value of the `tracestate` header. An empty one is none.
    ///
    /// # Errors
    ///
    /// [`InvalidTraceContext::State`] when it is no list of members, or longer than [`Self::MAX_STATE_BYTES`]. By the
    /// specification a trace goes on without a state that cannot be read.
    pub fn with_state(self, tracestate: &str) -> Result<Self, InvalidTraceContext> {
        let tracestate = tracestate.trim();
        if tracestate.is_empty() {
            return Ok(Self(self.traceparent().into()));
        }
        if !is_state(tracestate) {
            return Err(InvalidTraceContext::State);
        }
        Ok(Self(format!("{} {tracestate}", self.traceparent()).into()))
    }

    /// The value of the `traceparent` header.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        self.0
            .split_once(' ')
            .map_or(&self.0, |(traceparent, _)| traceparent)
    }

    /// The value of the `tracestate` header.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.0.split_once(' ').map(|(_, tracestate)| tracestate)
    }

    /// The id of the trace: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.field(1)
    }

    /// The id of the span in which the run was started: 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(&self) -> &str {
        self.field(2)
    }

    /// Whether whoever began the trace records it.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        u8::from_str_radix(self.field(3), 16).is_ok_and(|flags| flags & 1 == 1)
    }

    fn field(&self, number: usize) -> &str {
        self.traceparent()
            .split('-')
            .nth(number)
            .unwrap_or_default()
    }

    /// As the journal keeps it.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn as_stored(&self) -> &str {
        &self.0
    }

    /// One that the journal kept. What cannot be read is none: a trace is worth no run.
    #[cfg(any(
        feature = "postgres",
        feature = "sqlite",
        feature = "conformance",
        test
    ))]
    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({:?})", &*self.0)
    }
}

/// Reads what [`Display`](fmt::Display) writes: the `traceparent`, and after a space the `tracestate` if there is one.
impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(' ') {
            None => Self::new(text),
            Some((traceparent, tracestate)) => Self::new(traceparent)?.with_state(tracestate),
        }
    }
}

impl serde::Serialize for TraceContext {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Why a text is no [`TraceContext`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTraceContext {
    /// It is no `traceparent`.
    #[error(
        "no traceparent: expected 00-<32 hexadecimal digits>-<16 hexadecimal digits>-<2 hexadecimal digits>"
    )]
    Parent,
    /// It is no `tracestate`.
    #[error(
        "no tracestate: expected at most 32 members key=value in at most {} bytes",
        TraceContext::MAX_STATE_BYTES
    )]
    State,
}

/// The fields of a traceparent.
struct Fields<'a> {
    trace: &'a str,
    span: &'a str,
    flags: u8,
}

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of the flags of a later version only the one that version 00 knows is handed on.
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags & 1)
    }
}

fn parse_parent(text: &str) -> Option<Fields<'_>> {
    let (known, rest) = text.split_at_checked(PARENT_BYTES)?;
    let mut parts = known.split('-');
    let version = hex(parts.next()?, 2)?;
    let trace = hex(parts.next()?, 32)?;
    let span = hex(parts.next()?, 16)?;
    let flags = hex(parts.next()?, 2)?;
    let is_version =
        version != "ff" && (rest.is_empty() || version != "00" && rest.starts_with('-'));
    let is_set = |id: &str| id.bytes().any(|digit| digit != b'0');
    (is_version && is_set(trace) && is_set(span) && parts.next().is_none()).then_some(Fields {
        trace,
        span,
        flags: u8::from_str_radix(flags, 16).ok()?,
    })
}

/// A text of so many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<&str> {
    let is_hex = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_hex && text.len() == digits).then_some(text)
}

fn is_state(text: &str) -> bool {
    const MAX_MEMBERS: usize = 32;
    let is_member = |member: &str| {
        let member = member.trim_matches([' ', '\t']);
        member.is_empty()
            || member
                .split_once('=')
                .is_some_and(|(key, value)| !key.is_empty() && !value.contains('='))
    };
    text.len() <= TraceContext::MAX_STATE_BYTES
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
        && text.split(',').count() <= MAX_MEMBERS
        && text.split(',').all(is_member)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_context_comes_back_from_the_journal_as_it_was() {
        let plain = TraceContext::new(PARENT).unwrap();
        let stated = plain.clone().with_state("a=1,b@c=x y").unwrap();
        assert_eq!(stated.traceparent(), PARENT);
        assert_eq!(stated.tracestate(), Some("a=1,b@c=x y"));
        assert_eq!(plain.tracestate(), None);
        for trace in [plain, stated] {
            assert_eq!(TraceContext::from_stored(trace.as_stored()), Some(trace));
        }
        assert_eq!(TraceContext::from_stored("nonsense"), None);
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let zeros = "0".repeat(32);
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
            &format!("00-{zeros}-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(
                TraceContext::new(text),
                Err(InvalidTraceContext::Parent),
                "{text}"
            );
        }
    }

    #[test]
    fn a_later_version_is_taken_for_what_is_known_of_it() {
        let later = TraceContext::new(&format!("cc{}-more", &PARENT[2..])).unwrap();
        assert_eq!(later.traceparent(), PARENT);
    }

    #[test]
    fn a_state_is_bounded_and_checked() {
        let trace = || TraceContext::new(PARENT).unwrap();
        assert_eq!(trace().with_state(" ").unwrap(), trace());
        let members = vec!["a=1"; 33].join(",");
        for state in [
            "a",
            "=1",
            "a=1\nb=2",
            "a=é",
            &members,
            &format!("a={}", "x".repeat(511)),
        ] {
            assert_eq!(
                trace().with_state(state),
                Err(InvalidTraceContext::State),
                "{state}"
            );
        }
    }
}
