//! The storage of schedules.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::Result;

/// The rows of schedules. What is in them is [`crate::schedule`]'s; a store keeps them and finds those that are due.
#[async_trait]
pub trait ScheduleStore: Send + Sync {
    /// Writes a row, if the one that is stored has the revision before its own; one of which
    /// [`ScheduleRow::is_new`] holds, if there is none of its id. `false` if not, and nothing was written.
    ///
    /// A lost acknowledgement leaves a row that has this revision: whoever sends it again is told `false`.
    async fn put_schedule(&self, row: &ScheduleRow) -> Result<bool>;

    /// Deletes a row. `false` if there was none.
    async fn delete_schedule(&self, id: &str) -> Result<bool>;

    /// A row.
    async fn find_schedule(&self, id: &str) -> Result<Option<ScheduleRow>>;

    /// At most `limit` rows in the order of their ids, from after one on.
    async fn list_schedules(&self, after: Option<&str>, limit: u32) -> Result<Vec<ScheduleRow>>;

    /// At most `limit` rows of a queue that are due, the earliest first.
    async fn due_schedules(&self, queue: &str, limit: u32) -> Result<DueSchedules>;
}

/// A schedule, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRow {
    /// Its id.
    pub id: Arc<str>,
    /// The queue whose workers look after it.
    pub queue: Arc<str>,
    /// When there is something to do.
    pub next_at: Option<Timestamp>,
    /// A greater number is a later version. That of a new row is the time, in microseconds: so no version of a row that was
    /// deleted is taken for one of a row that came after it.
    pub revision: i64,
    /// Whether there must be none of its id.
    pub is_new: bool,
    /// What it says.
    pub payload: Bytes,
}

/// What is due.
#[derive(Debug, Clone)]
pub struct DueSchedules {
    /// The database's time.
    pub now: Timestamp,
    /// The rows.
    pub rows: Vec<ScheduleRow>,
    /// When the next of the queue is due.
    pub next_at: Option<Timestamp>,
}
