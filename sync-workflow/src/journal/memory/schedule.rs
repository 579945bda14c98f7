//! The rows of schedules.

use async_trait::async_trait;

use super::{MemoryJournal, state::whole_micros};
use crate::journal::{DueSchedules, Result, ScheduleRow, ScheduleStore};

#[async_trait]
impl ScheduleStore for MemoryJournal {
    async fn put_schedule(&self, row: &ScheduleRow) -> Result<bool> {
        let mut state = self.lock();
        let fits = match state.schedules.get(&row.id) {
            None => row.is_new,
            Some(stored) => !row.is_new && stored.revision + 1 == row.revision,
        };
        if fits {
            let row = ScheduleRow {
                next_at: row.next_at.map(whole_micros),
                is_new: false,
                ..row.clone()
            };
            state.schedules.insert(row.id.clone(), row);
        }
        Ok(fits)
    }

    async fn delete_schedule(&self, id: &str) -> Result<bool> {
        Ok(self.lock().schedules.remove(id).is_some())
    }

    async fn find_schedule(&self, id: &str) -> Result<Option<ScheduleRow>> {
        Ok(self.lock().schedules.get(id).cloned())
    }

    async fn list_schedules(&self, after: Option<&str>, limit: u32) -> Result<Vec<ScheduleRow>> {
        let state = self.lock();
        let rows = state.schedules.values();
        let rows = rows.filter(|row| after.is_none_or(|after| &*row.id > after));
        Ok(rows.take(limit as usize).cloned().collect())
    }

    async fn due_schedules(&self, queue: &str, limit: u32) -> Result<DueSchedules> {
        let now = self.now();
        let state = self.lock();
        let rows = state.schedules.values().filter(|row| &*row.queue == queue);
        let (mut due, later): (Vec<_>, Vec<_>) = rows
            .filter_map(|row| Some((row.next_at?, row)))
            .partition(|(at, _)| *at <= now);
        due.sort_by(|(left, one), (right, other)| (left, &one.id).cmp(&(right, &other.id)));
        due.truncate(limit as usize);
        Ok(DueSchedules {
            now,
            rows: due.into_iter().map(|(_, row)| row.clone()).collect(),
            next_at: later.into_iter().map(|(at, _)| at).min(),
        })
    }
}
