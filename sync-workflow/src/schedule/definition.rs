//! What a schedule starts, and when.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Timing;
use crate::{
    context::WorkflowCallee,
    id::WorkflowId,
    tag::{InvalidTag, Tags},
};

/// What a schedule starts, when, and what happens where its runs meet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Schedule {
    pub(super) workflow: Arc<str>,
    pub(super) input: Box<RawValue>,
    pub(super) queue: Arc<str>,
    pub(super) tags: Tags,
    pub(super) timing: Timing,
    pub(super) overlap: Overlap,
    pub(super) jitter: Duration,
    pub(super) catch_up: Duration,
    pub(super) until: Option<Timestamp>,
}

/// What a tick does while the run of an earlier one is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Nothing: the tick is skipped.
    #[default]
    Skip,
    /// It starts its run when the open one has ended; further ticks are skipped until then.
    BufferOne,
    /// As all that come after it, it starts its run when those before have ended: at most
    /// [`Schedule::MAX_BUFFERED`] wait, and what comes then is skipped.
    BufferAll,
    /// It asks the open run to cancel, and starts its own when that has ended.
    CancelOther,
    /// It starts its run.
    AllowAll,
}

/// Why a schedule makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSchedule {
    /// Its id is empty, holds a NUL, or is longer than [`Schedule::MAX_ID_BYTES`].
    #[error(
        "a schedule's id has 1 to {} bytes and no NUL character",
        Schedule::MAX_ID_BYTES
    )]
    Id,
    /// The input has no JSON form.
    #[error("the input has no JSON form: {detail}")]
    Unencodable {
        /// Why.
        detail: String,
    },
    /// It has too many tags.
    #[error("its runs cannot be tagged: {0}")]
    Tags(InvalidTag),
    /// It is larger than a payload of the journal may be.
    #[error("a schedule of {bytes} bytes is too large")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
}

impl Schedule {
    /// The longest id, in bytes. Workflow ids and tags are made of it.
    pub const MAX_ID_BYTES: usize = 200;
    /// How many ticks wait for their runs at most.
    pub const MAX_BUFFERED: usize = 1_000;
    /// For how long ticks are made up for that nobody was there to start, if nothing else is said: an hour.
    pub const CATCH_UP: Duration = Duration::from_secs(3_600);

    /// Starts a workflow with the same input at each time.
    ///
    /// # Errors
    ///
    /// [`InvalidSchedule::Unencodable`] when the input has no JSON form.
    pub fn new<M, W>(workflow: W, input: &W::Input, timing: Timing) -> Result<Self, InvalidSchedule>
    where
        W: WorkflowCallee<M>,
    {
        let input = serde_json::value::to_raw_value(input);
        Ok(Self {
            workflow: workflow.name(),
            input: input.map_err(|error| InvalidSchedule::Unencodable {
                detail: error.to_string(),
            })?,
            queue: "default".into(),
            tags: Tags::new(),
            timing,
            overlap: Overlap::default(),
            jitter: Duration::ZERO,
            catch_up: Self::CATCH_UP,
            until: None,
        })
    }

    /// The queue whose workers look after it, and run its runs; `default` if not set.
    #[must_use]
    pub fn queue(mut self, queue: &str) -> Self {
        self.queue = queue.into();
        self
    }

    /// Gives its runs a tag, beside `schedule`, which holds the id of the schedule.
    ///
    /// # Errors
    ///
    /// [`InvalidTag`] when it is out of bounds.
    pub fn tag(mut self, name: &str, value: &str) -> Result<Self, InvalidTag> {
        self.tags = self.tags.with(name, value)?;
        Ok(self)
    }

    /// What a tick does while the run of an earlier one is open; [`Overlap::Skip`] if not set.
    #[must_use]
    pub const fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Starts each run later by up to this much, by as much for a tick whoever computes it: so that a hundred schedules of
    /// midnight do not start at once.
    #[must_use]
    pub const fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// For how long ticks are made up for that nobody was there to start; [`Self::CATCH_UP`] if not set. Older ones are
    /// missed.
    #[must_use]
    pub const fn catch_up(mut self, window: Duration) -> Self {
        self.catch_up = window;
        self
    }

    /// Ticks no more after this time.
    #[must_use]
    pub const fn until(mut self, end: Timestamp) -> Self {
        self.until = Some(end);
        self
    }

    /// The first `count` times after another.
    pub fn next_times(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        let next = |last: &Timestamp| self.next_after(*last);
        std::iter::successors(self.next_after(after), next)
            .take(count)
            .collect()
    }

    pub(super) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let next = self.timing.next_after(after)?;
        (self.until.is_none_or(|end| next <= end)).then_some(next)
    }

    /// The tags of its runs.
    pub(super) fn run_tags(&self, id: &str) -> Result<Tags, InvalidSchedule> {
        let tags = self.tags.clone().with("schedule", id);
        tags.map_err(InvalidSchedule::Tags)
    }

    /// When the run of a tick is due.
    pub(super) fn due(&self, id: &str, tick: Timestamp) -> Timestamp {
        let nanos = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            return tick;
        }
        let seed = tick.as_microsecond().cast_unsigned();
        let drawn = xxhash_rust::xxh3::xxh3_64_with_seed(id.as_bytes(), seed);
        let later = Duration::from_nanos(drawn % nanos);
        tick.checked_add(later).unwrap_or(Timestamp::MAX)
    }
}

/// The workflow id of the run that a tick starts.
pub(super) fn workflow_id(id: &str, tick: Timestamp) -> WorkflowId {
    WorkflowId::new(format!("{id}/{tick}")).expect("an id and a time are short")
}

pub(super) fn check_id(id: &str) -> Result<(), InvalidSchedule> {
    if id.is_empty() || id.len() > Schedule::MAX_ID_BYTES || id.contains('\0') {
        return Err(InvalidSchedule::Id);
    }
    Ok(())
}
